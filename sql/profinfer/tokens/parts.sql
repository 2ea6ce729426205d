-- What requests waited for, step by step, and because of whom.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;
INCLUDE PERFETTO MODULE profinfer.tokens.disturbances;
INCLUDE PERFETTO MODULE profinfer.tokens.gaps;
INCLUDE PERFETTO MODULE profinfer.tokens.shares;
INCLUDE PERFETTO MODULE profinfer.tokens.steps;

-- Own micro-batches of steps: what of them was disturbance, and what is left to divide.
CREATE PERFETTO TABLE _own_work(
  -- Step.
  step_id LONG,
  -- Micro-batch.
  ubatch_id LONG,
  -- Work, the request's own and others'.
  work_dur DURATION,
  -- Preempted.
  preempted_dur DURATION,
  -- Throttled.
  throttled_dur DURATION,
  -- In page faults.
  fault_dur DURATION
) AS
WITH
  -- No disturbance is longer than what is left of the micro-batch.
  bounds AS (
    SELECT
      p.step_id,
      p.ubatch_id,
      p.end_ts - p.ts AS dur,
      min(p.end_ts - p.ts, coalesce(d.preempted_dur, 0)) AS preempted,
      min(p.end_ts - p.ts, coalesce(d.preempted_dur + d.throttled_dur, 0)) AS throttled,
      min(p.end_ts - p.ts, coalesce(d.preempted_dur + d.throttled_dur + d.fault_dur, 0)) AS faulted
    FROM _own_piece AS p
    LEFT JOIN profinfer_ubatch_disturbance AS d
      USING (ubatch_id)
  )
SELECT
  step_id,
  ubatch_id,
  dur - faulted AS work_dur,
  preempted AS preempted_dur,
  throttled - preempted AS throttled_dur,
  faulted - throttled AS fault_dur
FROM bounds;

-- What requests waited for. The rows of one request and step add up to its TTFT (step 0) or TPOT, to
-- the nanosecond. Parts that took no time have no row.
CREATE PERFETTO TABLE profinfer_request_part(
  -- Request.
  request_id LONG,
  -- 0 for the time to the first token; else the number of the step, as in profinfer_token.
  step LONG,
  -- own encode, own prefill, own decode and draft: its share of the micro-batches that have tokens of
  -- it, by the phase of these; shared prefill: of those that another one was prefilled in for both;
  -- same ubatch: the shares of others in all of them; preempted, throttled and faults: disturbance
  -- of these, as a whole, as in profinfer_ubatch_disturbance; others' ubatches: those without tokens of it, on its threads or in their contexts; first sample (step 0) and
  -- sampling: calls of the sampler between them, where seen; outside: everything else.
  part STRING,
  -- Whose work it was, where that is another request's; else NULL.
  of_request_id LONG,
  -- Duration.
  dur DURATION,
  -- Whether it is a share of micro-batches that several requests had a part in: divided by tokens,
  -- attention by rows times their KV positions.
  is_estimated BOOL,
  -- False when records may have been lost within the step, or when it is not certain that it is one.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  -- Shares of one micro-batch lie side by side, so that rounding their ends keeps the sum.
  pieces AS (
    SELECT
      s.step_id,
      CASE
        WHEN m.request_id = s.request_id
        THEN iif(m.phase = 'draft', 'draft', 'own ' || m.phase)
        WHEN m.request_id = s.shared_prefill_of AND m.phase IN ('encode', 'prefill')
        THEN 'shared prefill'
        ELSE 'same ubatch'
      END AS part,
      nullif(m.request_id, s.request_id) AS of_request_id,
      CAST(round(w.work_dur * m.share_to) - round(w.work_dur * m.share_from) AS INTEGER) AS dur,
      m.is_shared AS is_estimated
    FROM _own_work AS w
    JOIN _request_step AS s
      USING (step_id)
    JOIN _ubatch_member AS m
      USING (ubatch_id)
    UNION ALL
    SELECT
      step_id,
      'preempted' AS part,
      NULL AS of_request_id,
      preempted_dur AS dur,
      FALSE AS is_estimated
    FROM _own_work
    WHERE preempted_dur > 0
    UNION ALL
    SELECT
      step_id,
      'throttled' AS part,
      NULL AS of_request_id,
      throttled_dur AS dur,
      FALSE AS is_estimated
    FROM _own_work
    WHERE throttled_dur > 0
    UNION ALL
    SELECT
      step_id,
      'faults' AS part,
      NULL AS of_request_id,
      fault_dur AS dur,
      FALSE AS is_estimated
    FROM _own_work
    WHERE fault_dur > 0
    UNION ALL
    SELECT
      g.step_id,
      'others'' ubatches' AS part,
      m.request_id AS of_request_id,
      iif(
        m.request_id IS NULL,
        g.dur,
        CAST(round(g.dur * m.share_to) - round(g.dur * m.share_from) AS INTEGER)
      ) AS dur,
      coalesce(m.is_shared, FALSE) AS is_estimated
    FROM _gap_piece AS g
    LEFT JOIN _ubatch_member AS m
      USING (ubatch_id)
    WHERE g.ubatch_id IS NOT NULL
  ),
  summed AS MATERIALIZED (
    SELECT
      step_id,
      part,
      of_request_id,
      sum(dur) AS dur,
      max(is_estimated) AS is_estimated
    FROM pieces
    GROUP BY step_id, part, of_request_id
  ),
  parts AS (
    SELECT
      *
    FROM summed
    UNION ALL
    SELECT
      s.step_id,
      'outside' AS part,
      NULL AS of_request_id,
      t.outside_dur - coalesce(t.sample_dur, 0) AS dur,
      FALSE AS is_estimated
    FROM profinfer_request_step AS t
    JOIN _request_step AS s
      USING (request_id, step)
    UNION ALL
    SELECT
      s.step_id,
      iif(t.step, 'sampling', 'first sample') AS part,
      NULL AS of_request_id,
      t.sample_dur AS dur,
      FALSE AS is_estimated
    FROM profinfer_request_step AS t
    JOIN _request_step AS s
      USING (request_id, step)
    WHERE t.sample_dur IS NOT NULL
  )
SELECT
  s.request_id,
  s.step,
  p.part,
  p.of_request_id,
  p.dur,
  p.is_estimated,
  s.complete,
  s.upid
FROM parts AS p
JOIN _request_step AS s
  USING (step_id)
WHERE p.dur != 0
ORDER BY s.step_id;

-- What parts cannot tell of a process, and why.
CREATE PERFETTO VIEW profinfer_request_part_gap(
  -- One sentence.
  reason STRING,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  'what of micro-batches was disturbance is not known, and among their work: the scheduler '
  || 'and barriers were not both recorded (record --scheduler --level barrier)' AS reason,
  upid
FROM _recorded_process
WHERE
  recordings > 0
  AND NOT upid IN (
    SELECT
      upid
    FROM _disturbance_known
  )
UNION ALL
SELECT
  'page faults are not told from other sleep, and among own work' AS reason,
  upid
FROM _disturbance_known
WHERE NOT has_faults
UNION ALL
SELECT DISTINCT
  'records of the scheduler were lost: some of own work may be disturbance' AS reason,
  k.upid
FROM _disturbance_known AS k
JOIN _state_loss AS l
  ON coalesce(l.upid = k.upid, TRUE)
UNION ALL
SELECT
  'no call of the sampler was seen: sampling is among what is outside' AS reason,
  upid
FROM _recorded_process
WHERE
  recordings > 0
  AND NOT upid IN (
    SELECT
      upid
    FROM _call_event
    WHERE name = 'sample'
  );
