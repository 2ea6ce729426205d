-- Which backend computes how much, and how do they take turns?
-- Graphs are told apart by the backend that was asked to compute them. On one that works asynchronously
-- their time is the submission, not the computation: the second table tells these apart. operators: nodes of their graphs that are no views.
-- per_token_ms is of the phase's tokens. incomplete counts graphs in which records may have been lost.

INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.splits;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Graphs by backend and phase
WITH
  sizes AS MATERIALIZED (
    SELECT
      n.structure_id,
      count() AS operators
    FROM profinfer_node AS n
    JOIN profinfer_tensor AS t
      USING (tensor_id)
    WHERE t.kind = 'operator'
    GROUP BY n.structure_id
  ),
  backends AS (
    SELECT
      g.upid,
      g.backend,
      u.phase,
      count() AS graphs,
      sum(s.operators) AS operators,
      sum(g.dur) AS dur,
      sum(NOT g.complete)
      + _doubtful_micro_batches(g.upid) AS incomplete
    FROM profinfer_graph AS g
    LEFT JOIN profinfer_ubatch AS u
      USING (ubatch_id)
    LEFT JOIN sizes AS s
      ON s.structure_id = g.structure_id
    GROUP BY g.upid, g.backend, u.phase
  )
SELECT
  profinfer_process_label(b.upid) AS process,
  b.backend,
  coalesce(b.phase, 'outside') AS phase,
  b.graphs,
  b.operators,
  round(b.dur / 1e6, 2) AS time_ms,
  round(b.dur / 1e6 / nullif(t.tokens, 0), 3) AS per_token_ms,
  round(100.0 * b.dur / sum(b.dur) OVER (PARTITION BY b.upid, b.phase), 1) AS percent,
  b.incomplete
FROM backends AS b
LEFT JOIN _phase_tokens AS t
  ON t.upid = b.upid AND t.phase = b.phase
ORDER BY b.upid, b.phase, b.dur DESC, b.backend;

-- submit: the call by which a graph is given to its backend, in which a synchronous one computes it. seen: from
-- there to the end of the first wait for that backend, as the host sees the execution: it took at most so
-- long. wait: how long the host waited for it. Both only of graphs that were waited for before the
-- backend got the next.

-- title: Submission, execution as seen from the host, and waiting
SELECT
  profinfer_process_label(e.upid) AS process,
  e.backend,
  coalesce(u.phase, 'outside') AS phase,
  count() AS graphs,
  count(e.seen_dur) AS waited_for,
  round(sum(e.submit_dur) / 1e6, 2) AS submit_ms,
  round(sum(e.seen_dur) / 1e6, 2) AS seen_ms,
  round(sum(e.wait_dur) / 1e6, 2) AS wait_ms,
  sum(NOT g.complete)
  + profinfer_lost(e.upid, 'call')
  + _doubtful_micro_batches(e.upid) AS incomplete
FROM profinfer_execution AS e
JOIN profinfer_graph AS g
  USING (graph_id)
LEFT JOIN profinfer_ubatch AS u
  ON u.ubatch_id = e.ubatch_id
GROUP BY e.upid, e.backend, u.phase
ORDER BY e.upid, u.phase, submit_ms DESC, e.backend;

-- The step of median length, of those in which nothing was lost.

-- title: Graphs of one decoding step (the first 300)
WITH
  steps AS (
    SELECT
      upid,
      ubatch_id,
      ts,
      row_number() OVER (PARTITION BY upid ORDER BY dur, ts) AS number,
      count() OVER (PARTITION BY upid) AS steps
    FROM profinfer_ubatch
    WHERE phase = 'decode' AND complete
  ),
  ranked AS (
    SELECT
      g.upid,
      g.backend,
      s.ts AS step_ts,
      g.ts,
      g.dur,
      t.node_count,
      row_number() OVER (PARTITION BY g.upid ORDER BY g.ts) AS rank
    FROM steps AS s
    JOIN profinfer_graph AS g
      USING (ubatch_id)
    LEFT JOIN profinfer_structure AS t
      ON t.structure_id = g.structure_id
    WHERE s.number = (s.steps + 1) / 2 AND g.dur IS NOT NULL
  )
SELECT
  profinfer_process_label(upid) AS process,
  backend,
  round((ts - step_ts) / 1e6, 4) AS from_ms,
  round((ts + dur - step_ts) / 1e6, 4) AS to_ms,
  node_count AS nodes,
  _doubtful_micro_batches(upid)
  + (SELECT count() FROM profinfer_ubatch AS u WHERE u.upid = ranked.upid AND NOT u.complete) AS incomplete
FROM ranked
WHERE rank <= 300
ORDER BY upid, rank;
