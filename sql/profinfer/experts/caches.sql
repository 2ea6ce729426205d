-- Caches of experts, one per layer: which of a run's experts they would have held when it began.

INCLUDE PERFETTO MODULE profinfer.experts.readings;
INCLUDE PERFETTO MODULE profinfer.experts.turns;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;

-- What an expert takes in memory.
CREATE PERFETTO TABLE profinfer_expert_size(
  -- Layer number.
  layer LONG,
  -- Experts that the layer has.
  experts LONG,
  -- Bytes of the weights of one expert: gate, up and down together.
  bytes LONG,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  t.layer,
  max(w.ne2) AS experts,
  sum(w.nb2) AS bytes,
  t.upid
FROM (
  SELECT
    t.upid,
    t.layer,
    w.name AS weight,
    max(w.tensor_id) AS weight_id
  FROM profinfer_tensor AS t
  JOIN profinfer_edge AS e
    ON e.tensor_id = t.tensor_id AND e.slot = 0
  JOIN profinfer_tensor AS w
    ON w.tensor_id = e.src_tensor_id
  WHERE t.op = 'MUL_MAT_ID'
  GROUP BY t.upid, t.layer, w.name
) AS t
JOIN profinfer_tensor AS w
  ON w.tensor_id = t.weight_id
GROUP BY t.upid, t.layer
ORDER BY t.upid, t.layer;

-- The uses of each run in pieces of at most eight experts, turn by turn: the first row is piece 0.
CREATE PERFETTO TABLE _expert_piece(
  -- Turn.
  turn LONG,
  -- Process and layer (see _expert_layer).
  place LONG,
  -- The experts, a character each: char(1 + expert). Most models' take one byte.
  experts STRING
) AS
SELECT
  turn,
  min(owner >> 32) AS place,
  group_concat(char(1 + (owner & 0xFFFFFFFF)), '') AS experts
FROM _expert_used
GROUP BY turn, piece;

-- How deep in the stack each run found its experts. The stack has a layer's experts in the order of
-- their last use, the latest first. The engine needs all of a run's experts at once, so none of
-- them is moved before the run is over.
CREATE PERFETTO TABLE _expert_stack(
  -- Turn.
  turn LONG,
  -- The experts, a character each: char(1 + expert).
  experts STRING,
  -- For each of them a character: char(1 + its place), the first place is 1; 0 for a first use.
  depths STRING
) AS
WITH RECURSIVE
  walk(piece, turn, place, experts, before, stack) AS (
    SELECT
      -1,
      -1,
      NULL,
      '',
      '',
      ''
    UNION ALL
    SELECT
      p._auto_id,
      p.turn,
      p.place,
      p.experts,
      iif(p.turn = w.turn, w.before, iif(p.place = w.place, w.stack, '')),
      p.experts
      || replace(
        replace(
          replace(
            replace(
              replace(
                replace(
                  replace(
                    replace(iif(p.place = w.place, w.stack, ''), substr(p.experts, 1, 1), ''),
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
      )
    FROM walk AS w
    JOIN _expert_piece AS p
      ON p._auto_id = w.piece + 1
  )
SELECT
  turn,
  experts,
  char(
    1 + instr(before, substr(experts, 1, 1)),
    1 + instr(before, substr(experts, 2, 1)),
    1 + instr(before, substr(experts, 3, 1)),
    1 + instr(before, substr(experts, 4, 1)),
    1 + instr(before, substr(experts, 5, 1)),
    1 + instr(before, substr(experts, 6, 1)),
    1 + instr(before, substr(experts, 7, 1)),
    1 + instr(before, substr(experts, 8, 1))
  ) AS depths
FROM walk
WHERE piece >= 0;

-- How large a cache must be to hold an expert when a run begins that uses it.
CREATE PERFETTO VIEW profinfer_expert_depth(
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
  phase STRING,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  place(i) AS (
    VALUES (1), (2), (3), (4), (5), (6), (7), (8)
  )
SELECT
  t.layer,
  t.run,
  unicode(substr(s.experts, i, 1)) - 1 AS expert,
  nullif(unicode(substr(s.depths, i, 1)) - 1, 0) AS lru_depth,
  t.phase,
  t.upid
FROM _expert_stack AS s
CROSS JOIN _expert_turn AS t
  ON t.turn = s.turn
CROSS JOIN place
WHERE i <= length(s.experts);

-- The depths alone, one row for each use.
CREATE PERFETTO TABLE _expert_lru(
  -- Number of the process, times 2^32, and depth (0 for a first use), times 4, and the phase as in
  -- _expert_count: what is counted by one column is counted in half the time.
  depth LONG
) AS
WITH
  place(i) AS (
    VALUES (1), (2), (3), (4), (5), (6), (7), (8)
  )
SELECT
  ((t.place >> 20) << 32) + (unicode(substr(s.depths, i, 1)) - 1) * 4
  + iif(t.phase = 'prefill', 1, iif(t.phase = 'decode', 2, 0)) AS depth
FROM _expert_stack AS s
CROSS JOIN _expert_turn AS t
  ON t.turn = s.turn
CROSS JOIN place
WHERE i <= length(s.experts);

-- When experts reached a number of uses.
CREATE PERFETTO TABLE _expert_count(
  -- Process and layer (see _expert_layer), times 2^32, and the number of uses.
  level LONG,
  -- Turn, times 4, and its phase: 0 unknown, 1 prefill, 2 decode.
  moment LONG
) AS
WITH
  owners AS MATERIALIZED (
    SELECT
      owner,
      min(_auto_id) AS first
    FROM _expert_series
    GROUP BY owner
  )
SELECT
  ((o.owner >> 32) << 32) + s._auto_id - o.first + 1 AS level,
  s.turn * 4 + iif(t.phase = 'prefill', 1, iif(t.phase = 'decode', 2, 0)) AS moment
FROM owners AS o
CROSS JOIN _expert_series AS s
  ON s.owner = o.owner
CROSS JOIN _expert_turn AS t
  ON t.turn = s.turn;

-- The same level by level, in the order in which they were reached.
CREATE PERFETTO TABLE _expert_reached(
  -- Process, layer and number of uses.
  level LONG,
  -- Turn and phase.
  moment LONG
) AS
SELECT
  level,
  moment
FROM _expert_count
ORDER BY level, moment;

-- Where a level's rows begin in _expert_reached, and how many there are.
CREATE PERFETTO TABLE _expert_level(
  -- Process, layer and number of uses.
  level LONG,
  -- Number of the first row.
  first LONG,
  -- Rows.
  experts LONG
) AS
SELECT
  level,
  min(_auto_id) AS first,
  count() AS experts
FROM _expert_reached
GROUP BY level;

-- How many experts had reached a level before one did, for each time but an expert's first use.
-- Those that did in the same run are in some order here: see _expert_tie.
CREATE PERFETTO TABLE _expert_ahead(
  -- Number of the process, times 2^32, and how many, times 4, and the phase.
  ahead LONG
) AS
SELECT
  ((l.level >> 52) << 32) + (r._auto_id - l.first) * 4 + (r.moment & 3) AS ahead
FROM _expert_level AS l
CROSS JOIN _expert_reached AS r
  ON r.level = l.level
WHERE l.level & 0xFFFFFFFF > 1;

-- Experts that reached a level in the same run.
CREATE PERFETTO TABLE _expert_tie(
  -- Number of the process, times 2^32, and how many had reached it before, times 4, and the phase.
  ahead LONG,
  -- How many did in this run.
  experts LONG
) AS
WITH
  -- All but the last of each tie.
  tied AS (
    SELECT
      r._auto_id AS number,
      r._auto_id - row_number() OVER (ORDER BY r._auto_id) AS tie,
      r.level,
      r.moment
    FROM _expert_reached AS r
    CROSS JOIN _expert_reached AS following
      ON following._auto_id = r._auto_id + 1
    WHERE following.level = r.level AND following.moment = r.moment
  )
SELECT
  ((l.level >> 52) << 32) + (min(t.number) - l.first) * 4 + (t.moment & 3) AS ahead,
  count() + 1 AS experts
FROM tied AS t
CROSS JOIN _expert_level AS l
  ON l.level = t.level
WHERE t.level & 0xFFFFFFFF > 1
GROUP BY t.tie, t.level, t.moment;

-- Who else had been used as often as an expert that a run needs, one row for each of them: what of
-- the level below was reached before, from the place on that the expert has in its own level. So many
-- are ahead of it anyway: they reached even that one before.
CREATE PERFETTO TABLE _expert_equal(
  -- Number of the process, times 2^32, and how many had been used as often before this one, times 4,
  -- and the phase of the run.
  ahead LONG
) AS
SELECT
  ((l.level >> 52) << 32) + (e._auto_id - b.first) * 4 + (r.moment & 3) AS ahead
FROM _expert_level AS l
CROSS JOIN _expert_level AS b
  ON b.level = l.level - 1
CROSS JOIN _expert_reached AS r
  ON r.level = l.level
CROSS JOIN _expert_reached AS e
  ON e._auto_id BETWEEN b.first + r._auto_id - l.first AND b.first + b.experts - 1
  AND e.moment < r.moment;

-- Uses by the size that a layer's cache must have if it keeps the experts used most often (LFU).
-- Their sum up to a size is that of the hits; a row alone may be negative.
CREATE PERFETTO TABLE _expert_lfu(
  -- Phase of all of the run's tokens.
  phase STRING,
  -- Whether of experts used equally often all go before the one that is needed, or all after it.
  ties_first BOOL,
  -- Experts that the cache holds.
  size LONG,
  -- Uses.
  uses LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH RECURSIVE
  ahead AS MATERIALIZED (
    SELECT
      ahead,
      count() AS uses
    FROM _expert_ahead
    GROUP BY ahead
  ),
  equal AS MATERIALIZED (
    SELECT
      ahead,
      count() AS uses
    FROM _expert_equal
    GROUP BY ahead
  ),
  tie AS MATERIALIZED (
    SELECT
      ahead,
      experts,
      count() AS uses
    FROM _expert_tie
    GROUP BY ahead, experts
  ),
  later(ahead, number, experts, uses) AS (
    SELECT
      ahead,
      1,
      experts,
      uses
    FROM tie
    UNION ALL
    SELECT
      ahead,
      number + 1,
      experts,
      uses
    FROM later
    WHERE number + 1 < experts
  ),
  rows AS (
    -- Ties first: hits where up to the cache's size are ahead, unless the size's one is an equal.
    SELECT ahead, TRUE AS ties_first, 0 AS more, uses FROM ahead
    UNION ALL
    SELECT ahead, TRUE AS ties_first, 0 AS more, -uses AS uses FROM equal
    UNION ALL
    SELECT ahead, TRUE AS ties_first, 1 AS more, uses FROM equal
    UNION ALL
    -- Ties last: hits where fewer are ahead; of those of one run all have as many as the first.
    SELECT ahead, FALSE AS ties_first, 1 AS more, uses FROM ahead
    UNION ALL
    SELECT ahead, FALSE AS ties_first, 1 AS more, uses * (experts - 1) AS uses FROM tie
    UNION ALL
    SELECT ahead, FALSE AS ties_first, number + 1 AS more, -uses AS uses FROM later
  )
SELECT
  CASE ahead & 3
    WHEN 1
    THEN 'prefill'
    WHEN 2
    THEN 'decode'
  END AS phase,
  ties_first,
  ((ahead & 0xFFFFFFFF) >> 2) + more AS size,
  sum(uses) AS uses,
  p.upid
FROM rows
LEFT JOIN _recorded_process AS p
  ON p.number = ahead >> 32
GROUP BY ahead >> 32, phase, ties_first, size;
