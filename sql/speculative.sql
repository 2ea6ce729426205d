-- Did speculative decoding pay off?
-- Times in milliseconds. Of requests with steps that compute several tokens: the one sampled before, and
-- drafts to verify. drafted and accepted count drafts (llama-server: draft_n, draft_n_accepted); a step
-- gives the accepted ones and the token sampled after them. draft is time in the draft model's
-- micro-batches, verify the request's share of the steps that verify, by what its tokens took in
-- the target model; rejected is what of both went into drafts that were not accepted, by their number.
-- token_ms: time from step to step by tokens that the user got; without_ms: the median of the steps of one
-- token without drafts, of all certain requests in the same context: what a token costs without. It
-- is NULL where single_steps is 0. Steps in which records may have been lost are counted by incomplete,
-- with micro-batches that were lost altogether, and in nothing else.

INCLUDE PERFETTO MODULE profinfer.recording.processes;
INCLUDE PERFETTO MODULE profinfer.tokens.parts;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;
INCLUDE PERFETTO MODULE profinfer.tokens.steps;

-- title: Requests with drafts
WITH
  parts AS (
    SELECT
      request_id,
      step,
      sum(iif(part = 'draft', dur, 0)) AS draft,
      sum(iif(part = 'own decode', dur, 0)) AS decode
    FROM profinfer_request_part
    WHERE step > 0
    GROUP BY request_id, step
  ),
  steps AS MATERIALIZED (
    SELECT
      t.request_id,
      r.context,
      t.upid,
      t.tokens,
      t.rejected,
      t.tpot,
      p.draft,
      p.decode,
      t.tokens + t.rejected > 1 AS is_verifying,
      r.certain AND r.kind = 'request' AS is_certain,
      coalesce(t.complete AND t.tokens > 0 AND t.rejected >= 0, FALSE) AS complete
    FROM profinfer_token AS t
    JOIN profinfer_request AS r
      USING (request_id)
    LEFT JOIN parts AS p
      USING (request_id, step)
  ),
  single AS (
    SELECT
      upid,
      context,
      percentile(tpot, 50) AS dur,
      count() AS steps
    FROM steps
    WHERE complete AND is_certain AND NOT is_verifying AND NOT draft > 0
    GROUP BY upid, context
  ),
  sums AS (
    SELECT
      request_id,
      sum(complete) AS steps,
      sum(iif(complete, tokens, 0)) AS tokens,
      sum(iif(complete, tokens + rejected - 1, 0)) AS drafted,
      sum(iif(complete, tokens - 1, 0)) AS accepted,
      sum(iif(complete, tpot, 0)) AS tpot,
      sum(iif(complete, draft, 0)) AS draft,
      sum(iif(complete AND is_verifying, decode, 0)) AS verify,
      sum(iif(complete AND is_verifying, 1.0 * decode * rejected / (tokens + rejected), 0)) AS rejected,
      sum(NOT complete) AS incomplete
    FROM steps
    GROUP BY request_id
    HAVING max(is_verifying) OR sum(draft) > 0
  )
SELECT
  profinfer_process_label(r.upid) AS process,
  s.request_id AS request,
  s.steps,
  s.tokens,
  s.drafted,
  s.accepted,
  round(1.0 * s.accepted / nullif(s.drafted, 0), 3) AS accepted_share,
  round(1.0 * s.tokens / nullif(s.steps, 0), 2) AS tokens_per_step,
  round(s.draft / 1e6, 2) AS draft_ms,
  round(s.verify / 1e6, 2) AS verify_ms,
  round(
    (s.rejected + coalesce(1.0 * s.draft * (s.drafted - s.accepted) / nullif(s.drafted, 0), 0)) / 1e6,
    2
  ) AS rejected_ms,
  round(s.tpot / 1e6 / nullif(s.tokens, 0), 3) AS token_ms,
  round(o.dur / 1e6, 3) AS without_ms,
  coalesce(o.steps, 0) AS single_steps,
  round(o.dur * s.tokens / nullif(s.tpot, 0), 2) AS speedup,
  r.certain,
  s.incomplete + _lost_steps(r.upid) AS incomplete
FROM sums AS s
JOIN profinfer_request AS r
  USING (request_id)
LEFT JOIN single AS o
  ON o.upid = r.upid AND o.context = r.context
ORDER BY r.upid, s.request_id;

-- title: Tokens that a step gave
WITH
  steps AS (
    SELECT
      t.upid,
      t.tokens,
      t.tokens + t.rejected AS computed,
      t.complete
    FROM profinfer_token AS t
    JOIN profinfer_request AS r
      USING (request_id)
    WHERE r.certain AND t.tokens + t.rejected > 1
  )
SELECT
  profinfer_process_label(upid) AS process,
  computed,
  tokens,
  sum(complete) AS steps,
  round(100.0 * sum(complete) / sum(sum(complete)) OVER (PARTITION BY upid, computed), 1) AS percent,
  sum(NOT complete) + _lost_steps(upid) AS incomplete
FROM steps
GROUP BY upid, computed, tokens
ORDER BY upid, computed, tokens;
