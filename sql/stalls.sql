-- Where do threads wait instead of working, and why?
-- Of the wait at the barrier after an operator two causes can be told apart in a recording at
-- level barrier: imbalance (another thread was still at work) and release (all had arrived; the
-- time until they went on, which is the price of the barrier itself). Whether a thread was slow
-- because it was preempted or took a page fault would need scheduler records. Waits inside
-- operators are known from below: until the last thread arrived. The stall ratio is wait over
-- wait and work; operators that may be incomplete are not in the sums.

INCLUDE PERFETTO MODULE profinfer.barriers;
INCLUDE PERFETTO MODULE profinfer.totals;

-- title: Stalls by op (ms, summed over threads)
WITH
  inside AS MATERIALIZED (
    SELECT
      k.op,
      sum(b.wait_dur) AS wait_dur
    FROM (
      SELECT
        arg_set_id,
        sum(wait_dur) AS wait_dur
      FROM profinfer_inside_barrier
      WHERE complete
      GROUP BY arg_set_id
    ) AS b
    JOIN _operator_kind AS k
      USING (arg_set_id)
    GROUP BY k.op
  )
SELECT
  t.op,
  sum(t.runs) AS runs,
  round(sum(t.busy_dur) / 1e6, 2) AS work_ms,
  round(sum(t.wait_dur) / 1e6, 2) AS wait_ms,
  round(1.0 * sum(t.wait_dur) / nullif(sum(t.busy_dur + t.wait_dur), 0), 3) AS stall_ratio,
  round(sum(t.imbalance_dur) / 1e6, 2) AS imbalance_ms,
  round(sum(t.wait_dur - t.imbalance_dur) / 1e6, 2) AS release_ms,
  round(i.wait_dur / 1e6, 2) AS inside_wait_min_ms,
  sum(t.incomplete) AS incomplete
FROM profinfer_operator_total AS t
LEFT JOIN inside AS i
  USING (op)
GROUP BY t.op
ORDER BY sum(t.wait_dur) DESC;

-- title: Stalls by operator (the first 30)
SELECT
  name,
  op,
  sum(runs) AS runs,
  round(sum(busy_dur) / 1e3 / nullif(sum(runs), 0), 1) AS mean_work_us,
  round(sum(wait_dur) / 1e3 / nullif(sum(runs), 0), 1) AS mean_wait_us,
  round(1.0 * sum(wait_dur) / nullif(sum(busy_dur + wait_dur), 0), 3) AS stall_ratio,
  round(1.0 * sum(imbalance_dur) / nullif(sum(wait_dur), 0), 3) AS imbalance_share,
  sum(incomplete) AS incomplete
FROM profinfer_operator_total
GROUP BY name, op
ORDER BY sum(wait_dur) DESC
LIMIT 30;
