-- Which operators take the most time?
-- Work is summed over threads, without the wait at the barrier. Prefill and decode are told
-- apart by the micro-batch around the graph. Operators that may be incomplete are not in the
-- sums; how many there are is in the last column. overhead_ms is the part of work_ms that is the
-- recording's own: per run and thread one hit of the operator's probe and one of the barrier's for
-- each barrier inside the operator. Most of the hit at the barrier after it is in the wait, which
-- work_ms leaves out. NULL where the cost of a hit was not measured.

INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.operators.runs;
INCLUDE PERFETTO MODULE profinfer.recording.handlers;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Operators by work (the first 40)
WITH
  -- First by argument set, a number: a million rows are grouped by text far more slowly.
  sets AS MATERIALIZED (
    SELECT
      r.upid,
      r.arg_set_id,
      u.phase,
      r.name,
      sum(r.complete) AS runs,
      sum(iif(r.complete, r.thread_count, 0)) AS slices,
      sum(iif(r.complete, r.busy_dur, 0)) AS busy_dur,
      sum(iif(r.complete, r.dur, 0)) AS dur,
      max(iif(r.complete, r.dur, NULL)) AS max_dur,
      sum(NOT r.complete) AS incomplete
    FROM _operator_run AS r
    JOIN profinfer_graph AS g
      USING (graph_id)
    LEFT JOIN profinfer_ubatch AS u
      USING (ubatch_id)
    GROUP BY r.arg_set_id, u.phase
  ),
  ranked AS (
    SELECT
      s.upid,
      s.phase,
      s.name,
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
    FROM sets AS s
    LEFT JOIN _operator_kind AS k
      ON k.arg_set_id = s.arg_set_id
    LEFT JOIN profinfer_operator_cost AS c
      ON c.arg_set_id = s.arg_set_id AND c.upid = s.upid
    GROUP BY s.upid, s.phase, s.name, k.op
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
