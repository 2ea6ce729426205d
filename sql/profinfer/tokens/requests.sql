-- Requests, their sequences and tokens: what a user waited for. docs/requests.md says what a request
-- is, and what is not known.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.recording.losses;

-- Requests by the converter's numbers, which count drafts.
CREATE PERFETTO TABLE _numbered_request(
  -- Number in the recording.
  request LONG,
  -- Number among requests and warm-ups, in order of their start.
  request_id LONG,
  -- When its first sign was seen: a removal or a call that computes, else its first micro-batch.
  ts TIMESTAMP,
  -- Either request or warm-up.
  kind STRING,
  -- When it was over, as far as calls tell.
  end_ts TIMESTAMP,
  -- Tokens that were in the cache.
  cached_tokens LONG,
  -- Number, in the recording, of the request whose prefill gave its first token.
  shared LONG,
  -- When its first token was sampled, where calls tell.
  sampled_ts TIMESTAMP,
  -- Tokens of its last step that stayed, NULL for unknown.
  accepted LONG,
  -- Whether there is no other reading.
  certain BOOL,
  -- Why there may be another one.
  reason STRING,
  -- Slice id, NULL where the trace was cut within it.
  slice_id JOINID(slice.id)
) AS
SELECT
  s.request,
  row_number() OVER (ORDER BY coalesce(r.ts, s.ts), s.request) AS request_id,
  coalesce(r.ts, s.ts) AS ts,
  coalesce(r.kind, 'request') AS kind,
  coalesce(r.ts + r.dur, 0) AS end_ts,
  r.cached_tokens,
  r.shared_prefill_of AS shared,
  r.first_token_ts AS sampled_ts,
  r.accepted,
  coalesce(r.certain, FALSE) AND coalesce(o.certain, TRUE) AS certain,
  CASE
    WHEN r.request IS NULL
    THEN 'the trace was cut within it'
    WHEN r.certain AND NOT o.certain
    THEN 'the request whose prefill it shares is not certain'
    ELSE r.reason
  END AS reason,
  r.id AS slice_id
FROM (
  SELECT
    request,
    min(ts) AS ts
  FROM _sequence_event
  WHERE phase != 'draft'
  GROUP BY request
) AS s
LEFT JOIN _request_event AS r
  USING (request)
LEFT JOIN _request_event AS o
  ON o.request = r.shared_prefill_of
ORDER BY s.request;

-- The tokens of one sequence in one micro-batch, and the request they belong to.
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
  -- Number of the request in this recording, in order of its start. Of a draft, the request that it
  -- is for.
  request_id LONG,
  -- Either request or warm-up.
  kind STRING,
  -- One of encode, prefill, decode, and draft: what a draft model computed.
  phase STRING,
  -- Position of the first of the tokens.
  position LONG,
  -- Tokens of this sequence.
  tokens LONG,
  -- Tokens whose logits were asked for.
  outputs LONG,
  -- Micro-batch.
  ubatch_id LONG,
  -- Number of the batch (a call of the engine) within the request. The tokens of one, and so of one
  -- decoding step, may lie in several micro-batches.
  batch LONG,
  -- Whether the sequence's micro-batch before is of the same batch.
  goes_on BOOL,
  -- Start of the sequence's next batch in the same request: by then the engine has sampled the token
  -- that this one gave, and prepared the next. NULL for the last, for drafts, and where goes_on.
  next_ts TIMESTAMP,
  -- Of a decoding step that has a next one, the tokens that the user got by it: by the positions of
  -- the two. NULL for others, and where goes_on, but for the last step where it is known.
  accepted LONG,
  -- False when it may belong to another request, or to another phase.
  certain BOOL,
  -- False when records may have been lost within the micro-batch, or when micro-batches may be
  -- missing between it and the next.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  placed AS (
    SELECT
      *,
      lead(ts) OVER (PARTITION BY track_id ORDER BY ts) AS following_ts,
      sum(NOT goes_on) OVER (
        PARTITION BY request, track_id ORDER BY ts ROWS UNBOUNDED PRECEDING
      ) AS batch,
      iif(goes_on, NULL, lead(ts) OVER same) AS next_ts,
      lead(position + shift) OVER same AS next_position
    FROM _sequence_event
    WINDOW
      same AS (PARTITION BY request, track_id, goes_on ORDER BY ts)
  )
SELECT
  p.id AS slice_id,
  p.ts,
  iif(p.dur < 0, NULL, p.dur) AS dur,
  p.track_id,
  p.sequence,
  n.request_id,
  n.kind,
  p.phase,
  p.position,
  p.tokens,
  p.outputs,
  p.ubatch_id,
  p.batch,
  p.goes_on,
  iif(p.phase = 'draft', NULL, p.next_ts) AS next_ts,
  CASE
    WHEN p.phase != 'decode' OR p.goes_on
    THEN NULL
    WHEN p.next_ts IS NULL
    THEN n.accepted
    ELSE p.next_position - p.position
  END AS accepted,
  coalesce(n.certain, FALSE) AS certain,
  p.dur >= 0
  AND NOT profinfer_has_loss(p.upid, p.ts, p.dur)
  AND NOT p.id IN (SELECT id FROM _doubtful_sequence)
  AND NOT EXISTS (
    SELECT
      1
    FROM _ubatch_loss AS l
    WHERE
      l.of_tokens
      AND l.upid = p.upid
      AND l.ts >= p.ts
      AND (p.following_ts IS NULL OR l.first_ts <= p.following_ts)
  ) AS complete,
  p.upid
FROM placed AS p
LEFT JOIN _numbered_request AS n
  USING (request)
ORDER BY p.ts;

-- Ends of recordings whose targets went on.
CREATE PERFETTO TABLE _cut(
  -- End.
  ts TIMESTAMP,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  ts,
  upid
FROM _recording_arg
WHERE
  event = 'recording ended'
  AND key = 'reason'
  AND NOT value IN ('the target ended', 'the target is another program now')
ORDER BY ts;

-- Requests. What a draft model computed for one is in none of its sums of tokens and durations.
CREATE PERFETTO TABLE profinfer_request(
  -- Number of the request in this recording, in order of its start.
  request_id LONG,
  -- Slice id, NULL where the trace was cut within it.
  slice_id JOINID(slice.id),
  -- Either request, or warm-up: the engine's own test batch.
  kind STRING,
  -- Sequence id (a server's slot).
  sequence LONG,
  -- Address of its llama_context, or of what tells contexts of another engine apart.
  context LONG,
  -- When its first sign was seen: where calls are seen, the removal of what stood in its sequence or
  -- the call in which its first tokens were computed; else its first micro-batch. Of a request that
  -- shares another's prefill, that one's.
  ts TIMESTAMP,
  -- Until its last token was sampled; where that is not seen, until the call that computed its last
  -- token returned, or its last micro-batch ended.
  dur DURATION,
  -- Tokens that were computed before the first one was sampled (llama-server: prompt_n), an
  -- encoder's among them.
  prompt_tokens LONG,
  -- Tokens that need not be computed: they were in the cache (llama-server: cache_n), or copied from
  -- another sequence. NULL where its beginning was not recorded.
  cached_tokens LONG,
  -- Tokens that the user gets (llama-server: predicted_n): the first, and what each step gave by the
  -- positions of the steps. NULL where it is not known how many drafts of the last step were
  -- accepted, or whether a token was sampled at all.
  tokens LONG,
  -- Tokens computed in decoding steps, whether they were accepted or not.
  verified_tokens LONG,
  -- Decoding steps.
  steps LONG,
  -- Time to first token: from ts to first_token_ts. NULL when its beginning was not recorded, or
  -- when there was no first token.
  ttft DURATION,
  -- When the first token was there: its sampling returned, or, where that is not seen, the first
  -- decoding step began.
  first_token_ts TIMESTAMP,
  -- Time in an encoder's micro-batches.
  encode_dur DURATION,
  -- Time in prefill micro-batches.
  prefill_dur DURATION,
  -- From the start of the first decoding step to that of the last.
  decode_dur DURATION,
  -- The request whose prefill gave its first token: of several answers to one prompt, the first.
  shared_prefill_of LONG,
  -- True when what was recorded can be read in no other way: its beginning, its phases and tokens.
  certain BOOL,
  -- Why it can be read in another way.
  reason STRING,
  -- False when records may have been lost within it, when micro-batches may be missing before or
  -- after it, or when recording began or ended in it: ended, while its target went on, before a
  -- second and ten times its longest step (without steps, its TTFT) had passed with no more of it.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  placed AS (
    SELECT
      s.*,
      u.context,
      lag(s.ts, 1, 0) OVER (PARTITION BY s.track_id ORDER BY s.ts) AS previous_ts,
      lead(s.ts) OVER (PARTITION BY s.track_id ORDER BY s.ts) AS following_ts
    FROM profinfer_sequence AS s
    JOIN _ubatch_event AS u
      USING (ubatch_id)
    WHERE s.phase != 'draft' AND s.request_id IS NOT NULL
  ),
  summed AS (
    SELECT
      request_id,
      upid,
      sequence,
      context,
      min(ts) AS first_ts,
      max(ts + coalesce(dur, 0)) AS end_ts,
      min(dur IS NOT NULL) AS ended,
      sum(iif(phase = 'decode', 0, tokens)) AS prompt_tokens,
      sum(iif(phase = 'decode', tokens, 0)) AS verified_tokens,
      sum(phase = 'decode' AND NOT goes_on) AS steps,
      sum(accepted) AS accepted,
      sum(phase = 'decode' AND NOT goes_on AND accepted IS NULL) AS unknown_steps,
      sum(outputs) AS outputs,
      min(iif(phase = 'decode', ts, NULL)) AS decode_ts,
      max(iif(phase = 'decode' AND NOT goes_on, ts, NULL)) AS last_decode_ts,
      max(iif(phase = 'decode', next_ts - ts, NULL)) AS longest_step,
      sum(iif(phase = 'encode', dur, 0)) AS encode_dur,
      sum(iif(phase = 'prefill', dur, 0)) AS prefill_dur,
      min(previous_ts) AS previous_ts,
      iif(max(following_ts IS NULL), NULL, max(following_ts)) AS following_ts
    FROM placed
    GROUP BY request_id
  ),
  known AS (
    SELECT
      s.*,
      n.kind,
      n.end_ts AS last_ts,
      n.cached_tokens,
      n.certain,
      n.reason,
      n.slice_id,
      o.request_id AS shared_prefill_of,
      coalesce(o.ts, n.ts) AS ts,
      coalesce(n.sampled_ts, s.decode_ts) AS first_token_ts,
      -- Whether it was recorded from its beginning.
      n.shared IS NOT NULL OR (s.prompt_tokens > 0 AND n.cached_tokens IS NOT NULL) AS is_begun
    FROM summed AS s
    JOIN _numbered_request AS n
      USING (request_id)
    LEFT JOIN _numbered_request AS o
      ON o.request = n.shared
  )
SELECT
  k.request_id,
  k.slice_id,
  k.kind,
  k.sequence,
  k.context,
  k.ts,
  iif(k.ended, max(k.end_ts, k.last_ts) - k.ts, NULL) AS dur,
  k.prompt_tokens,
  k.cached_tokens,
  CASE
    WHEN k.unknown_steps > 0
    THEN NULL
    WHEN k.steps = 0 AND k.first_token_ts IS NULL
    THEN iif(k.outputs = 0, 0, NULL)
    ELSE k.is_begun + coalesce(k.accepted, 0)
  END AS tokens,
  k.verified_tokens,
  k.steps,
  iif(k.is_begun, k.first_token_ts - k.ts, NULL) AS ttft,
  k.first_token_ts,
  k.encode_dur,
  k.prefill_dur,
  k.last_decode_ts - k.decode_ts AS decode_dur,
  k.shared_prefill_of,
  k.certain,
  k.reason,
  k.ended
  AND k.is_begun
  AND NOT profinfer_has_loss(k.upid, k.ts, k.end_ts - k.ts)
  AND NOT EXISTS (
    SELECT
      1
    FROM _ubatch_loss AS l
    WHERE
      l.of_tokens
      AND l.upid = k.upid
      AND l.ts >= k.previous_ts
      AND (k.following_ts IS NULL OR l.first_ts <= k.following_ts)
  )
  AND NOT EXISTS (
    SELECT
      1
    FROM _cut AS c
    WHERE
      k.following_ts IS NULL
      AND c.upid = k.upid
      AND c.ts >= k.end_ts
      -- It takes a part of a second to detach probes.
      AND c.ts < max(k.end_ts, k.last_ts)
      + 1000000000
      + 10 * coalesce(k.longest_step, k.first_token_ts - k.ts, k.end_ts - k.ts)
  ) AS complete,
  k.upid
FROM known AS k
ORDER BY k.request_id;

-- Decoding steps of each request: one row per step that has a next one.
CREATE PERFETTO TABLE profinfer_token(
  -- Request.
  request_id LONG,
  -- Slice id of its sequence's (first) micro-batch.
  slice_id JOINID(slice.id),
  -- Number of the step within the request, from 1.
  step LONG,
  -- Start of the step's micro-batch.
  ts TIMESTAMP,
  -- Time per output token: to the start of the next step, sampling and the engine's own work
  -- between the two included. Per step: with drafts several tokens come of one.
  tpot DURATION,
  -- Of that, time in the step's micro-batches.
  ubatch_dur DURATION,
  -- Position decoded.
  position LONG,
  -- Tokens that the user got by it: to the position where the next step begins.
  tokens LONG,
  -- Tokens that were computed in it and are no part of the answer: drafts that were not accepted.
  rejected LONG,
  -- Its first micro-batch.
  ubatch_id LONG,
  -- Whether its request is certain.
  certain BOOL,
  -- False when records may have been lost within the step.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  steps AS (
    SELECT
      request_id,
      min(ts) AS ts,
      max(next_ts) AS next_ts,
      sum(dur) AS ubatch_dur,
      min(position) AS position,
      sum(tokens) AS computed,
      max(accepted) AS accepted,
      min(ubatch_id) AS ubatch_id,
      min(slice_id) AS slice_id,
      min(certain) AS certain,
      min(complete) AS complete,
      upid
    FROM profinfer_sequence
    WHERE phase = 'decode'
    GROUP BY request_id, batch
  )
SELECT
  request_id,
  slice_id,
  row_number() OVER (PARTITION BY request_id ORDER BY ts) AS step,
  ts,
  next_ts - ts AS tpot,
  ubatch_dur,
  position,
  accepted AS tokens,
  computed - accepted AS rejected,
  ubatch_id,
  certain,
  complete AND NOT profinfer_has_loss(upid, ts, next_ts - ts) AS complete,
  upid
FROM steps
WHERE next_ts IS NOT NULL
ORDER BY request_id, step;
