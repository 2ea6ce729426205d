-- Why does a micro-batch run on several backends, and what falls back to the CPU?
-- A split is one graph of a micro-batch. moved: its first operator, whose backend another one is than that of
-- the operators before it; takes: the weight or cache that this operator reads, which lies where its
-- backend can read it (none: the backend before could not compute it, or its neighbours drew it along).
-- Splits with a structure that was lost have no operators.

INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.splits;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Splits per micro-batch
WITH
  counted AS (
    SELECT
      u.upid,
      u.phase,
      u.ubatch_id,
      count(s.graph_id) AS splits,
      count(DISTINCT s.backend) AS backends,
      NOT u.complete AS incomplete
    FROM profinfer_ubatch AS u
    LEFT JOIN profinfer_split AS s
      USING (ubatch_id)
    GROUP BY u.ubatch_id
  )
SELECT
  profinfer_process_label(upid) AS process,
  phase,
  count() AS ubatches,
  min(splits) AS splits_min,
  round(avg(splits), 1) AS splits_mean,
  max(splits) AS splits_max,
  max(backends) AS backends,
  sum(incomplete) + _doubtful_micro_batches(upid) AS incomplete
FROM counted
GROUP BY upid, phase
ORDER BY upid, phase;

-- By the operator that moved, in all of its layers.

-- title: Why splits happened
-- rows: 20
SELECT
  profinfer_process_label(s.upid) AS process,
  u.phase,
  s.from_backend,
  s.backend,
  t.op AS moved_op,
  min(t.label) AS moved,
  count(DISTINCT t.layer) AS layers,
  min(s.held) AS takes,
  count() AS splits,
  sum(s.operators) AS operators,
  round(sum(s.dur) / 1e6, 2) AS time_ms,
  sum(NOT s.complete) + _doubtful_micro_batches(s.upid) AS incomplete
FROM profinfer_split AS s
JOIN profinfer_ubatch AS u
  USING (ubatch_id)
LEFT JOIN profinfer_tensor AS t
  ON t.tensor_id = s.first_tensor_id
WHERE s.split > 0
GROUP BY s.upid, u.phase, s.from_backend, s.backend, t.op, t.module, s.held IS NULL
ORDER BY s.upid, u.phase, splits DESC, moved;

-- Operators of layers of which another backend computed others in the same micro-batch.

-- title: Fallbacks: operators on the CPU in layers that another backend computes (none when empty)
-- rows: 20
WITH
  placed AS MATERIALIZED (
    SELECT DISTINCT
      s.ubatch_id,
      s.backend,
      s.structure_id
    FROM profinfer_split AS s
    WHERE s.structure_id IS NOT NULL
  ),
  several AS (
    SELECT ubatch_id FROM placed GROUP BY ubatch_id HAVING count(DISTINCT backend) > 1
  ),
  computed AS MATERIALIZED (
    SELECT
      p.ubatch_id,
      p.backend,
      t.layer,
      t.op,
      count() AS runs
    FROM placed AS p
    JOIN profinfer_node AS n
      USING (structure_id)
    JOIN profinfer_tensor AS t
      USING (tensor_id)
    WHERE t.kind = 'operator' AND t.layer IS NOT NULL AND +p.ubatch_id IN (SELECT ubatch_id FROM several)
    GROUP BY p.ubatch_id, p.backend, t.layer, t.op
  ),
  elsewhere AS MATERIALIZED (
    SELECT
      ubatch_id,
      layer,
      group_concat(DISTINCT backend) AS backends
    FROM computed
    WHERE backend != 'CPU'
    GROUP BY ubatch_id, layer
  )
SELECT
  profinfer_process_label(u.upid) AS process,
  u.phase,
  c.op,
  e.backends AS beside,
  count(DISTINCT c.layer) AS layers,
  count(DISTINCT c.ubatch_id) AS ubatches,
  sum(c.runs) AS runs,
  _doubtful_micro_batches(u.upid) AS incomplete
FROM computed AS c
JOIN elsewhere AS e
  USING (ubatch_id, layer)
JOIN profinfer_ubatch AS u
  USING (ubatch_id)
WHERE c.backend = 'CPU'
GROUP BY u.upid, u.phase, c.op, e.backends
ORDER BY u.upid, u.phase, runs DESC, c.op;
