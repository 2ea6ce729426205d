-- What ProfInfer writes into a trace, as tables. This module alone knows how slices, tracks and
-- arguments are laid out; every other module includes upward from it.

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
  -- Name of the slice: prefill, decode, mixed, or ubatch when tokens are unknown.
  phase STRING,
  -- Number of the micro-batch in this recording.
  ubatch_id LONG,
  -- Tokens in it.
  tokens LONG,
  -- Different sequences in it.
  sequences LONG,
  -- Address of its llama_context.
  context LONG
) AS
SELECT
  s.id,
  s.ts,
  s.dur,
  t.utid,
  s.name AS phase,
  extract_arg(s.arg_set_id, 'debug.ubatch_id') AS ubatch_id,
  extract_arg(s.arg_set_id, 'debug.tokens') AS tokens,
  extract_arg(s.arg_set_id, 'debug.sequences') AS sequences,
  extract_arg(s.arg_set_id, 'debug.context') AS context
FROM slice AS s
JOIN thread_track AS t
  ON s.track_id = t.id
WHERE s.category = 'ubatch'
ORDER BY s.ts;

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
  -- Either prefill or decode.
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
  outputs LONG
) AS
SELECT
  id,
  ts,
  dur,
  track_id,
  name AS phase,
  extract_arg(arg_set_id, 'debug.ubatch_id') AS ubatch_id,
  extract_arg(arg_set_id, 'debug.sequence') AS sequence,
  extract_arg(arg_set_id, 'debug.position') AS position,
  extract_arg(arg_set_id, 'debug.tokens') AS tokens,
  extract_arg(arg_set_id, 'debug.outputs') AS outputs
FROM slice
WHERE category = 'sequence'
ORDER BY ts;

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
  backend STRING
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
  substr(s.name, 7) AS backend
FROM slice AS s
JOIN thread_track AS t
  ON s.track_id = t.id
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
WHERE s.category IN ('operator', 'operator.incomplete');

-- Waits at the barrier that follows an operator.
CREATE PERFETTO TABLE _wait_event(
  -- The operator's slice.
  operator_slice_id JOINID(slice.id),
  -- When the thread had done its part and began to wait.
  ts TIMESTAMP,
  -- How long it waited.
  dur DURATION
) AS
SELECT
  parent_id AS operator_slice_id,
  ts,
  dur
FROM slice
WHERE category = 'barrier' AND parent_id IS NOT NULL
ORDER BY parent_id;

-- Barriers inside operators (MUL_MAT waits there for its quantised input).
CREATE PERFETTO TABLE _inside_event(
  -- The operator's slice.
  operator_slice_id JOINID(slice.id),
  -- When the thread arrived at the barrier.
  ts TIMESTAMP
) AS
SELECT
  parent_id AS operator_slice_id,
  ts
FROM slice
WHERE category = 'barrier.inside' AND parent_id IS NOT NULL
ORDER BY parent_id, ts;

-- The description that each set of operator arguments stands for.
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
WHERE flat_key = 'debug.tensor'
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
  int_value LONG
) AS
SELECT
  s.id,
  s.ts,
  s.name,
  s.category,
  substr(a.key, 7) AS key,
  substr(a.flat_key, 7) AS flat_key,
  a.string_value,
  a.int_value
FROM slice AS s
JOIN args AS a
  USING (arg_set_id)
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
  lost LONG
) AS
SELECT
  ts,
  extract_arg(arg_set_id, 'debug.first_ts') AS first_ts,
  extract_arg(arg_set_id, 'debug.cpu') AS cpu,
  extract_arg(arg_set_id, 'debug.kind') AS kind,
  extract_arg(arg_set_id, 'debug.lost') AS lost
FROM slice
WHERE category = 'loss'
ORDER BY ts;

-- What the recorder says of the recording, one argument per row.
CREATE PERFETTO TABLE _recording_arg(
  -- Start or end of the recording.
  ts TIMESTAMP,
  -- Either recording started or recording ended.
  event STRING,
  -- Argument, such as config.level.
  key STRING,
  -- Its value as text.
  value STRING
) AS
SELECT
  s.ts,
  s.name AS event,
  substr(a.key, 7) AS key,
  coalesce(a.string_value, cast_string!(a.int_value), cast_string!(a.real_value)) AS value
FROM slice AS s
JOIN args AS a
  USING (arg_set_id)
WHERE s.category = 'recording' AND a.flat_key GLOB 'debug.*'
ORDER BY s.ts;
