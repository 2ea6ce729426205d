-- Totals of every distinct operator in prefill and in decode.

INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.operators.runs;

-- One row per distinct tensor that is computed (another size is another), phase and process. Runs that
-- may be incomplete are counted, and are in none of the sums.
CREATE PERFETTO TABLE profinfer_operator_phase(
  -- Arguments of its slices, with the description.
  arg_set_id ARGSETID,
  -- Phase of the micro-batch around the graph, NULL outside any.
  phase STRING,
  -- Name of the tensor that is computed.
  name STRING,
  -- Complete runs.
  runs LONG,
  -- Slices of these: one per run and thread.
  slices LONG,
  -- Work, summed over threads.
  busy_dur DURATION,
  -- From the first thread's start to the last thread's end.
  dur DURATION,
  -- The longest of these.
  max_dur DURATION,
  -- Runs that may be incomplete.
  incomplete LONG,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  r.arg_set_id,
  u.phase,
  r.name,
  sum(r.complete) AS runs,
  sum(iif(r.complete, r.thread_count, 0)) AS slices,
  sum(iif(r.complete, r.busy_dur, 0)) AS busy_dur,
  sum(iif(r.complete, r.dur, 0)) AS dur,
  max(iif(r.complete, r.dur, NULL)) AS max_dur,
  sum(NOT r.complete) AS incomplete,
  r.upid
FROM _operator_run AS r
JOIN profinfer_graph AS g
  USING (graph_id)
LEFT JOIN profinfer_ubatch AS u
  USING (ubatch_id)
-- By argument set, a number: a million rows are grouped by text far more slowly.
GROUP BY r.arg_set_id, u.phase;
