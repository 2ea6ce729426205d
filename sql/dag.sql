-- What does the graph that ran most often look like, node by node?
-- Views never run; fused nodes run with the node that follows them. Times are means over complete
-- runs; the last column counts those that are not, and those that may be missing.

INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.operators.runs;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Nodes in order of execution
WITH
  chosen AS (
    SELECT
      upid,
      structure_id
    FROM (
      SELECT
        upid,
        structure_id,
        row_number() OVER (PARTITION BY upid ORDER BY count() DESC, structure_id) AS rank
      FROM profinfer_graph
      WHERE structure_id IS NOT NULL
      GROUP BY structure_id
    )
    WHERE rank = 1
  ),
  timed AS (
    SELECT
      o.tensor_id,
      o.op,
      sum(o.complete) AS runs,
      avg(iif(o.complete, o.dur, NULL)) AS mean_dur,
      sum(NOT o.complete) AS incomplete
    FROM profinfer_operator AS o
    JOIN profinfer_graph AS g
      USING (graph_id)
    WHERE g.structure_id IN (SELECT structure_id FROM chosen)
    GROUP BY o.tensor_id
  ),
  -- What was never seen to run may have run where operators were lost. Of unknown graphs any may
  -- have been of this structure, and another one may have run most often.
  doubt AS (
    SELECT
      upid,
      structure_id,
      profinfer_unknown_graphs(upid) AS unknown,
      profinfer_unknown_graphs(upid) + (
        SELECT
          count()
        FROM _graph_gap AS g
        WHERE g.operators > 0 AND g.structure_id = c.structure_id
      ) AS incomplete
    FROM chosen AS c
  ),
  operands AS (
    SELECT
      tensor_id,
      group_concat(label, ', ') AS sources
    FROM (
      SELECT
        e.tensor_id,
        t.name || iif(t.kind IN ('weight', 'cache'), ' (' || t.kind || ')', '') AS label
      FROM profinfer_edge AS e
      JOIN profinfer_tensor AS t
        ON t.tensor_id = e.src_tensor_id
      ORDER BY e.tensor_id, e.slot
    )
    GROUP BY tensor_id
  )
SELECT
  profinfer_process_label(d.upid) AS process,
  n.node,
  t.name,
  coalesce(m.op, t.op) AS op,
  t.type,
  printf('%d x %d x %d x %d', t.ne0, t.ne1, t.ne2, t.ne3) AS shape,
  t.kind,
  t.layer,
  p.sources,
  m.runs,
  round(m.mean_dur / 1e3, 1) AS mean_us,
  coalesce(m.incomplete + d.unknown, nullif(d.incomplete, 0)) AS incomplete
FROM profinfer_node AS n
JOIN profinfer_tensor AS t
  USING (tensor_id)
LEFT JOIN operands AS p
  USING (tensor_id)
LEFT JOIN timed AS m
  USING (tensor_id)
JOIN doubt AS d
  ON d.structure_id = n.structure_id
ORDER BY d.upid, n.node;
