-- How far the threads that run an operator are apart.

INCLUDE PERFETTO MODULE profinfer.operators.sums;
INCLUDE PERFETTO MODULE profinfer.operators.work;
INCLUDE PERFETTO MODULE profinfer.recording.net;

-- One row per distinct tensor that is computed (another size is another): sums over its complete runs.
CREATE PERFETTO TABLE _operator_spread(
  -- Arguments of its slices.
  arg_set_id ARGSETID,
  -- Work of the thread that worked longest in each run.
  slowest_dur DURATION,
  -- Work of the thread that worked least in each run.
  fastest_dur DURATION
) AS
WITH
  throttled AS MATERIALIZED (
    SELECT DISTINCT
      w.run
    FROM _throttled_work AS t
    CROSS JOIN _operator_work AS w
      ON w.id = t.slice_id
  ),
  runs AS (
    SELECT
      run,
      max(arrival - ts) AS slowest_dur,
      min(arrival - ts) AS fastest_dur
    FROM _operator_work
    GROUP BY run
    HAVING NOT run IN (SELECT run FROM throttled)
    UNION ALL
    SELECT
      w.run,
      max(w.arrival - w.ts - coalesce(t.dur, 0)) AS slowest_dur,
      min(w.arrival - w.ts - coalesce(t.dur, 0)) AS fastest_dur
    FROM throttled AS r
    CROSS JOIN _operator_work AS w
      USING (run)
    LEFT JOIN _throttled_work AS t
      ON t.slice_id = w.id
    GROUP BY w.run
  )
SELECT
  run & 0xFFFFFFFF AS arg_set_id,
  sum(slowest_dur) AS slowest_dur,
  sum(fastest_dur) AS fastest_dur
FROM runs
WHERE NOT run IN (SELECT run FROM _incomplete_run)
GROUP BY 1;

-- _operator_total with these. Totals of a process, as in profinfer_operator_total, but for how long runs took from
-- end to end.
CREATE PERFETTO VIEW _spread_total(
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
  -- Work, summed over threads.
  busy_dur DURATION,
  -- Of that, what the engine would have taken without the probes.
  busy_net_dur DURATION,
  -- Time throttled meanwhile, summed over threads.
  throttled_dur DURATION,
  -- Wait at the barrier after it, summed over threads.
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
  -- Runs that are in none of the sums, at most.
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
  t.busy_dur,
  t.busy_net_dur,
  t.throttled_dur,
  t.wait_dur,
  t.imbalance_dur,
  coalesce(s.slowest_dur, 0) AS slowest_dur,
  iif(t.runs = 0, 0, _net!(s.slowest_dur, t.runs * c.hits_ns)) AS slowest_net_dur,
  coalesce(s.fastest_dur, 0) AS fastest_dur,
  iif(t.runs = 0, 0, _net!(s.fastest_dur, t.runs * c.hits_ns)) AS fastest_net_dur,
  t.incomplete,
  t.upid
FROM _operator_total AS t
LEFT JOIN _operator_spread AS s
  USING (arg_set_id)
LEFT JOIN profinfer_operator_cost AS c
  ON c.arg_set_id = t.arg_set_id AND c.upid = t.upid;
