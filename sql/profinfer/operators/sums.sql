-- Sums over the runs of every distinct operator, by phase: what totals and phases are made of.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.work;
INCLUDE PERFETTO MODULE profinfer.recording.net;
INCLUDE PERFETTO MODULE profinfer.scheduling.kernel_states;

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
  -- Durations are differences of sums: each column that is read takes its time. The wait until the last
  -- thread's arrival is what passed until then, or, after operators without a barrier, nothing.
  runs AS (
    SELECT
      run,
      thread_count,
      dur,
      arrivals - starts AS busy_dur,
      ends - arrivals AS wait_dur,
      min(thread_count * arrival, ends) - arrivals AS imbalance_dur
    FROM (
      SELECT
        run,
        count() AS thread_count,
        max(end_ts) - min(ts) AS dur,
        max(arrival) AS arrival,
        sum(ts) AS starts,
        sum(arrival) AS arrivals,
        sum(end_ts) AS ends
      FROM _operator_work
      GROUP BY run
    )
    WHERE NOT run IN (SELECT run FROM _incomplete_run)
  ),
  sums AS (
    SELECT
      (r.run & 0xFFFFFFFF) << 16 | g.phase_id AS summand,
      count() AS runs,
      sum(r.thread_count) AS slices,
      max(r.thread_count) AS thread_count,
      sum(r.dur) AS dur,
      max(r.dur) AS max_dur,
      sum(r.busy_dur) AS busy_dur,
      0 AS throttled_dur,
      sum(r.wait_dur) AS wait_dur,
      sum(r.imbalance_dur) AS imbalance_dur,
      0 AS incomplete,
      g.upid
    FROM runs AS r
    CROSS JOIN _graph_context AS g
      ON g.graph_id = r.run >> 32
    GROUP BY summand
    UNION ALL
    SELECT
      (w.run & 0xFFFFFFFF) << 16 | g.phase_id AS summand,
      0 AS runs,
      0 AS slices,
      0 AS thread_count,
      0 AS dur,
      NULL AS max_dur,
      -t.dur AS busy_dur,
      t.dur AS throttled_dur,
      NULL AS wait_dur,
      NULL AS imbalance_dur,
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
      0 AS runs,
      0 AS slices,
      r.thread_count,
      0 AS dur,
      NULL AS max_dur,
      0 AS busy_dur,
      NULL AS throttled_dur,
      NULL AS wait_dur,
      NULL AS imbalance_dur,
      1 AS incomplete,
      g.upid
    FROM _incomplete_run AS r
    CROSS JOIN _graph_context AS g
      ON g.graph_id = r.run >> 32
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
  iif(s.upid IN (SELECT upid FROM _scheduler), sum(s.throttled_dur), NULL) AS throttled_dur,
  iif(coalesce(r.has_barriers, TRUE), sum(s.wait_dur), NULL) AS wait_dur,
  iif(coalesce(r.has_barriers, TRUE), sum(s.imbalance_dur), NULL) AS imbalance_dur,
  sum(s.incomplete) AS incomplete,
  s.upid
FROM sums AS s
CROSS JOIN phases AS p
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
  -- From the first thread's start to the last thread's end.
  dur DURATION,
  -- The same without the probes' time on the thread that ended last; NULL where it is not known.
  net_dur DURATION,
  -- The longest of these.
  max_dur DURATION,
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
      sum(dur) AS dur,
      max(max_dur) AS max_dur,
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
  s.dur,
  iif(s.runs = 0, 0, _net!(s.dur, s.runs * c.run_ns)) AS net_dur,
  s.max_dur,
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
