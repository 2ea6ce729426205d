-- What micro-batches of one kind compute: graphs that do the same, whatever the length of the context,
-- are one DAG.

INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.runs;
INCLUDE PERFETTO MODULE profinfer.operators.traffic;
INCLUDE PERFETTO MODULE profinfer.recording.losses;

-- What a structure computes, as a number: structures of the same operators in the same order have the
-- same. (Two others that had it by chance would be one DAG; their operators would still be told apart.)
CREATE PERFETTO TABLE _structure_form(
  -- Structure.
  structure_id LONG,
  -- The number.
  form LONG
) AS
SELECT
  n.structure_id,
  sum(t.role_id * (1 + n.node)) AS form
FROM profinfer_node AS n
JOIN profinfer_tensor AS t
  USING (tensor_id)
WHERE t.kind = 'operator'
GROUP BY n.structure_id
ORDER BY n.structure_id;

-- What is computed together: the graphs of a micro-batch (one, unless backends share the work), or a
-- graph outside any.
CREATE PERFETTO TABLE _dag_run(
  -- The micro-batch, or the graph's number below 0.
  run LONG,
  -- Process.
  upid JOINID(process.id),
  -- Number of the model in its process.
  model LONG,
  -- Phase of the micro-batch.
  phase STRING,
  -- Its tokens.
  tokens LONG,
  -- What its structures compute.
  form LONG,
  -- Time of its graphs.
  dur DURATION,
  -- Whether all of it is known.
  complete BOOL
) AS
SELECT
  coalesce(g.ubatch_id, -g.graph_id) AS run,
  g.upid,
  min(s.model) AS model,
  u.phase,
  u.tokens,
  sum(f.form) AS form,
  sum(g.dur) AS dur,
  min(g.complete AND coalesce(s.complete, FALSE) AND coalesce(u.complete, TRUE)) AS complete
FROM profinfer_graph AS g
LEFT JOIN profinfer_structure AS s
  ON s.structure_id = g.structure_id
LEFT JOIN _structure_form AS f
  ON f.structure_id = g.structure_id
LEFT JOIN profinfer_ubatch AS u
  ON u.ubatch_id = g.ubatch_id
GROUP BY coalesce(g.ubatch_id, -g.graph_id)
ORDER BY run;

-- One row per kind of micro-batch of a process: same model, phase, number of tokens and operators.
CREATE PERFETTO TABLE profinfer_dag(
  -- Number of the DAG in this recording.
  dag_id LONG,
  -- Number of the model in its process, NULL where weights bear no names.
  model LONG,
  -- Phase of the micro-batches, NULL for graphs outside any.
  phase STRING,
  -- Tokens of each.
  tokens LONG,
  -- How many there were; with what may be incomplete they are in no sum.
  runs LONG,
  -- Time of their graphs.
  dur DURATION,
  -- Whether none of this process, model and phase took longer: of these profinfer_dag_node tells the
  -- nodes.
  is_main BOOL,
  -- The first of them: a micro-batch, or the number of a graph below 0.
  first_run LONG,
  -- What its structures compute, as a number.
  form LONG,
  -- Micro-batches of the process that may be of it and are in no sum, at most.
  incomplete LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  kinds AS (
    SELECT
      upid,
      model,
      phase,
      tokens,
      form,
      count() AS runs,
      sum(dur) AS dur,
      min(abs(run)) AS first,
      run AS first_run
    FROM _dag_run
    WHERE complete AND form IS NOT NULL
    GROUP BY upid, model, phase, tokens, form
  ),
  doubts AS MATERIALIZED (
    SELECT
      upid,
      sum(NOT complete) + profinfer_lost(upid, 'graph_begin') AS incomplete
    FROM _dag_run
    GROUP BY upid
  )
SELECT
  row_number() OVER (ORDER BY k.upid, k.dur DESC, k.first) AS dag_id,
  k.model,
  k.phase,
  k.tokens,
  k.runs,
  k.dur,
  row_number() OVER (PARTITION BY k.upid, k.model, k.phase ORDER BY k.dur DESC, k.first)
  = 1 AS is_main,
  k.first_run,
  k.form,
  d.incomplete,
  k.upid
FROM kinds AS k
JOIN doubts AS d
  USING (upid)
ORDER BY dag_id;

-- Graphs of those DAGs.
CREATE PERFETTO TABLE _dag_graph(
  -- Graph run.
  graph_id LONG,
  -- DAG.
  dag_id LONG
) AS
SELECT
  g.graph_id,
  d.dag_id
FROM profinfer_graph AS g
JOIN _dag_run AS r
  ON r.run = coalesce(g.ubatch_id, -g.graph_id)
JOIN profinfer_dag AS d
  ON d.upid = r.upid
  AND d.form = r.form
  AND d.model IS r.model
  AND d.phase IS r.phase
  AND d.tokens IS r.tokens
WHERE d.is_main AND r.complete
ORDER BY g.graph_id;

-- Totals of the operators of each DAG. Runs that may be incomplete are in none of the sums.
CREATE PERFETTO TABLE profinfer_dag_operator(
  -- DAG.
  dag_id LONG,
  -- Which operator it is, at any size.
  operator_id LONG,
  -- Complete runs.
  runs LONG,
  -- From the first thread's start to the last thread's end.
  dur DURATION,
  -- Work, summed over threads.
  busy_dur DURATION,
  -- Wait at the barrier after it, summed over threads; NULL when barriers were not recorded.
  wait_dur DURATION,
  -- Part of the wait during which some thread was still at work.
  imbalance_dur DURATION,
  -- Bytes that all runs had to move, as in profinfer_operator_traffic; NULL where there are none.
  bytes LONG,
  -- Runs that may be incomplete.
  incomplete LONG
) AS
WITH
  sums AS MATERIALIZED (
    SELECT
      r.arg_set_id,
      d.dag_id,
      sum(r.complete) AS runs,
      sum(iif(r.complete, r.dur, 0)) AS dur,
      sum(iif(r.complete, r.busy_dur, 0)) AS busy_dur,
      sum(iif(r.complete, r.wait_dur, NULL)) AS wait_dur,
      sum(iif(r.complete, min(r.arrival_dur, r.wait_dur), NULL)) AS imbalance_dur,
      sum(NOT r.complete) AS incomplete
    FROM _operator_run AS r
    JOIN _dag_graph AS d
      USING (graph_id)
    GROUP BY r.arg_set_id, d.dag_id
  )
SELECT
  s.dag_id,
  k.operator_id,
  sum(s.runs) AS runs,
  sum(s.dur) AS dur,
  sum(s.busy_dur) AS busy_dur,
  sum(s.wait_dur) AS wait_dur,
  sum(s.imbalance_dur) AS imbalance_dur,
  nullif(sum(s.runs * (t.read_bytes + t.written_bytes)), 0) AS bytes,
  sum(s.incomplete) AS incomplete
FROM sums AS s
JOIN _operator_kind AS k
  USING (arg_set_id)
LEFT JOIN profinfer_operator_traffic AS t
  USING (arg_set_id)
WHERE k.operator_id IS NOT NULL
GROUP BY s.dag_id, k.operator_id
ORDER BY s.dag_id, k.operator_id;

-- What a name is in every layer: "ffn_out" for ffn_out-3, "attn_q" for blk.3.attn_q.
CREATE PERFETTO FUNCTION _without_layer(
  -- The name.
  name STRING,
  -- The layer's number.
  layer LONG
)
-- The name without it.
RETURNS STRING AS
SELECT
  CASE
    WHEN $layer IS NULL
    THEN $name
    WHEN $name GLOB 'blk.' || $layer || '.*'
    THEN substr($name, length('blk.' || $layer || '.') + 1)
    WHEN $name GLOB '*-' || $layer
    THEN substr($name, 1, length($name) - length('-' || $layer))
    WHEN $name GLOB '*_l' || $layer
    THEN substr($name, 1, length($name) - length('_l' || $layer))
    ELSE $name
  END;

-- Tensors of the main DAGs, as their first micro-batch had them: nodes in order of execution, and the
-- weights, caches and inputs that these take.
CREATE PERFETTO TABLE profinfer_dag_node(
  -- DAG.
  dag_id LONG,
  -- Layer number, NULL outside layers or where that is not certain.
  layer LONG,
  -- Number of the tensor within its layer, or outside: nodes in order of execution, then data in the
  -- order in which it is used.
  position LONG,
  -- Tensor.
  tensor_id LONG,
  -- False for data: what no graph of the micro-batch computes.
  is_node BOOL,
  -- The first structure that has it as a node.
  structure_id LONG,
  -- Name for people without the layer's number.
  label STRING,
  -- Operator, both joined by a plus sign when fused; NONE for data.
  op STRING,
  -- Tensor that it was always fused into: it did not run by itself. NULL otherwise.
  fused_into LONG,
  -- Mean time of a run, from the first thread's start to the last thread's end. NULL where it did not
  -- run, as views do not, or was not recorded.
  dur DURATION,
  -- Bytes that it has to move over its time: GB/s, not more than there were. NULL where there are
  -- none.
  bandwidth DOUBLE,
  -- Wait at the barrier after it over work and wait; NULL when barriers were not recorded.
  stall_share DOUBLE,
  -- The part of that wait during which some thread was still at work, over work and wait.
  imbalance_share DOUBLE,
  -- Complete runs.
  runs LONG,
  -- Runs that may be incomplete: in none of these numbers.
  incomplete LONG
) AS
WITH
  nodes AS MATERIALIZED (
    SELECT
      d.dag_id,
      n.tensor_id,
      min(n.structure_id) AS structure_id,
      row_number() OVER (PARTITION BY d.dag_id ORDER BY min(g.graph_id), min(n.node)) AS number
    FROM profinfer_dag AS d
    JOIN profinfer_graph AS g
      ON d.first_run = coalesce(g.ubatch_id, -g.graph_id)
    JOIN profinfer_node AS n
      USING (structure_id)
    WHERE d.is_main
    GROUP BY d.dag_id, n.tensor_id
  ),
  members AS MATERIALIZED (
    SELECT
      dag_id,
      tensor_id,
      number,
      0 AS slot,
      structure_id
    FROM nodes
    UNION ALL
    SELECT
      n.dag_id,
      e.src_tensor_id AS tensor_id,
      min(n.number) AS number,
      e.slot,
      NULL AS structure_id
    FROM nodes AS n
    JOIN profinfer_edge AS e
      USING (tensor_id)
    LEFT JOIN nodes AS s
      ON s.dag_id = n.dag_id AND s.tensor_id = e.src_tensor_id
    WHERE s.tensor_id IS NULL
    GROUP BY n.dag_id, e.src_tensor_id
  ),
  -- How a tensor was computed most often.
  ran AS MATERIALIZED (
    SELECT
      o.dag_id,
      k.tensor_id,
      k.fused_tensor_id,
      k.op,
      o.operator_id,
      max(o.runs) AS runs
    FROM _operator_kind AS k
    JOIN profinfer_dag_operator AS o
      USING (operator_id)
    GROUP BY o.dag_id, k.tensor_id
  )
SELECT
  m.dag_id,
  t.layer,
  row_number() OVER (
    PARTITION BY m.dag_id, t.layer ORDER BY m.structure_id IS NULL, m.number, m.slot
  ) AS position,
  m.tensor_id,
  m.structure_id IS NOT NULL AS is_node,
  m.structure_id,
  _without_layer(t.label, t.layer) AS label,
  coalesce(r.op, t.op) AS op,
  iif(r.tensor_id IS NULL, f.tensor_id, NULL) AS fused_into,
  o.dur / nullif(o.runs, 0) AS dur,
  1.0 * o.bytes / nullif(o.dur, 0) AS bandwidth,
  1.0 * o.wait_dur / nullif(o.busy_dur + o.wait_dur, 0) AS stall_share,
  1.0 * o.imbalance_dur / nullif(o.busy_dur + o.wait_dur, 0) AS imbalance_share,
  o.runs,
  o.incomplete
FROM members AS m
JOIN profinfer_tensor AS t
  USING (tensor_id)
LEFT JOIN ran AS r
  ON r.dag_id = m.dag_id AND r.tensor_id = m.tensor_id
LEFT JOIN ran AS f
  ON f.dag_id = m.dag_id AND f.fused_tensor_id = m.tensor_id
LEFT JOIN profinfer_dag_operator AS o
  ON o.dag_id = m.dag_id AND o.operator_id = r.operator_id
GROUP BY m.dag_id, m.tensor_id
ORDER BY m.dag_id, t.layer, position;
