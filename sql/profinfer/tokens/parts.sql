-- What requests waited for, step by step, and because of whom.

INCLUDE PERFETTO MODULE profinfer.events;
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
  -- In page faults.
  fault_dur DURATION
) AS
WITH
  preempted AS (
    SELECT
      p.step_id,
      p.ubatch_id,
      p.end_ts - p.ts AS dur,
      min(p.end_ts - p.ts, coalesce(d.preempted_dur, 0)) AS preempted_dur,
      coalesce(d.fault_dur, 0) AS fault_dur
    FROM _own_piece AS p
    LEFT JOIN profinfer_ubatch_disturbance AS d
      USING (ubatch_id)
  ),
  faulted AS (
    SELECT
      step_id,
      ubatch_id,
      dur,
      preempted_dur,
      min(dur - preempted_dur, fault_dur) AS fault_dur
    FROM preempted
  )
SELECT
  step_id,
  ubatch_id,
  dur - preempted_dur - fault_dur AS work_dur,
  preempted_dur,
  fault_dur
FROM faulted;

-- What requests waited for. The rows of one request and step add up to its TTFT (step 0) or TPOT, to
-- the nanosecond. Parts that took no time have no row.
CREATE PERFETTO TABLE profinfer_request_part(
  -- Request.
  request_id LONG,
  -- 0 for the time to the first token; else the number of the step, as in profinfer_token.
  step LONG,
  -- own prefill, own decode and so on, by the phase of the request's tokens: its share of the
  -- micro-batches that have tokens of it; preempted and faults: disturbance of these, as a whole, as
  -- in profinfer_ubatch_disturbance; same ubatch: the shares of others in them; others' ubatches:
  -- those without tokens of it, on its threads or in their contexts; first sample (step 0) and
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
      iif(m.request_id = s.request_id, 'own ' || m.phase, 'same ubatch') AS part,
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
