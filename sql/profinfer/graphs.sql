-- Micro-batches, and the graphs that ran within them.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.recording;

-- Micro-batches: one process_ubatch call each.
CREATE PERFETTO TABLE profinfer_ubatch(
  -- Number of the micro-batch in this recording.
  ubatch_id LONG,
  -- Slice id.
  slice_id JOINID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration, NULL when the end was not recorded.
  dur DURATION,
  -- Thread that ran it.
  utid JOINID(thread.id),
  -- One of prefill, decode, mixed (both, of different sequences), or ubatch (tokens unknown).
  phase STRING,
  -- Tokens in it.
  tokens LONG,
  -- Different sequences in it.
  sequences LONG,
  -- Address of its llama_context.
  context LONG,
  -- False when records may have been lost within it.
  complete BOOL
) AS
SELECT
  ubatch_id,
  id AS slice_id,
  ts,
  iif(dur < 0, NULL, dur) AS dur,
  utid,
  phase,
  tokens,
  sequences,
  context,
  dur >= 0 AND NOT profinfer_has_loss(ts, dur) AS complete
FROM _ubatch_event
ORDER BY ts;

-- Graphs: one graph_compute call each, on one backend.
CREATE PERFETTO TABLE profinfer_graph(
  -- Number of the graph run in this recording.
  graph_id LONG,
  -- Slice id on the thread that computed it.
  slice_id JOINID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration, NULL when the end was not recorded. On a backend that works asynchronously this
  -- is the submission, not the computation.
  dur DURATION,
  -- Thread that computed it.
  utid JOINID(thread.id),
  -- Backend.
  backend STRING,
  -- Structure that ran, NULL when unknown.
  structure_id LONG,
  -- Micro-batch around it, NULL outside any.
  ubatch_id LONG,
  -- Threads that had a part in it.
  thread_count LONG,
  -- False when records may have been lost within it.
  complete BOOL
) AS
SELECT
  g.graph_id,
  g.id AS slice_id,
  g.ts,
  iif(g.dur < 0, NULL, g.dur) AS dur,
  g.utid,
  g.backend,
  iif(g.structure_id = 0, NULL, g.structure_id) AS structure_id,
  u.ubatch_id,
  (
    SELECT
      count()
    FROM _graph_event AS w
    WHERE w.graph_id = g.graph_id
  ) AS thread_count,
  g.dur >= 0 AND NOT profinfer_has_loss(g.ts, g.dur) AS complete
FROM _graph_event AS g
LEFT JOIN _ubatch_event AS u
  ON g.parent_id = u.id
WHERE g.is_main
ORDER BY g.graph_id;
