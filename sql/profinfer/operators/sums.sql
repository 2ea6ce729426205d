-- Sums over the runs of every distinct operator, by phase: what totals and phases are made of.

INCLUDE PERFETTO MODULE profinfer.operators.runs;

-- One row per distinct tensor that is computed (another size is another) and phase. Runs that may be
-- incomplete are counted, and are in none of the sums.
CREATE PERFETTO TABLE _operator_sum(
  -- Arguments of its slices.
  arg_set_id ARGSETID,
  -- As in _graph_context.
  phase_id LONG,
  -- Phase of the micro-batch around the graph, NULL outside any.
  phase STRING,
  -- Complete runs.
  runs LONG,
  -- Slices of these: one per run and thread.
  slices LONG,
  -- Threads that ran it, at most, be it in runs that are not complete.
  thread_count LONG,
  -- From the first thread's start to the last thread's end.
  dur DURATION,
  -- The longest of these, NULL for none.
  max_dur DURATION,
  -- Work, summed over threads.
  busy_dur DURATION,
  -- Time throttled meanwhile; NULL where the scheduler was not recorded, as for no runs.
  throttled_dur DURATION,
  -- Wait at the barrier after it; NULL when barriers were not recorded, as for no runs.
  wait_dur DURATION,
  -- Part of the wait during which some thread was still at work.
  imbalance_dur DURATION,
  -- Work of the thread that worked longest in each run.
  slowest_dur DURATION,
  -- Work of the thread that worked least in each run.
  fastest_dur DURATION,
  -- Runs that may be incomplete.
  incomplete LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  phases AS MATERIALIZED (
    SELECT DISTINCT
      phase_id,
      phase
    FROM _graph_context
  ),
  -- Each of one table and by one column: Trace Processor then needs no sorting of its own.
  sums AS (
    SELECT
      summand,
      count() AS runs,
      sum(thread_count) AS slices,
      max(thread_count) AS thread_count,
      sum(dur) AS dur,
      max(dur) AS max_dur,
      sum(busy_dur) AS busy_dur,
      sum(throttled_dur) AS throttled_dur,
      sum(wait_dur) AS wait_dur,
      sum(min(arrival_dur, wait_dur)) AS imbalance_dur,
      sum(slowest_dur) AS slowest_dur,
      sum(fastest_dur) AS fastest_dur,
      0 AS incomplete,
      upid
    FROM _operator_seen
    WHERE complete
    GROUP BY summand
    UNION ALL
    SELECT
      summand,
      0 AS runs,
      0 AS slices,
      max(thread_count) AS thread_count,
      0 AS dur,
      NULL AS max_dur,
      0 AS busy_dur,
      NULL AS throttled_dur,
      NULL AS wait_dur,
      NULL AS imbalance_dur,
      0 AS slowest_dur,
      0 AS fastest_dur,
      count() AS incomplete,
      upid
    FROM _operator_seen
    WHERE NOT complete
    GROUP BY summand
    UNION ALL
    SELECT
      n.arg_set_id << 16 | g.phase_id AS summand,
      0 AS runs,
      0 AS slices,
      0 AS thread_count,
      0 AS dur,
      NULL AS max_dur,
      0 AS busy_dur,
      NULL AS throttled_dur,
      NULL AS wait_dur,
      NULL AS imbalance_dur,
      0 AS slowest_dur,
      0 AS fastest_dur,
      1 AS incomplete,
      n.upid
    FROM _operator_unseen AS n
    JOIN _graph_context AS g
      USING (graph_id)
  )
SELECT
  s.summand >> 16 AS arg_set_id,
  p.phase_id,
  p.phase,
  sum(s.runs) AS runs,
  sum(s.slices) AS slices,
  max(s.thread_count) AS thread_count,
  sum(s.dur) AS dur,
  max(s.max_dur) AS max_dur,
  sum(s.busy_dur) AS busy_dur,
  sum(s.throttled_dur) AS throttled_dur,
  sum(s.wait_dur) AS wait_dur,
  sum(s.imbalance_dur) AS imbalance_dur,
  sum(s.slowest_dur) AS slowest_dur,
  sum(s.fastest_dur) AS fastest_dur,
  sum(s.incomplete) AS incomplete,
  s.upid
FROM sums AS s
CROSS JOIN phases AS p
  ON p.phase_id = s.summand & 0xFFFF
GROUP BY s.summand;
