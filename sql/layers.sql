-- What is a layer made of, and what do its parts take?
-- Of each process, model and phase the kind of micro-batch that took longest: same number of tokens,
-- same operators, any length of the context. Layers of equal structure are one: same operators, shapes
-- and operands in the same order; element types may differ. Each operator's mean time is its layer's;
-- minimum, median and maximum are over layers. From the first thread's start to the last one's
-- end, waits at barriers included. gb_s: bytes that operands and results have, over that time, not more than
-- were moved; wait_share: of the threads' time, at the barrier after it. `profinfer dag` draws it.

INCLUDE PERFETTO MODULE profinfer.graphs.layers;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Layers of equal structure
SELECT
  profinfer_process_label(d.upid) AS process,
  d.model,
  coalesce(d.phase, 'outside') AS phase,
  d.tokens,
  d.runs,
  f.layers,
  f.layer_count,
  f.difference,
  (
    SELECT
      round(sum(n.dur) / 1e3 / f.layer_count, 1)
    FROM profinfer_dag_layer AS l
    JOIN profinfer_dag_node AS n
      ON n.dag_id = l.dag_id AND n.layer = l.layer
    WHERE l.dag_id = f.dag_id AND l.form = f.form
  ) AS layer_us,
  d.incomplete
FROM profinfer_layer_form AS f
JOIN profinfer_dag AS d
  USING (dag_id)
ORDER BY d.upid, d.dag_id, f.form;

-- title: Operators of a typical layer, and outside layers
WITH
  folded AS (
    SELECT
      n.dag_id,
      f.layers,
      f.form,
      n.position,
      n.tensor_id,
      n.min_dur,
      n.median_dur,
      n.max_dur,
      n.median_bandwidth,
      n.median_stall_share,
      n.runs,
      n.incomplete
    FROM profinfer_layer_node AS n
    JOIN profinfer_layer_form AS f
      ON f.dag_id = n.dag_id AND f.form = n.form
    WHERE f.is_typical  -- unless --all
    UNION ALL
    SELECT
      dag_id,
      'outside' AS layers,
      NULL AS form,
      position,
      tensor_id,
      dur AS min_dur,
      dur AS median_dur,
      dur AS max_dur,
      bandwidth AS median_bandwidth,
      stall_share AS median_stall_share,
      runs,
      incomplete
    FROM profinfer_dag_node
    WHERE layer IS NULL
  )
SELECT
  profinfer_process_label(d.upid) AS process,
  coalesce(d.phase, 'outside') AS phase,
  o.layers,
  n.label AS name,
  n.op,
  t.module,
  printf('%d x %d x %d x %d', t.ne0, t.ne1, t.ne2, t.ne3) AS shape,
  o.runs,
  round(o.min_dur / 1e3, 1) AS min_us,
  round(o.median_dur / 1e3, 1) AS median_us,
  round(o.max_dur / 1e3, 1) AS max_us,
  round(o.median_bandwidth, 2) AS gb_s,
  round(o.median_stall_share, 3) AS wait_share,
  o.incomplete + d.incomplete AS incomplete
FROM folded AS o
JOIN profinfer_dag AS d
  USING (dag_id)
JOIN profinfer_dag_node AS n
  ON n.dag_id = o.dag_id AND n.tensor_id = o.tensor_id
JOIN profinfer_tensor AS t
  ON t.tensor_id = o.tensor_id
WHERE n.runs IS NOT NULL
ORDER BY d.upid, d.dag_id, o.form, o.position;
