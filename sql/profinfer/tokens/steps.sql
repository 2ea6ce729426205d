-- The steps of requests, and their own micro-batches within them.

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
  -- Of step 0, the request whose prefill gave the first token, where that is another one.
  shared_prefill_of LONG,
  -- False when records may have been lost within it.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  firsts AS (
    SELECT
      r.request_id,
      r.ts,
      r.ttft,
      r.shared_prefill_of,
      coalesce(min(s.complete), TRUE) AS complete,
      r.upid
    FROM profinfer_request AS r
    LEFT JOIN profinfer_sequence AS s
      ON s.request_id = r.request_id AND s.ts < r.first_token_ts
    WHERE r.ttft IS NOT NULL
    GROUP BY r.request_id
  ),
  steps AS (
    SELECT
      request_id,
      0 AS step,
      ts,
      ts + ttft AS end_ts,
      shared_prefill_of,
      complete AND NOT profinfer_has_loss(upid, ts, ttft) AS complete,
      upid
    FROM firsts
    UNION ALL
    SELECT
      request_id,
      step,
      ts,
      ts + tpot AS end_ts,
      NULL AS shared_prefill_of,
      complete,
      upid
    FROM profinfer_token
  )
SELECT
  row_number() OVER (ORDER BY request_id, step) AS step_id,
  *
FROM steps
ORDER BY step_id;

-- The requests' own micro-batches within their steps, a shared prefill's among them. What of one lies in
-- an earlier one of the same request, or after the step, is left out.
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
  shared AS (
    SELECT
      request_id,
      step_id,
      end_ts,
      shared_prefill_of
    FROM _request_step
    WHERE shared_prefill_of IS NOT NULL
  ),
  members AS (
    SELECT
      request_id,
      ubatch_id
    FROM _ubatch_member
    UNION
    SELECT
      s.request_id,
      m.ubatch_id
    FROM shared AS s
    JOIN _ubatch_member AS m
      ON m.request_id = s.shared_prefill_of
    WHERE m.phase IN ('encode', 'prefill')
  ),
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
    FROM members AS m
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

-- How many steps of a process's requests may be missing altogether, or be in nobody's.
CREATE PERFETTO FUNCTION _lost_steps(
  -- Process.
  upid JOINID(process.id)
)
-- Records of micro-batches, of their tokens and of calls that were lost.
RETURNS LONG AS
SELECT
  profinfer_lost($upid, 'ubatch_begin')
  + profinfer_lost($upid, 'ubatch_end')
  + profinfer_lost($upid, 'tokens')
  + profinfer_lost($upid, 'call');
