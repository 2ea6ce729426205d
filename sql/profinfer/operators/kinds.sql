-- Which operator it is that a slice shows, and what it is called.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;

-- What the arguments of an operator slice stand for.
CREATE PERFETTO TABLE _operator_kind(
  -- Arguments of the slice.
  arg_set_id ARGSETID,
  -- Tensor that is computed; of a fused operator the last one.
  tensor_id LONG,
  -- The other tensor of a fused operator.
  fused_tensor_id LONG,
  -- Number of the operator that it is, by role and op: the same at any batch size and length of the
  -- context, and for no other. NULL for operators of unknown graphs.
  operator_id LONG,
  -- Name of the tensor that is computed, as slices bear it.
  name STRING,
  -- Its name for people, which no other operator of the process with its op has.
  label STRING,
  -- Operator; both joined by a plus sign when fused.
  op STRING,
  -- Layer number.
  layer LONG,
  -- Part of the model, as in profinfer_tensor.
  module STRING,
  -- One line for people: op, type, shape and sources.
  description STRING,
  -- Process. NULL for operators of unknown graphs: those of all processes are described alike.
  upid JOINID(process.id)
) AS
WITH
  fused AS (
    SELECT
      max(iif(key = 'description', string_value, NULL)) AS description,
      max(iif(key = 'op', string_value, NULL)) AS op,
      max(iif(key = 'tensor_id', int_value, NULL)) AS tensor_id,
      max(iif(key = 'fused_tensor_id', int_value, NULL)) AS fused_tensor_id
    FROM _structure_arg
    WHERE category = 'structure.fused'
    GROUP BY id
  ),
  described AS (
    SELECT description, op, tensor_id, NULL AS fused_tensor_id FROM profinfer_tensor
    UNION ALL
    SELECT description, op, tensor_id, fused_tensor_id FROM fused
  ),
  kinds AS MATERIALIZED (
    SELECT
      a.arg_set_id,
      d.tensor_id,
      d.fused_tensor_id,
      d.op,
      t.layer,
      t.module,
      -- Operators of unknown graphs have no tensor.
      coalesce(t.name, (SELECT o.name FROM _operator_event AS o WHERE o.arg_set_id = a.arg_set_id LIMIT 1)) AS name,
      t.label,
      -- Not what the library made up.
      t.label = substr(t.name, 1, length(t.label)) AS is_given,
      a.description,
      iif(
        t.tensor_id IS NULL, NULL, dense_rank() OVER (ORDER BY t.upid, t.role_id, d.op)
      ) AS operator_id,
      t.upid
    FROM _operator_arg_set AS a
    LEFT JOIN described AS d
      USING (description)
    LEFT JOIN profinfer_tensor AS t
      USING (tensor_id)
  ),
  operators AS (
    SELECT
      operator_id,
      op,
      upid,
      coalesce(min(iif(is_given, label, NULL)), min(label)) AS label,
      min(tensor_id) AS tensor_id
    FROM kinds
    WHERE operator_id IS NOT NULL
    GROUP BY operator_id
  ),
  -- What several are called tells them apart with their model, their source, and a number.
  models AS MATERIALIZED (
    SELECT
      n.tensor_id,
      min(s.model) AS model
    FROM profinfer_structure AS s
    JOIN profinfer_node AS n
      USING (structure_id)
    WHERE s.upid IN (SELECT upid FROM profinfer_structure WHERE model > 1)
    GROUP BY n.tensor_id
  ),
  by_model AS (
    SELECT
      o.operator_id,
      o.op,
      o.upid,
      o.tensor_id,
      o.label || iif(
        min(m.model) OVER same < max(m.model) OVER same, printf(' (model %d)', m.model), ''
      ) AS label
    FROM operators AS o
    LEFT JOIN models AS m
      USING (tensor_id)
    WINDOW
      same AS (PARTITION BY o.upid, o.op, o.label)
  ),
  by_source AS (
    SELECT
      o.operator_id,
      o.op,
      o.upid,
      o.tensor_id,
      o.label || iif(
        count() OVER (PARTITION BY o.upid, o.op, o.label) > 1,
        coalesce(' of ' || (
          SELECT
            s.label
          FROM profinfer_edge AS e
          JOIN profinfer_tensor AS s
            ON s.tensor_id = e.src_tensor_id
          WHERE e.tensor_id = o.tensor_id AND s.kind IN ('operator', 'view') AND s.label != o.label
          ORDER BY e.slot
          LIMIT 1
        ), ''),
        ''
      ) AS label
    FROM by_model AS o
  ),
  labels AS MATERIALIZED (
    SELECT
      operator_id,
      label || iif(
        count() OVER (PARTITION BY upid, op, label) > 1,
        printf(' #%d', row_number() OVER (PARTITION BY upid, op, label ORDER BY tensor_id)),
        ''
      ) AS label
    FROM by_source
  )
SELECT
  k.arg_set_id,
  k.tensor_id,
  k.fused_tensor_id,
  k.operator_id,
  k.name,
  l.label,
  k.op,
  k.layer,
  k.module,
  k.description,
  k.upid
FROM kinds AS k
LEFT JOIN labels AS l
  USING (operator_id)
ORDER BY k.arg_set_id;
