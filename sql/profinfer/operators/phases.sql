-- Totals of every distinct operator in prefill and in decode, and how long its runs took from end to end.

INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.remainders;
INCLUDE PERFETTO MODULE profinfer.operators.work;
INCLUDE PERFETTO MODULE profinfer.recording.net;

-- Complete runs, from end to end. Apart from _run_sum: a maximum costs more than a sum, and who asks for
-- these needs no waits.
CREATE PERFETTO TABLE _run_extent(
  -- Arguments, and in the lower 16 bits the phase.
  summand LONG,
  -- Threads that ran it.
  thread_count LONG,
  -- Work, summed over threads.
  busy_dur DURATION,
  -- From the first thread's start to the last thread's end.
  dur DURATION,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  (r.run & 0xFFFFFFFF) << 16 | g.phase_id AS summand,
  r.thread_count,
  r.arrivals - r.starts AS busy_dur,
  r.dur,
  g.upid
FROM (
  SELECT
    run,
    count() AS thread_count,
    sum(ts) AS starts,
    sum(arrival) AS arrivals,
    max(end_ts) - min(ts) AS dur
  FROM _operator_work
  GROUP BY run
) AS r
CROSS JOIN _graph_context AS g
  ON g.graph_id = r.run >> 32
WHERE NOT r.run IN (SELECT run FROM _incomplete_run);

-- Sums of these. Runs that may be incomplete are counted, and are in none of them.
CREATE PERFETTO TABLE _operator_extent(
  -- Arguments of its slices.
  arg_set_id ARGSETID,
  -- As in _graph_context.
  phase_id LONG,
  -- Phase of the micro-batch around the graph, NULL outside any.
  phase STRING,
  -- Complete runs.
  runs LONG,
  -- Slices of these: one per run and thread.
  slices LONG,
  -- Work, summed over threads.
  busy_dur DURATION,
  -- From the first thread's start to the last thread's end.
  dur DURATION,
  -- The longest of these, NULL for none.
  max_dur DURATION,
  -- Runs that may be incomplete.
  incomplete LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  sums AS (
    SELECT
      summand,
      count() AS runs,
      sum(thread_count) AS slices,
      sum(busy_dur) AS busy_dur,
      sum(dur) AS dur,
      max(dur) AS max_dur,
      0 AS incomplete,
      upid
    FROM _run_extent
    GROUP BY summand
    UNION ALL
    SELECT
      summand,
      0 AS runs,
      0 AS slices,
      -coalesce(throttled_dur, 0) AS busy_dur,
      0 AS dur,
      NULL AS max_dur,
      incomplete,
      upid
    FROM _operator_remainder
  )
SELECT
  s.summand >> 16 AS arg_set_id,
  p.phase_id,
  p.phase,
  sum(s.runs) AS runs,
  sum(s.slices) AS slices,
  sum(s.busy_dur) AS busy_dur,
  sum(s.dur) AS dur,
  max(s.max_dur) AS max_dur,
  sum(s.incomplete) AS incomplete,
  s.upid
FROM sums AS s
CROSS JOIN _phase AS p
  ON p.phase_id = s.summand & 0xFFFF
GROUP BY s.summand;

-- The same of all phases together.
CREATE PERFETTO TABLE _extent_total(
  -- Arguments of its slices.
  arg_set_id ARGSETID,
  -- From the first thread's start to the last thread's end.
  dur DURATION,
  -- The longest of these, NULL for none.
  max_dur DURATION
) AS
SELECT
  arg_set_id,
  sum(dur) AS dur,
  max(max_dur) AS max_dur
FROM _operator_extent
GROUP BY arg_set_id;

-- One row per distinct tensor that is computed (another size is another), phase and process. Runs that
-- may be incomplete are counted, and are in none of the sums.
CREATE PERFETTO VIEW profinfer_operator_phase(
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
  -- Of that, what the engine would have taken without the probes; NULL where their cost is not known
  -- (profinfer_operator_cost says why).
  busy_net_dur DURATION,
  -- From the first thread's start to the last thread's end.
  dur DURATION,
  -- The same without the probes' time on the thread that ended last; NULL where it is not known.
  net_dur DURATION,
  -- The longest of these.
  max_dur DURATION,
  -- Runs that may be incomplete.
  incomplete LONG,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  s.arg_set_id,
  s.phase,
  k.name,
  s.runs,
  s.slices,
  s.busy_dur,
  iif(s.runs = 0, 0, _net!(s.busy_dur, s.slices * c.hits_ns)) AS busy_net_dur,
  s.dur,
  iif(s.runs = 0, 0, _net!(s.dur, s.runs * c.run_ns)) AS net_dur,
  s.max_dur,
  s.incomplete,
  s.upid
FROM _operator_extent AS s
JOIN _operator_kind AS k
  USING (arg_set_id)
LEFT JOIN profinfer_operator_cost AS c
  ON c.arg_set_id = s.arg_set_id AND c.upid = s.upid
WHERE s.phase_id > 0;
