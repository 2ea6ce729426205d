-- What did every decoded token cost, from one step to the next?
-- Times in milliseconds. tpot is made of the step's micro-batch, of the request's other ones (draft: its
-- draft model's), of others' micro-batches on its threads or in its context (whose: these requests', by
-- their time), and the rest, which is nobody's: sampling, detokenising, preparing the next batch.
-- tokens: what the user got by the step. `complete` is 0 where records may have been lost.

INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.recording.processes;
INCLUDE PERFETTO MODULE profinfer.tokens.gaps;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;

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
