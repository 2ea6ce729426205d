-- Which operators, and which parts of the model (an adapter, say), take the most time?
-- An operator is one of the model's, at any size of batch and context. Where the engine gave it no
-- name, that of its weight or of what it is computed from is shown. Modules are attention, ffn,
-- experts, embedding, output and adapter: what a LoRA costs, its matrices and its sums. NULL where
-- that is not certain, as of the residual's sums.
-- Work is summed over threads, without the wait at the barrier. Prefill and decode are told
-- apart by the micro-batch around the graph. Operators that may be incomplete are not in the
-- sums; how many there are is in the last column. net_ms is work_ms without what is the recording's own,
-- which is probes_percent of it: per run and thread one hit of the operator's probe and one of the barrier's
-- for each barrier inside the operator. Most of the hit at the barrier after it is in the wait, which
-- work_ms leaves out. NULL where the cost of a hit is not known (profinfer_operator_cost says why). Order and
-- percent are those of net work, where all of it is known.

INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.phases;
INCLUDE PERFETTO MODULE profinfer.operators.unrecorded;
INCLUDE PERFETTO MODULE profinfer.operators.unseen;
INCLUDE PERFETTO MODULE profinfer.recording.net;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Operators by work (the first 40)
-- rows: 15
WITH
  summed AS (
    SELECT
      s.upid,
      s.phase,
      min(coalesce(k.label, s.name)) AS name,
      k.op,
      k.layer,
      sum(s.runs) AS runs,
      sum(s.busy_dur) AS busy_dur,
      _whole!(s.busy_net_dur) AS net_dur,
      sum(s.dur) AS dur,
      max(s.max_dur) AS max_dur,
      sum(s.incomplete) AS incomplete
    FROM profinfer_operator_phase AS s
    LEFT JOIN _operator_kind AS k
      ON k.arg_set_id = s.arg_set_id
    GROUP BY s.upid, s.phase, k.operator_id
  ),
  told AS (
    SELECT
      *,
      _told!(net_dur, busy_dur) AS told_dur
    FROM summed
  ),
  ranked AS (
    SELECT
      *,
      sum(told_dur) OVER (PARTITION BY upid) AS all_dur,
      row_number() OVER (PARTITION BY upid ORDER BY told_dur DESC) AS rank
    FROM told
  )
SELECT
  profinfer_process_label(upid) AS process,
  coalesce(phase, 'outside') AS phase,
  name,
  op,
  layer,
  runs,
  round(busy_dur / 1e6, 2) AS work_ms,
  round(net_dur / 1e6, 2) AS net_ms,
  _probes_percent!(busy_dur, net_dur) AS probes_percent,
  round(100.0 * told_dur / nullif(all_dur, 0), 1) AS percent,
  round(dur / 1e3 / nullif(runs, 0), 1) AS mean_us,
  round(max_dur / 1e3, 1) AS max_us,
  incomplete + profinfer_unknown_graphs(upid) + profinfer_doubtful_phases(upid) AS incomplete
FROM ranked
WHERE rank <= 40
ORDER BY upid, rank;

-- title: Work by module (percent of each phase)
WITH
  modules AS (
    SELECT
      s.upid,
      s.phase,
      k.module,
      sum(s.runs) AS runs,
      sum(s.busy_dur) AS busy_dur,
      _whole!(s.busy_net_dur) AS net_dur,
      sum(s.incomplete)
      + _unseen_operators(s.upid)
      + profinfer_unknown_graphs(s.upid)
      + profinfer_doubtful_phases(s.upid) AS incomplete
    FROM profinfer_operator_phase AS s
    LEFT JOIN _operator_kind AS k
      USING (arg_set_id)
    GROUP BY s.upid, s.phase, k.module
  ),
  told AS (
    SELECT
      *,
      _told!(net_dur, busy_dur) AS told_dur
    FROM modules
  )
SELECT
  profinfer_process_label(upid) AS process,
  coalesce(phase, 'outside') AS phase,
  module,
  runs,
  round(busy_dur / 1e6, 2) AS work_ms,
  round(net_dur / 1e6, 2) AS net_ms,
  _probes_percent!(busy_dur, net_dur) AS probes_percent,
  round(100.0 * told_dur / nullif(sum(told_dur) OVER (PARTITION BY upid, phase), 0), 1) AS percent,
  incomplete
FROM told
ORDER BY upid, phase, told_dur DESC;

-- Operators' time holds nothing of graphs of which no operator was recorded: these are told here, by the
-- backend that was asked to compute them. percent is of all graphs' time in the process.

-- title: Graphs by backend (unrecorded: without a record of any operator)
WITH
  sums AS (
    SELECT
      *,
      sum(dur) OVER (PARTITION BY upid) AS all_dur
    FROM profinfer_unrecorded
  )
SELECT
  profinfer_process_label(upid) AS process,
  backend,
  graphs,
  round(dur / 1e6, 2) AS graphs_ms,
  unrecorded_graphs AS unrecorded,
  round(unrecorded_dur / 1e6, 2) AS unrecorded_ms,
  round(100.0 * unrecorded_dur / nullif(all_dur, 0), 1) AS percent,
  reason,
  incomplete + profinfer_unknown_graphs(upid) AS incomplete
FROM sums
ORDER BY upid, graphs_ms DESC, backend;
