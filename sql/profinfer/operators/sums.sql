-- Sums over the runs of every distinct operator, by phase: work and waiting. How long they took from end to
-- end is in phases.sql.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.remainders;
INCLUDE PERFETTO MODULE profinfer.operators.work;
INCLUDE PERFETTO MODULE profinfer.recording.net;
INCLUDE PERFETTO MODULE profinfer.scheduling.kernel_states;

-- Complete runs: work and waiting. A table: what is grouped by a column of one needs no sorting.
CREATE PERFETTO TABLE _run_sum(
  -- Arguments, and in the lower 16 bits the phase.
  summand LONG,
  -- Threads that ran it.
  thread_count LONG,
  -- Work, summed over threads.
  busy_dur DURATION,
  -- Wait at the barrier after it, summed over threads.
  wait_dur DURATION,
  -- Part of the wait during which some thread was still at work.
  imbalance_dur DURATION,
  -- Process.
  upid JOINID(process.id)
) AS
-- Durations are differences of sums: each column that is read takes its time. The wait until the last
-- thread's arrival is what passed until then, or, after operators without a barrier, nothing.
SELECT
  (r.run & 0xFFFFFFFF) << 16 | g.phase_id AS summand,
  r.thread_count,
  r.arrivals - r.starts AS busy_dur,
  r.ends - r.arrivals AS wait_dur,
  min(r.thread_count * r.arrival, r.ends) - r.arrivals AS imbalance_dur,
  g.upid
FROM (
  SELECT
    run,
    count() AS thread_count,
    max(arrival) AS arrival,
    sum(ts) AS starts,
    sum(arrival) AS arrivals,
    sum(end_ts) AS ends
  FROM _operator_work
  GROUP BY run
) AS r
CROSS JOIN _graph_context AS g
  ON g.graph_id = r.run >> 32
WHERE NOT r.run IN (SELECT run FROM _incomplete_run);

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
  -- Work, summed over threads.
  busy_dur DURATION,
  -- Time throttled meanwhile; NULL where the scheduler was not recorded, as for no runs.
  throttled_dur DURATION,
  -- Wait at the barrier after it; NULL when barriers were not recorded, as for no runs.
  wait_dur DURATION,
  -- Part of the wait during which some thread was still at work.
  imbalance_dur DURATION,
  -- Runs that may be incomplete.
  incomplete LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  sums AS (
    SELECT
      summand,
      count() AS runs,
      sum(thread_count) AS slices,
      max(thread_count) AS thread_count,
      sum(busy_dur) AS busy_dur,
      0 AS throttled_dur,
      sum(wait_dur) AS wait_dur,
      sum(imbalance_dur) AS imbalance_dur,
      0 AS incomplete,
      upid
    FROM _run_sum
    GROUP BY summand
    UNION ALL
    SELECT
      summand,
      0 AS runs,
      0 AS slices,
      thread_count,
      -coalesce(throttled_dur, 0) AS busy_dur,
      throttled_dur,
      NULL AS wait_dur,
      NULL AS imbalance_dur,
      incomplete,
      upid
    FROM _operator_remainder
  )
SELECT
  s.summand >> 16 AS arg_set_id,
  p.phase_id,
  p.phase,
  sum(s.runs) AS runs,
  sum(s.slices) AS slices,
  max(s.thread_count) AS thread_count,
  sum(s.busy_dur) AS busy_dur,
  iif(s.upid IN (SELECT upid FROM _scheduler), sum(s.throttled_dur), NULL) AS throttled_dur,
  iif(coalesce(r.has_barriers, TRUE), sum(s.wait_dur), NULL) AS wait_dur,
  iif(coalesce(r.has_barriers, TRUE), sum(s.imbalance_dur), NULL) AS imbalance_dur,
  sum(s.incomplete) AS incomplete,
  s.upid
FROM sums AS s
CROSS JOIN _phase AS p
  ON p.phase_id = s.summand & 0xFFFF
LEFT JOIN _recorded_process AS r
  ON r.upid = s.upid
GROUP BY s.summand;

-- One row per distinct tensor that is computed (another size is another) of a process. Runs that may be incomplete are counted,
-- and are in none of the sums.
CREATE PERFETTO TABLE _operator_total(
  -- Arguments of its slices, with the description.
  arg_set_id ARGSETID,
  -- Name of the tensor that is computed.
  name STRING,
  -- Which operator it is, at any size.
  operator_id LONG,
  -- That operator's name for people.
  label STRING,
  -- Operator; both joined by a plus sign when fused.
  op STRING,
  -- Layer number.
  layer LONG,
  -- Part of the model, as in profinfer_tensor.
  module STRING,
  -- Complete runs.
  runs LONG,
  -- Slices of these: one per run and thread.
  slices LONG,
  -- Threads that ran it, at most.
  thread_count LONG,
  -- Work, summed over threads.
  busy_dur DURATION,
  -- Of that, what the engine would have taken without the probes; NULL where their cost is not known
  -- (profinfer_operator_cost says why).
  busy_net_dur DURATION,
  -- Time throttled meanwhile, summed over threads; NULL where the scheduler was not recorded.
  throttled_dur DURATION,
  -- Wait at the barrier after it, summed over threads; NULL when barriers were not recorded.
  wait_dur DURATION,
  -- Part of the wait during which some thread was still at work.
  imbalance_dur DURATION,
  -- Runs that are in none of the sums, at most: those that may be incomplete, and one per graph
  -- of which it is not known what ran in it.
  incomplete LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  sums AS MATERIALIZED (
    SELECT
      upid,
      arg_set_id,
      max(thread_count) AS thread_count,
      sum(runs) AS runs,
      sum(slices) AS slices,
      sum(busy_dur) AS busy_dur,
      sum(throttled_dur) AS throttled_dur,
      sum(wait_dur) AS wait_dur,
      sum(imbalance_dur) AS imbalance_dur,
      sum(incomplete) AS incomplete
    FROM _operator_sum
    GROUP BY arg_set_id
  )
SELECT
  s.arg_set_id,
  k.name,
  k.operator_id,
  coalesce(k.label, k.name) AS label,
  k.op,
  k.layer,
  k.module,
  s.runs,
  s.slices,
  s.thread_count,
  s.busy_dur,
  iif(s.runs = 0, 0, _net!(s.busy_dur, s.slices * c.hits_ns)) AS busy_net_dur,
  s.throttled_dur,
  s.wait_dur,
  s.imbalance_dur,
  s.incomplete + iif(k.tensor_id IS NULL, 0, profinfer_unknown_graphs(s.upid)) AS incomplete,
  s.upid
FROM sums AS s
LEFT JOIN _operator_kind AS k
  USING (arg_set_id)
LEFT JOIN profinfer_operator_cost AS c
  ON c.arg_set_id = s.arg_set_id AND c.upid = s.upid;
