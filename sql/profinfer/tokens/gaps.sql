-- What the engine did between a request's own micro-batches.

INCLUDE PERFETTO MODULE intervals.intersect;
INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.tokens.shares;
INCLUDE PERFETTO MODULE profinfer.tokens.steps;

-- Micro-batches and sampling on the threads of a lane, one piece after another.
CREATE PERFETTO TABLE _lane_piece(
  -- Number of the row: in order of lane and time.
  piece_id LONG,
  -- As in _thread_lane.
  lane LONG,
  -- Start. What two of them have in common is the first one's.
  ts TIMESTAMP,
  -- End.
  end_ts TIMESTAMP,
  -- Micro-batch, NULL for sampling.
  ubatch_id LONG
) AS
WITH
  pieces AS (
    SELECT
      l.lane,
      u.ubatch_id,
      u.ts,
      u.ts + u.dur AS end_ts
    FROM _ubatch_event AS u
    JOIN _thread_lane AS l
      USING (utid)
    WHERE u.dur > 0
    UNION ALL
    SELECT
      l.lane,
      NULL AS ubatch_id,
      c.ts,
      c.ts + c.dur AS end_ts
    FROM _call_event AS c
    JOIN _thread_lane AS l
      USING (utid)
    WHERE c.name = 'sample' AND c.dur > 0
  ),
  cut AS (
    SELECT
      lane,
      max(
        ts,
        coalesce(
          max(end_ts) OVER (
            PARTITION BY lane ORDER BY ts, ubatch_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
          ),
          ts
        )
      ) AS ts,
      end_ts,
      ubatch_id
    FROM pieces
  )
SELECT
  row_number() OVER (ORDER BY lane, ts) AS piece_id,
  lane,
  ts,
  end_ts,
  ubatch_id
FROM cut
WHERE end_ts > ts
ORDER BY piece_id;

-- Time of steps between the request's own micro-batches.
CREATE PERFETTO TABLE _step_gap(
  -- Number of the row.
  gap_id LONG,
  -- Step.
  step_id LONG,
  -- Start.
  ts TIMESTAMP,
  -- End.
  end_ts TIMESTAMP,
  -- As in _thread_lane.
  lane LONG
) AS
WITH
  gaps AS (
    SELECT
      step_id,
      since AS ts,
      ts AS end_ts,
      lane
    FROM _own_piece
    UNION ALL
    SELECT
      p.step_id,
      p.end_ts AS ts,
      s.end_ts,
      p.lane
    FROM _own_piece AS p
    JOIN _request_step AS s
      USING (step_id)
    WHERE p.is_last
  )
SELECT
  row_number() OVER () AS gap_id,
  step_id,
  ts,
  end_ts,
  lane
FROM gaps
WHERE end_ts > ts;

-- Others' micro-batches and sampling meanwhile.
CREATE PERFETTO TABLE _gap_piece(
  -- Step.
  step_id LONG,
  -- Micro-batch, NULL for sampling.
  ubatch_id LONG,
  -- Duration of what gap and piece have in common.
  dur DURATION
) AS
WITH
  -- Pieces are in order and apart: those in a gap are the ones from the first that ends after its
  -- start to the last that begins before its end.
  starts AS MATERIALIZED (
    SELECT
      gap_id,
      1 + coalesce(
        max(piece_id) OVER (ORDER BY lane, ts, gap_id IS NOT NULL ROWS UNBOUNDED PRECEDING),
        0
      ) AS first_id
    FROM (
      SELECT lane, end_ts AS ts, piece_id, NULL AS gap_id FROM _lane_piece
      UNION ALL
      SELECT lane, ts, NULL AS piece_id, gap_id FROM _step_gap
    )
  ),
  ends AS MATERIALIZED (
    SELECT
      gap_id,
      max(piece_id) OVER (ORDER BY lane, ts, gap_id IS NULL ROWS UNBOUNDED PRECEDING) AS last_id
    FROM (
      SELECT lane, ts, piece_id, NULL AS gap_id FROM _lane_piece
      UNION ALL
      SELECT lane, end_ts AS ts, NULL AS piece_id, gap_id FROM _step_gap
    )
  ),
  met AS (
    SELECT
      g.step_id,
      p.ubatch_id,
      min(p.end_ts, g.end_ts) - max(p.ts, g.ts) AS dur
    FROM _step_gap AS g
    JOIN starts AS s
      USING (gap_id)
    JOIN ends AS e
      USING (gap_id)
    -- In this order: few pieces for each gap, and a table that is sorted by their number.
    CROSS JOIN _lane_piece AS p
      ON p.piece_id BETWEEN s.first_id AND e.last_id
  )
SELECT
  m.step_id,
  m.ubatch_id,
  sum(m.dur) AS dur
FROM met AS m
JOIN _request_step AS s
  USING (step_id)
LEFT JOIN _ubatch_member AS o
  ON o.ubatch_id = m.ubatch_id AND o.request_id = s.request_id
WHERE o.request_id IS NULL
GROUP BY m.step_id, m.ubatch_id
ORDER BY m.step_id;

-- Steps of requests: what they waited for, in short.
CREATE PERFETTO TABLE profinfer_request_step(
  -- Request.
  request_id LONG,
  -- 0 for the time to the first token; else the number of the step, as in profinfer_token.
  step LONG,
  -- Start.
  ts TIMESTAMP,
  -- TTFT, or TPOT.
  dur DURATION,
  -- Time in micro-batches that have tokens of the request, whether or not others have some in them.
  own_dur DURATION,
  -- Time in others' micro-batches, on its threads or in their contexts.
  others_dur DURATION,
  -- Time in neither: sampling, grammar, detokenising, copies, preparing the next micro-batch, and
  -- graphs outside micro-batches.
  outside_dur DURATION,
  -- Of that, calls of the sampler, whichever request's token it sampled. NULL where none was seen in
  -- the process.
  sample_dur DURATION,
  -- False when records may have been lost within the step, or when it is not certain that it is one.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  own AS MATERIALIZED (
    SELECT step_id, sum(end_ts - ts) AS dur FROM _own_piece GROUP BY step_id
  ),
  others AS MATERIALIZED (
    SELECT
      step_id,
      sum(iif(ubatch_id IS NOT NULL, dur, 0)) AS dur,
      sum(iif(ubatch_id IS NULL, dur, 0)) AS sample_dur
    FROM _gap_piece
    GROUP BY step_id
  )
SELECT
  s.request_id,
  s.step,
  s.ts,
  s.end_ts - s.ts AS dur,
  coalesce(o.dur, 0) AS own_dur,
  coalesce(t.dur, 0) AS others_dur,
  s.end_ts - s.ts - coalesce(o.dur, 0) - coalesce(t.dur, 0) AS outside_dur,
  iif(
    s.upid IN (SELECT upid FROM _call_event WHERE name = 'sample'),
    coalesce(t.sample_dur, 0),
    NULL
  ) AS sample_dur,
  s.complete,
  s.upid
FROM _request_step AS s
LEFT JOIN own AS o
  USING (step_id)
LEFT JOIN others AS t
  USING (step_id)
ORDER BY s.step_id;

-- Time in which requests waited while no micro-batch was computed, by process: what several waited for at
-- once counts once.
CREATE PERFETTO TABLE profinfer_outside(
  -- Process.
  upid JOINID(process.id),
  -- Duration.
  dur DURATION
) AS
WITH
  steps AS (
    SELECT
      s.step_id,
      s.ts,
      s.end_ts,
      s.upid,
      min(p.lane) AS lane
    FROM _request_step AS s
    JOIN _own_piece AS p
      USING (step_id)
    GROUP BY s.step_id
  ),
  begun AS (
    SELECT
      *,
      ts > coalesce(
        max(end_ts) OVER (
          PARTITION BY lane ORDER BY ts, step_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ),
        0
      ) AS is_first
    FROM steps
  ),
  numbered AS (
    SELECT
      *,
      sum(is_first) OVER (ORDER BY lane, ts, step_id ROWS UNBOUNDED PRECEDING) AS id
    FROM begun
  ),
  waits AS MATERIALIZED (
    SELECT
      id,
      lane,
      upid,
      min(ts) AS ts,
      max(end_ts) - min(ts) AS dur
    FROM numbered
    GROUP BY id
  ),
  inside AS MATERIALIZED (
    SELECT
      id_0 AS id,
      sum(dur) AS dur
    FROM _interval_intersect!(
      (
        (SELECT id, ts, dur, lane FROM waits WHERE dur > 0),
        (
          SELECT
            piece_id AS id,
            ts,
            end_ts - ts AS dur,
            lane
          FROM _lane_piece
          WHERE ubatch_id IS NOT NULL
        )
      ),
      (lane)
    )
    GROUP BY id_0
  )
SELECT
  w.upid,
  sum(w.dur - coalesce(i.dur, 0)) AS dur
FROM waits AS w
LEFT JOIN inside AS i
  USING (id)
GROUP BY w.upid
ORDER BY w.upid;
