-- What did each request wait for, and because of whom?
-- Times in milliseconds. The parts of a row add up to its ttft or, as means over the request's complete
-- steps, to its tpot. own: its share of the micro-batches that have tokens of it (a prefill that it shares
-- with other answers as a whole); draft: its draft model's; same_ubatch: the shares of other requests in
-- them; others_ubatches: micro-batches without tokens of it, on its threads or in its context; sampling:
-- the sampler's calls, whichever request's token they sampled; outside: what is in none of these, such as
-- grammar, detokenising, copies, and graphs outside micro-batches; preempted, throttled, faults: by how
-- much its own micro-batches came later, since their threads could not run. estimated is 1 where a
-- micro-batch was divided: attention by rows times their KV positions, everything else by tokens.
-- Time in a server's queue, before the engine was asked, is in no part: it is not seen.
-- incomplete counts steps in which records may have been lost, and micro-batches that were lost altogether. who_delayed has the others by name.

INCLUDE PERFETTO MODULE profinfer.recording.processes;
INCLUDE PERFETTO MODULE profinfer.tokens.disturbances;
INCLUDE PERFETTO MODULE profinfer.tokens.gaps;
INCLUDE PERFETTO MODULE profinfer.tokens.parts;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;
INCLUDE PERFETTO MODULE profinfer.tokens.steps;

-- title: Time to the first token
-- rows: 20
WITH
  parts AS (
    SELECT
      request_id,
      sum(iif(part GLOB 'own *' OR part = 'shared prefill', dur, 0)) AS own,
      sum(iif(part = 'draft', dur, 0)) AS draft,
      sum(iif(part = 'same ubatch', dur, 0)) AS same_ubatch,
      sum(iif(part = 'others'' ubatches', dur, 0)) AS others_ubatches,
      sum(iif(part = 'first sample', dur, 0)) AS sampling,
      sum(iif(part = 'outside', dur, 0)) AS outside,
      sum(iif(part = 'preempted', dur, 0)) AS preempted,
      sum(iif(part = 'throttled', dur, 0)) AS throttled,
      sum(iif(part = 'faults', dur, 0)) AS faults,
      max(is_estimated) AS estimated
    FROM profinfer_request_part
    WHERE step = 0
    GROUP BY request_id
  )
SELECT
  profinfer_process_label(r.upid) AS process,
  r.request_id AS request,
  r.kind,
  r.sequence,
  r.prompt_tokens,
  r.cached_tokens,
  round(r.ttft / 1e6, 2) AS ttft_ms,
  round(p.own / 1e6, 2) AS own_ms,
  round(p.draft / 1e6, 2) AS draft_ms,
  round(p.same_ubatch / 1e6, 2) AS same_ubatch_ms,
  round(p.others_ubatches / 1e6, 2) AS others_ubatches_ms,
  iif(s.sample_dur IS NULL, NULL, round(p.sampling / 1e6, 2)) AS sampling_ms,
  round(p.outside / 1e6, 2) AS outside_ms,
  iif(k.upid IS NULL, NULL, round(p.preempted / 1e6, 2)) AS preempted_ms,
  iif(k.upid IS NULL, NULL, round(p.throttled / 1e6, 2)) AS throttled_ms,
  iif(k.has_faults, round(p.faults / 1e6, 2), NULL) AS faults_ms,
  p.estimated,
  r.certain,
  r.complete AND coalesce(s.complete, TRUE) AS complete,
  r.slice_id
FROM profinfer_request AS r
LEFT JOIN profinfer_request_step AS s
  ON s.request_id = r.request_id AND s.step = 0
LEFT JOIN parts AS p
  ON p.request_id = r.request_id
LEFT JOIN _disturbance_known AS k
  ON k.upid = r.upid
WHERE r.kind = 'request' -- unless --all
ORDER BY r.upid, r.request_id;

-- title: Time from step to step (means over complete steps)
-- rows: 20
WITH
  parts AS (
    SELECT
      request_id,
      sum(iif(part GLOB 'own *', dur, 0)) AS own,
      sum(iif(part = 'draft', dur, 0)) AS draft,
      sum(iif(part = 'same ubatch', dur, 0)) AS same_ubatch,
      sum(iif(part = 'others'' ubatches', dur, 0)) AS others_ubatches,
      sum(iif(part = 'sampling', dur, 0)) AS sampling,
      sum(iif(part = 'outside', dur, 0)) AS outside,
      sum(iif(part = 'preempted', dur, 0)) AS preempted,
      sum(iif(part = 'throttled', dur, 0)) AS throttled,
      sum(iif(part = 'faults', dur, 0)) AS faults,
      max(is_estimated) AS estimated
    FROM profinfer_request_part
    WHERE step > 0 AND complete
    GROUP BY request_id
  ),
  steps AS (
    SELECT
      request_id,
      1e6 * nullif(sum(complete), 0) AS complete,
      sum(iif(complete, dur, 0)) AS dur,
      max(sample_dur IS NOT NULL) AS has_samples,
      sum(NOT complete) AS incomplete
    FROM profinfer_request_step
    WHERE step > 0
    GROUP BY request_id
  )
SELECT
  profinfer_process_label(r.upid) AS process,
  r.request_id AS request,
  r.kind,
  r.tokens,
  r.steps,
  round(s.dur / s.complete, 3) AS tpot_ms,
  round(p.own / s.complete, 3) AS own_ms,
  round(p.draft / s.complete, 3) AS draft_ms,
  round(p.same_ubatch / s.complete, 3) AS same_ubatch_ms,
  round(p.others_ubatches / s.complete, 3) AS others_ubatches_ms,
  iif(s.has_samples, round(p.sampling / s.complete, 3), NULL) AS sampling_ms,
  round(p.outside / s.complete, 3) AS outside_ms,
  iif(k.upid IS NULL, NULL, round(p.preempted / s.complete, 3)) AS preempted_ms,
  iif(k.upid IS NULL, NULL, round(p.throttled / s.complete, 3)) AS throttled_ms,
  iif(k.has_faults, round(p.faults / s.complete, 3), NULL) AS faults_ms,
  p.estimated,
  r.certain,
  s.incomplete + _lost_steps(r.upid) AS incomplete
FROM profinfer_request AS r
JOIN steps AS s
  USING (request_id)
LEFT JOIN parts AS p
  USING (request_id)
LEFT JOIN _disturbance_known AS k
  ON k.upid = r.upid
WHERE r.kind = 'request' -- unless --all
ORDER BY r.upid, r.request_id;

-- Of a request: whether it is one, and all of it, or why it has no ttft; of several the first is named.
-- title: What cannot be told, and why
-- rows: 10
WITH
  reasons AS (
    SELECT upid, NULL AS request_id, reason FROM profinfer_request_part_gap
    UNION ALL
    SELECT upid, request_id, reason FROM profinfer_request WHERE NOT certain
    UNION ALL
    SELECT
      r.upid,
      r.request_id,
      iif(
        r.tokens = 0,
        'no first token: nothing was wanted yet of what was computed (it was given up, or '
        || 'computed for others)',
        'no first token is seen: nothing was sampled of what was computed (an embedding, a rank or '
        || 'logits were asked for, or the program samples by itself)'
      ) AS reason
    FROM profinfer_request AS r
    WHERE r.ttft IS NULL AND r.certain AND r.kind = 'request'
  )
SELECT
  profinfer_process_label(upid) AS process,
  nullif(count(request_id), 0) AS requests,
  min(request_id) AS request,
  reason
FROM reasons
GROUP BY upid, reason
ORDER BY process, request, reason;
