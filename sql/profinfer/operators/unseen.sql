-- Operators of which nothing at all was recorded.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;

-- How many graphs, by process, lost records of operators and have one of which no record is left.
CREATE PERFETTO TABLE _unseen_operator(
  -- Process.
  upid JOINID(process.id),
  -- Graph runs.
  graphs LONG
) AS
SELECT
  g.upid,
  count() AS graphs
FROM _graph_gap AS x
JOIN profinfer_graph AS g
  USING (graph_id)
WHERE
  x.operators > 0
  AND x.structure_id IN (
    SELECT
      n.structure_id
    FROM profinfer_node AS n
    JOIN profinfer_tensor AS t
      USING (tensor_id)
    WHERE
      t.kind = 'operator'
      AND NOT t.tensor_id IN (
        SELECT tensor_id FROM _operator_kind WHERE tensor_id IS NOT NULL
        UNION ALL
        SELECT fused_tensor_id FROM _operator_kind WHERE fused_tensor_id IS NOT NULL
      )
  )
GROUP BY g.upid
ORDER BY g.upid;

-- How many runs may be missing from any sum of operators, be it by op, layer or module.
CREATE PERFETTO FUNCTION _unseen_operators(
  -- Process.
  upid JOINID(process.id)
)
-- Graph runs with an operator of which no record is left: it may be of any kind.
RETURNS LONG AS
SELECT
  coalesce(sum(graphs), 0)
FROM _unseen_operator
WHERE upid = $upid;

-- How many runs may be missing from a sum of operators by phase, beside those that are known to be incomplete.
CREATE PERFETTO FUNCTION _doubtful_operators(
  -- Process.
  upid JOINID(process.id)
)
-- At most.
RETURNS LONG AS
SELECT
  profinfer_unknown_graphs($upid) + profinfer_doubtful_phases($upid) + _unseen_operators($upid);
