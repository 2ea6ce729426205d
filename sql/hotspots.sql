-- Which operators take the most time?
-- Work is summed over threads, without the wait at the barrier. Prefill and decode are told
-- apart by the micro-batch around the graph. Operators that may be incomplete are not in the
-- sums; how many there are is in the last column.

INCLUDE PERFETTO MODULE profinfer.totals;

-- title: Operators by work (the first 40)
SELECT
  phase,
  name,
  op,
  layer,
  sum(runs) AS runs,
  round(sum(busy_dur) / 1e6, 2) AS work_ms,
  round(100.0 * sum(busy_dur) / sum(sum(busy_dur)) OVER (), 1) AS percent,
  round(sum(dur) / 1e3 / nullif(sum(runs), 0), 1) AS mean_us,
  round(max(max_dur) / 1e3, 1) AS max_us,
  sum(incomplete) AS incomplete
FROM profinfer_operator_total
GROUP BY phase, name, op
ORDER BY sum(busy_dur) DESC
LIMIT 40;
