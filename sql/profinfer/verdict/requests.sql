-- How fast requests were, and what they waited for, in sums for the verdict.

INCLUDE PERFETTO MODULE profinfer.tokens.gaps;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;

-- Speeds of requests, as in the ready query summary. What may not be all of it is NULL.
CREATE PERFETTO TABLE _verdict_speed(
  -- Request.
  request_id LONG,
  -- Prompt tokens that were computed.
  prompt_tokens LONG,
  -- Of them per second of their micro-batches.
  prompt_rate DOUBLE,
  -- Time to the first token.
  ttft DURATION,
  -- Tokens per second from step to step.
  decode_rate DOUBLE,
  -- Median time from step to step.
  tpot DOUBLE,
  -- Whether all of the request was recorded.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  steps AS MATERIALIZED (
    SELECT
      request_id,
      percentile(tpot, 50) AS median,
      sum(tokens) * 1e9 / sum(tpot) AS rate,
      min(complete) AS complete
    FROM profinfer_token
    GROUP BY request_id
  )
SELECT
  r.request_id,
  iif(r.complete, r.prompt_tokens, NULL) AS prompt_tokens,
  iif(r.complete, r.prompt_tokens * 1e9 / nullif(r.encode_dur + r.prefill_dur, 0), NULL) AS prompt_rate,
  iif(r.complete, r.ttft, NULL) AS ttft,
  iif(t.complete, t.rate, NULL) AS decode_rate,
  iif(t.complete, t.median, NULL) AS tpot,
  r.complete,
  r.upid
FROM profinfer_request AS r
LEFT JOIN steps AS t
  USING (request_id)
WHERE r.kind = 'request'
ORDER BY r.request_id;

-- The same by process.
CREATE PERFETTO TABLE _verdict_speeds(
  -- Process.
  upid JOINID(process.id),
  -- Requests.
  requests LONG,
  -- Those of which something was not recorded.
  incomplete LONG,
  -- Those whose decoding speed is known.
  decoded LONG,
  -- Lowest decoding speed, tokens per second.
  slowest DOUBLE,
  -- Highest.
  fastest DOUBLE,
  -- The request that has the lowest, or the only one.
  slow_id LONG,
  -- Its median time per token.
  slow_tpot DOUBLE,
  -- Longest time to the first token.
  ttft DURATION,
  -- Whose.
  ttft_id LONG,
  -- Of the only request, its prompt tokens; else NULL.
  prompt_tokens LONG,
  -- And their speed.
  prompt_rate DOUBLE
) AS
WITH
  ranked AS (
    SELECT
      *,
      row_number() OVER (PARTITION BY upid ORDER BY decode_rate IS NULL, decode_rate, request_id) AS slow,
      row_number() OVER (PARTITION BY upid ORDER BY ttft DESC, request_id) AS late
    FROM _verdict_speed
  )
SELECT
  upid,
  count() AS requests,
  sum(NOT complete) AS incomplete,
  count(decode_rate) AS decoded,
  min(decode_rate) AS slowest,
  max(decode_rate) AS fastest,
  max(iif(slow = 1, request_id, NULL)) AS slow_id,
  max(iif(slow = 1, tpot, NULL)) AS slow_tpot,
  max(ttft) AS ttft,
  max(iif(late = 1, request_id, NULL)) AS ttft_id,
  iif(count() = 1, max(prompt_tokens), NULL) AS prompt_tokens,
  iif(count() = 1, max(prompt_rate), NULL) AS prompt_rate
FROM ranked
GROUP BY upid
ORDER BY upid;

-- What requests waited for, in their complete steps.
CREATE PERFETTO TABLE _verdict_step(
  -- Process.
  upid JOINID(process.id),
  -- All of it: to first tokens, and from step to step.
  dur DURATION,
  -- Of that, in others' micro-batches.
  others_dur DURATION,
  -- Steps that have a next one.
  steps LONG,
  -- From step to step.
  step_dur DURATION,
  -- Of that, in no micro-batch.
  outside_dur DURATION,
  -- Of that, in calls of the sampler; NULL where these were not seen.
  sample_dur DURATION,
  -- Median time from step to step.
  median DOUBLE,
  -- The request that others delayed most.
  worst_id LONG,
  -- What it waited for others.
  worst_others_dur DURATION,
  -- And in all.
  worst_dur DURATION,
  -- Share of steps that are not complete.
  incomplete DOUBLE
) AS
WITH
  steps AS MATERIALIZED (
    SELECT
      s.*
    FROM profinfer_request_step AS s
    JOIN profinfer_request AS r
      USING (request_id)
    WHERE r.kind = 'request'
  ),
  by_request AS (
    SELECT
      upid,
      request_id,
      sum(dur) AS dur,
      sum(others_dur) AS others_dur,
      row_number() OVER (PARTITION BY upid ORDER BY sum(others_dur) DESC, request_id) AS rank
    FROM steps
    WHERE complete
    GROUP BY request_id
  ),
  sums AS (
    SELECT
      upid,
      sum(iif(complete, dur, 0)) AS dur,
      sum(iif(complete, others_dur, 0)) AS others_dur,
      sum(complete AND step > 0) AS steps,
      sum(iif(complete AND step > 0, dur, 0)) AS step_dur,
      sum(iif(complete AND step > 0, outside_dur, 0)) AS outside_dur,
      sum(iif(complete AND step > 0, sample_dur, NULL)) AS sample_dur,
      percentile(iif(complete AND step > 0, dur, NULL), 50) AS median,
      1.0 * sum(NOT complete) / count() AS incomplete
    FROM steps
    GROUP BY upid
  )
SELECT
  s.upid,
  s.dur,
  s.others_dur,
  s.steps,
  s.step_dur,
  s.outside_dur,
  s.sample_dur,
  s.median,
  b.request_id AS worst_id,
  b.others_dur AS worst_others_dur,
  b.dur AS worst_dur,
  s.incomplete
FROM sums AS s
JOIN by_request AS b
  ON b.upid = s.upid AND b.rank = 1
ORDER BY s.upid;
