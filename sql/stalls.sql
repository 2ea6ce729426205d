-- Where do threads wait instead of working, and why?
-- Of the wait at the barrier after an operator several causes can be told apart in a recording at
-- level barrier: imbalance (another thread was still at work) and release (all had arrived; the
-- time until they went on, which is the price of the barrier itself). Where the scheduler was
-- recorded as well, three parts of these have columns of their own and are not in the two: waiting
-- for a thread that came later because another one had taken its CPU, or whose own CPU was taken
-- when all had arrived (interference); because it took page faults (fault); because it slept
-- otherwise (blocked). They are NULL where that was not recorded. Waits inside operators are known
-- from below: until the last thread arrived. The stall ratio is wait over wait and work; operators
-- that may be incomplete, or of which it is not certain when their threads ran, are not in the sums
-- that they would be wrong in.

INCLUDE PERFETTO MODULE profinfer.operators.inside_barriers;
INCLUDE PERFETTO MODULE profinfer.operators.totals;
INCLUDE PERFETTO MODULE profinfer.scheduling.interference;
INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;

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
  round(
    sum(
      t.imbalance_dur - coalesce(s.interference_dur + coalesce(s.fault_dur, 0) + s.blocked_dur, 0)
    ) / 1e6, 2
  ) AS imbalance_ms,
  round(
    sum(iif(t.wait_dur IS NULL, NULL, s.interference_dur + s.late_dur)) / 1e6, 2
  ) AS interference_ms,
  round(sum(iif(t.wait_dur IS NULL, NULL, s.fault_dur)) / 1e6, 2) AS fault_ms,
  round(sum(iif(t.wait_dur IS NULL, NULL, s.blocked_dur)) / 1e6, 2) AS blocked_ms,
  round(
    sum(t.wait_dur - t.imbalance_dur - coalesce(s.late_dur, 0)) / 1e6, 2
  ) AS release_ms,
  round(i.wait_dur / 1e6, 2) AS inside_wait_min_ms,
  sum(t.incomplete + coalesce(s.uncertain, 0)) AS incomplete
FROM profinfer_operator_total AS t
LEFT JOIN profinfer_operator_stall AS s
  USING (arg_set_id)
LEFT JOIN inside AS i
  USING (op)
GROUP BY t.op
ORDER BY sum(t.wait_dur) DESC;

-- title: Stalls by operator (the first 30)
SELECT
  t.name,
  t.op,
  sum(t.runs) AS runs,
  round(sum(t.busy_dur) / 1e3 / nullif(sum(t.runs), 0), 1) AS mean_work_us,
  round(sum(t.wait_dur) / 1e3 / nullif(sum(t.runs), 0), 1) AS mean_wait_us,
  round(1.0 * sum(t.wait_dur) / nullif(sum(t.busy_dur + t.wait_dur), 0), 3) AS stall_ratio,
  round(
    1.0 * sum(
      t.imbalance_dur - coalesce(s.interference_dur + coalesce(s.fault_dur, 0) + s.blocked_dur, 0)
    ) / nullif(sum(t.wait_dur), 0), 3
  ) AS imbalance_share,
  round(
    1.0 * sum(s.interference_dur + s.late_dur) / nullif(sum(t.wait_dur), 0), 3
  ) AS interference_share,
  sum(t.incomplete + coalesce(s.uncertain, 0)) AS incomplete
FROM profinfer_operator_total AS t
LEFT JOIN profinfer_operator_stall AS s
  USING (arg_set_id)
GROUP BY t.name, t.op
ORDER BY sum(t.wait_dur) DESC
LIMIT 30;

-- title: What cannot be told, and why
SELECT
  reason
FROM profinfer_scheduling_gap;
