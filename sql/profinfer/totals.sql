-- Totals of every distinct operator: what the ready queries add up.

INCLUDE PERFETTO MODULE profinfer.graphs;
INCLUDE PERFETTO MODULE profinfer.operators;
INCLUDE PERFETTO MODULE profinfer.tensors;

-- One row per distinct operator (same tensor, same shape) and phase. Runs that may be incomplete
-- are counted, and are in none of the sums.
CREATE PERFETTO TABLE profinfer_operator_total(
  -- Phase of the micro-batch around it: prefill, decode, mixed, ubatch, or outside.
  phase STRING,
  -- Arguments of its slices, with the description.
  arg_set_id ARGSETID,
  -- Name of the tensor that is computed.
  name STRING,
  -- Operator; both joined by a plus sign when fused.
  op STRING,
  -- Layer number.
  layer LONG,
  -- Complete runs.
  runs LONG,
  -- Threads that ran it, at most.
  thread_count LONG,
  -- From the first thread's start to the last thread's end.
  dur DURATION,
  -- The longest of these.
  max_dur DURATION,
  -- Work, summed over threads.
  busy_dur DURATION,
  -- Wait at the barrier after it, summed over threads; NULL when barriers were not recorded.
  wait_dur DURATION,
  -- Part of the wait during which some thread was still at work.
  imbalance_dur DURATION,
  -- Work of the thread that worked longest in each run.
  slowest_dur DURATION,
  -- Work of the thread that worked least in each run.
  fastest_dur DURATION,
  -- Runs that may be incomplete.
  incomplete LONG
) AS
WITH
  -- By numbers: a million rows are grouped by text far more slowly.
  sums AS (
    SELECT
      u.ubatch_phase,
      o.arg_set_id,
      o.name,
      sum(o.complete) AS runs,
      max(o.thread_count) AS thread_count,
      sum(iif(o.complete, o.dur, 0)) AS dur,
      max(iif(o.complete, o.dur, NULL)) AS max_dur,
      sum(iif(o.complete, o.busy_dur, 0)) AS busy_dur,
      sum(iif(o.complete, o.wait_dur, 0)) AS wait_dur,
      sum(iif(o.complete, o.imbalance_dur, 0)) AS imbalance_dur,
      sum(iif(o.complete, o.slowest_dur, 0)) AS slowest_dur,
      sum(iif(o.complete, o.fastest_dur, 0)) AS fastest_dur,
      sum(NOT o.complete) AS incomplete,
      max(o.wait_dur) IS NOT NULL AS has_waits
    FROM profinfer_operator AS o
    JOIN (
      SELECT
        graph_id,
        coalesce(phase, 'outside') AS ubatch_phase
      FROM profinfer_graph
      LEFT JOIN profinfer_ubatch
        USING (ubatch_id)
    ) AS u
      USING (graph_id)
    GROUP BY o.arg_set_id, u.ubatch_phase
  )
SELECT
  s.ubatch_phase AS phase,
  s.arg_set_id,
  s.name,
  k.op,
  k.layer,
  s.runs,
  s.thread_count,
  s.dur,
  s.max_dur,
  s.busy_dur,
  iif(s.has_waits, s.wait_dur, NULL) AS wait_dur,
  iif(s.has_waits, s.imbalance_dur, NULL) AS imbalance_dur,
  s.slowest_dur,
  s.fastest_dur,
  s.incomplete
FROM sums AS s
LEFT JOIN _operator_kind AS k
  USING (arg_set_id);
