-- What ProfInfer writes into a trace, as tables. This module alone knows how slices, tracks and
-- arguments are laid out; every other module includes upward from it.

-- What the recorder says of the recording, one argument per row.
CREATE PERFETTO TABLE _recording_arg(
  -- Start or end of the recording.
  ts TIMESTAMP,
  -- Either recording started or recording ended.
  event STRING,
  -- Argument, such as config.level.
  key STRING,
  -- Its value as text.
  value STRING,
  -- The process that was recorded.
  upid JOINID(process.id)
) AS
SELECT
  s.ts,
  s.name AS event,
  substr(a.key, 7) AS key,
  coalesce(a.string_value, cast_string!(a.int_value), cast_string!(a.real_value)) AS value,
  t.upid
FROM slice AS s
JOIN args AS a
  USING (arg_set_id)
LEFT JOIN process_track AS t
  ON s.track_id = t.id
WHERE s.category = 'recording' AND a.flat_key GLOB 'debug.*'
ORDER BY s.ts;

-- Processes that were recorded. Several where traces were merged.
CREATE PERFETTO TABLE _recorded_process(
  -- Process.
  upid JOINID(process.id),
  -- Machine, NULL for the one whose clock the trace has.
  machine_id LONG,
  -- Number of the process, in order of its recording's start, from 1.
  number LONG,
  -- Start of the first of its recordings.
  ts TIMESTAMP,
  -- End of the last one, or the end of the trace where that is missing.
  end_ts TIMESTAMP,
  -- How many recordings of it there are, one after another.
  recordings LONG,
  -- Whether barriers were recorded, in each of them: slices do not tell which one they are of.
  has_barriers BOOL
) AS
SELECT
  a.upid,
  p.machine_id,
  row_number() OVER (ORDER BY min(a.ts), a.upid) AS number,
  min(a.ts) AS ts,
  iif(
    max(iif(a.event = 'recording started', a.ts, NULL))
    > coalesce(max(iif(a.event = 'recording ended', a.ts, NULL)), 0),
    trace_end(),
    max(a.ts)
  ) AS end_ts,
  count(DISTINCT iif(a.event = 'recording started', a.ts, NULL)) AS recordings,
  count(DISTINCT iif(a.key GLOB 'plan.probes*.handler' AND a.value = 'on_barrier', a.ts, NULL))
  = count(DISTINCT iif(a.event = 'recording started', a.ts, NULL)) AS has_barriers
FROM _recording_arg AS a
JOIN process AS p
  USING (upid)
GROUP BY a.upid
ORDER BY a.upid;

-- Whether barriers were recorded in a process.
CREATE PERFETTO FUNCTION _has_barriers(
  -- Process.
  upid JOINID(process.id)
)
-- True when they were, and where nothing is known of its recording.
RETURNS BOOL AS
SELECT
  coalesce(min(has_barriers), TRUE)
FROM _recorded_process
WHERE upid = $upid;

-- Requests, as the converter told them apart (docs/requests.md).
CREATE PERFETTO TABLE _request_event(
  -- Slice id.
  id ID(slice.id),
  -- When its first sign was seen.
  ts TIMESTAMP,
  -- Until its last token was sampled, or its last call returned, or its last micro-batch ended.
  dur DURATION,
  -- Number of the request in this recording, drafts counted.
  request LONG,
  -- Either request, warm-up or draft.
  kind STRING,
  -- Tokens that were in the cache, NULL for unknown.
  cached_tokens LONG,
  -- The request whose prefill gave its first token.
  shared_prefill_of LONG,
  -- The request for which a draft was computed.
  draft_of LONG,
  -- When its first token was sampled, NULL where no call tells.
  first_token_ts TIMESTAMP,
  -- Tokens of the last step that stayed, NULL for unknown.
  accepted LONG,
  -- Whether there is no other reading.
  certain BOOL,
  -- Why there may be another one.
  reason STRING,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  s.id,
  s.ts,
  s.dur,
  extract_arg(s.arg_set_id, 'debug.request') AS request,
  extract_arg(s.arg_set_id, 'debug.kind') AS kind,
  extract_arg(s.arg_set_id, 'debug.cached_tokens') AS cached_tokens,
  extract_arg(s.arg_set_id, 'debug.shared_prefill_of') AS shared_prefill_of,
  extract_arg(s.arg_set_id, 'debug.draft_of') AS draft_of,
  extract_arg(s.arg_set_id, 'debug.first_token_ts') AS first_token_ts,
  extract_arg(s.arg_set_id, 'debug.accepted') AS accepted,
  extract_arg(s.arg_set_id, 'debug.certain') AS certain,
  extract_arg(s.arg_set_id, 'debug.reason') AS reason,
  t.upid
FROM slice AS s
LEFT JOIN process_track AS t
  ON s.track_id = t.id
WHERE s.category = 'request'
ORDER BY request;

-- The tokens of one sequence in one micro-batch.
CREATE PERFETTO TABLE _sequence_event(
  -- Slice id.
  id ID(slice.id),
  -- Start of the micro-batch.
  ts TIMESTAMP,
  -- Duration of the micro-batch, -1 when its end was not recorded.
  dur DURATION,
  -- Track of the sequence.
  track_id JOINID(track.id),
  -- One of encode, prefill, decode and draft.
  phase STRING,
  -- Number of the micro-batch in this recording.
  ubatch_id LONG,
  -- Sequence id (a server's slot).
  sequence LONG,
  -- Position of the first of the tokens.
  position LONG,
  -- Tokens of this sequence in the micro-batch.
  tokens LONG,
  -- Tokens whose logits were asked for.
  outputs LONG,
  -- Number of its request; of a draft, of the request that it is for.
  request LONG,
  -- By how much the engine lowered positions since the sequence's last micro-batch.
  shift LONG,
  -- Whether it is a part of the same batch, and so of the same step, as the one before.
  goes_on BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  s.id,
  s.ts,
  s.dur,
  s.track_id,
  iif(r.kind = 'draft', 'draft', s.name) AS phase,
  extract_arg(s.arg_set_id, 'debug.ubatch_id') AS ubatch_id,
  extract_arg(s.arg_set_id, 'debug.sequence') AS sequence,
  extract_arg(s.arg_set_id, 'debug.position') AS position,
  extract_arg(s.arg_set_id, 'debug.tokens') AS tokens,
  extract_arg(s.arg_set_id, 'debug.outputs') AS outputs,
  iif(r.kind = 'draft', r.draft_of, extract_arg(s.arg_set_id, 'debug.request')) AS request,
  coalesce(extract_arg(s.arg_set_id, 'debug.shift'), 0) AS shift,
  coalesce(extract_arg(s.arg_set_id, 'debug.goes_on'), 0) AS goes_on,
  t.upid
FROM slice AS s
LEFT JOIN process_track AS t
  ON s.track_id = t.id
LEFT JOIN _request_event AS r
  ON r.request = extract_arg(s.arg_set_id, 'debug.request')
WHERE s.category = 'sequence'
ORDER BY s.ts;

-- Micro-batches (process_ubatch calls).
CREATE PERFETTO TABLE _ubatch_event(
  -- Slice id.
  id ID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration, -1 when the end was not recorded.
  dur DURATION,
  -- Thread that ran it.
  utid JOINID(thread.id),
  -- What its sequences are in: encode, prefill, decode, draft, or mixed; when tokens are unknown,
  -- ubatch or the name of the engine's step.
  phase STRING,
  -- Number of the micro-batch in this recording.
  ubatch_id LONG,
  -- Tokens in it.
  tokens LONG,
  -- Different sequences in it.
  sequences LONG,
  -- Address of its llama_context.
  context LONG,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  s.id,
  s.ts,
  s.dur,
  t.utid,
  coalesce(q.phase, s.name) AS phase,
  extract_arg(s.arg_set_id, 'debug.ubatch_id') AS ubatch_id,
  extract_arg(s.arg_set_id, 'debug.tokens') AS tokens,
  extract_arg(s.arg_set_id, 'debug.sequences') AS sequences,
  extract_arg(s.arg_set_id, 'debug.context') AS context,
  h.upid
FROM slice AS s
JOIN thread_track AS t
  ON s.track_id = t.id
JOIN thread AS h
  USING (utid)
LEFT JOIN (
  SELECT
    ubatch_id,
    iif(min(phase) = max(phase), min(phase), 'mixed') AS phase
  FROM _sequence_event
  GROUP BY ubatch_id
) AS q
  ON q.ubatch_id = extract_arg(s.arg_set_id, 'debug.ubatch_id')
WHERE s.category = 'ubatch'
ORDER BY s.ts;

-- Calls of the engine's own interface, where they were probed.
CREATE PERFETTO TABLE _call_event(
  -- Slice id.
  id ID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration, -1 when the end was not recorded.
  dur DURATION,
  -- Thread.
  utid JOINID(thread.id),
  -- What it does, as the engine's adapter says: decode, sample and so on.
  name STRING,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  s.id,
  s.ts,
  s.dur,
  t.utid,
  s.name,
  h.upid
FROM slice AS s
JOIN thread_track AS t
  ON s.track_id = t.id
JOIN thread AS h
  USING (utid)
WHERE s.category = 'call'
ORDER BY s.ts;

-- What steps do beside computing, where it was recorded. Parts lie within each other, within calls,
-- and within graphs.
CREATE PERFETTO VIEW _part_event(
  -- Slice id.
  id ID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration, -1 when the end was not recorded.
  dur DURATION,
  -- Thread.
  utid JOINID(thread.id),
  -- Slice around it on the same thread.
  parent_id JOINID(slice.id),
  -- What it does, as the engine's adapter says: split, allocate, set, get, copy, wait, event.
  name STRING,
  -- Address of the tensor that is written or read.
  tensor LONG,
  -- Address of the tensor that it is copied from.
  from_tensor LONG,
  -- Bytes that are written or read, NULL where the call does not say.
  bytes LONG,
  -- Address of the backend that does it, or is waited for, where the call says.
  backend LONG,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  s.id,
  s.ts,
  s.dur,
  t.utid,
  s.parent_id,
  s.name,
  extract_arg(s.arg_set_id, 'debug.tensor') AS tensor,
  extract_arg(s.arg_set_id, 'debug.from') AS from_tensor,
  extract_arg(s.arg_set_id, 'debug.bytes') * coalesce(extract_arg(s.arg_set_id, 'debug.copies'), 1) AS bytes,
  extract_arg(s.arg_set_id, 'debug.backend') AS backend,
  h.upid
FROM slice AS s
JOIN thread_track AS t
  ON s.track_id = t.id
JOIN thread AS h
  USING (utid)
WHERE s.category = 'part';

-- Which parts of steps were recorded, by process: of a name one function at least.
CREATE PERFETTO VIEW _part_known(
  -- Process.
  upid JOINID(process.id),
  -- As in _part_event.
  name STRING,
  -- Whether there is a probe for it, in each recording of the process.
  is_probed BOOL,
  -- Whether graphs were recorded.
  has_graphs BOOL
) AS
WITH
  starts AS (
    SELECT
      upid,
      ts,
      key,
      value
    FROM _recording_arg
    WHERE event = 'recording started' AND key GLOB 'plan.*'
  ),
  parts AS (
    SELECT
      p.upid,
      p.ts,
      n.value AS name,
      'on_call_' || substr(p.key, 12, length(p.key) - 17) AS handler
    FROM starts AS p
    JOIN starts AS n
      ON n.upid = p.upid AND n.ts = p.ts AND n.key = substr(p.key, 1, length(p.key) - 4) || 'name'
    WHERE p.key GLOB 'plan.calls*.part'
  ),
  probed AS MATERIALIZED (
    SELECT DISTINCT upid, ts, value AS handler FROM starts WHERE key GLOB 'plan.probes*.handler'
  ),
  each_start AS (
    SELECT
      p.upid,
      p.ts,
      p.name,
      max(h.handler IS NOT NULL) AS is_probed
    FROM parts AS p
    LEFT JOIN probed AS h
      USING (upid, ts, handler)
    GROUP BY p.upid, p.ts, p.name
  )
SELECT
  upid,
  name,
  min(is_probed) AS is_probed,
  upid IN (SELECT upid FROM probed WHERE handler IN ('on_backend_graph', 'on_cpu_graph')) AS has_graphs
FROM each_start
GROUP BY upid, name
ORDER BY upid, name;

-- What the threads that call the engine are in, one within the other: micro-batches, their graphs, calls
-- and parts. What a graph does is the graph's. Of those whose end was recorded.
CREATE PERFETTO VIEW _work_event(
  -- Slice id.
  id ID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- End.
  end_ts TIMESTAMP,
  -- Thread.
  utid JOINID(thread.id),
  -- Of these the one around it, NULL for none.
  parent_id JOINID(slice.id),
  -- One of ubatch, graphs, sample, calls (any other), or the part's name.
  part STRING,
  -- How many of them are around it.
  depth LONG,
  -- Whether it is a micro-batch, or lies within one.
  is_inside BOOL
) AS
WITH
  around AS MATERIALIZED (
    SELECT
      s.id,
      max(a.depth << 32 | a.id) & 0xFFFFFFFF AS parent_id,
      count(a.id) AS depth,
      max(coalesce(a.category = 'ubatch', FALSE)) AS is_inside,
      max(coalesce(a.category = 'graph', FALSE)) AS is_in_graph
    FROM slice AS s
    LEFT JOIN ancestor_slice(s.id) AS a
      ON a.category IN ('ubatch', 'graph', 'call', 'part')
    WHERE s.category IN ('ubatch', 'graph', 'call', 'part')
    GROUP BY s.id
  )
SELECT
  s.id,
  s.ts,
  s.ts + s.dur AS end_ts,
  t.utid,
  o.parent_id,
  CASE s.category
    WHEN 'part'
    THEN s.name
    WHEN 'ubatch'
    THEN 'ubatch'
    WHEN 'graph'
    THEN 'graphs'
    ELSE iif(s.name = 'sample', s.name, 'calls')
  END AS part,
  o.depth,
  s.category = 'ubatch' OR o.is_inside AS is_inside
FROM around AS o
CROSS JOIN slice AS s
  USING (id)
JOIN thread_track AS t
  ON s.track_id = t.id
WHERE s.dur >= 0 AND NOT o.is_in_graph;

-- Graphs as threads saw them: one row for the thread that computed the graph, and one for each
-- worker thread that had a part in it.
CREATE PERFETTO TABLE _graph_event(
  -- Slice id.
  id ID(slice.id),
  -- Start; a worker's is that of its first operator.
  ts TIMESTAMP,
  -- Duration, -1 when the end was not recorded.
  dur DURATION,
  -- Thread.
  utid JOINID(thread.id),
  -- Slice around it on the same thread.
  parent_id JOINID(slice.id),
  -- Whether this is the thread that computed the graph.
  is_main BOOL,
  -- Number of the graph run in this recording.
  graph_id LONG,
  -- Structure that ran, 0 when unknown.
  structure_id LONG,
  -- Name of the backend.
  backend STRING,
  -- Process.
  upid JOINID(process.id),
  -- Whether barriers were recorded in it.
  has_barriers BOOL
) AS
SELECT
  s.id,
  s.ts,
  s.dur,
  t.utid,
  s.parent_id,
  s.category = 'graph' AS is_main,
  extract_arg(s.arg_set_id, 'debug.graph_id') AS graph_id,
  extract_arg(s.arg_set_id, 'debug.structure_id') AS structure_id,
  substr(s.name, 7) AS backend,
  h.upid,
  coalesce(p.has_barriers, TRUE) AS has_barriers
FROM slice AS s
JOIN thread_track AS t
  ON s.track_id = t.id
JOIN thread AS h
  USING (utid)
LEFT JOIN _recorded_process AS p
  USING (upid)
WHERE s.category IN ('graph', 'graph.worker')
ORDER BY s.id;

-- Operators as threads ran them. A view: there can be millions, and one copy is enough.
CREATE PERFETTO VIEW _operator_event(
  -- Slice id.
  id ID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration, -1 when the end was not recorded.
  dur DURATION,
  -- The thread's graph slice (see _graph_event), which knows the thread.
  parent_id JOINID(slice.id),
  -- Arguments, one set per operator description.
  arg_set_id ARGSETID,
  -- Name of the tensor that is computed.
  name STRING,
  -- Whether no record of it can have been lost.
  complete BOOL
) AS
SELECT
  s.id,
  s.ts,
  s.dur,
  s.parent_id,
  s.arg_set_id,
  s.name,
  s.category = 'operator' AS complete
FROM slice AS s
-- Not one by one, as with IN, where they are looked up.
WHERE s.category GLOB 'operator*';

-- Those of which a record may have been lost.
CREATE PERFETTO VIEW _incomplete_event(
  -- Slice id.
  id ID(slice.id),
  -- Arguments, one set per operator description.
  arg_set_id ARGSETID
) AS
SELECT
  id,
  arg_set_id
FROM slice
WHERE category = 'operator.incomplete';

-- Waits at the barrier that follows an operator.
CREATE PERFETTO VIEW _wait_event(
  -- The operator's slice.
  operator_slice_id JOINID(slice.id),
  -- When the thread had done its part and began to wait.
  ts TIMESTAMP,
  -- How long it waited, -1 when the end was not recorded.
  dur DURATION
) AS
SELECT
  parent_id AS operator_slice_id,
  ts,
  dur
FROM slice
WHERE category = 'barrier' AND parent_id IS NOT NULL;

-- Operators with that wait, of those that have one and of which the end was recorded.
CREATE PERFETTO VIEW _waited_event(
  -- The operator's slice.
  id ID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- When the thread had done its part and began to wait.
  arrival TIMESTAMP,
  -- End of the wait, and of the operator.
  end_ts TIMESTAMP,
  -- The thread's graph slice.
  parent_id JOINID(slice.id),
  -- Arguments, one set per operator description.
  arg_set_id ARGSETID
) AS
SELECT
  o.id,
  o.ts,
  w.ts AS arrival,
  w.ts + w.dur AS end_ts,
  o.parent_id,
  o.arg_set_id
FROM slice AS w
CROSS JOIN slice AS o
  ON o.id = w.parent_id
WHERE w.category = 'barrier' AND w.dur >= 0;

-- Barriers inside operators (MUL_MAT waits there for its quantised input).
CREATE PERFETTO VIEW _inside_event(
  -- The operator's slice.
  operator_slice_id JOINID(slice.id),
  -- When the thread arrived at the barrier.
  ts TIMESTAMP
) AS
SELECT
  parent_id AS operator_slice_id,
  ts
FROM slice
WHERE category = 'barrier.inside' AND parent_id IS NOT NULL;

-- The description that each set of operator arguments stands for. (In older traces it is one that bears
-- a name of its own.)
CREATE PERFETTO TABLE _operator_arg_set(
  -- Argument set.
  arg_set_id ARGSETID,
  -- Description, unique per tensor and per fused pair.
  description STRING
) AS
SELECT DISTINCT
  arg_set_id,
  string_value AS description
FROM args
WHERE flat_key IN ('correlation_id', 'debug.tensor')
ORDER BY arg_set_id;

-- Events that describe structure, with one argument per row.
CREATE PERFETTO TABLE _structure_arg(
  -- Slice id.
  id ID(slice.id),
  -- When it was first seen.
  ts TIMESTAMP,
  -- Name of the event: of a tensor, a structure or a fused op.
  name STRING,
  -- What is described: structure.tensor, structure.graph or structure.fused.
  category STRING,
  -- Argument with its index, such as ne[0].
  key STRING,
  -- Argument without its index.
  flat_key STRING,
  -- Value of a text.
  string_value STRING,
  -- Value of a number.
  int_value LONG,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  s.id,
  s.ts,
  s.name,
  s.category,
  substr(a.key, 7) AS key,
  substr(a.flat_key, 7) AS flat_key,
  a.string_value,
  a.int_value,
  t.upid
FROM slice AS s
JOIN args AS a
  USING (arg_set_id)
LEFT JOIN process_track AS t
  ON s.track_id = t.id
WHERE s.category GLOB 'structure.*' AND a.flat_key GLOB 'debug.*'
ORDER BY s.id;

-- Records lost, as the recorder noticed them.
CREATE PERFETTO TABLE _loss_event(
  -- Time of the last record lost.
  ts TIMESTAMP,
  -- Time before which none of these was lost.
  first_ts TIMESTAMP,
  -- CPU whose ring was full.
  cpu LONG,
  -- Kind of record: operator, barrier, graph_begin and so on.
  kind STRING,
  -- Records lost.
  lost LONG,
  -- The process whose recording lost them.
  upid JOINID(process.id)
) AS
SELECT
  s.ts,
  extract_arg(s.arg_set_id, 'debug.first_ts') AS first_ts,
  extract_arg(s.arg_set_id, 'debug.cpu') AS cpu,
  extract_arg(s.arg_set_id, 'debug.kind') AS kind,
  extract_arg(s.arg_set_id, 'debug.lost') AS lost,
  t.upid
FROM slice AS s
LEFT JOIN process_track AS t
  ON s.track_id = t.id
WHERE s.category = 'loss'
ORDER BY s.ts;

-- Records of the scheduler that are missing, as the recorder noticed it.
CREATE PERFETTO TABLE _scheduler_loss(
  -- Time of the last one.
  ts TIMESTAMP,
  -- Time before which none of these was lost.
  first_ts TIMESTAMP,
  -- CPU, NULL when it may have been any.
  cpu LONG,
  -- Kind of record: switch, waking, newtask, newname, rename, exit, free or reason.
  kind STRING,
  -- How many; at least so many where a switch was found to be missing between two others.
  lost LONG,
  -- Then the thread that was switched to before; NULL where records did not fit into a ring.
  left_tid LONG,
  -- And the one that was switched from after.
  found_tid LONG,
  -- The process in whose recording they are missing.
  upid JOINID(process.id)
) AS
SELECT
  s.ts,
  extract_arg(s.arg_set_id, 'debug.first_ts') AS first_ts,
  extract_arg(s.arg_set_id, 'debug.cpu') AS cpu,
  extract_arg(s.arg_set_id, 'debug.kind') AS kind,
  extract_arg(s.arg_set_id, 'debug.lost') AS lost,
  extract_arg(s.arg_set_id, 'debug.left_tid') AS left_tid,
  extract_arg(s.arg_set_id, 'debug.found_tid') AS found_tid,
  t.upid
FROM slice AS s
LEFT JOIN process_track AS t
  ON s.track_id = t.id
WHERE s.category = 'loss.scheduler'
ORDER BY s.ts;

-- What threads of the target were blocked in.
CREATE PERFETTO TABLE _blocked_event(
  -- When the thread went to sleep.
  ts TIMESTAMP,
  -- Until it was woken, -1 when that was not recorded.
  dur DURATION,
  -- Thread.
  utid JOINID(thread.id),
  -- System call, or page fault.
  name STRING
) AS
SELECT
  s.ts,
  s.dur,
  t.utid,
  s.name
FROM slice AS s
JOIN thread_track AS t
  ON s.track_id = t.id
WHERE s.category = 'blocked'
ORDER BY s.ts;

-- When the kernel said of threads that they were kept from their CPUs by their cgroup's quota.
CREATE PERFETTO TABLE _throttled_event(
  -- When the thread left its CPU, or was woken.
  ts TIMESTAMP,
  -- Until it could go on, -1 when that was not recorded.
  dur DURATION,
  -- Thread.
  utid JOINID(thread.id)
) AS
SELECT
  s.ts,
  s.dur,
  t.utid
FROM slice AS s
JOIN thread_track AS t
  ON s.track_id = t.id
WHERE s.category = 'throttled'
ORDER BY s.ts;

-- Who took the CPU of a thread of the target, where nobody else's switches are recorded.
CREATE PERFETTO TABLE _taker_event(
  -- Slice id.
  id ID(slice.id),
  -- When it took the CPU.
  ts TIMESTAMP,
  -- How long it stayed there, or until the thread ran again.
  dur DURATION,
  -- The thread that was preempted.
  utid JOINID(thread.id),
  -- Name of the thread that ran in its place.
  name STRING,
  -- Its number.
  tid LONG
) AS
SELECT
  s.id,
  s.ts,
  s.dur,
  t.utid,
  s.name,
  CAST(extract_arg(s.arg_set_id, 'debug.tid') AS INTEGER) AS tid
FROM slice AS s
JOIN thread_track AS t
  ON s.track_id = t.id
WHERE s.category = 'taken'
ORDER BY s.ts;

-- Readings of counters. A view: Trace Processor finds them by their time as they are.
CREATE PERFETTO VIEW _reading(
  -- Number, in order of time.
  id ID(counter.id),
  -- Time.
  ts TIMESTAMP,
  -- Its track.
  track_id JOINID(track.id),
  -- What has been counted since an arbitrary beginning, in the counter's unit.
  value DOUBLE
) AS
SELECT
  id,
  ts,
  track_id,
  value
FROM counter;

-- Tracks of what was counted in the operator probes.
CREATE PERFETTO TABLE _counter_track(
  -- Track.
  track_id JOINID(track.id),
  -- Thread.
  utid JOINID(thread.id),
  -- Counter, CPU time, or "not counted: " and the first counter of a group.
  name STRING
) AS
SELECT
  id AS track_id,
  utid,
  name
FROM thread_counter_track
WHERE
  name = 'CPU time'
  OR name GLOB 'not counted: *'
  OR name IN (
    SELECT
      value
    FROM _recording_arg
    WHERE key GLOB 'counters.events*.name'
  )
ORDER BY id;

-- Routing of tokens to experts: one row per layer and graph, of those where the ids were read and
-- of those where they were not.
CREATE PERFETTO TABLE _expert_event(
  -- Slice id.
  id ID(slice.id),
  -- When the ids were read, by the first operator that needed them.
  ts TIMESTAMP,
  -- Arguments.
  arg_set_id ARGSETID,
  -- Number of the graph run in this recording.
  graph_id LONG,
  -- Layer number.
  layer LONG,
  -- First operator that took the ids.
  tensor_id LONG,
  -- Experts that the layer has.
  experts LONG,
  -- Experts that each token is sent to.
  used LONG,
  -- Tokens.
  rows LONG,
  -- Whether all ids are known.
  complete BOOL,
  -- Why there are no ids, NULL where there are.
  reason STRING,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  s.id,
  s.ts,
  s.arg_set_id,
  extract_arg(s.arg_set_id, 'debug.graph_id') AS graph_id,
  extract_arg(s.arg_set_id, 'debug.layer') AS layer,
  extract_arg(s.arg_set_id, 'debug.tensor_id') AS tensor_id,
  extract_arg(s.arg_set_id, 'debug.experts') AS experts,
  extract_arg(s.arg_set_id, 'debug.used') AS used,
  extract_arg(s.arg_set_id, 'debug.rows') AS rows,
  coalesce(extract_arg(s.arg_set_id, 'debug.complete'), FALSE) AS complete,
  extract_arg(s.arg_set_id, 'debug.reason') AS reason,
  t.upid
FROM slice AS s
LEFT JOIN process_track AS t
  ON s.track_id = t.id
WHERE s.category IN ('experts', 'experts.missing')
ORDER BY s.id;

-- Experts in the events of routing, in the order of rows and ranks. A view: there can be millions.
CREATE PERFETTO VIEW _expert_id(
  -- Number of the value, consecutive within an argument set.
  id LONG,
  -- Arguments.
  arg_set_id ARGSETID,
  -- Expert, -1 when lost.
  expert LONG
) AS
SELECT
  id,
  arg_set_id,
  int_value AS expert
FROM args
WHERE flat_key = 'debug.ids';

-- What the router gave these experts, in the same order.
CREATE PERFETTO VIEW _expert_weight(
  -- Number of the value, consecutive within an argument set.
  id LONG,
  -- Arguments.
  arg_set_id ARGSETID,
  -- What the router gave it.
  weight DOUBLE
) AS
SELECT
  id,
  arg_set_id,
  real_value AS weight
FROM args
WHERE flat_key = 'debug.weights';

-- Tokens of micro-batches, where experts are recorded.
CREATE PERFETTO TABLE _expert_token_arg(
  -- Micro-batch.
  ubatch_id LONG,
  -- Either tokens or outputs.
  what STRING,
  -- Number of the value, from 0.
  row LONG,
  -- Of tokens the sequence id, in the upper 32 bits, and the position; of outputs the number of a
  -- token whose logits are asked for.
  value LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  event AS (
    SELECT
      s.arg_set_id,
      extract_arg(s.arg_set_id, 'debug.ubatch_id') AS ubatch_id,
      t.upid
    FROM slice AS s
    LEFT JOIN process_track AS t
      ON s.track_id = t.id
    WHERE s.category = 'experts.tokens'
  )
SELECT
  e.ubatch_id,
  substr(a.flat_key, 7) AS what,
  row_number() OVER (PARTITION BY a.arg_set_id, a.flat_key ORDER BY a.id) - 1 AS row,
  a.int_value AS value,
  e.upid
FROM event AS e
JOIN args AS a
  USING (arg_set_id)
WHERE a.flat_key IN ('debug.tokens', 'debug.outputs')
ORDER BY e.ubatch_id, what, row;

-- Page faults of the target, as threads took them. A view: nothing is read unless asked for.
CREATE PERFETTO VIEW _fault_event(
  -- Slice id.
  id ID(slice.id),
  -- When it had been served.
  ts TIMESTAMP,
  -- Thread.
  utid JOINID(thread.id),
  -- Whether something had to be read for it.
  is_major BOOL,
  -- Address that was touched.
  address LONG,
  -- File that is mapped there, 0 for none or unknown.
  file LONG,
  -- Place in that file; of file 0 it is 1 for memory of no file, and 0 where that is not known.
  offset LONG,
  -- The operator's slice during which it happened, NULL outside.
  operator_slice_id JOINID(slice.id),
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  s.id,
  s.ts,
  t.utid,
  s.name = 'major fault' AS is_major,
  extract_arg(s.arg_set_id, 'debug.address') AS address,
  extract_arg(s.arg_set_id, 'debug.file') AS file,
  extract_arg(s.arg_set_id, 'debug.offset') AS offset,
  CASE
    WHEN p.category GLOB 'operator*'
    THEN p.id
    WHEN p.category = 'barrier'
    THEN p.parent_id
  END AS operator_slice_id,
  h.upid
FROM slice AS s
JOIN thread_track AS t
  ON s.track_id = t.id
JOIN thread AS h
  USING (utid)
LEFT JOIN slice AS p
  ON p.id = s.parent_id
WHERE s.category = 'fault';

-- Parts of files that came into memory because of the target's threads.
CREATE PERFETTO VIEW _file_read_event(
  -- Slice id.
  id ID(slice.id),
  -- When the kernel made room for them; the data comes after.
  ts TIMESTAMP,
  -- Thread.
  utid JOINID(thread.id),
  -- File.
  file LONG,
  -- Place in the file.
  offset LONG,
  -- Length.
  bytes LONG,
  -- The operator's slice during which it happened, NULL outside.
  operator_slice_id JOINID(slice.id),
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  s.id,
  s.ts,
  t.utid,
  extract_arg(s.arg_set_id, 'debug.file') AS file,
  extract_arg(s.arg_set_id, 'debug.offset') AS offset,
  extract_arg(s.arg_set_id, 'debug.bytes') AS bytes,
  CASE
    WHEN p.category GLOB 'operator*'
    THEN p.id
    WHEN p.category = 'barrier'
    THEN p.parent_id
  END AS operator_slice_id,
  h.upid
FROM slice AS s
JOIN thread_track AS t
  ON s.track_id = t.id
JOIN thread AS h
  USING (utid)
LEFT JOIN slice AS p
  ON p.id = s.parent_id
WHERE s.category = 'file_read';

-- Events that describe files, mappings, models and their tensors, with one argument per row.
CREATE PERFETTO VIEW _memory_arg(
  -- Slice id.
  id ID(slice.id),
  -- When it was told.
  ts TIMESTAMP,
  -- Name of the event.
  name STRING,
  -- What is described: memory.file, memory.mapping, memory.unmapping, memory.model or memory.tensor.
  category STRING,
  -- Argument with its index, such as ne[0].
  key STRING,
  -- Value of a text.
  string_value STRING,
  -- Value of a number.
  int_value LONG,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  s.id,
  s.ts,
  s.name,
  s.category,
  substr(a.key, 7) AS key,
  a.string_value,
  a.int_value,
  t.upid
FROM slice AS s
JOIN args AS a
  USING (arg_set_id)
LEFT JOIN process_track AS t
  ON s.track_id = t.id
WHERE s.category GLOB 'memory.*' AND a.flat_key GLOB 'debug.*';
