-- Matrix products and their sizes.

INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;

-- One row per distinct matrix product (another size is another): m x k with k x n.
CREATE PERFETTO TABLE profinfer_product(
  -- Arguments of the operator's slices.
  arg_set_id ARGSETID,
  -- Element type of the first matrix: of a weight, where it is one.
  type STRING,
  -- Whether the first matrix is a weight; else both are computed, as in attention.
  of_weight BOOL,
  -- Rows of the first matrix: outputs for each column.
  m LONG,
  -- Columns of the second one, in all its batches: tokens, or tokens of each head, or, with experts,
  -- of each expert that is used.
  n LONG,
  -- What both have in common: elements that are multiplied and added up for each output.
  k LONG,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  o.arg_set_id,
  s.type,
  s.kind = 'weight' AS of_weight,
  t.ne0 AS m,
  t.ne1 * t.ne2 * t.ne3 AS n,
  s.ne0 AS k,
  o.upid
FROM _operator_kind AS o
JOIN profinfer_tensor AS t
  USING (tensor_id)
JOIN profinfer_edge AS e
  ON e.tensor_id = t.tensor_id AND e.slot = 0
JOIN profinfer_tensor AS s
  ON s.tensor_id = e.src_tensor_id
WHERE o.op IN ('MUL_MAT', 'MUL_MAT_ID')
ORDER BY o.arg_set_id;
