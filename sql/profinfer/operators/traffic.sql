-- How many bytes an operator has to move, from shapes, strides and types.

INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;

-- Bytes of one tensor's operator and operand.
CREATE PERFETTO TABLE _operand_bytes(
  -- Tensor that is computed.
  tensor_id LONG,
  -- The operand.
  src_tensor_id LONG,
  -- Bytes of it that are read.
  bytes LONG
) AS
SELECT
  t.tensor_id,
  e.src_tensor_id,
  CASE
    -- Rows of a table, as many as are asked for.
    WHEN t.op = 'GET_ROWS' AND e.slot = 0
    THEN s.bytes / max(s.ne1 * s.ne2 * s.ne3, 1) * t.ne1 * t.ne2 * t.ne3
    -- Experts, each at most once.
    WHEN t.op = 'MUL_MAT_ID' AND e.slot = 0
    THEN s.bytes / max(s.ne2, 1) * min(s.ne2, coalesce(i.ne0 * i.ne1, s.ne2))
    -- The table that is written to.
    WHEN t.op = 'SET_ROWS' AND e.slot > 1
    THEN 0
    -- A dimension with stride 0 repeats the same bytes.
    ELSE
      s.bytes
      / iif(s.nb1 = 0, max(s.ne1, 1), 1)
      / iif(s.nb2 = 0, max(s.ne2, 1), 1)
      / iif(s.nb3 = 0, max(s.ne3, 1), 1)
  END AS bytes
FROM profinfer_tensor AS t
JOIN profinfer_edge AS e
  USING (tensor_id)
JOIN profinfer_tensor AS s
  ON s.tensor_id = e.src_tensor_id
LEFT JOIN profinfer_edge AS x
  ON x.tensor_id = t.tensor_id AND x.slot = 2 AND t.op = 'MUL_MAT_ID'
LEFT JOIN profinfer_tensor AS i
  ON i.tensor_id = x.src_tensor_id
ORDER BY t.tensor_id;

-- What an operator reads and writes when every operand is read once, whether it comes from a cache
-- or from memory: a lower bound for what its threads touch, but for masked parts of attention, which
-- engines skip, and for experts, of which several tokens are taken to use as many different ones as
-- they can.
CREATE PERFETTO TABLE profinfer_operator_traffic(
  -- Arguments of the operator's slices.
  arg_set_id ARGSETID,
  -- Bytes of weights among those read.
  weight_bytes LONG,
  -- Bytes read.
  read_bytes LONG,
  -- Bytes written.
  written_bytes LONG,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  k.arg_set_id,
  coalesce(sum(iif(s.kind = 'weight', o.bytes, 0)), 0) AS weight_bytes,
  coalesce(sum(o.bytes), 0) AS read_bytes,
  iif(
    t.op = 'SET_ROWS',
    -- Of the table that it is a view of: as many rows as are given.
    t.bytes
    / max(t.ne1 * t.ne2 * t.ne3, 1)
    * coalesce((
      SELECT
        r.ne1 * r.ne2 * r.ne3
      FROM profinfer_edge AS e
      JOIN profinfer_tensor AS r
        ON r.tensor_id = e.src_tensor_id
      WHERE e.tensor_id = t.tensor_id AND e.slot = 0
    ), 0),
    t.bytes
  ) AS written_bytes,
  k.upid
FROM _operator_kind AS k
JOIN profinfer_tensor AS t
  USING (tensor_id)
LEFT JOIN _operand_bytes AS o
  -- What a fused operator hands on to itself never leaves it.
  ON o.tensor_id IN (k.tensor_id, k.fused_tensor_id)
  AND o.src_tensor_id IS NOT k.fused_tensor_id
LEFT JOIN profinfer_tensor AS s
  ON s.tensor_id = o.src_tensor_id
GROUP BY k.arg_set_id
ORDER BY k.arg_set_id;
