-- What follows from counters of operators: instructions per cycle, stalls, bandwidth.

INCLUDE PERFETTO MODULE profinfer.counters.readings;
INCLUDE PERFETTO MODULE profinfer.operators.runs;

-- What was counted in each slice, by numbers alone.
CREATE PERFETTO TABLE _slice_counter(
  -- As in _operator_work.
  run LONG,
  -- As in profinfer_counter.
  counter_id LONG,
  -- As in profinfer_operator_counter.
  value DOUBLE,
  -- As in profinfer_operator_counter.
  cpu_dur LONG,
  -- As in profinfer_operator_counter.
  counted_dur LONG,
  -- As in profinfer_operator_counter.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  run,
  counter_id,
  arrival_value - begin_value AS value,
  cast_int!(cpu_dur) AS cpu_dur,
  cast_int!(cpu_dur - missed_dur) AS counted_dur,
  arrival_value IS NOT NULL AND NOT id IN (SELECT id FROM _incomplete_work) AS complete,
  upid
FROM _operator_reading;

-- Operator runs and counters, all threads together.
CREATE PERFETTO TABLE _run_counter(
  -- As in _operator_work.
  run LONG,
  -- As in profinfer_counter.
  counter_id LONG,
  -- What it counted in complete slices that were read at both ends.
  value DOUBLE,
  -- Time on a CPU in these.
  cpu_dur DURATION,
  -- The part of it in which the counter counted.
  counted_dur DURATION,
  -- Slices that were not read at both ends.
  unread LONG,
  -- Others that are not complete.
  incomplete LONG,
  -- Sum of the estimates; NULL where one is missing.
  estimate DOUBLE,
  -- Whether there are estimates for all slices, and all are complete.
  complete BOOL,
  -- Whether it did not count all the time.
  multiplexed BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  run,
  counter_id,
  sum(iif(complete, value, NULL)) AS value,
  sum(iif(complete, cpu_dur, 0)) AS cpu_dur,
  sum(iif(complete, counted_dur, 0)) AS counted_dur,
  sum(value IS NULL) AS unread,
  sum(value IS NOT NULL AND NOT complete) AS incomplete,
  iif(max(estimate IS NULL), NULL, sum(estimate)) AS estimate,
  min(complete AND estimate IS NOT NULL) AS complete,
  max(counted_dur < cpu_dur) AS multiplexed,
  upid
FROM (
  SELECT
    *,
    iif(counted_dur = cpu_dur, value, value * cpu_dur / nullif(counted_dur, 0)) AS estimate
  FROM _slice_counter
)
GROUP BY run, counter_id;

-- What the counters say of an operator run, all its threads together. NULL where a counter that it
-- takes was not counted, be it on one of the threads. Of several counters that stand for the same the
-- first is taken.
CREATE PERFETTO VIEW profinfer_operator_metric(
  -- Graph run.
  graph_id LONG,
  -- Arguments of its slices; one set per distinct operator.
  arg_set_id ARGSETID,
  -- From its start to the end of the last thread's work.
  work_dur DURATION,
  -- CPU cycles.
  cycles DOUBLE,
  -- Instructions.
  instructions DOUBLE,
  -- Instructions per cycle.
  ipc DOUBLE,
  -- Cycles in which the back end took no operation, of all cycles.
  backend_stall_ratio DOUBLE,
  -- Bytes read from memory.
  read_bytes DOUBLE,
  -- Bytes written: which writes, the counter's source says.
  written_bytes DOUBLE,
  -- Bytes read and written per second of work_dur.
  bandwidth DOUBLE,
  -- Whether every counter was read at both ends on every thread, and no slice is incomplete.
  complete BOOL,
  -- Whether some counter did not count all the time, so that its value is an estimate.
  multiplexed BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  taken AS MATERIALIZED (
    SELECT
      upid,
      min(counter_id) AS counter_id,
      role
    FROM profinfer_counter
    WHERE role IS NOT NULL
    GROUP BY upid, role
  ),
  summed AS (
    SELECT
      c.run,
      c.upid,
      max(iif(k.role = 'cycles', c.estimate, NULL)) AS cycles,
      max(iif(k.role = 'instructions', c.estimate, NULL)) AS instructions,
      max(iif(k.role = 'stall_backend', c.estimate, NULL)) AS stalled,
      max(iif(k.role = 'memory_read', c.estimate, NULL)) AS read_bytes,
      max(iif(k.role = 'memory_write', c.estimate, NULL)) AS written_bytes,
      min(c.complete) AS complete,
      max(c.multiplexed) AS multiplexed
    FROM _run_counter AS c
    LEFT JOIN taken AS k
      ON k.upid = c.upid AND k.counter_id = c.counter_id
    GROUP BY c.run
  ),
  timed AS (
    SELECT
      s.*,
      (
        SELECT
          max(w.arrival) - min(w.ts)
        FROM _operator_work AS w
        WHERE w.run = s.run
      ) AS work_dur
    FROM summed AS s
  )
SELECT
  run >> 32 AS graph_id,
  run & 0xFFFFFFFF AS arg_set_id,
  work_dur,
  cycles,
  instructions,
  instructions / nullif(cycles, 0) AS ipc,
  stalled / nullif(cycles, 0) AS backend_stall_ratio,
  read_bytes,
  written_bytes,
  (coalesce(read_bytes, 0) + coalesce(written_bytes, 0)) * 1e9 / iif(
    read_bytes IS NULL AND written_bytes IS NULL,
    NULL,
    nullif(work_dur, 0)
  ) AS bandwidth,
  complete,
  multiplexed,
  upid
FROM timed;
