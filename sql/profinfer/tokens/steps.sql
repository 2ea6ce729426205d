-- The steps of requests, and what the engine did between a request's own micro-batches.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.recording.losses;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;
INCLUDE PERFETTO MODULE profinfer.tokens.shares;

-- Times that requests waited for: step 0 for the first token, step k for what follows it.
CREATE PERFETTO TABLE _request_step(
  -- Number of the row.
  step_id LONG,
  -- Request.
  request_id LONG,
  -- Number of the step within the request.
  step LONG,
  -- Start.
  ts TIMESTAMP,
  -- End.
  end_ts TIMESTAMP,
  -- Whether all of it is certain.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  firsts AS (
    SELECT
      r.request_id,
      r.ts,
      r.ts + r.ttft AS end_ts,
      min(s.complete) AS complete,
      r.upid
    FROM profinfer_request AS r
    JOIN profinfer_sequence AS s
      ON s.request_id = r.request_id AND s.ts < r.ts + r.ttft
    WHERE r.ttft IS NOT NULL
    GROUP BY r.request_id
  ),
  steps AS (
    SELECT
      request_id,
      0 AS step,
      ts,
      end_ts,
      complete AND NOT profinfer_has_loss(upid, ts, end_ts - ts) AS complete,
      upid
    FROM firsts
    UNION ALL
    SELECT
      request_id,
      step,
      ts,
      ts + tpot AS end_ts,
      complete,
      upid
    FROM profinfer_token
  )
SELECT
  row_number() OVER (ORDER BY request_id, step) AS step_id,
  *
FROM steps
ORDER BY step_id;

-- The requests' own micro-batches within their steps. What of one lies in an earlier one of the same
-- request, or after the step, is left out.
CREATE PERFETTO TABLE _own_piece(
  -- Step.
  step_id LONG,
  -- Micro-batch.
  ubatch_id LONG,
  -- Start.
  ts TIMESTAMP,
  -- End.
  end_ts TIMESTAMP,
  -- Where the ones before it have ended, or the step begun.
  since TIMESTAMP,
  -- Whether it is the step's last.
  is_last BOOL,
  -- As in _thread_lane.
  lane LONG
) AS
WITH
  marks AS (
    SELECT
      request_id,
      step_id,
      ts,
      NULL AS ubatch_id,
      NULL AS dur
    FROM _request_step
    UNION ALL
    SELECT
      m.request_id,
      NULL AS step_id,
      u.ts,
      u.ubatch_id,
      max(u.dur, 0) AS dur
    FROM _ubatch_member AS m
    JOIN _ubatch_event AS u
      USING (ubatch_id)
  ),
  placed AS (
    SELECT
      max(step_id) OVER (
        PARTITION BY request_id ORDER BY ts, ubatch_id IS NOT NULL ROWS UNBOUNDED PRECEDING
      ) AS step_id,
      ubatch_id,
      ts,
      ts + dur AS end_ts
    FROM marks
  ),
  mine AS (
    SELECT
      p.step_id,
      p.ubatch_id,
      p.ts,
      min(p.end_ts, s.end_ts) AS end_ts,
      s.ts AS step_ts
    FROM placed AS p
    JOIN _request_step AS s
      USING (step_id)
    WHERE p.ubatch_id IS NOT NULL AND p.ts < s.end_ts
  ),
  after AS (
    SELECT
      *,
      coalesce(
        max(end_ts) OVER (
          PARTITION BY step_id ORDER BY ts, ubatch_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ),
        step_ts
      ) AS since,
      lead(ts) OVER (PARTITION BY step_id ORDER BY ts, ubatch_id) IS NULL AS is_last
    FROM mine
  )
SELECT
  a.step_id,
  a.ubatch_id,
  max(a.ts, a.since) AS ts,
  max(a.end_ts, a.since) AS end_ts,
  a.since,
  a.is_last,
  l.lane
FROM after AS a
JOIN _ubatch_event AS u
  USING (ubatch_id)
JOIN _thread_lane AS l
  USING (utid)
ORDER BY a.step_id, a.ts;

-- What is known of the time of threads that run micro-batches, one piece after another.
CREATE PERFETTO TABLE _lane_piece(
  -- Number of the row: in order of lane and time.
  piece_id LONG,
  -- As in _thread_lane.
  lane LONG,
  -- Start. What two micro-batches have in common is the first one's.
  ts TIMESTAMP,
  -- End.
  end_ts TIMESTAMP,
  -- Micro-batch.
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

-- Others' micro-batches meanwhile.
CREATE PERFETTO TABLE _gap_piece(
  -- Step.
  step_id LONG,
  -- Micro-batch.
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
    SELECT step_id, sum(dur) AS dur FROM _gap_piece GROUP BY step_id
  )
SELECT
  s.request_id,
  s.step,
  s.ts,
  s.end_ts - s.ts AS dur,
  coalesce(o.dur, 0) AS own_dur,
  coalesce(t.dur, 0) AS others_dur,
  s.end_ts - s.ts - coalesce(o.dur, 0) - coalesce(t.dur, 0) AS outside_dur,
  s.complete,
  s.upid
FROM _request_step AS s
LEFT JOIN own AS o
  USING (step_id)
LEFT JOIN others AS t
  USING (step_id)
ORDER BY s.step_id;
