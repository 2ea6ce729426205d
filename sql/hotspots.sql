-- Which operators take the most time?
-- Work is summed over threads, without the wait at the barrier. Prefill and decode are told
-- apart by the micro-batch around the graph. Operators that may be incomplete are not in the
-- sums; how many there are is in the last column.

INCLUDE PERFETTO MODULE profinfer.graphs;
INCLUDE PERFETTO MODULE profinfer.operators;

-- title: Operators by work (the first 40)
SELECT
  coalesce(u.phase, 'outside') AS phase,
  o.name,
  o.op,
  o.layer,
  sum(o.complete) AS runs,
  round(sum(iif(o.complete, o.busy_dur, 0)) / 1e6, 2) AS work_ms,
  round(
    100.0 * sum(iif(o.complete, o.busy_dur, 0)) / sum(sum(iif(o.complete, o.busy_dur, 0))) OVER (),
    1
  ) AS percent,
  round(avg(iif(o.complete, o.dur, NULL)) / 1e3, 1) AS mean_us,
  round(max(iif(o.complete, o.dur, NULL)) / 1e3, 1) AS max_us,
  sum(NOT o.complete) AS incomplete
FROM profinfer_operator AS o
JOIN profinfer_graph AS g
  USING (graph_id)
LEFT JOIN profinfer_ubatch AS u
  USING (ubatch_id)
GROUP BY u.phase, o.name, o.op
ORDER BY work_ms DESC
LIMIT 40;
