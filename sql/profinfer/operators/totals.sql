-- Totals of every distinct operator: what the ready queries add up.

INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.sums;

-- One row per distinct tensor that is computed (another size is another) of a process. Runs that may be incomplete are counted,
-- and are in none of the sums.
CREATE PERFETTO TABLE profinfer_operator_total(
  -- Arguments of its slices, with the description.
  arg_set_id ARGSETID,
  -- Name of the tensor that is computed.
  name STRING,
  -- Which operator it is, at any size.
  operator_id LONG,
  -- That operator's name for people.
  label STRING,
  -- Operator; both joined by a plus sign when fused.
  op STRING,
  -- Layer number.
  layer LONG,
  -- Part of the model, as in profinfer_tensor.
  module STRING,
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
  -- Time throttled meanwhile, summed over threads; NULL where the scheduler was not recorded.
  throttled_dur DURATION,
  -- Wait at the barrier after it, summed over threads; NULL when barriers were not recorded.
  wait_dur DURATION,
  -- Part of the wait during which some thread was still at work.
  imbalance_dur DURATION,
  -- Work of the thread that worked longest in each run.
  slowest_dur DURATION,
  -- Work of the thread that worked least in each run.
  fastest_dur DURATION,
  -- Runs that are in none of the sums, at most: those that may be incomplete, and one per graph
  -- of which it is not known what ran in it.
  incomplete LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  sums AS MATERIALIZED (
    SELECT
      upid,
      arg_set_id,
      max(thread_count) AS thread_count,
      sum(runs) AS runs,
      sum(dur) AS dur,
      max(max_dur) AS max_dur,
      sum(busy_dur) AS busy_dur,
      sum(throttled_dur) AS throttled_dur,
      sum(wait_dur) AS wait_dur,
      sum(imbalance_dur) AS imbalance_dur,
      sum(slowest_dur) AS slowest_dur,
      sum(fastest_dur) AS fastest_dur,
      sum(incomplete) AS incomplete
    FROM _operator_sum
    GROUP BY arg_set_id
  )
SELECT
  s.arg_set_id,
  k.name,
  k.operator_id,
  coalesce(k.label, k.name) AS label,
  k.op,
  k.layer,
  k.module,
  s.runs,
  s.thread_count,
  s.dur,
  s.max_dur,
  s.busy_dur,
  s.throttled_dur,
  s.wait_dur,
  s.imbalance_dur,
  s.slowest_dur,
  s.fastest_dur,
  s.incomplete + iif(k.tensor_id IS NULL, 0, profinfer_unknown_graphs(s.upid)) AS incomplete,
  s.upid
FROM sums AS s
LEFT JOIN _operator_kind AS k
  USING (arg_set_id);
