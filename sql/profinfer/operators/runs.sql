-- Operators across threads.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.slices;
INCLUDE PERFETTO MODULE profinfer.operators.work;
INCLUDE PERFETTO MODULE profinfer.recording.net;
INCLUDE PERFETTO MODULE profinfer.scheduling.kernel_states;

-- Operator runs of which something was recorded, by their numbers alone.
CREATE PERFETTO TABLE _operator_seen(
  -- Start on the first thread.
  ts TIMESTAMP,
  -- From the first thread's start to the last thread's end.
  dur DURATION,
  -- Graph run.
  graph_id LONG,
  -- Arguments of its slices.
  arg_set_id ARGSETID,
  -- Threads that ran it.
  thread_count LONG,
  -- Work, summed over threads.
  busy_dur DURATION,
  -- Time throttled meanwhile, summed over threads; NULL where the scheduler was not recorded.
  throttled_dur DURATION,
  -- Wait at the barrier after it, summed over threads.
  wait_dur DURATION,
  -- What passed until the last thread's arrival, summed over threads.
  arrival_dur DURATION,
  -- Work of the thread that worked longest.
  slowest_dur DURATION,
  -- Work of the thread that worked least.
  fastest_dur DURATION,
  -- Whether all of its slices are complete, and none can be missing altogether.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  throttled AS MATERIALIZED (
    SELECT DISTINCT
      w.run
    FROM _throttled_work AS t
    CROSS JOIN _operator_work AS w
      ON w.id = t.slice_id
  ),
  -- Of one table and by one column: Trace Processor then needs no sorting of its own.
  merged AS (
    SELECT
      run,
      min(ts) AS ts,
      max(end_ts) - min(ts) AS dur,
      count() AS thread_count,
      sum(arrival - ts) AS busy_dur,
      0 AS throttled_dur,
      coalesce(sum(end_ts - arrival), 0) AS wait_dur,
      count() * max(arrival) - sum(arrival) AS arrival_dur,
      max(arrival - ts) AS slowest_dur,
      min(arrival - ts) AS fastest_dur
    FROM _operator_work
    GROUP BY run
    HAVING NOT run IN (SELECT run FROM throttled)
    UNION ALL
    SELECT
      w.run,
      min(w.ts) AS ts,
      max(w.end_ts) - min(w.ts) AS dur,
      count() AS thread_count,
      sum(w.arrival - w.ts - coalesce(t.dur, 0)) AS busy_dur,
      sum(coalesce(t.dur, 0)) AS throttled_dur,
      coalesce(sum(w.end_ts - w.arrival), 0) AS wait_dur,
      count() * max(w.arrival) - sum(w.arrival) AS arrival_dur,
      max(w.arrival - w.ts - coalesce(t.dur, 0)) AS slowest_dur,
      min(w.arrival - w.ts - coalesce(t.dur, 0)) AS fastest_dur
    FROM throttled AS r
    CROSS JOIN _operator_work AS w
      USING (run)
    LEFT JOIN _throttled_work AS t
      ON t.slice_id = w.id
    GROUP BY w.run
  )
SELECT
  m.ts,
  m.dur,
  g.graph_id,
  m.run & 0xFFFFFFFF AS arg_set_id,
  m.thread_count,
  m.busy_dur,
  iif(
    m.busy_dur IS NOT NULL AND g.upid IN (SELECT upid FROM _scheduler), m.throttled_dur, NULL
  ) AS throttled_dur,
  iif(g.has_barriers, m.wait_dur, NULL) AS wait_dur,
  m.arrival_dur,
  m.slowest_dur,
  m.fastest_dur,
  NOT m.run IN (SELECT run FROM _incomplete_run) AS complete,
  g.upid
FROM merged AS m
CROSS JOIN _graph_context AS g
  ON g.graph_id = m.run >> 32;

-- Operator runs by their numbers alone; profinfer_operator adds names.
CREATE PERFETTO VIEW _operator_run(
  -- Start on the first thread.
  ts TIMESTAMP,
  -- From the first thread's start to the last thread's end.
  dur DURATION,
  -- Graph run.
  graph_id LONG,
  -- Arguments of its slices.
  arg_set_id ARGSETID,
  -- Threads that ran it, 0 when nothing of it was recorded.
  thread_count LONG,
  -- Work, summed over threads.
  busy_dur DURATION,
  -- Time throttled meanwhile, summed over threads; NULL where the scheduler was not recorded.
  throttled_dur DURATION,
  -- Wait at the barrier after it, summed over threads.
  wait_dur DURATION,
  -- What passed until the last thread's arrival, summed over threads.
  arrival_dur DURATION,
  -- Work of the thread that worked longest.
  slowest_dur DURATION,
  -- Work of the thread that worked least.
  fastest_dur DURATION,
  -- Whether all of its slices are complete, and none can be missing altogether.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  ts,
  dur,
  graph_id,
  arg_set_id,
  thread_count,
  busy_dur,
  throttled_dur,
  wait_dur,
  arrival_dur,
  slowest_dur,
  fastest_dur,
  complete,
  upid
FROM _operator_seen
UNION ALL
SELECT
  NULL AS ts,
  NULL AS dur,
  graph_id,
  arg_set_id,
  0 AS thread_count,
  NULL AS busy_dur,
  NULL AS throttled_dur,
  NULL AS wait_dur,
  NULL AS arrival_dur,
  NULL AS slowest_dur,
  NULL AS fastest_dur,
  FALSE AS complete,
  upid
FROM _operator_unseen;

-- One row per operator and graph run: all its threads together. A run of which no record is left
-- has a row without times.
CREATE PERFETTO VIEW profinfer_operator(
  -- Start on the first thread.
  ts TIMESTAMP,
  -- From the first thread's start to the last thread's end.
  dur DURATION,
  -- The same without the probes' time on the thread that ended last; NULL where it is not known.
  net_dur DURATION,
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
  -- Graph run.
  graph_id LONG,
  -- Tensor that is computed, of a fused operator the last one.
  tensor_id LONG,
  -- Threads that ran it, 0 when no record of it is left.
  thread_count LONG,
  -- Work, summed over threads: dur without the wait at the barrier, and without throttled_dur.
  busy_dur DURATION,
  -- Of that, what the engine would have taken without the probes; NULL where their cost is not known
  -- (profinfer_operator_cost says why).
  busy_net_dur DURATION,
  -- Time throttled meanwhile, summed over threads; NULL where the scheduler was not recorded.
  throttled_dur DURATION,
  -- Wait at the barrier after it, summed over threads; NULL when barriers were not recorded.
  wait_dur DURATION,
  -- Part of the wait during which some thread was still at work; the rest of it passed between
  -- the last thread's arrival at the barrier and everybody's departure.
  imbalance_dur DURATION,
  -- Work of the thread that worked longest.
  slowest_dur DURATION,
  -- The same without the probes.
  slowest_net_dur DURATION,
  -- Work of the thread that worked least.
  fastest_dur DURATION,
  -- The same without the probes.
  fastest_net_dur DURATION,
  -- Arguments of its slices, with the description.
  arg_set_id ARGSETID,
  -- False when a record of it may have been lost, or when the structure of its graph is unknown:
  -- then all operators of the graph are one row.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  r.ts,
  r.dur,
  _net!(r.dur, _run_hits!(r.arg_set_id, r.upid)) AS net_dur,
  k.name,
  k.operator_id,
  coalesce(k.label, k.name) AS label,
  k.op,
  k.layer,
  k.module,
  r.graph_id,
  k.tensor_id,
  r.thread_count,
  r.busy_dur,
  _net!(r.busy_dur, r.thread_count * _work_hits!(r.arg_set_id, r.upid)) AS busy_net_dur,
  r.throttled_dur,
  r.wait_dur,
  min(r.arrival_dur, r.wait_dur) AS imbalance_dur,
  r.slowest_dur,
  _net!(r.slowest_dur, _work_hits!(r.arg_set_id, r.upid)) AS slowest_net_dur,
  r.fastest_dur,
  _net!(r.fastest_dur, _work_hits!(r.arg_set_id, r.upid)) AS fastest_net_dur,
  r.arg_set_id,
  r.complete,
  r.upid
FROM _operator_run AS r
LEFT JOIN _operator_kind AS k
  USING (arg_set_id);
