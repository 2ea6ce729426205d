-- Which waits of the target's threads have other causes than the spread of the work.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.work;
INCLUDE PERFETTO MODULE profinfer.scheduling.hindrances;
INCLUDE PERFETTO MODULE profinfer.scheduling.late_parts;
INCLUDE PERFETTO MODULE profinfer.scheduling.off_cpu;
INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;

-- Graph runs of which not every thread's states are known.
CREATE PERFETTO TABLE _unscheduled_graph(
  -- Graph run.
  graph_id LONG
) AS
SELECT DISTINCT
  e.graph_id
FROM _graph_event AS e
LEFT JOIN _scheduled_thread AS t
  USING (utid)
WHERE
  e.upid IN (
    SELECT
      upid
    FROM _scheduler
  )
  AND NOT coalesce(e.ts >= t.ts, FALSE)
ORDER BY e.graph_id;

-- Operator runs of which the split of some thread's time is not certain.
CREATE PERFETTO TABLE _uncertain_run(
  -- As in _operator_work.
  run LONG,
  -- Graph run.
  graph_id LONG,
  -- Arguments of the operator.
  arg_set_id ARGSETID,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  runs AS (
    SELECT
      w.run
    FROM _off_cpu AS f
    JOIN profinfer_thread_state AS s
      ON s.id = f.state_id
    CROSS JOIN _operator_work AS w
      ON w.id = f.slice_id
    WHERE NOT s.complete OR s.kind IS NULL OR s.kind = 'ended'
    UNION
    SELECT
      w.run
    FROM _late_start AS l
    CROSS JOIN _operator_work AS w
      ON w.id = l.slice_id
    WHERE l.kind = 'unknown'
    UNION
    SELECT
      w.run
    FROM _unscheduled_graph AS u
    CROSS JOIN _graph_event AS e
      USING (graph_id)
    CROSS JOIN _operator_work AS w
      ON w.parent_id = e.id
  )
SELECT
  r.run,
  r.run >> 32 AS graph_id,
  r.run & 0xFFFFFFFF AS arg_set_id,
  g.upid
FROM runs AS r
CROSS JOIN _graph_context AS g
  ON g.graph_id = r.run >> 32
ORDER BY r.run;

-- Waits of threads in runs in which some thread was hindered, complete and certain ones: how much of them there would
-- not have been without what hindered others.
CREATE PERFETTO TABLE _hindered_wait(
  -- The operator's slice.
  id JOINID(slice.id),
  -- Arguments of the operator, and in the upper 32 bits the process.
  whose LONG,
  -- End of the wait.
  end_ts TIMESTAMP,
  -- When the last thread arrived.
  last_arrival TIMESTAMP,
  -- Without waits for a CPU that another thread had.
  cpu_dur DURATION,
  -- Without throttling as well.
  throttled_dur DURATION,
  -- Without a start within the graph as well.
  start_dur DURATION,
  -- Without page faults as well.
  fault_dur DURATION,
  -- Without other sleep as well.
  blocked_dur DURATION
) AS
SELECT
  w.id,
  g.upid << 32 | (w.run & 0xFFFFFFFF) AS whose,
  w.end_ts,
  w.last_arrival,
  min(w.dur, w.cpu_dur) AS cpu_dur,
  min(w.dur, w.cpu_dur + w.throttled_dur) AS throttled_dur,
  min(w.dur, w.cpu_dur + w.throttled_dur + w.start_dur) AS start_dur,
  min(w.dur, w.cpu_dur + w.throttled_dur + w.start_dur + w.fault_dur) AS fault_dur,
  min(w.dur, w.cpu_dur + w.throttled_dur + w.start_dur + w.fault_dur + w.blocked_dur) AS blocked_dur
FROM (
  SELECT
    s.id,
    s.run,
    min(l.last_arrival, s.end_ts) - s.arrival AS dur,
    s.end_ts,
    l.last_arrival,
    l.cpu_dur,
    l.throttled_dur,
    l.start_dur,
    l.fault_dur,
    l.blocked_dur
  FROM _hindered_slice AS s
  CROSS JOIN _late_part AS l
    ON l.run = s.run AND l.is_last
) AS w
CROSS JOIN _graph_context AS g
  ON g.graph_id = w.run >> 32
WHERE
  NOT w.run IN (SELECT run FROM _uncertain_run)
  AND NOT w.run IN (SELECT run FROM _incomplete_run);

-- Without it a join by id reads all of them, for each row.
CREATE PERFETTO INDEX _hindered_wait_id ON _hindered_wait(id);

-- Parts of the barrier wait after each distinct operator that have other causes than the spread of
-- the work. Complete runs only, as in profinfer_operator_total.
CREATE PERFETTO TABLE profinfer_operator_stall(
  -- Arguments of the operator.
  arg_set_id ARGSETID,
  -- Wait for threads that came later because another thread had taken their CPU.
  interference_dur DURATION,
  -- Wait for threads that came later because they were throttled.
  throttled_dur DURATION,
  -- Wait for threads that came later because they were started within the graph.
  start_dur DURATION,
  -- Wait for threads that came later because they took page faults. NULL where system calls were
  -- not recorded: they are then among those that slept.
  fault_dur DURATION,
  -- Wait for threads that came later because they slept otherwise.
  blocked_dur DURATION,
  -- Wait after all had arrived, of threads whose own CPU was taken by then.
  late_dur DURATION,
  -- The same of threads that were throttled by then.
  late_throttled_dur DURATION,
  -- Runs that are in none of these, since it is not certain when their threads ran.
  uncertain LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  sums AS (
    SELECT
      whose,
      sum(cpu_dur) AS cpu_dur,
      sum(throttled_dur) AS throttled_dur,
      sum(start_dur) AS start_dur,
      sum(fault_dur) AS fault_dur,
      sum(blocked_dur) AS blocked_dur
    FROM _hindered_wait
    GROUP BY whose
  ),
  -- Not joined: each of thousands of operators would read all sums.
  parts AS (
    SELECT
      a.arg_set_id,
      c.upid,
      0 AS interference_dur,
      0 AS throttled_dur,
      0 AS start_dur,
      0 AS fault_dur,
      0 AS blocked_dur,
      0 AS late_dur,
      0 AS late_throttled_dur,
      0 AS uncertain
    FROM _operator_kind AS a
    JOIN _scheduler AS c
      ON coalesce(a.upid = c.upid, TRUE)
    UNION ALL
    SELECT
      whose & 0xFFFFFFFF AS arg_set_id,
      whose >> 32 AS upid,
      cpu_dur AS interference_dur,
      throttled_dur - cpu_dur AS throttled_dur,
      start_dur - throttled_dur AS start_dur,
      fault_dur - start_dur AS fault_dur,
      blocked_dur - fault_dur AS blocked_dur,
      0 AS late_dur,
      0 AS late_throttled_dur,
      0 AS uncertain
    FROM sums
    UNION ALL
    SELECT
      w.whose & 0xFFFFFFFF AS arg_set_id,
      w.whose >> 32 AS upid,
      0 AS interference_dur,
      0 AS throttled_dur,
      0 AS start_dur,
      0 AS fault_dur,
      0 AS blocked_dur,
      sum(iif(h.kind = 'cpu', min(h.ts + h.dur, w.end_ts) - max(h.ts, w.last_arrival), 0)) AS late_dur,
      sum(
        iif(h.kind = 'throttled', min(h.ts + h.dur, w.end_ts) - max(h.ts, w.last_arrival), 0)
      ) AS late_throttled_dur,
      0 AS uncertain
    FROM _idle_piece AS h
    CROSS JOIN _hindered_wait AS w
      ON w.id = h.slice_id
    WHERE h.ts + h.dur > w.last_arrival
    GROUP BY w.whose
    UNION ALL
    SELECT
      arg_set_id,
      upid,
      0 AS interference_dur,
      0 AS throttled_dur,
      0 AS start_dur,
      0 AS fault_dur,
      0 AS blocked_dur,
      0 AS late_dur,
      0 AS late_throttled_dur,
      1 AS uncertain
    FROM _uncertain_run
  )
SELECT
  p.arg_set_id,
  sum(p.interference_dur) AS interference_dur,
  sum(p.throttled_dur) AS throttled_dur,
  sum(p.start_dur) AS start_dur,
  iif(c.has_calls, sum(p.fault_dur), NULL) AS fault_dur,
  sum(p.blocked_dur) AS blocked_dur,
  sum(p.late_dur) AS late_dur,
  sum(p.late_throttled_dur) AS late_throttled_dur,
  sum(p.uncertain) AS uncertain,
  c.upid
FROM parts AS p
JOIN _scheduler AS c
  USING (upid)
GROUP BY p.arg_set_id, c.upid;
