-- When each expert was used, and how long before: what caches and prefetchers live on. A run of a
-- layer needs all the experts of its tokens at once, so an expert is used once in it, whatever the
-- number of tokens.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.expert_readings;
INCLUDE PERFETTO MODULE profinfer.tensors;

-- Experts used by each run of a layer, of readings that have ids.
CREATE PERFETTO TABLE profinfer_expert_use(
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
  complete BOOL
) AS
SELECT
  layer,
  run,
  expert,
  reading_id,
  tokens,
  phase,
  run - lag(run) OVER earlier AS distance,
  complete AND gaps = lag(gaps, 1, 0) OVER earlier AS complete
FROM _expert_used
WINDOW
  earlier AS (PARTITION BY layer, expert ORDER BY run);

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
  complete BOOL
) AS
SELECT
  g.graph_id,
  k.layer,
  k.tensor_id,
  min(o.ts) AS ts,
  max(o.ts + o.dur) - min(o.ts) AS dur,
  min(o.complete AND o.dur >= 0) AS complete
FROM _operator_event AS o
JOIN _operator_kind AS k
  USING (arg_set_id)
JOIN _graph_event AS g
  ON g.id = o.parent_id
WHERE k.op = 'MUL_MAT_ID'
GROUP BY g.graph_id, k.tensor_id
ORDER BY g.graph_id, ts;

-- How far back the experts of each run were used last, next to the time of its operators.
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
  -- Whether all ids are known, of this run and since each expert was last used.
  complete BOOL
) AS
WITH
  timed AS MATERIALIZED (
    SELECT
      graph_id,
      layer,
      iif(min(complete), sum(dur), NULL) AS dur
    FROM profinfer_expert_operator
    GROUP BY graph_id, layer
  ),
  used AS MATERIALIZED (
    SELECT
      reading_id,
      count() AS experts,
      sum(distance IS NULL) AS fresh,
      avg(distance) AS mean_distance,
      min(complete) AS complete
    FROM profinfer_expert_use
    GROUP BY reading_id
  )
SELECT
  u.reading_id,
  r.layer,
  r.graph_id,
  r.phase,
  u.experts,
  u.fresh,
  u.mean_distance,
  t.dur AS operators_dur,
  u.complete
FROM used AS u
JOIN profinfer_expert_reading AS r
  USING (reading_id)
LEFT JOIN timed AS t
  ON t.graph_id = r.graph_id AND t.layer = r.layer
ORDER BY u.reading_id;
