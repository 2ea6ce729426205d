-- Which experts each run of a layer uses, and since when it has not. A run needs all the experts of
-- its tokens at once, so an expert is used once in it, whatever the number of tokens. Runs are
-- counted by turns: layer by layer.
-- With a million uses, functions over windows would take most of the time of the queries above: rows
-- that Trace Processor has sorted are joined by their numbers (_auto_id) instead.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.experts.readings;

-- Experts used by each run, of readings that have ids.
CREATE PERFETTO TABLE _expert_used(
  -- Turn.
  turn LONG,
  -- Eights of the run's experts: in the order of ranks for one token, of numbers for several.
  piece LONG,
  -- Process and layer (see _expert_layer), times 2^32, and expert.
  owner LONG,
  -- Tokens that were sent to it.
  tokens LONG
) AS
WITH
  several AS MATERIALIZED (
    SELECT
      p.turn,
      p.place,
      v.expert,
      count() AS tokens
    -- In this order: a look-up per reading, not one per value.
    FROM _expert_part AS p
    CROSS JOIN _expert_id AS v
      ON v.arg_set_id = p.arg_set_id
    WHERE p.tokens > 1 AND v.expert >= 0
    GROUP BY p.turn, v.expert
  )
SELECT
  p.turn,
  (v.id - p.first_id) / 8 AS piece,
  (p.place << 32) + v.expert AS owner,
  1 AS tokens
FROM _expert_part AS p
CROSS JOIN _expert_id AS v
  ON v.arg_set_id = p.arg_set_id
WHERE p.tokens = 1 AND v.expert >= 0
UNION ALL
SELECT
  turn,
  (row_number() OVER (PARTITION BY turn ORDER BY expert) - 1) / 8 AS piece,
  (place << 32) + expert AS owner,
  tokens
FROM several;

-- The uses of each expert, one after another.
CREATE PERFETTO TABLE _expert_series(
  -- Process, layer and expert.
  owner LONG,
  -- Turn.
  turn LONG,
  -- Tokens that were sent to it.
  tokens LONG
) AS
SELECT
  owner,
  turn,
  tokens
FROM _expert_used
ORDER BY owner, turn;
