-- Whose work a micro-batch was.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.operators.attention;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;

-- Requests that have tokens in a micro-batch, each with its share of the micro-batch's time. Where there
-- are several the share is an estimate: attention is divided by rows times the KV positions that each
-- may see (token at position p: p + 1), everything else by tokens.
CREATE PERFETTO TABLE _ubatch_member(
  -- Micro-batch.
  ubatch_id LONG,
  -- Request.
  request_id LONG,
  -- Phase of the request's tokens.
  phase STRING,
  -- Where its share begins and ends, if the whole is 1. Shares lie side by side: times that are made of
  -- them by rounding both ends add up.
  share_from DOUBLE,
  -- End.
  share_to DOUBLE,
  -- Whether others have tokens in it, too.
  is_shared BOOL
) AS
WITH
  members AS (
    SELECT
      ubatch_id,
      request_id,
      min(phase) AS phase,
      -- Shares lie in this order: numbers of requests are others where records were lost.
      min(sequence) AS sequence,
      sum(tokens) AS tokens,
      -- In floating point: no position makes it overflow.
      sum(tokens * (position + 0.5 * (tokens + 1))) AS reads
    FROM profinfer_sequence
    GROUP BY ubatch_id, request_id
  ),
  placed AS (
    SELECT
      m.ubatch_id,
      m.request_id,
      m.phase,
      m.sequence,
      iif(u.dur > 0, min(1.0, coalesce(1.0 * a.dur / u.dur, 0)), 0) AS attention,
      1.0 * sum(m.tokens) OVER until / nullif(sum(m.tokens) OVER ubatch, 0) AS of_tokens,
      sum(m.reads) OVER until / nullif(sum(m.reads) OVER ubatch, 0) AS of_reads,
      count() OVER ubatch AS requests
    FROM members AS m
    JOIN _ubatch_event AS u
      USING (ubatch_id)
    LEFT JOIN _attention_in_mixed AS a
      USING (ubatch_id)
    WINDOW
      ubatch AS (PARTITION BY m.ubatch_id),
      until AS (PARTITION BY m.ubatch_id ORDER BY m.sequence, m.request_id)
  ),
  ended AS (
    SELECT
      ubatch_id,
      request_id,
      phase,
      sequence,
      requests,
      coalesce((1 - attention) * of_tokens + attention * of_reads, of_tokens, 1.0) AS share_to
    FROM placed
  )
SELECT
  ubatch_id,
  request_id,
  phase,
  lag(share_to, 1, 0.0) OVER (PARTITION BY ubatch_id ORDER BY sequence, request_id) AS share_from,
  share_to,
  requests > 1 AS is_shared
FROM ended
ORDER BY ubatch_id, request_id;

-- Threads that can keep each other waiting bear the same number: those that run micro-batches of the
-- same contexts. What else one of them runs keeps all of them waiting.
CREATE PERFETTO TABLE _thread_lane(
  -- Thread.
  utid JOINID(thread.id),
  -- The smallest utid of the threads that are joined by contexts.
  lane LONG
) AS
WITH
  pairs AS (
    SELECT DISTINCT
      utid,
      context,
      upid
    FROM _ubatch_event
  ),
  -- Twice back and forth joins any threads that take turns with contexts, as a pool's do.
  once AS (
    SELECT *, min(utid) OVER (PARTITION BY upid, context) AS lane FROM pairs
  ),
  joined AS (
    SELECT utid, context, upid, min(lane) OVER (PARTITION BY utid) AS lane FROM once
  ),
  twice AS (
    SELECT utid, min(lane) OVER (PARTITION BY upid, context) AS lane FROM joined
  )
SELECT
  utid,
  min(lane) AS lane
FROM twice
GROUP BY utid
ORDER BY utid;
