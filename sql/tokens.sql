-- What did every decoded token cost, from one step to the next?
-- Times in milliseconds. With drafts a step gives several tokens: verified were computed in it, and
-- tokens of them the user got. The rest is what the engine did between micro-batches: sampling,
-- detokenising, preparing the next batch. `certain` is 0 where the request can be read in another
-- way, `complete` where records may have been lost.

INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.recording.processes;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;

-- title: Decoding steps
SELECT
  profinfer_process_label(t.upid) AS process,
  t.request_id AS request,
  t.step,
  t.position,
  t.tokens,
  t.tokens + t.rejected AS verified,
  round(t.tpot / 1e6, 3) AS tpot_ms,
  round(t.ubatch_dur / 1e6, 3) AS ubatch_ms,
  round(g.dur / 1e6, 3) AS graphs_ms,
  round((t.tpot - t.ubatch_dur) / 1e6, 3) AS rest_ms,
  t.certain,
  t.complete
FROM profinfer_token AS t
LEFT JOIN (
  SELECT
    ubatch_id,
    sum(dur) AS dur
  FROM profinfer_graph
  GROUP BY ubatch_id
) AS g
  USING (ubatch_id)
ORDER BY t.upid, t.request_id, t.step;
