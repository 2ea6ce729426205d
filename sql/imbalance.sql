-- How evenly is the work of each operator spread over the threads?
-- The idle share is the part of the threads' time in the operator during which they waited for
-- one that was still at work. Needs level barrier. Operators that may be incomplete are not in it.

INCLUDE PERFETTO MODULE profinfer.operators;

-- title: Imbalance by operator (the first 30 by idle time)
SELECT
  name,
  op,
  max(thread_count) AS threads,
  sum(complete) AS runs,
  round(avg(iif(complete, slowest_dur, NULL)) / 1e3, 1) AS slowest_mean_us,
  round(avg(iif(complete, fastest_dur, NULL)) / 1e3, 1) AS fastest_mean_us,
  round(sum(iif(complete, imbalance_dur, 0)) / 1e6, 2) AS idle_ms,
  round(
    1.0 * sum(iif(complete, imbalance_dur, 0))
    / nullif(sum(iif(complete, busy_dur + wait_dur, 0)), 0),
    3
  ) AS idle_share,
  sum(NOT complete) AS incomplete
FROM profinfer_operator
WHERE thread_count > 1
GROUP BY name, op
ORDER BY idle_ms DESC
LIMIT 30;

-- title: Work and waiting by thread
SELECT
  t.tid,
  t.name AS thread,
  sum(s.complete) AS operators,
  round(sum(iif(s.complete, s.dur - s.wait_dur, 0)) / 1e6, 2) AS work_ms,
  round(sum(iif(s.complete, s.wait_dur, 0)) / 1e6, 2) AS wait_ms,
  round(
    1.0 * sum(iif(s.complete, s.wait_dur, 0)) / nullif(sum(iif(s.complete, s.dur, 0)), 0),
    3
  ) AS wait_share,
  sum(NOT s.complete) AS incomplete
FROM profinfer_operator_slice AS s
JOIN thread AS t
  USING (utid)
GROUP BY s.utid
ORDER BY work_ms DESC;
