-- What does the graph that ran most often look like, node by node?
-- Views never run; fused nodes run with the node that follows them. Times are means over runs.

INCLUDE PERFETTO MODULE profinfer.graphs;
INCLUDE PERFETTO MODULE profinfer.operators;
INCLUDE PERFETTO MODULE profinfer.tensors;

-- title: Nodes in order of execution
WITH
  chosen AS (
    SELECT
      structure_id
    FROM profinfer_graph
    WHERE structure_id IS NOT NULL
    GROUP BY structure_id
    ORDER BY count() DESC, structure_id
    LIMIT 1
  ),
  timed AS (
    SELECT
      o.tensor_id,
      o.op,
      count() AS runs,
      avg(iif(o.complete, o.dur, NULL)) AS mean_dur,
      sum(NOT o.complete) AS incomplete
    FROM profinfer_operator AS o
    JOIN profinfer_graph AS g
      USING (graph_id)
    WHERE g.structure_id = (SELECT structure_id FROM chosen)
    GROUP BY o.tensor_id
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
  m.incomplete
FROM profinfer_node AS n
JOIN profinfer_tensor AS t
  USING (tensor_id)
LEFT JOIN operands AS p
  USING (tensor_id)
LEFT JOIN timed AS m
  USING (tensor_id)
WHERE n.structure_id = (SELECT structure_id FROM chosen)
ORDER BY n.node;
