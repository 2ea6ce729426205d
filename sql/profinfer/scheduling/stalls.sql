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
  waits AS MATERIALIZED (
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
      l.blocked_dur,
      NOT s.run IN (SELECT run FROM _incomplete_run) AS complete
    FROM _hindered_slice AS s
    CROSS JOIN _late_part AS l
      ON l.run = s.run AND l.is_last
    WHERE NOT s.run IN (SELECT run FROM _uncertain_run)
  ),
  late AS MATERIALIZED (
    SELECT
      w.id,
      sum(
        iif(h.kind = 'cpu', min(h.ts + h.dur, w.end_ts) - max(h.ts, w.last_arrival), 0)
      ) AS dur,
      sum(
        iif(h.kind = 'throttled', min(h.ts + h.dur, w.end_ts) - max(h.ts, w.last_arrival), 0)
      ) AS throttled_dur
    FROM _idle_piece AS h
    CROSS JOIN waits AS w
      ON w.id = h.slice_id
    WHERE h.ts + h.dur > w.last_arrival AND h.kind IN ('cpu', 'throttled')
    GROUP BY w.id
  ),
  sums AS (
    SELECT
      g.upid,
      w.run & 0xFFFFFFFF AS arg_set_id,
      sum(min(w.dur, w.cpu_dur)) AS interference_dur,
      sum(
        min(w.dur, w.cpu_dur + w.throttled_dur) - min(w.dur, w.cpu_dur)
      ) AS throttled_dur,
      sum(
        min(w.dur, w.cpu_dur + w.throttled_dur + w.start_dur)
        - min(w.dur, w.cpu_dur + w.throttled_dur)
      ) AS start_dur,
      sum(
        min(w.dur, w.cpu_dur + w.throttled_dur + w.start_dur + w.fault_dur)
        - min(w.dur, w.cpu_dur + w.throttled_dur + w.start_dur)
      ) AS fault_dur,
      sum(
        min(w.dur, w.cpu_dur + w.throttled_dur + w.start_dur + w.fault_dur + w.blocked_dur)
        - min(w.dur, w.cpu_dur + w.throttled_dur + w.start_dur + w.fault_dur)
      ) AS blocked_dur,
      sum(coalesce(l.dur, 0)) AS late_dur,
      sum(coalesce(l.throttled_dur, 0)) AS late_throttled_dur
    FROM waits AS w
    CROSS JOIN _graph_context AS g
      ON g.graph_id = w.run >> 32
    LEFT JOIN late AS l
      USING (id)
    WHERE w.complete
    GROUP BY g.upid, 2
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
      arg_set_id,
      upid,
      interference_dur,
      throttled_dur,
      start_dur,
      fault_dur,
      blocked_dur,
      late_dur,
      late_throttled_dur,
      0 AS uncertain
    FROM sums
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
