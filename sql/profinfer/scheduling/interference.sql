-- Which waits of the target's threads have other causes than the spread of the work, and what of that
-- is not certain.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.runs;
INCLUDE PERFETTO MODULE profinfer.scheduling.hindrances;
INCLUDE PERFETTO MODULE profinfer.scheduling.late_parts;
INCLUDE PERFETTO MODULE profinfer.scheduling.operators;
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
    FROM _operator_off_cpu AS f
    CROSS JOIN _operator_work AS w
      ON w.id = f.slice_id
    WHERE NOT f.complete
    UNION
    SELECT
      w.run
    FROM _late_start AS l
    CROSS JOIN _operator_work AS w
      ON w.id = l.slice_id
    WHERE l.kind = 'unknown'
    UNION
    SELECT
      graph_id << 32 | arg_set_id AS run
    FROM _operator_seen
    WHERE
      EXISTS(
        SELECT
          1
        FROM _unscheduled_graph
      )
      AND graph_id IN (
        SELECT
          graph_id
        FROM _unscheduled_graph
      )
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
  lost AS MATERIALIZED (
    SELECT
      graph_id << 32 | arg_set_id AS run
    FROM _operator_seen
    WHERE NOT complete
  ),
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
      NOT s.run IN (SELECT run FROM lost) AS complete
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
  doubts AS (
    SELECT
      upid,
      arg_set_id,
      count() AS uncertain
    FROM _uncertain_run
    GROUP BY upid, arg_set_id
  )
SELECT
  a.arg_set_id,
  coalesce(s.interference_dur, 0) AS interference_dur,
  coalesce(s.throttled_dur, 0) AS throttled_dur,
  coalesce(s.start_dur, 0) AS start_dur,
  iif(c.has_calls, coalesce(s.fault_dur, 0), NULL) AS fault_dur,
  coalesce(s.blocked_dur, 0) AS blocked_dur,
  coalesce(s.late_dur, 0) AS late_dur,
  coalesce(s.late_throttled_dur, 0) AS late_throttled_dur,
  coalesce(d.uncertain, 0) AS uncertain,
  c.upid
FROM _operator_kind AS a
JOIN _scheduler AS c
  ON coalesce(a.upid = c.upid, TRUE)
LEFT JOIN sums AS s
  ON s.arg_set_id = a.arg_set_id AND s.upid = c.upid
LEFT JOIN doubts AS d
  ON d.arg_set_id = a.arg_set_id AND d.upid = c.upid
ORDER BY a.arg_set_id;

-- States that a loss may have to do with: those that are not certain, and waits for a CPU.
CREATE PERFETTO TABLE _touchy_state(
  -- As in profinfer_thread_state.
  id LONG,
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- CPU that the thread waited for.
  ucpu LONG,
  -- Whether the state is certain.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  id,
  ts,
  dur,
  ucpu,
  complete,
  upid
FROM profinfer_thread_state
WHERE
  EXISTS(
    SELECT
      1
    FROM _scheduler_loss
  )
  AND (
    NOT complete
    OR kind IN ('preempted', 'runnable')
  );

-- Losses that may have hidden something of a process. Where a single switch was found to be missing,
-- that is so when it concerns a thread of it, or a CPU that one was waiting for.
CREATE PERFETTO TABLE _scheduler_doubt(
  -- Time before which none of these was lost.
  first_ts TIMESTAMP,
  -- Time of the last one.
  ts TIMESTAMP,
  -- Records lost.
  lost LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  losses AS MATERIALIZED (
    SELECT
      row_number() OVER () AS id,
      l.first_ts,
      l.ts,
      l.lost,
      l.cpu,
      l.left_tid,
      p.upid
    FROM _scheduler_loss AS l
    LEFT JOIN _scheduler_mode AS m
      ON m.upid = l.upid
    JOIN _recorded_process AS o
      ON o.upid = l.upid
    JOIN _recorded_process AS p
      -- Who records everything loses something of whoever is recorded at the time.
      ON
        p.upid = l.upid
        OR (
          m.mode IS NOT 'target'
          AND p.machine_id IS o.machine_id
          AND p.ts <= l.ts
          AND p.end_ts >= l.first_ts
        )
  ),
  -- A loss meets a state if, of those that begin before its end, the last to end does so after its
  -- beginning.
  waiting AS (
    SELECT
      id,
      max(end_ts) OVER (
        PARTITION BY upid, cpu ORDER BY ts, id IS NOT NULL ROWS UNBOUNDED PRECEDING
      ) AS end_ts
    FROM (
      SELECT NULL AS id, upid, ucpu AS cpu, ts, ts + dur AS end_ts FROM _touchy_state
      UNION ALL
      SELECT id, upid, cpu, ts, NULL AS end_ts FROM losses WHERE left_tid IS NOT NULL
    )
    WHERE cpu IS NOT NULL
  ),
  uncertain AS (
    SELECT
      id,
      max(end_ts) OVER (
        PARTITION BY upid ORDER BY ts, id IS NOT NULL ROWS UNBOUNDED PRECEDING
      ) AS end_ts
    FROM (
      SELECT NULL AS id, upid, ts, ts + dur AS end_ts FROM _touchy_state WHERE NOT complete
      UNION ALL
      SELECT id, upid, ts, NULL AS end_ts FROM losses WHERE left_tid IS NOT NULL
    )
  ),
  met AS MATERIALIZED (
    SELECT
      w.id
    FROM waiting AS w
    CROSS JOIN losses AS l
      USING (id)
    WHERE w.end_ts >= l.first_ts
    UNION
    SELECT
      u.id
    FROM uncertain AS u
    CROSS JOIN losses AS l
      USING (id)
    WHERE u.end_ts >= l.first_ts
  )
SELECT
  first_ts,
  ts,
  lost,
  upid
FROM losses
WHERE left_tid IS NULL OR +id IN (SELECT id FROM met);

-- What of the scheduler's doings may be missing of a process.
CREATE PERFETTO FUNCTION profinfer_scheduling_doubts(
  -- Process.
  upid JOINID(process.id)
)
-- Records of the scheduler and of the engine that were lost, and operator runs whose split is not
-- certain; 0 for none.
RETURNS LONG AS
SELECT
  (
    SELECT
      coalesce(sum(lost), 0)
    FROM _scheduler_doubt
    WHERE upid = $upid
  ) + _lost_records($upid) + (
    SELECT
      count()
    FROM _uncertain_run
    WHERE upid = $upid
  );
