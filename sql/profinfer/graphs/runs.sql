-- Micro-batches, and the graphs that ran within them.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.recording.losses;

-- Sequences of micro-batches whose phase is not certain: since the sequence's last micro-batch
-- another one, or its tokens, may have been lost.
CREATE PERFETTO TABLE _doubtful_sequence(
  -- Slice id.
  id LONG,
  -- Number of the micro-batch in this recording.
  ubatch_id LONG
) AS
SELECT
  s.id,
  s.ubatch_id
FROM (
  SELECT
    id,
    ubatch_id,
    ts,
    upid,
    lag(ts, 1, 0) OVER (PARTITION BY track_id ORDER BY ts) AS since
  FROM _sequence_event
) AS s
WHERE
  EXISTS (
    SELECT
      1
    FROM _ubatch_loss AS l
    WHERE l.upid = s.upid AND l.of_tokens AND l.ts >= s.since AND l.first_ts <= s.ts
  )
ORDER BY s.id;

-- Micro-batches: one process_ubatch call each, or, of another engine than llama.cpp, a step.
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
  -- One of prefill, decode, mixed (both, of different sequences), or, where tokens are unknown,
  -- ubatch or the name of the engine's step, such as encode.
  phase STRING,
  -- Tokens in it, NULL for a step that has none.
  tokens LONG,
  -- Different sequences in it.
  sequences LONG,
  -- Address of its llama_context, or of what tells contexts of another engine apart.
  context LONG,
  -- False when records may have been lost within it, or when its phase is not certain.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
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
  dur >= 0
  AND NOT profinfer_has_loss(upid, ts, dur)
  AND NOT ubatch_id IN (SELECT ubatch_id FROM _doubtful_sequence) AS complete,
  upid
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
  -- False when records may have been lost within it, when it is not certain in which micro-batch
  -- it is, or when its threads may have worked on a graph whose beginning was lost: then their
  -- operators cannot be told from those of an unknown structure.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
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
  g.dur >= 0
  AND NOT profinfer_has_loss(g.upid, g.ts, g.dur)
  AND (g.structure_id != 0 OR profinfer_lost(g.upid, 'graph_begin') = 0)
  AND NOT EXISTS (
    SELECT
      1
    FROM _ubatch_loss AS l
    WHERE
      l.of_bounds
      AND l.upid = g.upid
      AND l.first_ts <= g.ts + g.dur
      AND l.ts >= coalesce(
        u.ts,
        (
          SELECT
            max(b.ts)
          FROM _ubatch_event AS b
          WHERE b.utid = g.utid AND b.ts <= g.ts
        ),
        0
      )
  ) AS complete,
  g.upid
FROM _graph_event AS g
LEFT JOIN _ubatch_event AS u
  ON g.parent_id = u.id
WHERE g.is_main
ORDER BY g.graph_id;

-- Graphs within which records were lost.
CREATE PERFETTO TABLE _graph_gap(
  -- Number of the graph run in this recording.
  graph_id LONG,
  -- Structure that ran, NULL when unknown.
  structure_id LONG,
  -- Threads that are seen to have had a part in it.
  thread_count LONG,
  -- Operator records lost around it, at most.
  operators LONG
) AS
SELECT
  g.graph_id,
  g.structure_id,
  g.thread_count,
  sum(iif(l.kind IN ('operator', 'fused'), l.lost, 0)) AS operators
FROM profinfer_graph AS g
JOIN _loss_event AS l
  ON l.upid = g.upid AND l.ts >= g.ts AND (g.dur IS NULL OR l.first_ts <= g.ts + g.dur)
WHERE NOT g.complete
GROUP BY g.graph_id
ORDER BY g.graph_id;

-- Graphs of which something is not known, by process.
CREATE PERFETTO TABLE _graph_doubt(
  -- Process.
  upid JOINID(process.id),
  -- Those whose structure is unknown.
  unknown LONG,
  -- Those whose micro-batch, or whose micro-batch's phase, is not certain: where a record of
  -- micro-batches or their tokens was lost.
  doubtful LONG
) AS
SELECT
  g.upid,
  sum(g.structure_id IS NULL) AS unknown,
  sum(
    (NOT g.complete OR NOT coalesce(u.complete, TRUE))
    AND g.upid IN (SELECT upid FROM _ubatch_loss)
  ) AS doubtful
FROM profinfer_graph AS g
LEFT JOIN profinfer_ubatch AS u
  USING (ubatch_id)
GROUP BY g.upid
ORDER BY g.upid;

-- How many graphs of a process there were whose operators are in nobody's sums.
CREATE PERFETTO FUNCTION profinfer_unknown_graphs(
  -- Process.
  upid JOINID(process.id)
)
-- Graphs whose beginning was lost, and those whose structure is unknown.
RETURNS LONG AS
SELECT
  profinfer_lost($upid, 'graph_begin') + coalesce(sum(unknown), 0)
FROM _graph_doubt
WHERE upid = $upid;

-- How many graphs of a process may be counted with the wrong phase, or with none.
CREATE PERFETTO FUNCTION profinfer_doubtful_phases(
  -- Process.
  upid JOINID(process.id)
)
-- Graphs whose micro-batch, or whose micro-batch's phase, is not certain; 0 where no record of
-- micro-batches or their tokens was lost.
RETURNS LONG AS
SELECT
  coalesce(sum(doubtful), 0)
FROM _graph_doubt
WHERE upid = $upid;

-- How many micro-batches or graphs of a process may be missing from a sum by phase, or be in another one's.
CREATE PERFETTO FUNCTION _doubtful_micro_batches(
  -- Process.
  upid JOINID(process.id)
)
-- At most; 0 where no record of graphs, micro-batches or their tokens was lost.
RETURNS LONG AS
SELECT
  profinfer_unknown_graphs($upid)
  + profinfer_doubtful_phases($upid)
  + profinfer_lost($upid, 'ubatch_begin')
  + profinfer_lost($upid, 'tokens');

-- Tokens of each phase.
CREATE PERFETTO TABLE _phase_tokens(
  -- Process.
  upid JOINID(process.id),
  -- Phase.
  phase STRING,
  -- Tokens that its micro-batches computed.
  tokens LONG
) AS
SELECT
  upid,
  phase,
  sum(tokens) AS tokens
FROM profinfer_ubatch
GROUP BY upid, phase
ORDER BY upid, phase;
