-- Steps that stand for all others: the one of the median, and the slowest.

INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;

-- Two decoding steps of each process, from the start of a step to the next one's. Where no decoding step
-- is known, two runs of the graph that took most of the time.
CREATE PERFETTO TABLE profinfer_typical_step(
  -- Either median (of an even number the lower of the two in the middle) or slowest.
  which STRING,
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- Request; NULL for a graph.
  request_id LONG,
  -- Number of the step within the request; NULL for a graph.
  step LONG,
  -- Micro-batch; NULL for a graph outside any.
  ubatch_id LONG,
  -- How many complete ones there are to choose from.
  steps LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  steps AS (
    SELECT
      t.ts,
      t.tpot AS dur,
      t.request_id,
      t.step,
      t.ubatch_id,
      t.upid
    FROM profinfer_token AS t
    JOIN profinfer_request AS r
      USING (request_id)
    WHERE t.complete AND r.kind = 'request'
  ),
  structures AS (
    SELECT
      structure_id,
      row_number() OVER (PARTITION BY upid ORDER BY sum(dur) DESC, structure_id) AS rank
    FROM profinfer_graph
    WHERE
      complete AND dur > 0 AND structure_id IS NOT NULL AND NOT upid IN (SELECT upid FROM steps)
    GROUP BY structure_id
  ),
  candidates AS (
    SELECT
      *
    FROM steps
    UNION ALL
    SELECT
      g.ts,
      g.dur,
      NULL AS request_id,
      NULL AS step,
      g.ubatch_id,
      g.upid
    FROM profinfer_graph AS g
    JOIN structures AS s
      USING (structure_id)
    WHERE s.rank = 1 AND g.complete AND g.dur > 0
  ),
  ranked AS (
    SELECT
      *,
      row_number() OVER (PARTITION BY upid ORDER BY dur, ts) AS rank,
      count() OVER (PARTITION BY upid) AS steps
    FROM candidates
  )
SELECT
  iif(rank = (steps + 1) / 2, 'median', 'slowest') AS which,
  ts,
  dur,
  request_id,
  step,
  ubatch_id,
  steps,
  upid
FROM ranked
WHERE rank IN ((steps + 1) / 2, steps)
ORDER BY upid, which;
