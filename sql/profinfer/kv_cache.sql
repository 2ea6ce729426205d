-- Attention over the KV cache, step by step of decoding.

INCLUDE PERFETTO MODULE profinfer.graphs;
INCLUDE PERFETTO MODULE profinfer.operators;
INCLUDE PERFETTO MODULE profinfer.tensors;
INCLUDE PERFETTO MODULE profinfer.tokens;

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

-- Attention while one token of one sequence was decoded: the operators that read the KV cache,
-- layer by layer.
CREATE PERFETTO TABLE profinfer_attention(
  -- Micro-batch.
  ubatch_id LONG,
  -- Either FLASH_ATTN_EXT, or KQ (queries with keys) and KQV (weights with values).
  part STRING,
  -- Layer number.
  layer LONG,
  -- Tokens that the new one attends to, itself included, as far as the layer's window lets it.
  context LONG,
  -- Cells of the cache that the operator spans: engines round the context up.
  cells LONG,
  -- From the first thread's start to the last thread's end.
  dur DURATION,
  -- Work, summed over threads.
  busy_dur DURATION,
  -- False when something may have been lost.
  complete BOOL
) AS
WITH
  steps AS MATERIALIZED (
    SELECT
      s.ubatch_id,
      s.position + 1 AS context,
      u.complete
    FROM profinfer_sequence AS s
    JOIN profinfer_ubatch AS u
      USING (ubatch_id)
    WHERE s.phase = 'decode' AND u.sequences = 1 AND u.tokens = 1
  )
SELECT
  s.ubatch_id,
  a.part,
  a.layer,
  s.context,
  a.cells,
  r.dur,
  r.busy_dur,
  r.complete AND s.complete AS complete
FROM _operator_run AS r
JOIN _attention_kind AS a
  USING (arg_set_id)
JOIN profinfer_graph AS g
  USING (graph_id)
JOIN steps AS s
  USING (ubatch_id)
ORDER BY s.ubatch_id;
