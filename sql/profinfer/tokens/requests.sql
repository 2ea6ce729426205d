-- Sequences, requests and tokens: time to first token, time per output token.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.recording.losses;

-- The tokens of one sequence in one micro-batch, and the request they belong to. A request is a
-- sequence's prefill and the decoding after it.
CREATE PERFETTO TABLE profinfer_sequence(
  -- Slice id.
  slice_id JOINID(slice.id),
  -- Start of the micro-batch.
  ts TIMESTAMP,
  -- Duration of the micro-batch, NULL when its end was not recorded.
  dur DURATION,
  -- Track of the sequence: tells sequences of different contexts apart.
  track_id JOINID(track.id),
  -- Sequence id (a server's slot).
  sequence LONG,
  -- Number of the request in this recording, in order of its start.
  request_id LONG,
  -- Either prefill or decode.
  phase STRING,
  -- Position of the first of the tokens.
  position LONG,
  -- Tokens of this sequence.
  tokens LONG,
  -- Tokens whose logits were asked for.
  outputs LONG,
  -- Micro-batch.
  ubatch_id LONG,
  -- Start of the sequence's next micro-batch in the same request: by then the engine has sampled
  -- the token that this one gave, and prepared the next. NULL for the last.
  next_ts TIMESTAMP,
  -- False when records may have been lost within the micro-batch, when micro-batches may be missing
  -- between it and the next, or when the phase is not certain.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  marked AS (
    SELECT
      *,
      lag(phase) OVER (PARTITION BY track_id ORDER BY ts) AS previous_phase,
      lag(outputs) OVER (PARTITION BY track_id ORDER BY ts) AS previous_outputs,
      lead(ts) OVER (PARTITION BY track_id ORDER BY ts) AS following_ts
    FROM _sequence_event
  ),
  numbered AS (
    SELECT
      *,
      -- A prefill begins a request unless it continues one that has given no logits yet.
      sum(
        previous_phase IS NULL
        OR (phase = 'prefill' AND (previous_phase = 'decode' OR previous_outputs > 0))
      ) OVER (PARTITION BY track_id ORDER BY ts) AS number
    FROM marked
  ),
  begun AS (
    SELECT
      track_id,
      number,
      row_number() OVER (ORDER BY min(ts), track_id) AS request_id
    FROM numbered
    GROUP BY track_id, number
  )
SELECT
  n.id AS slice_id,
  n.ts,
  iif(n.dur < 0, NULL, n.dur) AS dur,
  n.track_id,
  n.sequence,
  b.request_id,
  n.phase,
  n.position,
  n.tokens,
  n.outputs,
  n.ubatch_id,
  lead(n.ts) OVER (PARTITION BY b.request_id ORDER BY n.ts) AS next_ts,
  n.dur >= 0
  AND NOT profinfer_has_loss(n.upid, n.ts, n.dur)
  AND NOT n.id IN (SELECT id FROM _doubtful_sequence)
  AND NOT EXISTS (
    SELECT
      1
    FROM _ubatch_loss AS l
    WHERE
      l.of_tokens
      AND l.upid = n.upid
      AND l.ts >= n.ts
      AND (n.following_ts IS NULL OR l.first_ts <= n.following_ts)
  ) AS complete,
  n.upid
FROM numbered AS n
JOIN begun AS b
  USING (track_id, number)
ORDER BY n.ts;

-- Requests: a sequence's prefill and the decoding after it.
CREATE PERFETTO TABLE profinfer_request(
  -- Number of the request in this recording.
  request_id LONG,
  -- Sequence id (a server's slot).
  sequence LONG,
  -- Start of its first micro-batch.
  ts TIMESTAMP,
  -- To the end of its last micro-batch.
  dur DURATION,
  -- Tokens prefilled.
  prompt_tokens LONG,
  -- Tokens decoded: the first one comes from the prefill and is not counted. With speculative
  -- decoding these are the tokens verified, accepted or not.
  decode_tokens LONG,
  -- Time to first token: from the start of the prefill to the start of the first decoding
  -- micro-batch, by when the first token has been sampled. NULL when its prefill was not
  -- recorded or nothing was decoded.
  ttft DURATION,
  -- Time in prefill micro-batches.
  prefill_dur DURATION,
  -- From the start of the first decoding micro-batch to that of the last.
  decode_dur DURATION,
  -- Decoding micro-batches.
  decode_steps LONG,
  -- False when records may have been lost within it, when micro-batches may be missing before or
  -- after it, or when recording began or ended in it.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  placed AS (
    SELECT
      *,
      lag(ts, 1, 0) OVER (PARTITION BY track_id ORDER BY ts) AS previous_ts,
      lead(ts) OVER (PARTITION BY track_id ORDER BY ts) AS following_ts
    FROM profinfer_sequence
  ),
  summed AS (
    SELECT
      request_id,
      upid,
      sequence,
      min(ts) AS ts,
      max(ts + dur) - min(ts) AS dur,
      sum(iif(phase = 'prefill', tokens, 0)) AS prompt_tokens,
      sum(iif(phase = 'decode', tokens, 0)) AS decode_tokens,
      min(iif(phase = 'prefill', ts, NULL)) AS prefill_ts,
      min(iif(phase = 'decode', ts, NULL)) AS decode_ts,
      sum(iif(phase = 'prefill', dur, 0)) AS prefill_dur,
      max(iif(phase = 'decode', ts, NULL)) AS last_decode_ts,
      sum(phase = 'decode') AS decode_steps,
      min(dur IS NOT NULL) AS ended,
      max(ts + coalesce(dur, 0)) - min(ts) AS known_dur,
      min(previous_ts) AS previous_ts,
      iif(max(following_ts IS NULL), NULL, max(following_ts)) AS following_ts
    FROM placed
    GROUP BY request_id
  )
SELECT
  s.request_id,
  s.sequence,
  s.ts,
  s.dur,
  s.prompt_tokens,
  s.decode_tokens,
  iif(s.prefill_ts = s.ts, s.decode_ts - s.ts, NULL) AS ttft,
  s.prefill_dur,
  s.last_decode_ts - s.decode_ts AS decode_dur,
  s.decode_steps,
  s.ended
  AND s.prefill_ts IS NOT NULL
  AND NOT profinfer_has_loss(s.upid, s.ts, s.known_dur)
  AND NOT EXISTS (
    SELECT
      1
    FROM _ubatch_loss AS l
    WHERE
      l.of_tokens
      AND l.upid = s.upid
      AND l.ts >= s.previous_ts
      AND (s.following_ts IS NULL OR l.first_ts <= s.following_ts)
  ) AS complete,
  s.upid
FROM summed AS s
ORDER BY s.request_id;

-- Decoding steps of each request: one row per step that has a next one.
CREATE PERFETTO TABLE profinfer_token(
  -- Request.
  request_id LONG,
  -- Number of the step within the request, from 1.
  step LONG,
  -- Start of the step's micro-batch.
  ts TIMESTAMP,
  -- Time per output token: to the start of the next step, sampling and the engine's own work
  -- between the two included. Per step: speculative decoding gives several tokens in one.
  tpot DURATION,
  -- Of that, time in the micro-batch.
  ubatch_dur DURATION,
  -- Position decoded.
  position LONG,
  -- Micro-batch.
  ubatch_id LONG,
  -- False when records may have been lost within the step, or when it is not certain that it is
  -- one.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  request_id,
  row_number() OVER (PARTITION BY request_id ORDER BY ts) AS step,
  ts,
  next_ts - ts AS tpot,
  dur AS ubatch_dur,
  position,
  ubatch_id,
  complete AND NOT profinfer_has_loss(upid, ts, next_ts - ts) AS complete,
  upid
FROM profinfer_sequence
WHERE phase = 'decode' AND next_ts IS NOT NULL
ORDER BY request_id, step;
