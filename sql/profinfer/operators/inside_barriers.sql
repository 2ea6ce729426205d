-- Waiting inside operators: MUL_MAT, for instance, calls the barrier between quantising its
-- input and multiplying. There only the arrival is recorded.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.operators.work;

-- Arrivals at barriers inside operators.
CREATE PERFETTO TABLE _inside_work(
  -- The operator's slice.
  id JOINID(slice.id),
  -- As in _operator_work.
  run LONG,
  -- When the thread arrived.
  ts TIMESTAMP
) AS
SELECT
  w.id,
  w.run,
  i.ts
FROM _inside_event AS i
CROSS JOIN _operator_work AS w
  ON w.id = i.operator_slice_id;

-- Without it a join by id reads all of them, for each row.
CREATE PERFETTO INDEX _inside_work_id ON _inside_work(id);

-- Runs in which a thread met several barriers.
CREATE PERFETTO TABLE _much_inside(
  -- As in _operator_work.
  run LONG
) AS
SELECT DISTINCT
  run
FROM (
  SELECT
    run
  FROM _inside_work
  GROUP BY id
  HAVING count() > 1
);

-- One row per barrier inside an operator: all threads together, by numbers alone.
CREATE PERFETTO VIEW _inside_run(
  -- As in _operator_work.
  run LONG,
  -- Number of the barrier within the operator, from 1.
  number LONG,
  -- Arrival of the last thread.
  ts TIMESTAMP,
  -- Threads that arrived.
  thread_count LONG,
  -- Wait until the last thread's arrival, summed over threads.
  wait_dur DURATION
) AS
-- Most operators have one barrier inside: those need no counting through.
SELECT
  run,
  1 AS number,
  max(ts) AS ts,
  count() AS thread_count,
  count() * max(ts) - sum(ts) AS wait_dur
FROM _inside_work
GROUP BY run
HAVING NOT run IN (SELECT run FROM _much_inside)
UNION ALL
SELECT
  run,
  number,
  max(ts) AS ts,
  count() AS thread_count,
  count() * max(ts) - sum(ts) AS wait_dur
FROM (
  SELECT
    run,
    ts,
    row_number() OVER (PARTITION BY id ORDER BY ts) AS number
  FROM _inside_work
  -- Not run by run, as without the plus.
  WHERE +run IN (SELECT run FROM _much_inside)
)
GROUP BY run, number;

-- One row per barrier inside an operator: all threads together.
CREATE PERFETTO VIEW profinfer_inside_barrier(
  -- Graph run.
  graph_id LONG,
  -- Arguments of the operator's slices.
  arg_set_id ARGSETID,
  -- Number of the barrier within the operator, from 1.
  number LONG,
  -- Arrival of the last thread.
  ts TIMESTAMP,
  -- Threads that arrived.
  thread_count LONG,
  -- Wait until the last thread's arrival, summed over threads: the wait was at least this long.
  wait_dur DURATION,
  -- False when a record of the operator may have been lost.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  i.run >> 32 AS graph_id,
  i.run & 0xFFFFFFFF AS arg_set_id,
  i.number,
  i.ts,
  i.thread_count,
  i.wait_dur,
  -- A thread whose arrival was lost is not in these rows, but its operator is incomplete.
  NOT i.run IN (SELECT run FROM _incomplete_run) AS complete,
  g.upid
FROM _inside_run AS i
JOIN _graph_context AS g
  ON g.graph_id = i.run >> 32;
