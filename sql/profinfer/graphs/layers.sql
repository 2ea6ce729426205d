-- Layers of a DAG, those of equal structure folded into one.

INCLUDE PERFETTO MODULE profinfer.graphs.dags;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;

-- What follows from what in a DAG, with fused operators as one. Whoever writes to a cache has an edge
-- to it, and none from what it writes to.
CREATE PERFETTO TABLE profinfer_dag_edge(
  -- DAG.
  dag_id LONG,
  -- The operand, or what writes to tensor_id.
  src_tensor_id LONG,
  -- What is computed from it, or the cache that it writes to.
  tensor_id LONG,
  -- Which operand, from 0; NULL where it writes.
  slot LONG
) AS
WITH
  edges AS (
    SELECT
      n.dag_id,
      e.src_tensor_id,
      n.tensor_id,
      e.slot,
      n.fused_into
    FROM profinfer_dag_node AS n
    JOIN profinfer_tensor AS t
      USING (tensor_id)
    JOIN profinfer_edge AS e
      USING (tensor_id)
    JOIN profinfer_tensor AS s
      ON s.tensor_id = e.src_tensor_id
    -- What SET_ROWS and CPY are given last is where they write to.
    WHERE
      n.is_node
      AND NOT (
        t.kind = 'operator'
        AND e.slot > 0
        AND t.view_src IS NOT NULL
        AND (t.view_src = s.tensor_id OR t.view_src IS s.view_src)
      )
    UNION ALL
    SELECT
      n.dag_id,
      n.tensor_id AS src_tensor_id,
      c.tensor_id,
      NULL AS slot,
      NULL AS fused_into
    FROM profinfer_dag_node AS n
    JOIN profinfer_tensor AS t
      USING (tensor_id)
    JOIN profinfer_dag_node AS c
      ON c.dag_id = n.dag_id AND c.tensor_id = t.view_src
    WHERE n.is_node AND t.kind = 'operator' AND NOT c.is_node
  )
SELECT DISTINCT
  e.dag_id,
  coalesce(s.fused_into, e.src_tensor_id) AS src_tensor_id,
  coalesce(e.fused_into, e.tensor_id) AS tensor_id,
  e.slot
FROM edges AS e
JOIN profinfer_dag_node AS s
  ON s.dag_id = e.dag_id AND s.tensor_id = e.src_tensor_id
WHERE coalesce(s.fused_into, e.src_tensor_id) != coalesce(e.fused_into, e.tensor_id)
ORDER BY e.dag_id, tensor_id, e.slot;

-- Layers of the main DAGs.
CREATE PERFETTO TABLE profinfer_dag_layer(
  -- DAG.
  dag_id LONG,
  -- Layer number.
  layer LONG,
  -- Number of its form in the DAG: layers have the same form when they have the same operators of the
  -- same shapes in the same order, on the same operands: each other's counterparts, or the very same
  -- input. Element types may differ.
  form LONG,
  -- Its tensors.
  tensors LONG
) AS
WITH
  operands AS MATERIALIZED (
    SELECT
      n.dag_id,
      n.tensor_id,
      group_concat(
        CASE
          WHEN s.layer = n.layer
          THEN 'own ' || s.position
          WHEN s.is_node
          THEN 'computed'
          ELSE 'given ' || s.tensor_id
        END,
        ', '
      ) AS operands
    FROM (
      SELECT
        n.dag_id,
        n.tensor_id,
        n.layer,
        e.src_tensor_id
      FROM profinfer_dag_node AS n
      JOIN profinfer_edge AS e
        USING (tensor_id)
      WHERE n.layer IS NOT NULL AND n.is_node
      ORDER BY n.dag_id, n.tensor_id, e.slot
    ) AS n
    JOIN profinfer_dag_node AS s
      ON s.dag_id = n.dag_id AND s.tensor_id = n.src_tensor_id
    GROUP BY n.dag_id, n.tensor_id
  ),
  signed AS MATERIALIZED (
    SELECT
      dag_id,
      layer,
      count() AS tensors,
      group_concat(signature, char(10)) AS signature
    FROM (
      SELECT
        n.dag_id,
        n.layer,
        format(
          '%s %s %d %d %d %d = %s', t.op, t.kind, t.ne0, t.ne1, t.ne2, t.ne3, o.operands
        ) AS signature
      FROM profinfer_dag_node AS n
      JOIN profinfer_tensor AS t
        USING (tensor_id)
      LEFT JOIN operands AS o
        ON o.dag_id = n.dag_id AND o.tensor_id = n.tensor_id
      WHERE n.layer IS NOT NULL
      ORDER BY n.dag_id, n.layer, n.position
    )
    GROUP BY dag_id, layer
  ),
  numbered AS (
    SELECT
      dag_id,
      layer,
      tensors,
      min(layer) OVER (PARTITION BY dag_id, signature) AS first_layer
    FROM signed
  )
SELECT
  dag_id,
  layer,
  dense_rank() OVER (PARTITION BY dag_id ORDER BY first_layer) AS form,
  tensors
FROM numbered
ORDER BY dag_id, layer;

-- What layers of one form are, and in what they differ from most.
CREATE PERFETTO TABLE profinfer_layer_form(
  -- DAG.
  dag_id LONG,
  -- Number of the form in the DAG.
  form LONG,
  -- Its layers, such as "0-14", "0, 2, 5" or "0, 2 ... 24".
  layers STRING,
  -- How many they are.
  layer_count LONG,
  -- The first of them.
  first_layer LONG,
  -- Whether no form of the DAG has more layers: the typical one.
  is_typical BOOL,
  -- In what they differ from the typical one: operators that they have more or less of, else inputs
  -- that only they have ("another" of the same name), else "order or shapes". NULL for the typical one.
  difference STRING
) AS
WITH
  runs AS (
    SELECT
      dag_id,
      form,
      iif(count() = 1, min(layer), min(layer) || iif(count() = 2, ', ', '-') || max(layer)) AS text,
      count() AS layers,
      min(layer) AS first_layer
    FROM (
      SELECT
        dag_id,
        form,
        layer,
        layer - row_number() OVER (PARTITION BY dag_id, form ORDER BY layer) AS run
      FROM profinfer_dag_layer
    )
    GROUP BY dag_id, form, run
    ORDER BY dag_id, form, first_layer
  ),
  -- Every second layer, or every third.
  spaced AS (
    SELECT
      dag_id,
      form,
      format('%d, %d ... %d', min(layer), min(layer) + min(gap), max(layer)) AS layers
    FROM (
      SELECT
        dag_id,
        form,
        layer,
        layer - lag(layer) OVER (PARTITION BY dag_id, form ORDER BY layer) AS gap
      FROM profinfer_dag_layer
    )
    GROUP BY dag_id, form
    HAVING count() > 3 AND min(gap) > 1 AND min(gap) = max(gap)
  ),
  forms AS MATERIALIZED (
    SELECT
      dag_id,
      form,
      coalesce(s.layers, group_concat(text, ', ')) AS layers,
      sum(r.layers) AS layer_count,
      min(first_layer) AS first_layer,
      row_number() OVER (PARTITION BY dag_id ORDER BY sum(r.layers) DESC, min(first_layer)) = 1
      AS is_typical
    FROM runs AS r
    LEFT JOIN spaced AS s
      USING (dag_id, form)
    GROUP BY dag_id, form
  ),
  ops AS MATERIALIZED (
    SELECT
      f.dag_id,
      f.form,
      f.is_typical,
      t.op,
      count() AS number
    FROM forms AS f
    JOIN profinfer_dag_node AS n
      ON n.dag_id = f.dag_id AND n.layer = f.first_layer
    JOIN profinfer_tensor AS t
      USING (tensor_id)
    WHERE n.is_node
    GROUP BY f.dag_id, f.form, t.op
  ),
  changes AS (
    SELECT
      dag_id,
      form,
      group_concat(format('%+d %s', number, op), ', ') AS text
    FROM (
      SELECT
        f.dag_id,
        f.form,
        o.op,
        sum(iif(o.form = f.form, o.number, -o.number)) AS number
      FROM forms AS f
      JOIN ops AS o
        ON o.dag_id = f.dag_id AND (o.form = f.form OR o.is_typical)
      WHERE NOT f.is_typical
      GROUP BY f.dag_id, f.form, o.op
      HAVING sum(iif(o.form = f.form, o.number, -o.number)) != 0
      ORDER BY f.dag_id, f.form, o.op
    )
    GROUP BY dag_id, form
  ),
  -- Data outside layers.
  inputs AS MATERIALIZED (
    SELECT DISTINCT
      f.dag_id,
      f.form,
      f.is_typical,
      s.tensor_id,
      s.label
    FROM forms AS f
    JOIN profinfer_dag_node AS n
      ON n.dag_id = f.dag_id AND n.layer = f.first_layer
    JOIN profinfer_edge AS e
      ON e.tensor_id = n.tensor_id
    JOIN profinfer_dag_node AS s
      ON s.dag_id = f.dag_id AND s.tensor_id = e.src_tensor_id
    WHERE n.is_node AND NOT s.is_node AND s.layer IS NOT n.layer
  ),
  other_inputs AS (
    SELECT
      dag_id,
      form,
      group_concat(
        iif(
          label IN (
            SELECT
              x.label
            FROM inputs AS x
            WHERE x.dag_id = i.dag_id AND x.is_typical
          ),
          'another ' || label,
          label
        ),
        ', '
      ) AS text
    FROM inputs AS i
    WHERE
      NOT i.tensor_id IN (
        SELECT
          x.tensor_id
        FROM inputs AS x
        WHERE x.dag_id = i.dag_id AND x.is_typical
      )
    GROUP BY dag_id, form
  )
SELECT
  f.dag_id,
  f.form,
  f.layers,
  f.layer_count,
  f.first_layer,
  f.is_typical,
  iif(
    f.is_typical, NULL, coalesce(c.text, 'reads ' || i.text, 'order or shapes')
  ) AS difference
FROM forms AS f
LEFT JOIN changes AS c
  ON c.dag_id = f.dag_id AND c.form = f.form
LEFT JOIN other_inputs AS i
  ON i.dag_id = f.dag_id AND i.form = f.form
ORDER BY f.dag_id, f.form;

-- Tensors of the layers of one form, folded: minimum, median and maximum are over the layers, each with
-- the mean of its runs.
CREATE PERFETTO TABLE profinfer_layer_node(
  -- DAG.
  dag_id LONG,
  -- Number of the form in the DAG.
  form LONG,
  -- Number of the tensor within the layer.
  position LONG,
  -- The tensor of the first of the layers.
  tensor_id LONG,
  -- Layers.
  layers LONG,
  -- Element types, such as "q4_K, q6_K".
  types STRING,
  -- Mean time of a run: the least.
  min_dur DURATION,
  -- The median.
  median_dur DURATION,
  -- The most.
  max_dur DURATION,
  -- Bandwidth in GB/s, as in profinfer_dag_node: the least.
  min_bandwidth DOUBLE,
  -- The median.
  median_bandwidth DOUBLE,
  -- The most.
  max_bandwidth DOUBLE,
  -- Wait over work and wait: the least.
  min_stall_share DOUBLE,
  -- The median.
  median_stall_share DOUBLE,
  -- The most.
  max_stall_share DOUBLE,
  -- Complete runs.
  runs LONG,
  -- Runs that may be incomplete.
  incomplete LONG
) AS
SELECT
  l.dag_id,
  l.form,
  n.position,
  max(iif(n.layer = f.first_layer, n.tensor_id, NULL)) AS tensor_id,
  count() AS layers,
  replace(group_concat(DISTINCT t.type), ',', ', ') AS types,
  min(n.dur) AS min_dur,
  CAST(percentile(n.dur, 50) AS INTEGER) AS median_dur,
  max(n.dur) AS max_dur,
  min(n.bandwidth) AS min_bandwidth,
  percentile(n.bandwidth, 50) AS median_bandwidth,
  max(n.bandwidth) AS max_bandwidth,
  min(n.stall_share) AS min_stall_share,
  percentile(n.stall_share, 50) AS median_stall_share,
  max(n.stall_share) AS max_stall_share,
  sum(n.runs) AS runs,
  sum(n.incomplete) AS incomplete
FROM profinfer_dag_layer AS l
JOIN profinfer_layer_form AS f
  ON f.dag_id = l.dag_id AND f.form = l.form
JOIN profinfer_dag_node AS n
  ON n.dag_id = l.dag_id AND n.layer = l.layer
JOIN profinfer_tensor AS t
  USING (tensor_id)
GROUP BY l.dag_id, l.form, n.position
ORDER BY l.dag_id, l.form, n.position;
