-- Operators of attention: those whose work grows with the KV cache.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;

-- Operators that read a layer's cache, by their arguments.
CREATE PERFETTO TABLE _attention_kind(
  -- Arguments of the slice.
  arg_set_id ARGSETID,
  -- One of FLASH_ATTN_EXT, KQ and KQV.
  part STRING,
  -- Layer number, from the cache's name.
  layer LONG,
  -- Cells of the cache that it spans.
  cells LONG
) AS
SELECT
  k.arg_set_id,
  CASE
    WHEN t.op = 'FLASH_ATTN_EXT'
    THEN t.op
    WHEN s.name GLOB 'cache_k*'
    THEN 'KQ'
    ELSE 'KQV'
  END AS part,
  s.layer,
  -- Values lie transposed where there is no flash attention.
  iif(s.name GLOB 'cache_v*', s.ne0, s.ne1) AS cells
FROM _operator_kind AS k
JOIN profinfer_tensor AS t
  USING (tensor_id)
JOIN profinfer_edge AS e
  USING (tensor_id)
JOIN profinfer_tensor AS s
  ON s.tensor_id = e.src_tensor_id
WHERE
  k.fused_tensor_id IS NULL
  AND (
    (t.op = 'FLASH_ATTN_EXT' AND e.slot = 1)
    OR (t.op = 'MUL_MAT' AND e.slot = 0 AND s.name GLOB 'cache_[kv]*')
  )
ORDER BY k.arg_set_id;

-- Those, and the softmax between the two products where there is no flash attention.
CREATE PERFETTO TABLE _attention_operator(
  -- Arguments of the slice.
  arg_set_id ARGSETID
) AS
SELECT
  arg_set_id
FROM _attention_kind
UNION
SELECT
  k.arg_set_id
FROM _operator_kind AS k
JOIN profinfer_tensor AS t
  USING (tensor_id)
JOIN profinfer_edge AS e
  USING (tensor_id)
JOIN _operator_kind AS p
  ON p.tensor_id = e.src_tensor_id
JOIN _attention_kind AS a
  ON a.arg_set_id = p.arg_set_id
WHERE t.op = 'SOFT_MAX' AND e.slot = 0 AND a.part = 'KQ';

-- Time of attention in micro-batches that hold tokens of several sequences, on the thread that
-- computes their graphs, waits at barriers included.
CREATE PERFETTO TABLE _attention_in_mixed(
  -- Micro-batch.
  ubatch_id LONG,
  -- Time.
  dur DURATION
) AS
WITH
  mixed AS MATERIALIZED (
    SELECT
      g.id,
      u.ubatch_id
    FROM _ubatch_event AS u
    JOIN _graph_event AS g
      ON g.parent_id = u.id
    WHERE g.is_main AND u.sequences > 1
  )
SELECT
  m.ubatch_id,
  sum(o.dur) AS dur
FROM _operator_event AS o
JOIN mixed AS m
  ON m.id = o.parent_id
WHERE
  -- Evaluated once, and false of most recordings.
  EXISTS(
    SELECT
      1
    FROM mixed
  )
  AND o.dur > 0
  AND o.arg_set_id IN (
    SELECT
      arg_set_id
    FROM _attention_operator
  )
GROUP BY m.ubatch_id
ORDER BY m.ubatch_id;
