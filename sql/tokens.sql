-- What did every decoded token cost, from one step to the next?
-- Times in milliseconds. tpot is made of the step's micro-batch, of the request's other ones (draft: its
-- draft model's), of others' micro-batches on its threads or in its context (whose: these requests', by
-- their time), and the rest, which is nobody's: sampling, detokenising, preparing the next batch.
-- tokens: what the user got by the step. `complete` is 0 where records may have been lost.

INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.recording.processes;
INCLUDE PERFETTO MODULE profinfer.tokens.gaps;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;
INCLUDE PERFETTO MODULE profinfer.tokens.steps;
INCLUDE PERFETTO MODULE profinfer.tokens.work;

-- title: Decoding steps
-- rows: 40
WITH
  graphs AS MATERIALIZED (
    SELECT
      ubatch_id,
      sum(dur) AS dur
    FROM profinfer_graph
    GROUP BY ubatch_id
  ),
  delays AS (
    SELECT
      s.request_id,
      s.step,
      m.request_id AS of_request_id,
      sum(g.dur * (m.share_to - m.share_from)) AS dur
    FROM _gap_piece AS g
    JOIN _request_step AS s
      USING (step_id)
    JOIN _ubatch_member AS m
      USING (ubatch_id)
    GROUP BY s.step_id, m.request_id
    ORDER BY s.step_id, dur DESC
  ),
  others AS MATERIALIZED (
    SELECT
      request_id,
      step,
      group_concat(of_request_id, ', ') AS whose
    FROM delays
    GROUP BY request_id, step
  )
SELECT
  profinfer_process_label(t.upid) AS process,
  t.request_id AS request,
  t.step,
  t.position,
  t.tokens,
  round(t.tpot / 1e6, 3) AS tpot_ms,
  round(t.ubatch_dur / 1e6, 3) AS ubatch_ms,
  round(g.dur / 1e6, 3) AS graphs_ms,
  round((s.own_dur - t.ubatch_dur) / 1e6, 3) AS draft_ms,
  round(s.others_dur / 1e6, 3) AS others_ms,
  o.whose,
  round(s.outside_dur / 1e6, 3) AS rest_ms,
  t.complete,
  t.slice_id
FROM profinfer_token AS t
JOIN profinfer_request_step AS s
  USING (request_id, step)
LEFT JOIN graphs AS g
  USING (ubatch_id)
LEFT JOIN others AS o
  USING (request_id, step)
ORDER BY t.upid, t.request_id, t.step;

-- The same time by what the step's threads were in, each moment once, so that graphs, parts and rest add up
-- to tpot. split and allocate: which backend computes what, and in which memory; set and get: tensors
-- written and read; copy: from one backend's memory to another's; wait: for backends; sample: choosing
-- tokens, without what of these lies within; calls: others of the engine's interface; ubatch: what else
-- lies within micro-batches; rest: in none of these, as detokenising. NULL where nothing is known of it, of
-- which the last table says why: its time is then among ubatch, sample, calls or the rest.

-- title: Where decoding steps spent their time (mean per step)
WITH
  known AS (
    SELECT DISTINCT
      w.upid,
      p.part
    FROM profinfer_token_work AS w
    JOIN (
      SELECT 'graphs' AS part
      UNION ALL
      SELECT 'ubatch'
      UNION ALL
      SELECT 'calls'
      UNION ALL
      SELECT 'sample'
      UNION ALL
      SELECT 'rest'
      UNION ALL
      SELECT DISTINCT name FROM _part_known
    ) AS p
  ),
  steps AS MATERIALIZED (
    SELECT
      upid,
      count() AS steps,
      sum(tpot) AS tpot,
      sum(NOT complete) + _lost_steps(upid) + _doubtful_micro_batches(upid) AS incomplete
    FROM profinfer_token
    GROUP BY upid
  ),
  sums AS (
    SELECT
      k.upid,
      k.part,
      iif(
        k.part IN (SELECT g.part FROM profinfer_part_gap AS g WHERE g.upid = k.upid),
        NULL,
        coalesce(w.dur, 0)
      ) AS dur
    FROM known AS k
    LEFT JOIN (
      SELECT
        upid,
        part,
        sum(dur) AS dur
      FROM profinfer_token_work
      GROUP BY upid, part
    ) AS w
      USING (upid, part)
  )
SELECT
  profinfer_process_label(s.upid) AS process,
  s.part,
  t.steps,
  round(s.dur / 1e6 / t.steps, 4) AS mean_ms,
  round(100.0 * s.dur / nullif(t.tpot, 0), 2) AS percent,
  t.incomplete
FROM sums AS s
JOIN steps AS t
  USING (upid)
ORDER BY s.upid, s.dur DESC, s.part;

-- title: Parts of which nothing is known (none when empty)
SELECT
  profinfer_process_label(upid) AS process,
  part,
  reason
FROM profinfer_part_gap
WHERE upid IN (SELECT upid FROM profinfer_token)
ORDER BY upid, part;
