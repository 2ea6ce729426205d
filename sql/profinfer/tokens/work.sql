-- What the threads of requests did from one micro-batch to the next, so that it adds up.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;
INCLUDE PERFETTO MODULE profinfer.tokens.shares;

-- Micro-batches by their place among those of their lane.
CREATE PERFETTO TABLE _lane_ubatch(
  -- Micro-batch.
  ubatch_id LONG,
  -- As in _thread_lane.
  lane LONG,
  -- Place, in order of lane and time.
  place LONG,
  -- Start.
  ts TIMESTAMP,
  -- Start of the lane's next micro-batch, NULL for the last.
  next_ts TIMESTAMP,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  u.ubatch_id,
  l.lane,
  row_number() OVER (ORDER BY l.lane, u.ts, u.ubatch_id) AS place,
  u.ts,
  lead(u.ts) OVER (PARTITION BY l.lane ORDER BY u.ts, u.ubatch_id) AS next_ts,
  u.upid
FROM _ubatch_event AS u
JOIN _thread_lane AS l
  USING (utid)
ORDER BY place;

-- Slices of the engine's own work, so that they are asked for once.
CREATE PERFETTO TABLE _work_slice(
  -- Slice id.
  id JOINID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- End.
  end_ts TIMESTAMP,
  -- Thread.
  utid JOINID(thread.id),
  -- Of these the one around it, NULL for none.
  parent_id JOINID(slice.id),
  -- As in _work_event.
  part STRING,
  -- How many of them are around it.
  depth LONG,
  -- Whether it is a micro-batch, or lies within one.
  is_inside BOOL
) AS
SELECT
  *
FROM _work_event
ORDER BY id;

-- Time from the start of micro-batches to that of the next one on their threads, by what a thread was in.
-- Parts lie side by side: nothing is in two of them.
CREATE PERFETTO TABLE profinfer_ubatch_work(
  -- Micro-batch.
  ubatch_id LONG,
  -- graphs; split, allocate, set, get, copy, wait, event: what it did beside them, by functions of
  -- ggml; sample: choosing tokens; calls: others of the engine's interface, such as decoding before its
  -- micro-batch begins; ubatch: the rest of the micro-batch.
  part STRING,
  -- Whether it lies within the micro-batch.
  is_inside BOOL,
  -- Duration.
  dur DURATION,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  bounds AS (
    SELECT utid, ts, id AS owner, 1 AS is_begin, depth AS rank FROM _work_slice
    UNION ALL
    -- Of those that end at one time the outermost comes last.
    SELECT utid, end_ts AS ts, parent_id AS owner, 0 AS is_begin, -depth AS rank FROM _work_slice
  ),
  pieces AS (
    SELECT
      utid,
      ts,
      owner,
      lead(ts) OVER (PARTITION BY utid ORDER BY ts, is_begin, rank) - ts AS dur
    FROM bounds
  ),
  marks AS (
    SELECT
      l.lane,
      p.ts,
      0 AS place,
      p.owner,
      p.dur
    FROM pieces AS p
    JOIN _thread_lane AS l
      USING (utid)
    WHERE p.owner IS NOT NULL AND p.dur > 0
    UNION ALL
    SELECT
      lane,
      ts,
      place,
      NULL AS owner,
      NULL AS dur
    FROM _lane_ubatch
  ),
  placed AS (
    SELECT
      max(place) OVER (
        PARTITION BY lane ORDER BY ts, owner IS NOT NULL ROWS UNBOUNDED PRECEDING
      ) AS place,
      owner,
      dur
    FROM marks
  )
SELECT
  u.ubatch_id,
  s.part,
  s.is_inside,
  sum(p.dur) AS dur,
  u.upid
FROM placed AS p
JOIN _lane_ubatch AS u
  USING (place)
JOIN _work_slice AS s
  ON s.id = p.owner
WHERE p.owner IS NOT NULL
GROUP BY u.ubatch_id, s.part, s.is_inside
ORDER BY u.ubatch_id;

-- Where the time of decoding steps went, on the step's threads: other requests' micro-batches count with
-- what they did. One row for each step and part.
CREATE PERFETTO TABLE profinfer_token_work(
  -- Request.
  request_id LONG,
  -- Step.
  step LONG,
  -- As in profinfer_ubatch_work; rest: in none of these. All of a step's add up to its tpot.
  part STRING,
  -- Duration.
  dur DURATION,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  steps AS MATERIALIZED (
    SELECT
      t.request_id,
      t.step,
      t.tpot,
      a.place AS first_place,
      b.place - 1 AS last_place,
      t.upid
    FROM profinfer_token AS t
    JOIN _lane_ubatch AS a
      USING (ubatch_id)
    JOIN _lane_ubatch AS b
      ON b.lane = a.lane AND b.ts = t.ts + t.tpot
  ),
  sums AS MATERIALIZED (
    SELECT
      s.request_id,
      s.step,
      w.part,
      sum(w.dur) AS dur
    FROM steps AS s
    CROSS JOIN _lane_ubatch AS u
      ON u.place BETWEEN s.first_place AND s.last_place
    JOIN profinfer_ubatch_work AS w
      ON w.ubatch_id = u.ubatch_id
    GROUP BY s.request_id, s.step, w.part
  )
SELECT
  m.request_id,
  m.step,
  m.part,
  m.dur,
  s.upid
FROM sums AS m
JOIN steps AS s
  USING (request_id, step)
UNION ALL
SELECT
  s.request_id,
  s.step,
  'rest' AS part,
  s.tpot - coalesce(m.dur, 0) AS dur,
  s.upid
FROM steps AS s
LEFT JOIN (SELECT request_id, step, sum(dur) AS dur FROM sums GROUP BY request_id, step) AS m
  USING (request_id, step)
ORDER BY request_id, step;

-- Parts of which nothing is known in a process, and why.
CREATE PERFETTO VIEW profinfer_part_gap(
  -- Part, as in profinfer_ubatch_work.
  part STRING,
  -- One sentence.
  reason STRING,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  name AS part,
  iif(
    has_graphs,
    'the engine has none of its functions, or calls none of them by name',
    'it was not recorded (record --level graph)'
  ) AS reason,
  upid
FROM _part_known
WHERE NOT is_probed
UNION ALL
SELECT
  'sample' AS part,
  'no call of the sampler was seen: it is in the rest' AS reason,
  upid
FROM _recorded_process
WHERE recordings > 0 AND NOT upid IN (SELECT upid FROM _call_event WHERE name = 'sample');
