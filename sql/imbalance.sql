-- How evenly is the work of each operator spread over the threads?
-- The idle share is the part of the threads' time in the operator during which they waited for
-- one that was still at work. Needs level barrier. Operators that may be incomplete are not in it;
-- the last column counts them and those that may be missing.

INCLUDE PERFETTO MODULE profinfer.operators.runs;
INCLUDE PERFETTO MODULE profinfer.operators.totals;
INCLUDE PERFETTO MODULE profinfer.recording.losses;

-- title: Imbalance by operator (the first 30 by idle time)
SELECT
  name,
  op,
  max(thread_count) AS threads,
  sum(runs) AS runs,
  round(sum(slowest_dur) / 1e3 / nullif(sum(runs), 0), 1) AS slowest_mean_us,
  round(sum(fastest_dur) / 1e3 / nullif(sum(runs), 0), 1) AS fastest_mean_us,
  round(sum(imbalance_dur) / 1e6, 2) AS idle_ms,
  round(1.0 * sum(imbalance_dur) / nullif(sum(busy_dur + wait_dur), 0), 3) AS idle_share,
  sum(incomplete) AS incomplete
FROM profinfer_operator_total
-- Where all but one of the threads were lost it is incomplete.
WHERE thread_count > 1 OR incomplete > 0
GROUP BY name, op
HAVING max(thread_count) > 1
ORDER BY sum(imbalance_dur) DESC
LIMIT 30;

-- title: Work and waiting by thread
SELECT
  t.tid,
  t.name AS thread,
  s.operators,
  round(s.busy_dur / 1e6, 2) AS work_ms,
  round(s.wait_dur / 1e6, 2) AS wait_ms,
  round(1.0 * s.wait_dur / nullif(s.busy_dur + s.wait_dur, 0), 3) AS wait_share,
  s.incomplete
FROM (
  SELECT
    utid,
    sum(complete) AS operators,
    sum(iif(complete, busy_dur, 0)) AS busy_dur,
    sum(iif(complete, wait_dur, 0)) AS wait_dur,
    -- What was lost may have been any thread's.
    sum(NOT complete)
    + profinfer_lost('operator')
    + profinfer_lost('fused')
    + profinfer_lost('graph_begin') AS incomplete
  FROM profinfer_operator_slice
  GROUP BY utid
) AS s
JOIN thread AS t
  USING (utid)
ORDER BY work_ms DESC;
