-- Which operators, and which parts of the model (an adapter, say), take the most time?
-- An operator is one of the model's, at any size of batch and context. Where the engine gave it no
-- name, that of its weight or of what it is computed from is shown. Modules are attention, ffn,
-- experts, embedding, output and adapter: what a LoRA costs, its matrices and its sums. NULL where
-- that is not certain, as of the residual's sums.
-- Work is summed over threads, without the wait at the barrier. Prefill and decode are told
-- apart by the micro-batch around the graph. Operators that may be incomplete are not in the
-- sums; how many there are is in the last column. overhead_ms is the part of work_ms that is the
-- recording's own: per run and thread one hit of the operator's probe and one of the barrier's for
-- each barrier inside the operator. Most of the hit at the barrier after it is in the wait, which
-- work_ms leaves out. NULL where the cost of a hit was not measured.

INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.phases;
INCLUDE PERFETTO MODULE profinfer.operators.unseen;
INCLUDE PERFETTO MODULE profinfer.recording.handlers;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Operators by work (the first 40)
-- rows: 15
WITH
  ranked AS (
    SELECT
      s.upid,
      s.phase,
      min(coalesce(k.label, s.name)) AS name,
      k.op,
      k.layer,
      sum(s.runs) AS runs,
      sum(s.busy_dur) AS busy_dur,
      sum(s.slices * c.hits_ns) AS hits_ns,
      sum(s.dur) AS dur,
      max(s.max_dur) AS max_dur,
      sum(s.incomplete) AS incomplete,
      sum(sum(s.busy_dur)) OVER (PARTITION BY s.upid) AS all_dur,
      row_number() OVER (PARTITION BY s.upid ORDER BY sum(s.busy_dur) DESC) AS rank
    FROM profinfer_operator_phase AS s
    LEFT JOIN _operator_kind AS k
      ON k.arg_set_id = s.arg_set_id
    LEFT JOIN profinfer_operator_cost AS c
      ON c.arg_set_id = s.arg_set_id AND c.upid = s.upid
    GROUP BY s.upid, s.phase, k.operator_id
  )
SELECT
  profinfer_process_label(upid) AS process,
  coalesce(phase, 'outside') AS phase,
  name,
  op,
  layer,
  runs,
  round(busy_dur / 1e6, 2) AS work_ms,
  round(hits_ns / 1e6, 2) AS overhead_ms,
  round(100.0 * busy_dur / all_dur, 1) AS percent,
  round(dur / 1e3 / nullif(runs, 0), 1) AS mean_us,
  round(max_dur / 1e3, 1) AS max_us,
  incomplete + profinfer_unknown_graphs(upid) + profinfer_doubtful_phases(upid) AS incomplete
FROM ranked
WHERE rank <= 40
ORDER BY upid, rank;

-- title: Work by module (percent of each phase)
SELECT
  profinfer_process_label(s.upid) AS process,
  coalesce(s.phase, 'outside') AS phase,
  k.module,
  sum(s.runs) AS runs,
  round(sum(s.busy_dur) / 1e6, 2) AS work_ms,
  round(
    100.0 * sum(s.busy_dur) / sum(sum(s.busy_dur)) OVER (PARTITION BY s.upid, s.phase), 1
  ) AS percent,
  sum(s.incomplete)
  + _unseen_operators(s.upid)
  + profinfer_unknown_graphs(s.upid)
  + profinfer_doubtful_phases(s.upid) AS incomplete
FROM profinfer_operator_phase AS s
LEFT JOIN _operator_kind AS k
  USING (arg_set_id)
GROUP BY s.upid, s.phase, k.module
ORDER BY s.upid, s.phase, sum(s.busy_dur) DESC;
