-- Caches of experts, one per layer: which of a run's experts they would have held when it began.

INCLUDE PERFETTO MODULE profinfer.expert_readings;
INCLUDE PERFETTO MODULE profinfer.tensors;

-- What an expert takes in memory.
CREATE PERFETTO TABLE profinfer_expert_size(
  -- Layer number.
  layer LONG,
  -- Experts that the layer has.
  experts LONG,
  -- Bytes of the weights of one expert: gate, up and down together.
  bytes LONG
) AS
SELECT
  t.layer,
  max(w.ne2) AS experts,
  sum(w.nb2) AS bytes
FROM (
  SELECT DISTINCT
    t.layer,
    w.name AS weight,
    max(w.tensor_id) AS weight_id
  FROM profinfer_tensor AS t
  JOIN profinfer_edge AS e
    ON e.tensor_id = t.tensor_id AND e.slot = 0
  JOIN profinfer_tensor AS w
    ON w.tensor_id = e.src_tensor_id
  WHERE t.op = 'MUL_MAT_ID'
  GROUP BY t.layer, w.name
) AS t
JOIN profinfer_tensor AS w
  ON w.tensor_id = t.weight_id
GROUP BY t.layer
ORDER BY t.layer;

-- The uses of each run in pieces of at most eight experts, each expert a character.
CREATE PERFETTO TABLE _expert_piece(
  -- Number of the piece, from 1: layer by layer, run by run.
  number LONG,
  -- Layer number.
  layer LONG,
  -- Number of the layer's run.
  run LONG,
  -- Phase of all of the run's tokens.
  phase STRING,
  -- Whether it is the first of its run.
  is_first BOOL,
  -- Whether it is the first of its layer.
  is_new BOOL,
  -- The experts; char(256 + expert) each.
  experts STRING
) AS
WITH
  joined AS (
    SELECT
      layer,
      run,
      piece,
      phase,
      group_concat(char(256 + expert), '') AS experts
    FROM _expert_used
    GROUP BY layer, run, piece
  )
SELECT
  row_number() OVER (ORDER BY layer, run, piece) AS number,
  layer,
  run,
  phase,
  piece = 0 AS is_first,
  coalesce(lag(layer) OVER (ORDER BY layer, run, piece) IS NOT layer, TRUE) AS is_new,
  experts
FROM joined
ORDER BY number;

-- What each run found: experts in the order of their last use, the latest first. The engine needs
-- all of a run's experts at once, so none of them is moved before the run is over.
CREATE PERFETTO TABLE _expert_stack(
  -- Number of the piece.
  number LONG,
  -- Experts that were used before, the latest first.
  before STRING
) AS
WITH RECURSIVE
  walk(number, stack, before) AS (
    SELECT
      0,
      '',
      ''
    UNION ALL
    SELECT
      p.number,
      p.experts
      || replace(
        replace(
          replace(
            replace(
              replace(
                replace(
                  replace(
                    replace(iif(p.is_new, '', w.stack), substr(p.experts, 1, 1), ''),
                    substr(p.experts, 2, 1), ''
                  ),
                  substr(p.experts, 3, 1), ''
                ),
                substr(p.experts, 4, 1), ''
              ),
              substr(p.experts, 5, 1), ''
            ),
            substr(p.experts, 6, 1), ''
          ),
          substr(p.experts, 7, 1), ''
        ),
        substr(p.experts, 8, 1), ''
      ),
      iif(p.is_first, iif(p.is_new, '', w.stack), w.before)
    FROM walk AS w
    JOIN _expert_piece AS p
      ON p.number = w.number + 1
  )
SELECT
  number,
  before
FROM walk
WHERE number > 0
ORDER BY number;

-- How large a cache must be to hold an expert when a run begins that uses it.
CREATE PERFETTO TABLE profinfer_expert_depth(
  -- Layer number.
  layer LONG,
  -- Number of the layer's run.
  run LONG,
  -- Expert.
  expert LONG,
  -- Experts that the layer's cache must hold if it keeps those used last (LRU): among the experts
  -- in order of their last use this one's place, the latest being 1; experts of one run are in eights,
  -- the last one first, in order of ranks for one token and of numbers for several. NULL for the
  -- first use.
  lru_depth LONG,
  -- Phase of all of the run's tokens.
  phase STRING
) AS
WITH
  place(i) AS (
    VALUES (1), (2), (3), (4), (5), (6), (7), (8)
  )
SELECT
  p.layer,
  p.run,
  unicode(substr(p.experts, i, 1)) - 256 AS expert,
  nullif(instr(s.before, substr(p.experts, i, 1)), 0) AS lru_depth,
  p.phase
FROM _expert_piece AS p
JOIN _expert_stack AS s
  USING (number)
JOIN place
  ON i <= length(p.experts);

-- How often experts had been used: a mark for each time that one reached a number of uses, and a
-- question for each use, about those that had at least as many uses as it before.
CREATE PERFETTO TABLE _expert_level(
  -- Layer number.
  layer LONG,
  -- Number of uses.
  level LONG,
  -- Number of the layer's run.
  run LONG,
  -- Expert.
  expert LONG,
  -- 1 for a mark, 0 for a question.
  reached LONG,
  -- Phase of all of the run's tokens.
  phase STRING
) AS
WITH
  counted AS MATERIALIZED (
    SELECT
      layer,
      run,
      expert,
      phase,
      row_number() OVER (PARTITION BY layer, expert ORDER BY run) AS level
    FROM _expert_used
  )
SELECT
  layer,
  level,
  run,
  expert,
  1 AS reached,
  phase
FROM counted
UNION ALL
SELECT
  layer,
  level - 1 AS level,
  run,
  expert,
  0 AS reached,
  phase
FROM counted
WHERE level > 1;

-- Experts used more often than one that a run needs, two bounds for each use but an expert's first.
CREATE PERFETTO TABLE _expert_ahead(
  -- Layer number.
  layer LONG,
  -- Number of the layer's run.
  run LONG,
  -- Expert.
  expert LONG,
  -- Whether those used as often as it count, too (and then it does itself).
  with_ties BOOL,
  -- How many had been used more often before the run.
  ahead LONG,
  -- Phase of all of the run's tokens.
  phase STRING
) AS
WITH
  counted AS (
    SELECT
      *,
      sum(reached)
        OVER (
          PARTITION BY layer, level
          ORDER BY run
          RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS ahead
    FROM _expert_level
  )
SELECT
  layer,
  run,
  expert,
  NOT reached AS with_ties,
  coalesce(ahead, 0) AS ahead,
  phase
FROM counted
-- A first use is nobody's hit; its mark was only to be counted.
WHERE level > 1 OR NOT reached;
