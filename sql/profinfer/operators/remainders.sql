-- What is not in plain sums over operators' runs: time in which they were throttled, and runs that are not complete.

INCLUDE PERFETTO MODULE profinfer.operators.work;

-- Phases by their numbers.
CREATE PERFETTO TABLE _phase(
  -- As in _graph_context.
  phase_id LONG,
  -- Phase of micro-batches, NULL outside any.
  phase STRING
) AS
SELECT DISTINCT
  phase_id,
  phase
FROM _graph_context
ORDER BY phase_id;

-- Such time and such runs.
CREATE PERFETTO TABLE _operator_remainder(
  -- Arguments, and in the lower 16 bits the phase.
  summand LONG,
  -- Threads that ran it.
  thread_count LONG,
  -- Time throttled in complete runs, which is no work; NULL for a run that may be incomplete.
  throttled_dur DURATION,
  -- Runs that may be incomplete.
  incomplete LONG,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  (w.run & 0xFFFFFFFF) << 16 | g.phase_id AS summand,
  0 AS thread_count,
  t.dur AS throttled_dur,
  0 AS incomplete,
  g.upid
FROM _throttled_work AS t
CROSS JOIN _operator_work AS w
  ON w.id = t.slice_id
CROSS JOIN _graph_context AS g
  ON g.graph_id = w.run >> 32
WHERE NOT w.run IN (SELECT run FROM _incomplete_run)
UNION ALL
SELECT
  (r.run & 0xFFFFFFFF) << 16 | g.phase_id AS summand,
  r.thread_count,
  NULL AS throttled_dur,
  1 AS incomplete,
  g.upid
FROM _incomplete_run AS r
CROSS JOIN _graph_context AS g
  ON g.graph_id = r.run >> 32
UNION ALL
SELECT
  n.arg_set_id << 16 | g.phase_id AS summand,
  0 AS thread_count,
  NULL AS throttled_dur,
  1 AS incomplete,
  n.upid
FROM _operator_unseen AS n
JOIN _graph_context AS g
  USING (graph_id);
