-- Tensors and the structure of graphs: the DAG.

INCLUDE PERFETTO MODULE profinfer.events;

-- The nodes of each distinct graph in order of execution.
CREATE PERFETTO TABLE profinfer_node(
  -- Structure.
  structure_id LONG,
  -- Index of the node in ggml_cgraph.nodes.
  node LONG,
  -- Tensor.
  tensor_id LONG,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  t.int_value AS structure_id,
  CAST(substr(s.key, 7) AS INTEGER) AS node,
  s.int_value AS tensor_id,
  t.upid
FROM _structure_arg AS s
JOIN _structure_arg AS t
  ON t.id = s.id AND t.key = 'structure_id'
WHERE s.category = 'structure.graph' AND s.flat_key = 'nodes'
ORDER BY structure_id, node;

-- Tensors as the trace describes them.
CREATE PERFETTO TABLE _tensor AS
SELECT
  max(iif(key = 'tensor_id', int_value, NULL)) AS tensor_id,
  ts,
  name,
  max(iif(key = 'label', string_value, NULL)) AS label,
  max(iif(key = 'module', string_value, NULL)) AS module,
  max(iif(key = 'identity', int_value, NULL)) AS identity,
  max(iif(key = 'op', string_value, NULL)) AS op,
  max(iif(key = 'type', string_value, NULL)) AS type,
  max(iif(key = 'kind', string_value, NULL)) AS kind,
  max(iif(key = 'layer', int_value, NULL)) AS layer,
  max(iif(key = 'ne[0]', int_value, NULL)) AS ne0,
  max(iif(key = 'ne[1]', int_value, NULL)) AS ne1,
  max(iif(key = 'ne[2]', int_value, NULL)) AS ne2,
  max(iif(key = 'ne[3]', int_value, NULL)) AS ne3,
  max(iif(key = 'nb[0]', int_value, NULL)) AS nb0,
  max(iif(key = 'nb[1]', int_value, NULL)) AS nb1,
  max(iif(key = 'nb[2]', int_value, NULL)) AS nb2,
  max(iif(key = 'nb[3]', int_value, NULL)) AS nb3,
  max(iif(key = 'bytes', int_value, NULL)) AS bytes,
  max(iif(key = 'view_src', int_value, NULL)) AS view_src,
  max(iif(key = 'buffer', int_value, NULL)) AS buffer,
  max(iif(key = 'address', int_value, NULL)) AS address,
  max(iif(key = 'data', int_value, NULL)) AS data,
  max(iif(key = 'description', string_value, NULL)) AS description,
  upid
FROM _structure_arg
WHERE category = 'structure.tensor'
GROUP BY id
ORDER BY tensor_id;

-- Every tensor of every distinct graph, as it stood when the graph was first run: nodes (views
-- included), weights, caches and inputs. A tensor whose shape, operands or name change is a new
-- tensor.
CREATE PERFETTO TABLE profinfer_tensor(
  -- Number of the tensor in this recording.
  tensor_id LONG,
  -- When it was first seen.
  ts TIMESTAMP,
  -- Name, as the engine gave it; node_N and leaf_N where it gave none.
  name STRING,
  -- Name for people: without what views add to it, and where the engine gave none that of the weight,
  -- or of what it is computed from.
  label STRING,
  -- Operator that computes it (for UNARY and GLU the kind of it); NONE for data.
  op STRING,
  -- Element type, such as f32 or q4_K.
  type STRING,
  -- What it is: operator, view, weight, cache or leaf (an input or constant).
  kind STRING,
  -- Layer number, from the engine's name, else from weights and caches, else from what it is computed
  -- from; NULL where that is not certain.
  layer LONG,
  -- Part of the model: attention, ffn, experts, embedding, output or adapter (LoRA); NULL where names
  -- and graph do not tell.
  module STRING,
  -- The same for the same operator of the same model, whatever its name and sizes; an operator is told
  -- by op, layer and weights, else by name and sources.
  role_id LONG,
  -- Elements in the first dimension, the contiguous one.
  ne0 LONG,
  -- Elements in the second dimension.
  ne1 LONG,
  -- Elements in the third dimension.
  ne2 LONG,
  -- Elements in the fourth dimension.
  ne3 LONG,
  -- Stride of the first dimension in bytes.
  nb0 LONG,
  -- Stride of the second dimension in bytes.
  nb1 LONG,
  -- Stride of the third dimension in bytes.
  nb2 LONG,
  -- Stride of the fourth dimension in bytes.
  nb3 LONG,
  -- Size of its elements in bytes.
  bytes LONG,
  -- Tensor that it is a view of.
  view_src LONG,
  -- Address of its buffer: tensors with the same value lie in the same memory.
  buffer LONG,
  -- Address of the tensor struct in the target.
  address LONG,
  -- Address of its first element; NULL where it has none.
  data LONG,
  -- One line for people: op, type, shape and sources.
  description STRING,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  -- What occurs several times in one graph is told by the engine's names, too.
  repeated AS MATERIALIZED (
    SELECT DISTINCT
      t.identity
    FROM profinfer_node AS n
    JOIN _tensor AS t
      USING (tensor_id)
    WHERE t.kind = 'operator'
    GROUP BY n.structure_id, t.identity
    HAVING count() > 1
  )
SELECT
  tensor_id,
  ts,
  name,
  coalesce(label, name) AS label,
  op,
  type,
  kind,
  layer,
  module,
  dense_rank() OVER (
    ORDER BY
      upid,
      identity,
      iif(identity IN repeated, label, NULL),
      -- Traces of older versions say nothing of identity.
      iif(identity IS NULL, op || ' ' || name, NULL)
  ) AS role_id,
  ne0,
  ne1,
  ne2,
  ne3,
  nb0,
  nb1,
  nb2,
  nb3,
  bytes,
  view_src,
  buffer,
  address,
  data,
  description,
  upid
FROM _tensor
ORDER BY tensor_id;

-- Edges of the DAG: tensor src_tensor_id is operand number slot of tensor_id.
CREATE PERFETTO TABLE profinfer_edge(
  -- The operand.
  src_tensor_id LONG,
  -- The tensor computed from it.
  tensor_id LONG,
  -- Which operand, from 0.
  slot LONG,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  s.int_value AS src_tensor_id,
  t.int_value AS tensor_id,
  CAST(substr(s.key, 5) AS INTEGER) AS slot,
  t.upid
FROM _structure_arg AS s
JOIN _structure_arg AS t
  ON t.id = s.id AND t.key = 'tensor_id'
WHERE s.category = 'structure.tensor' AND s.flat_key = 'src' AND s.int_value != 0
ORDER BY tensor_id, slot;

-- Distinct graphs.
CREATE PERFETTO TABLE profinfer_structure(
  -- Number of the structure in this recording.
  structure_id LONG,
  -- When it was first run.
  ts TIMESTAMP,
  -- Nodes, views included.
  node_count LONG,
  -- Whether all of its nodes were recorded.
  complete BOOL,
  -- Address of the ggml_cgraph.
  cgraph LONG,
  -- Number of the model in its process: graphs that share weights are of one. NULL where weights
  -- bear no names, or there are none.
  model LONG,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  max(iif(key = 'structure_id', int_value, NULL)) AS structure_id,
  ts,
  max(iif(key = 'node_count', int_value, NULL)) AS node_count,
  max(iif(key = 'complete', int_value, NULL)) AS complete,
  max(iif(key = 'cgraph', int_value, NULL)) AS cgraph,
  max(iif(key = 'model', int_value, NULL)) AS model,
  upid
FROM _structure_arg
WHERE category = 'structure.graph'
GROUP BY id
ORDER BY structure_id;
