-- Caches of experts, one per layer: which of a run's experts they would have held when it began.

INCLUDE PERFETTO MODULE profinfer.expert_use;

-- The uses of each run in pieces of at most eight experts, each expert a character.
CREATE PERFETTO TABLE _expert_piece(
  -- Number of the piece, from 1: layer by layer, run by run.
  number LONG,
  -- Layer number.
  layer LONG,
  -- Number of the layer's run.
  run LONG,
  -- Whether it is the first of its run.
  is_first BOOL,
  -- Whether it is the first of its layer.
  is_new BOOL,
  -- The experts; char(256 + expert) each.
  experts STRING
) AS
WITH
  cut AS (
    SELECT
      layer,
      run,
      expert,
      (row_number() OVER (PARTITION BY layer, run ORDER BY expert) - 1) / 8 AS piece
    FROM profinfer_expert_use
  ),
  joined AS (
    SELECT
      layer,
      run,
      piece,
      group_concat(char(256 + expert), '') AS experts
    FROM cut
    GROUP BY layer, run, piece
  )
SELECT
  row_number() OVER (ORDER BY layer, run, piece) AS number,
  layer,
  run,
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
  -- in order of their last use this one's place, the latest being 1; experts of one run are in order
  -- of their numbers, in eights. NULL for the first use.
  lru_depth LONG
) AS
WITH
  place(i) AS (
    VALUES (1), (2), (3), (4), (5), (6), (7), (8)
  )
SELECT
  p.layer,
  p.run,
  unicode(substr(p.experts, i, 1)) - 256 AS expert,
  nullif(instr(s.before, substr(p.experts, i, 1)), 0) AS lru_depth
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
  reached LONG
) AS
WITH
  counted AS MATERIALIZED (
    SELECT
      layer,
      run,
      expert,
      row_number() OVER (PARTITION BY layer, expert ORDER BY run) AS level
    FROM profinfer_expert_use
  )
SELECT
  layer,
  level,
  run,
  expert,
  1 AS reached
FROM counted
UNION ALL
SELECT
  layer,
  level - 1 AS level,
  run,
  expert,
  0 AS reached
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
  ahead LONG
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
  coalesce(ahead, 0) AS ahead
FROM counted
-- A first use is nobody's hit; its mark was only to be counted.
WHERE level > 1 OR NOT reached;
