-- What follows from counters of operators: instructions per cycle, stalls, bandwidth.

INCLUDE PERFETTO MODULE profinfer.counters.readings;
INCLUDE PERFETTO MODULE profinfer.operators.runs;

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
      c.graph_id,
      c.arg_set_id,
      c.upid,
      max(s.arrival) - min(s.ts) AS work_dur,
      iif(
        max(k.role = 'cycles' AND c.estimate IS NULL),
        NULL,
        sum(iif(k.role = 'cycles', c.estimate, NULL))
      ) AS cycles,
      iif(
        max(k.role = 'instructions' AND c.estimate IS NULL),
        NULL,
        sum(iif(k.role = 'instructions', c.estimate, NULL))
      ) AS instructions,
      iif(
        max(k.role = 'stall_backend' AND c.estimate IS NULL),
        NULL,
        sum(iif(k.role = 'stall_backend', c.estimate, NULL))
      ) AS stalled,
      iif(
        max(k.role = 'memory_read' AND c.estimate IS NULL),
        NULL,
        sum(iif(k.role = 'memory_read', c.estimate, NULL))
      ) AS read_bytes,
      iif(
        max(k.role = 'memory_write' AND c.estimate IS NULL),
        NULL,
        sum(iif(k.role = 'memory_write', c.estimate, NULL))
      ) AS written_bytes,
      min(c.complete AND c.estimate IS NOT NULL) AS complete,
      max(c.counted_dur < c.cpu_dur) AS multiplexed
    FROM profinfer_operator_counter AS c
    LEFT JOIN taken AS k
      ON k.upid = c.upid AND k.counter_id = c.counter_id
    JOIN profinfer_operator_slice AS s
      USING (id)
    GROUP BY c.graph_id, c.arg_set_id
  )
SELECT
  graph_id,
  arg_set_id,
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
FROM summed;
