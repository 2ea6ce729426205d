-- When each expert was used, and how long before, next to the time and the page faults of the
-- operators: what caches and prefetchers live on.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.experts.readings;
INCLUDE PERFETTO MODULE profinfer.experts.turns;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;

-- How long before each use the expert was used last.
CREATE PERFETTO TABLE _expert_return(
  -- Turn.
  turn LONG,
  -- Process, layer and expert (see _expert_used).
  owner LONG,
  -- Tokens that were sent to it.
  tokens LONG,
  -- Turns since it was last used, NULL for the first time.
  distance LONG
) AS
SELECT
  s.turn,
  s.owner,
  s.tokens,
  s.turn - p.turn AS distance
FROM _expert_series AS s
LEFT JOIN _expert_series AS p
  ON p._auto_id = s._auto_id - 1 AND p.owner = s.owner;

-- Experts used by each run of a layer, of readings that have ids.
CREATE PERFETTO VIEW profinfer_expert_use(
  -- Layer number.
  layer LONG,
  -- Number of the layer's run.
  run LONG,
  -- Expert.
  expert LONG,
  -- Reading, with graph, micro-batch and time.
  reading_id LONG,
  -- Tokens that were sent to it.
  tokens LONG,
  -- Phase of all of the run's tokens.
  phase STRING,
  -- Runs of the layer since it was last used: 1 in the run before, NULL for the first time.
  distance LONG,
  -- Whether all ids of the run are known, and of those since the expert was last used.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  t.layer,
  t.run,
  u.owner & 0xFFFFFFFF AS expert,
  t.reading_id,
  u.tokens,
  t.phase,
  u.distance,
  t.complete AND coalesce(t.gap <= u.turn - u.distance, t.gap IS NULL) AS complete,
  t.upid
-- In this order: a look-up per use.
FROM _expert_return AS u
CROSS JOIN _expert_turn AS t
  ON t.turn = u.turn;

-- Graphs in which records of page faults may have been lost.
CREATE PERFETTO TABLE _fault_gap(
  -- Graph run.
  graph_id LONG
) AS
SELECT DISTINCT
  g.graph_id
FROM profinfer_graph AS g
JOIN _loss_event AS l
  ON
    l.kind = 'fault'
    AND l.upid = g.upid
    AND l.first_ts <= g.ts + coalesce(g.dur, 0)
    AND l.ts >= g.ts
ORDER BY g.graph_id;

-- Page faults during the operators that take the ids.
CREATE PERFETTO TABLE _expert_fault(
  -- Graph run, times 2^32, and the tensor that is computed.
  operator_key LONG,
  -- Those for which something had to be read.
  major LONG,
  -- The others.
  minor LONG
) AS
SELECT
  (g.graph_id << 32) + k.tensor_id AS operator_key,
  sum(f.is_major) AS major,
  sum(NOT f.is_major) AS minor
FROM _fault_event AS f
CROSS JOIN _operator_event AS o
  ON o.id = f.operator_slice_id
CROSS JOIN _operator_kind AS k
  ON k.arg_set_id = o.arg_set_id
CROSS JOIN _graph_event AS g
  ON g.id = o.parent_id
WHERE k.op = 'MUL_MAT_ID'
GROUP BY operator_key
ORDER BY operator_key;

-- Operators that take the ids, as threads ran them.
CREATE PERFETTO TABLE _expert_slice(
  -- Graph run.
  graph_id LONG,
  -- Tensor that is computed.
  tensor_id LONG,
  -- Layer number.
  layer LONG,
  -- Start.
  ts TIMESTAMP,
  -- Duration, -1 when the end was not recorded.
  dur DURATION,
  -- Whether no record of it can have been lost.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  g.graph_id,
  k.tensor_id,
  k.layer,
  o.ts,
  o.dur,
  o.complete,
  g.upid
FROM _operator_event AS o
CROSS JOIN _operator_kind AS k
  ON k.arg_set_id = o.arg_set_id
CROSS JOIN _graph_event AS g
  ON g.id = o.parent_id
WHERE k.op = 'MUL_MAT_ID';

-- Operators that take the ids, one row per graph run and operator.
CREATE PERFETTO TABLE profinfer_expert_operator(
  -- Graph run.
  graph_id LONG,
  -- Layer number.
  layer LONG,
  -- Tensor that is computed.
  tensor_id LONG,
  -- Start on the first thread.
  ts TIMESTAMP,
  -- From the first thread's start to the last thread's end.
  dur DURATION,
  -- Whether no record of its slices can have been lost.
  complete BOOL,
  -- Major page faults of its threads; NULL when not recorded (--faults) or not all of them.
  major_faults LONG,
  -- Minor page faults of its threads; NULL when not recorded or not all of them.
  minor_faults LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  merged AS (
    SELECT
      graph_id,
      layer,
      tensor_id,
      min(ts) AS ts,
      max(ts + dur) - min(ts) AS dur,
      min(complete AND dur >= 0) AS complete,
      upid
    FROM _expert_slice
    GROUP BY graph_id, tensor_id
  ),
  asked AS MATERIALIZED (
    SELECT
      upid
    FROM _recording_arg
    WHERE key = 'config.faults' AND value IN ('1', 'true')
  )
SELECT
  m.graph_id,
  m.layer,
  m.tensor_id,
  m.ts,
  m.dur,
  m.complete,
  iif(
    m.upid IN asked AND m.complete AND NOT m.graph_id IN (SELECT graph_id FROM _fault_gap),
    coalesce(f.major, 0),
    NULL
  ) AS major_faults,
  iif(
    m.upid IN asked AND m.complete AND NOT m.graph_id IN (SELECT graph_id FROM _fault_gap),
    coalesce(f.minor, 0),
    NULL
  ) AS minor_faults,
  m.upid
FROM merged AS m
LEFT JOIN _expert_fault AS f
  ON f.operator_key = (m.graph_id << 32) + m.tensor_id;

-- Time and faults of a layer's operators together.
CREATE PERFETTO TABLE _expert_time(
  -- Graph run, times 2^32, and layer number.
  layer_key LONG,
  -- Time of the operators, summed; NULL when not recorded whole.
  dur DURATION,
  -- Major page faults, NULL where those of one operator are.
  major_faults LONG,
  -- Minor page faults, NULL where those of one operator are.
  minor_faults LONG
) AS
SELECT
  (graph_id << 32) + layer AS layer_key,
  iif(min(complete), sum(dur), NULL) AS dur,
  iif(count(major_faults) = count(), sum(major_faults), NULL) AS major_faults,
  iif(count(minor_faults) = count(), sum(minor_faults), NULL) AS minor_faults
FROM profinfer_expert_operator
WHERE layer IS NOT NULL
GROUP BY graph_id, layer;

-- The uses of each run.
CREATE PERFETTO TABLE _expert_sum(
  -- Turn.
  turn LONG,
  -- Different experts used.
  experts LONG,
  -- Of these, used before.
  again LONG,
  -- Mean distance of those.
  mean_distance DOUBLE,
  -- Largest distance.
  max_distance LONG
) AS
SELECT
  turn,
  count() AS experts,
  count(distance) AS again,
  avg(distance) AS mean_distance,
  max(distance) AS max_distance
FROM _expert_return
GROUP BY turn;

-- How far back the experts of each run were used last, next to the time and the page faults of its
-- operators.
CREATE PERFETTO TABLE profinfer_expert_reuse(
  -- Reading, with graph, micro-batch and time.
  reading_id LONG,
  -- Layer number.
  layer LONG,
  -- Graph run.
  graph_id LONG,
  -- Phase of all of its tokens.
  phase STRING,
  -- Different experts used.
  experts LONG,
  -- Of these, used for the first time in this recording.
  fresh LONG,
  -- Mean distance of the others, in runs of the layer.
  mean_distance DOUBLE,
  -- Time of the operators that take the ids, summed; NULL when not recorded whole.
  operators_dur DURATION,
  -- Major page faults during these operators; NULL when not recorded (--faults) or not whole.
  major_faults LONG,
  -- Minor page faults during these operators; NULL when not recorded or not whole.
  minor_faults LONG,
  -- Whether all ids are known, of this run and since each expert was last used.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  r.reading_id,
  r.layer,
  r.graph_id,
  r.phase,
  u.experts,
  u.experts - u.again AS fresh,
  u.mean_distance,
  t.dur AS operators_dur,
  t.major_faults,
  t.minor_faults,
  r.complete
  AND (r.gap IS NULL OR (u.again = u.experts AND r.gap <= r.turn - u.max_distance)) AS complete,
  r.upid
FROM profinfer_expert_reading AS r
CROSS JOIN _expert_sum AS u
  ON u.turn = r.turn
LEFT JOIN _expert_time AS t
  ON t.layer_key = (r.graph_id << 32) + r.layer
ORDER BY r.reading_id;
