-- Where do threads wait instead of working, and why?
-- Of the wait at the barrier after an operator two causes can be told apart in a recording at
-- level barrier: imbalance (another thread was still at work) and release (all had arrived; the
-- time until they went on, which is the price of the barrier itself). Whether a thread was slow
-- because it was preempted or took a page fault would need scheduler records. Waits inside
-- operators are known from below: until the last thread arrived. The stall ratio is wait over
-- wait and work; operators that may be incomplete are not in the sums.

INCLUDE PERFETTO MODULE profinfer.barriers;
INCLUDE PERFETTO MODULE profinfer.operators;
INCLUDE PERFETTO MODULE profinfer.tensors;

-- title: Stalls by op (ms, summed over threads)
WITH
  inside AS (
    SELECT
      k.op,
      sum(b.wait_dur) AS wait_dur
    FROM profinfer_inside_barrier AS b
    JOIN _operator_kind AS k
      USING (arg_set_id)
    WHERE b.complete
    GROUP BY k.op
  )
SELECT
  o.op,
  sum(o.complete) AS runs,
  round(sum(iif(o.complete, o.busy_dur, 0)) / 1e6, 2) AS work_ms,
  round(sum(iif(o.complete, o.wait_dur, 0)) / 1e6, 2) AS wait_ms,
  round(
    1.0 * sum(iif(o.complete, o.wait_dur, 0))
    / nullif(sum(iif(o.complete, o.busy_dur + o.wait_dur, 0)), 0),
    3
  ) AS stall_ratio,
  round(sum(iif(o.complete, o.imbalance_dur, 0)) / 1e6, 2) AS imbalance_ms,
  round(sum(iif(o.complete, o.wait_dur - o.imbalance_dur, 0)) / 1e6, 2) AS release_ms,
  round(i.wait_dur / 1e6, 2) AS inside_wait_min_ms,
  sum(NOT o.complete) AS incomplete
FROM profinfer_operator AS o
LEFT JOIN inside AS i
  USING (op)
GROUP BY o.op
ORDER BY wait_ms DESC;

-- title: Stalls by operator (the first 30)
SELECT
  name,
  op,
  sum(complete) AS runs,
  round(avg(iif(complete, busy_dur, NULL)) / 1e3, 1) AS mean_work_us,
  round(avg(iif(complete, wait_dur, NULL)) / 1e3, 1) AS mean_wait_us,
  round(
    1.0 * sum(iif(complete, wait_dur, 0))
    / nullif(sum(iif(complete, busy_dur + wait_dur, 0)), 0),
    3
  ) AS stall_ratio,
  round(
    1.0 * sum(iif(complete, imbalance_dur, 0)) / nullif(sum(iif(complete, wait_dur, 0)), 0),
    3
  ) AS imbalance_share,
  sum(NOT complete) AS incomplete
FROM profinfer_operator
GROUP BY name, op
ORDER BY sum(iif(complete, wait_dur, 0)) DESC
LIMIT 30;
