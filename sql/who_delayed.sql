-- Which request delayed which, and by how much?
-- Times in milliseconds. A request is delayed by another one while it waits for a token and a thread of
-- it, or its context, computes the other's: in micro-batches of the other one (their_ubatches), and in
-- those that have tokens of both, by the other's share (same_ubatch; estimated: attention by rows times
-- their KV positions, everything else by tokens). in_ttft is what of both came before its first token.
-- percent: of all that the request waited for, its TTFT and steps. Without the other it would not have
-- gained all of that: tokens of one micro-batch share the reading of weights. delayed_by is NULL for
-- micro-batches whose tokens are not known. Steps in which records may have been lost are counted by
-- incomplete, with micro-batches that were lost altogether, and in no sum. docs/requests.md says what a request is.

INCLUDE PERFETTO MODULE profinfer.recording.processes;
INCLUDE PERFETTO MODULE profinfer.tokens.gaps;
INCLUDE PERFETTO MODULE profinfer.tokens.parts;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;
INCLUDE PERFETTO MODULE profinfer.tokens.steps;

-- title: Delays (the first 40)
-- rows: 15
WITH
  delays AS (
    SELECT
      upid,
      request_id,
      of_request_id,
      sum(iif(complete, dur, 0)) AS dur,
      sum(iif(complete AND step = 0, dur, 0)) AS in_ttft,
      sum(iif(complete AND part = 'same ubatch', dur, 0)) AS same_ubatch,
      count(DISTINCT iif(complete, step, NULL)) AS steps
    FROM profinfer_request_part
    WHERE part IN ('same ubatch', 'others'' ubatches')
    GROUP BY request_id, of_request_id
  ),
  waits AS (
    SELECT
      request_id,
      sum(iif(complete, dur, 0)) AS dur,
      sum(NOT complete) AS incomplete
    FROM profinfer_request_step
    GROUP BY request_id
  ),
  ranked AS (
    SELECT
      d.*,
      w.dur AS wait_dur,
      w.incomplete,
      r.certain AND coalesce(o.certain, TRUE) AS certain,
      row_number() OVER (
        PARTITION BY d.upid ORDER BY d.dur DESC, d.request_id, d.of_request_id
      ) AS rank
    FROM delays AS d
    JOIN waits AS w
      USING (request_id)
    JOIN profinfer_request AS r
      USING (request_id)
    LEFT JOIN profinfer_request AS o
      ON o.request_id = d.of_request_id
    WHERE r.kind = 'request' -- unless --all
  )
SELECT
  profinfer_process_label(upid) AS process,
  request_id AS request,
  of_request_id AS delayed_by,
  round(dur / 1e6, 2) AS delay_ms,
  round(100.0 * dur / nullif(wait_dur, 0), 1) AS percent,
  round(in_ttft / 1e6, 2) AS in_ttft_ms,
  round(same_ubatch / 1e6, 2) AS same_ubatch_ms,
  round((dur - same_ubatch) / 1e6, 2) AS their_ubatches_ms,
  steps,
  certain,
  incomplete + _lost_steps(upid) AS incomplete
FROM ranked
WHERE rank <= 40
ORDER BY upid, rank;
