-- Totals of every distinct operator.

INCLUDE PERFETTO MODULE profinfer.operators.phases;
INCLUDE PERFETTO MODULE profinfer.operators.spread;
INCLUDE PERFETTO MODULE profinfer.recording.net;

-- One row per distinct tensor that is computed (another size is another) of a process. Runs that may be incomplete are counted,
-- and are in none of the sums.
CREATE PERFETTO VIEW profinfer_operator_total(
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
  -- The same without the probes' time on the thread that ended last; NULL where it is not known.
  net_dur DURATION,
  -- The longest of these.
  max_dur DURATION,
  -- Work, summed over threads.
  busy_dur DURATION,
  -- Of that, what the engine would have taken without the probes; NULL where their cost is not known
  -- (profinfer_operator_cost says why).
  busy_net_dur DURATION,
  -- Time throttled meanwhile, summed over threads; NULL where the scheduler was not recorded.
  throttled_dur DURATION,
  -- Wait at the barrier after it, summed over threads; NULL when barriers were not recorded.
  wait_dur DURATION,
  -- Part of the wait during which some thread was still at work.
  imbalance_dur DURATION,
  -- Work of the thread that worked longest in each run.
  slowest_dur DURATION,
  -- The same without the probes.
  slowest_net_dur DURATION,
  -- Work of the thread that worked least in each run.
  fastest_dur DURATION,
  -- The same without the probes.
  fastest_net_dur DURATION,
  -- Runs that are in none of the sums, at most: those that may be incomplete, and one per graph
  -- of which it is not known what ran in it.
  incomplete LONG,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  t.arg_set_id,
  t.name,
  t.operator_id,
  t.label,
  t.op,
  t.layer,
  t.module,
  t.runs,
  t.thread_count,
  e.dur,
  iif(t.runs = 0, 0, _net!(e.dur, t.runs * c.run_ns)) AS net_dur,
  e.max_dur,
  t.busy_dur,
  t.busy_net_dur,
  t.throttled_dur,
  t.wait_dur,
  t.imbalance_dur,
  t.slowest_dur,
  t.slowest_net_dur,
  t.fastest_dur,
  t.fastest_net_dur,
  t.incomplete,
  t.upid
FROM _spread_total AS t
JOIN _extent_total AS e
  USING (arg_set_id)
LEFT JOIN profinfer_operator_cost AS c
  ON c.arg_set_id = t.arg_set_id AND c.upid = t.upid;
