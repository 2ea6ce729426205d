-- Counters of operators (record --counters).

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.operators.runs;

-- What was counted, by process.
CREATE PERFETTO TABLE profinfer_counter(
  -- Number in the recording of its process.
  counter_id LONG,
  -- Name, as the event is asked for.
  name STRING,
  -- What its values are given in.
  unit STRING,
  -- What it stands for: cycles, instructions, stall_backend (cycles), memory_read or memory_write
  -- (bytes); NULL for none of these.
  role STRING,
  -- The first counter of the group with which it shares its hardware; NULL for what the kernel
  -- counts itself, always.
  leader STRING,
  -- What the event is, and who says so.
  source STRING,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  named AS (
    SELECT
      cast_int!(substr(key, 17, instr(key, ']') - 17)) AS counter_id,
      substr(key, instr(key, ']') + 2) AS field,
      nullif(value, '') AS value,
      upid
    FROM _recording_arg
    WHERE key GLOB 'counters.events*' AND event = 'recording started'
  )
SELECT
  counter_id,
  max(iif(field = 'name', value, NULL)) AS name,
  max(iif(field = 'unit', value, NULL)) AS unit,
  max(iif(field = 'role', value, NULL)) AS role,
  max(iif(field = 'leader', value, NULL)) AS leader,
  max(iif(field = 'source', value, NULL)) AS source,
  upid
FROM named
GROUP BY upid, counter_id
ORDER BY upid, counter_id;

-- Readings with the two that follow on the same thread.
CREATE PERFETTO TABLE _counter_step(
  -- Time of the reading.
  ts TIMESTAMP,
  -- Thread.
  utid JOINID(thread.id),
  -- As in _counter_event.
  name STRING,
  -- Its value.
  value DOUBLE,
  -- Time of the next.
  next_ts TIMESTAMP,
  -- Value of the next.
  next_value DOUBLE,
  -- Time of the one after.
  after_ts TIMESTAMP,
  -- Value of the one after.
  after_value DOUBLE
) AS
SELECT
  ts,
  utid,
  name,
  value,
  lead(ts) OVER steps AS next_ts,
  lead(value) OVER steps AS next_value,
  lead(ts, 2) OVER steps AS after_ts,
  lead(value, 2) OVER steps AS after_value
FROM _counter_event
WINDOW
  steps AS (PARTITION BY utid, name ORDER BY ts)
ORDER BY ts;

-- What was counted in an operator's work, and in the wait after it: NULL where it was not read.
CREATE PERFETTO TABLE _operator_step(
  -- The operator's slice.
  id JOINID(slice.id),
  -- As in _counter_event.
  name STRING,
  -- Until the wait.
  value DOUBLE,
  -- In the wait; 0 where there is none.
  wait_value DOUBLE
) AS
SELECT
  o.id,
  s.name,
  iif(s.next_ts = o.arrival, s.next_value - s.value, NULL) AS value,
  CASE
    WHEN o.wait_dur = 0
    THEN 0
    WHEN o.wait_dur > 0 AND s.after_ts = o.ts + o.dur
    THEN s.after_value - s.next_value
  END AS wait_value
FROM profinfer_operator_slice AS o
JOIN _counter_step AS s
  ON s.ts = o.ts AND s.utid = o.utid
ORDER BY o.id;

-- One row per operator, thread and counter.
CREATE PERFETTO TABLE profinfer_operator_counter(
  -- The operator's slice.
  id JOINID(slice.id),
  -- Thread.
  utid JOINID(thread.id),
  -- Graph run.
  graph_id LONG,
  -- Arguments of the slice; one set per distinct operator.
  arg_set_id ARGSETID,
  -- The counter, as in profinfer_counter.
  counter_id LONG,
  -- What it has counted in the operator's work, by this thread alone, in its unit: until the wait
  -- at the barrier, or, when barriers were not recorded, until the operator's end. NULL when it
  -- was not read at both ends; a worker's last operator of a graph ends unread without a barrier.
  value DOUBLE,
  -- The same of the wait; NULL when barriers were not recorded or it was not read.
  wait_value DOUBLE,
  -- Time of the work in which the thread was on a CPU.
  cpu_dur DURATION,
  -- The part of it in which the counter counted: less when it had to share its hardware.
  counted_dur DURATION,
  -- The value that there would have been, had it counted all of cpu_dur as it did in counted_dur;
  -- NULL when it did not count at all.
  estimate DOUBLE,
  -- Whether the slice is complete and the counter was read at both ends.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  counted AS (
    SELECT
      o.id,
      o.utid,
      o.graph_id,
      o.arg_set_id,
      k.counter_id,
      v.value,
      v.wait_value,
      c.value AS cpu_dur,
      c.value - iif(k.leader IS NULL, 0, m.value) AS counted_dur,
      o.complete,
      o.upid
    FROM profinfer_operator_slice AS o
    CROSS JOIN profinfer_counter AS k
      ON k.upid = o.upid
    LEFT JOIN _operator_step AS v
      ON v.id = o.id AND v.name = k.name
    LEFT JOIN _operator_step AS c
      ON c.id = o.id AND c.name = 'CPU time'
    LEFT JOIN _operator_step AS m
      ON m.id = o.id AND m.name = 'not counted: ' || k.leader
  )
SELECT
  id,
  utid,
  graph_id,
  arg_set_id,
  counter_id,
  value,
  wait_value,
  cast_int!(cpu_dur) AS cpu_dur,
  cast_int!(counted_dur) AS counted_dur,
  iif(counted_dur = cpu_dur, value, value * cpu_dur / nullif(counted_dur, 0)) AS estimate,
  complete AND value IS NOT NULL AS complete,
  upid
FROM counted;
