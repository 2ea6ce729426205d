-- Runs of layers with experts, in mixture-of-experts models, and their tokens. Needs record --experts.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;

-- Tokens of micro-batches, in the order in which they were computed.
CREATE PERFETTO TABLE profinfer_expert_token(
  -- Number of the token in this recording, from 0.
  token_id LONG,
  -- Micro-batch.
  ubatch_id LONG,
  -- Number of the token within the micro-batch, from 0.
  row LONG,
  -- Sequence id (a server's slot).
  sequence LONG,
  -- Position in the sequence.
  position LONG,
  -- Either prefill or decode.
  phase STRING,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  row_number() OVER (ORDER BY t.ubatch_id, t.row) - 1 AS token_id,
  t.ubatch_id,
  t.row,
  t.value >> 32 AS sequence,
  t.value & 0xFFFFFFFF AS position,
  s.phase,
  t.upid
FROM _expert_token_arg AS t
LEFT JOIN _sequence_event AS s
  ON s.ubatch_id = t.ubatch_id AND s.sequence = t.value >> 32
WHERE t.what = 'tokens'
ORDER BY token_id;

-- Tokens whose logits are asked for: the only ones that come to the last layer's experts.
CREATE PERFETTO TABLE _expert_output(
  -- Micro-batch, times 2^32, and the number of the token among these.
  output_key LONG,
  -- Token.
  token_id LONG
) AS
SELECT
  (o.ubatch_id << 32) + o.row AS output_key,
  t.token_id
FROM _expert_token_arg AS o
JOIN profinfer_expert_token AS t
  ON t.ubatch_id = o.ubatch_id AND t.row = o.value
WHERE o.what = 'outputs'
ORDER BY output_key;

-- How many tokens a micro-batch has, and which.
CREATE PERFETTO TABLE _expert_ubatch(
  -- Micro-batch.
  ubatch_id LONG,
  -- Its first token.
  first_token LONG,
  -- Tokens.
  tokens LONG,
  -- Tokens whose logits are asked for, NULL when it is not known which these are.
  outputs LONG,
  -- Phase of all its tokens, NULL when they differ.
  phase STRING
) AS
SELECT
  t.ubatch_id,
  min(t.token_id) AS first_token,
  count() AS tokens,
  (
    SELECT
      nullif(count(), 0)
    FROM _expert_token_arg AS o
    WHERE o.ubatch_id = t.ubatch_id AND o.what = 'outputs'
  ) AS outputs,
  iif(min(t.phase) = max(t.phase), min(t.phase), NULL) AS phase
FROM profinfer_expert_token AS t
GROUP BY t.ubatch_id
ORDER BY t.ubatch_id;

-- First of the values of each argument set.
CREATE PERFETTO TABLE _expert_first(
  -- Arguments.
  arg_set_id ARGSETID,
  -- Number of the first of the ids.
  ids LONG,
  -- Number of the first of the weights, NULL where there are none.
  weights LONG
) AS
SELECT
  arg_set_id,
  i.ids,
  w.weights
FROM (
  SELECT
    arg_set_id,
    min(id) AS ids
  FROM _expert_id
  GROUP BY arg_set_id
) AS i
LEFT JOIN (
  SELECT
    arg_set_id,
    min(id) AS weights
  FROM _expert_weight
  GROUP BY arg_set_id
) AS w
  USING (arg_set_id)
ORDER BY arg_set_id;

-- Routing as it was read, in the order of reading: the first row is reading 1.
CREATE PERFETTO TABLE _expert_read(
  -- When the ids were read.
  ts TIMESTAMP,
  -- Graph run, NULL when its beginning was lost.
  graph_id LONG,
  -- Micro-batch, NULL outside any.
  ubatch_id LONG,
  -- Layer number, NULL when the structure of the graph is unknown.
  layer LONG,
  -- Phase of all of its tokens.
  phase STRING,
  -- First operator that took the ids.
  tensor_id LONG,
  -- Experts that the layer has.
  experts LONG,
  -- Experts that each token is sent to.
  used LONG,
  -- Tokens.
  tokens LONG,
  -- Whether all ids are known, and which micro-batch they belong to.
  complete BOOL,
  -- Why there are no ids.
  reason STRING,
  -- Arguments with the values.
  arg_set_id ARGSETID,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  doubtful AS MATERIALIZED (
    SELECT DISTINCT
      g.graph_id
    FROM profinfer_graph AS g
    JOIN _loss_event AS l
      ON
        l.kind IN ('graph_begin', 'graph_end', 'ubatch_begin', 'ubatch_end', 'tokens')
        AND l.upid = g.upid
        AND l.first_ts <= g.ts + coalesce(g.dur, 0)
        AND l.ts >= g.ts
  ),
  fewest AS MATERIALIZED (
    SELECT
      upid,
      min(used) AS used
    FROM _expert_event
    GROUP BY upid
  )
SELECT
  e.ts,
  e.graph_id,
  g.ubatch_id,
  e.layer,
  u.phase,
  e.tensor_id,
  e.experts,
  e.used,
  e.rows AS tokens,
  e.complete
  AND g.graph_id IS NOT NULL
  AND NOT g.graph_id IN (SELECT graph_id FROM doubtful) AS complete,
  e.reason,
  e.arg_set_id,
  e.upid
FROM _expert_event AS e
LEFT JOIN profinfer_graph AS g
  USING (graph_id)
LEFT JOIN _expert_ubatch AS u
  USING (ubatch_id)
LEFT JOIN fewest AS f
  ON f.upid = e.upid
-- llama.cpp warms a model up by sending tokens to all experts: no router has chosen these.
WHERE NOT coalesce(e.used = e.experts AND e.used > f.used, FALSE)
ORDER BY e.ts, e.id;

-- The same process by process and layer by layer: the first row is turn 0.
CREATE PERFETTO TABLE _expert_layer(
  -- Number of the process, times 2^20, and the layer's number from 1; 0 for a layer that is not known.
  place LONG,
  -- Layer number.
  layer LONG,
  -- Number of the reading.
  reading_id LONG,
  -- Phase of all of its tokens.
  phase STRING,
  -- Whether all ids are known.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  (coalesce(p.number, 0) << 20) + min(coalesce(r.layer, -1) + 1, 0xFFFFF) AS place,
  r.layer,
  r._auto_id + 1 AS reading_id,
  r.phase,
  r.complete,
  r.upid
FROM _expert_read AS r
LEFT JOIN _recorded_process AS p
  ON p.upid = r.upid
ORDER BY place, reading_id;

-- Where each reading stands in its layer.
CREATE PERFETTO TABLE _expert_turn(
  -- Number of the run among those of all processes and layers.
  turn LONG,
  -- Process and layer, as in _expert_layer.
  place LONG,
  -- Layer number.
  layer LONG,
  -- Number of the layer's run.
  run LONG,
  -- Number of the reading.
  reading_id LONG,
  -- Phase of all of its tokens.
  phase STRING,
  -- Whether all ids are known.
  complete BOOL,
  -- Turn of the layer's last reading that is not complete.
  gap LONG,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  _auto_id AS turn,
  place,
  layer,
  row_number() OVER earlier AS run,
  reading_id,
  phase,
  complete,
  max(iif(complete, NULL, _auto_id)) OVER earlier AS gap,
  upid
FROM _expert_layer
WINDOW
  earlier AS (PARTITION BY place ORDER BY reading_id);

-- Routing, one row per layer and graph that has experts, read or not.
CREATE PERFETTO TABLE profinfer_expert_reading(
  -- Number of the reading in this recording.
  reading_id LONG,
  -- When the ids were read, by the first operator that needed them; of those that were not the start
  -- of the graph.
  ts TIMESTAMP,
  -- Graph run, NULL when its beginning was lost.
  graph_id LONG,
  -- Micro-batch, NULL outside any.
  ubatch_id LONG,
  -- Layer number, NULL when the structure of the graph is unknown.
  layer LONG,
  -- Number of the layer's run: the how manieth reading of this layer it is.
  run LONG,
  -- Phase of all of its tokens: prefill or decode; NULL when they differ or are lost.
  phase STRING,
  -- First operator that took the ids.
  tensor_id LONG,
  -- Experts that the layer has.
  experts LONG,
  -- Experts that each token is sent to.
  used LONG,
  -- Tokens.
  tokens LONG,
  -- Whether all ids are known, and which micro-batch they belong to.
  complete BOOL,
  -- Why there are no ids: lost, or on a device; NULL where there are.
  reason STRING,
  -- Arguments with the values.
  arg_set_id ARGSETID,
  -- Number of the run when those of all layers are counted one after another, process by process and
  -- layer by layer.
  turn LONG,
  -- Turn of the layer's last reading, this one included, that is not complete; NULL when all are.
  gap LONG,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  t.reading_id,
  r.ts,
  r.graph_id,
  r.ubatch_id,
  r.layer,
  t.run,
  r.phase,
  r.tensor_id,
  r.experts,
  r.used,
  r.tokens,
  r.complete,
  r.reason,
  r.arg_set_id,
  t.turn,
  t.gap,
  t.upid
FROM _expert_turn AS t
CROSS JOIN _expert_read AS r
  ON r._auto_id = t.reading_id - 1
ORDER BY t.reading_id;

-- Readings that have ids, by argument set, with what it takes to tell their tokens.
CREATE PERFETTO TABLE _expert_part(
  -- Arguments with the values.
  arg_set_id ARGSETID,
  -- Reading.
  reading_id LONG,
  -- Number of the first of the ids.
  first_id LONG,
  -- From an id's number to its weight's, NULL where there are none.
  to_weight LONG,
  -- Experts that each token is sent to.
  used LONG,
  -- Tokens.
  tokens LONG,
  -- Layer number.
  layer LONG,
  -- Number of the run among those of all layers.
  turn LONG,
  -- Process and layer, as in _expert_layer.
  place LONG,
  -- Phase of all of its tokens.
  phase STRING,
  -- Whether all ids are known.
  complete BOOL,
  -- Token of the first row, NULL when the rows are not those of the micro-batch in a row.
  first_token LONG,
  -- Key in _expert_output of the first row, where the rows are those tokens.
  first_output LONG,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  r.arg_set_id,
  r.reading_id,
  f.ids AS first_id,
  f.weights - f.ids AS to_weight,
  r.used,
  r.tokens,
  r.layer,
  r.turn,
  t.place,
  r.phase,
  r.complete,
  iif(r.tokens = u.tokens, u.first_token, NULL) AS first_token,
  iif(r.tokens != u.tokens AND r.tokens = u.outputs, r.ubatch_id << 32, NULL) AS first_output,
  r.upid
FROM profinfer_expert_reading AS r
JOIN _expert_first AS f
  USING (arg_set_id)
JOIN _expert_turn AS t
  ON t.turn = r.turn
LEFT JOIN _expert_ubatch AS u
  USING (ubatch_id)
WHERE f.ids IS NOT NULL
ORDER BY r.arg_set_id;
