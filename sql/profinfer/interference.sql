-- Who took the CPU from the target's threads, and by how much operators and tokens came later.

INCLUDE PERFETTO MODULE intervals.intersect;
INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs;
INCLUDE PERFETTO MODULE profinfer.operators;
INCLUDE PERFETTO MODULE profinfer.scheduling;

-- Pieces of the time in which a thread waited for a CPU, each with the thread that ran on it.
CREATE PERFETTO TABLE _occupied(
  -- The waiting thread's state.
  state_id LONG,
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- Thread that ran there, NULL when only its number is known.
  utid JOINID(thread.id),
  -- Its number.
  tid LONG,
  -- Its name.
  name STRING
) AS
WITH
  waits AS MATERIALIZED (
    SELECT
      id,
      ts,
      dur,
      utid,
      ucpu
    FROM profinfer_thread_state
    WHERE kind IN ('preempted', 'runnable') AND dur > 0 AND ucpu IS NOT NULL
  ),
  -- Where everything is recorded.
  runs AS MATERIALIZED (
    SELECT
      s.id,
      s.ts,
      iif(s.dur < 0, trace_end() - s.ts, s.dur) AS dur,
      s.ucpu
    FROM sched AS s
    WHERE
      (
        SELECT
          mode
        FROM _scheduler
      ) = 'system'
      AND s.dur != 0
      AND s.ucpu IN (
        SELECT
          ucpu
        FROM waits
      )
  ),
  -- Where only the target's switches are.
  takers AS MATERIALIZED (
    SELECT
      id,
      ts,
      iif(dur < 0, trace_end() - ts, dur) AS dur,
      utid
    FROM _taker_event
    WHERE dur != 0
  )
SELECT
  i.id_0 AS state_id,
  i.ts,
  i.dur,
  t.utid,
  t.tid,
  t.name
FROM _interval_intersect!((waits, runs), (ucpu)) AS i
JOIN sched AS s
  ON s.id = i.id_1
JOIN thread AS t
  ON t.utid = s.utid
-- Neither idle CPUs nor those of which it is not known who ran.
WHERE t.tid BETWEEN 1 AND 0x3fffffff
UNION ALL
SELECT
  i.id_0 AS state_id,
  i.ts,
  i.dur,
  NULL AS utid,
  e.tid,
  e.name
FROM _interval_intersect!((waits, takers), (utid)) AS i
JOIN _taker_event AS e
  ON e.id = i.id_1;

-- Time in which a thread of the target could have run and another thread ran in its place.
CREATE PERFETTO TABLE profinfer_preemption(
  -- Number of the row.
  id LONG,
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- The target's thread.
  utid JOINID(thread.id),
  -- Its state, as in profinfer_thread_state: preempted or runnable.
  state_id LONG,
  -- The thread that ran. NULL when only its number and name are known (recordings of the target's
  -- switches), or not even those.
  taker_utid JOINID(thread.id),
  -- Its number.
  taker_tid LONG,
  -- Its name.
  taker_name STRING,
  -- Name of its process.
  taker_process STRING,
  -- Whether it is one of the target's own threads.
  is_own BOOL,
  -- CPU.
  ucpu LONG,
  -- False when records around it may have been lost.
  complete BOOL
) AS
WITH
  pieces AS (
    SELECT
      *
    FROM _occupied
    UNION ALL
    -- Preempted, but by whom is not known.
    SELECT
      id AS state_id,
      ts,
      dur,
      NULL AS utid,
      NULL AS tid,
      NULL AS name
    FROM profinfer_thread_state
    WHERE
      kind = 'preempted'
      AND dur > 0
      AND NOT id IN (
        SELECT
          state_id
        FROM _occupied
      )
  )
SELECT
  row_number() OVER (ORDER BY p.ts, p.state_id) AS id,
  p.ts,
  p.dur,
  s.utid,
  p.state_id,
  p.utid AS taker_utid,
  p.tid AS taker_tid,
  p.name AS taker_name,
  q.name AS taker_process,
  coalesce(t.upid = (SELECT upid FROM thread WHERE utid = s.utid), FALSE) AS is_own,
  s.ucpu,
  s.complete
FROM pieces AS p
JOIN profinfer_thread_state AS s
  ON s.id = p.state_id
LEFT JOIN thread AS t
  ON t.utid = p.utid
LEFT JOIN process AS q
  ON q.upid = t.upid
ORDER BY p.ts;

-- Preemptions within operators.
CREATE PERFETTO TABLE _taken_in_operator(
  -- The operator's slice.
  slice_id JOINID(slice.id),
  -- Preemption, as in profinfer_preemption.
  preemption_id LONG,
  -- Start of what they have in common.
  ts TIMESTAMP,
  -- Its duration.
  dur DURATION
) AS
SELECT
  o.slice_id,
  i.id_1 AS preemption_id,
  i.ts,
  i.dur
FROM _interval_intersect!(
  (
    (SELECT id, ts, dur, state_id FROM _off_cpu),
    (SELECT id, ts, dur, state_id FROM profinfer_preemption)
  ),
  (state_id)
) AS i
JOIN _off_cpu AS o
  ON o.id = i.id_0;

-- What kept threads from working within operators, other than waiting for each other.
CREATE PERFETTO TABLE _hindrance(
  -- The operator's slice.
  slice_id JOINID(slice.id),
  -- Preemption; NULL for sleep.
  preemption_id LONG,
  -- One of cpu (it waited for one that was taken), fault, blocked (other sleep, futexes left out).
  kind STRING,
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION
) AS
SELECT
  slice_id,
  preemption_id,
  'cpu' AS kind,
  ts,
  dur
FROM _taken_in_operator
UNION ALL
SELECT
  p.slice_id,
  NULL AS preemption_id,
  iif(s.kind = 'fault', 'fault', 'blocked') AS kind,
  p.ts,
  p.dur
FROM _off_cpu AS p
JOIN profinfer_thread_state AS s
  ON s.id = p.state_id
WHERE s.kind IN ('fault', 'io', 'sleep');

-- Slices of operator runs in which some thread was hindered.
CREATE PERFETTO TABLE _hindered_slice(
  -- Slice id.
  id JOINID(slice.id),
  -- Graph run.
  graph_id LONG,
  -- Arguments of the operator.
  arg_set_id ARGSETID,
  -- Start.
  ts TIMESTAMP,
  -- When its work was done.
  arrival TIMESTAMP,
  -- When it ended.
  end_ts TIMESTAMP,
  -- Whether the split of its time is certain.
  complete BOOL
) AS
WITH
  runs AS MATERIALIZED (
    SELECT DISTINCT
      o.graph_id * 16777216 + o.arg_set_id AS run
    FROM _hindrance AS h
    JOIN profinfer_operator_slice AS o
      ON o.id = h.slice_id
  )
SELECT
  o.id,
  o.graph_id,
  o.arg_set_id,
  o.ts,
  o.ts + o.busy_dur AS arrival,
  o.ts + o.dur AS end_ts,
  o.complete
FROM profinfer_operator_slice AS o
WHERE
  EXISTS(
    SELECT
      1
    FROM _hindrance
  )
  AND o.graph_id * 16777216 + o.arg_set_id IN (
    SELECT
      run
    FROM runs
  );

-- The work of these slices, cut at the barriers inside them: at each one all threads meet.
CREATE PERFETTO TABLE _hindered_part(
  -- Number of the row.
  id LONG,
  -- The operator's slice.
  slice_id JOINID(slice.id),
  -- Graph run.
  graph_id LONG,
  -- Arguments of the operator.
  arg_set_id ARGSETID,
  -- Number of the part within the operator, from 1.
  number LONG,
  -- Start: when all threads had met before.
  ts TIMESTAMP,
  -- When its work was done.
  arrival TIMESTAMP,
  -- When the work of the last thread was.
  last_arrival TIMESTAMP,
  -- Whether it ends with the operator's work.
  is_last BOOL
) AS
WITH
  arrivals AS (
    SELECT
      s.id AS slice_id,
      s.graph_id,
      s.arg_set_id,
      i.ts AS arrival,
      FALSE AS is_last
    FROM _hindered_slice AS s
    JOIN _inside_event AS i
      ON i.operator_slice_id = s.id
    UNION ALL
    SELECT
      id AS slice_id,
      graph_id,
      arg_set_id,
      arrival,
      TRUE AS is_last
    FROM _hindered_slice
  ),
  numbered AS (
    SELECT
      *,
      row_number() OVER (PARTITION BY slice_id ORDER BY arrival, is_last) AS number
    FROM arrivals
  ),
  met AS (
    SELECT
      *,
      max(arrival) OVER (PARTITION BY graph_id, arg_set_id, number) AS last_arrival
    FROM numbered
  ),
  begun AS (
    SELECT
      *,
      lag(last_arrival) OVER (PARTITION BY slice_id ORDER BY number) AS met_before
    FROM met
  )
SELECT
  row_number() OVER () AS id,
  b.slice_id,
  b.graph_id,
  b.arg_set_id,
  b.number,
  coalesce(b.met_before, s.ts) AS ts,
  b.arrival,
  b.last_arrival,
  b.is_last
FROM begun AS b
JOIN _hindered_slice AS s
  ON s.id = b.slice_id;

-- Hindrances within parts.
CREATE PERFETTO TABLE _hindrance_in_part(
  -- Part.
  part_id LONG,
  -- Preemption; NULL for sleep.
  preemption_id LONG,
  -- Kind, as in _hindrance.
  kind STRING,
  -- Duration of what they have in common.
  dur DURATION
) AS
SELECT
  p.id AS part_id,
  h.preemption_id,
  h.kind,
  min(h.ts + h.dur, p.arrival) - max(h.ts, p.ts) AS dur
FROM _hindrance AS h
JOIN _hindered_part AS p
  USING (slice_id)
WHERE h.ts < p.arrival AND h.ts + h.dur > p.ts;

-- By how much operator runs came later than they would have. A part of a run is over when its last
-- thread arrives: what would have been is computed from when each would have arrived without what
-- hindered it.
CREATE PERFETTO TABLE _late_part(
  -- Graph run.
  graph_id LONG,
  -- Arguments of the operator.
  arg_set_id ARGSETID,
  -- Number of the part within the operator.
  number LONG,
  -- Whether it ends with the operator's work.
  is_last BOOL,
  -- When the last thread arrived.
  last_arrival TIMESTAMP,
  -- Later by this much, since threads waited for a CPU that another one had.
  cpu_dur DURATION,
  -- And by this much, since they took page faults.
  fault_dur DURATION,
  -- And by this much, since they slept otherwise.
  blocked_dur DURATION
) AS
WITH
  sums AS MATERIALIZED (
    SELECT
      part_id,
      sum(iif(kind = 'cpu', dur, 0)) AS cpu,
      sum(iif(kind = 'fault', dur, 0)) AS fault,
      sum(iif(kind = 'blocked', dur, 0)) AS blocked
    FROM _hindrance_in_part
    GROUP BY part_id
  ),
  without AS (
    SELECT
      p.graph_id,
      p.arg_set_id,
      p.number,
      max(p.is_last) AS is_last,
      max(p.arrival) AS arrival,
      max(p.arrival - coalesce(s.cpu, 0)) AS cpu,
      max(p.arrival - coalesce(s.cpu + s.fault, 0)) AS fault,
      max(p.arrival - coalesce(s.cpu + s.fault + s.blocked, 0)) AS blocked
    FROM _hindered_part AS p
    LEFT JOIN sums AS s
      ON s.part_id = p.id
    GROUP BY p.graph_id, p.arg_set_id, p.number
  )
SELECT
  graph_id,
  arg_set_id,
  number,
  is_last,
  arrival AS last_arrival,
  arrival - cpu AS cpu_dur,
  cpu - fault AS fault_dur,
  fault - blocked AS blocked_dur
FROM without;

-- Delays of operator runs by preemptions: each bears its share of how much later a part was done.
CREATE PERFETTO TABLE profinfer_delay(
  -- Graph run.
  graph_id LONG,
  -- Arguments of the operator.
  arg_set_id ARGSETID,
  -- Preemption, as in profinfer_preemption.
  preemption_id LONG,
  -- How much later the operator's threads were done: less than the preemption where they would have
  -- had to wait for another thread all the same.
  dur DURATION
) AS
WITH
  causes AS (
    SELECT
      p.graph_id,
      p.arg_set_id,
      p.number,
      h.preemption_id,
      h.dur,
      sum(h.dur) OVER (PARTITION BY p.graph_id, p.arg_set_id, p.number) AS total
    FROM _hindrance_in_part AS h
    JOIN _hindered_part AS p
      ON p.id = h.part_id
    WHERE h.kind = 'cpu'
  )
SELECT
  c.graph_id,
  c.arg_set_id,
  c.preemption_id,
  CAST(round(sum(1.0 * l.cpu_dur * c.dur / c.total)) AS INTEGER) AS dur
FROM causes AS c
JOIN _late_part AS l
  USING (graph_id, arg_set_id, number)
GROUP BY c.graph_id, c.arg_set_id, c.preemption_id
ORDER BY c.graph_id;

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
  EXISTS(
    SELECT
      1
    FROM _scheduler
  )
  AND NOT coalesce(e.ts >= t.ts, FALSE)
ORDER BY e.graph_id;

-- Operator runs of which the split of some thread's time is not certain.
CREATE PERFETTO TABLE _uncertain_run(
  -- Graph run.
  graph_id LONG,
  -- Arguments of the operator.
  arg_set_id ARGSETID
) AS
SELECT DISTINCT
  o.graph_id,
  o.arg_set_id
FROM _operator_off_cpu AS f
JOIN profinfer_operator_slice AS o
  ON o.id = f.slice_id
WHERE NOT f.complete
UNION
SELECT
  o.graph_id,
  o.arg_set_id
FROM _operator_seen AS o
WHERE
  EXISTS(
    SELECT
      1
    FROM _unscheduled_graph
  )
  AND o.graph_id IN (
    SELECT
      graph_id
    FROM _unscheduled_graph
  );

-- Parts of the barrier wait after each distinct operator that have other causes than the spread of
-- the work. Complete runs only, as in profinfer_operator_total.
CREATE PERFETTO TABLE profinfer_operator_stall(
  -- Arguments of the operator.
  arg_set_id ARGSETID,
  -- Wait for threads that came later because another thread had taken their CPU.
  interference_dur DURATION,
  -- Wait for threads that came later because they took page faults. NULL where system calls were
  -- not recorded: they are then among those that slept.
  fault_dur DURATION,
  -- Wait for threads that came later because they slept otherwise.
  blocked_dur DURATION,
  -- Wait after all had arrived, of threads whose own CPU was taken by then.
  late_dur DURATION,
  -- Runs that are in none of these, since it is not certain when their threads ran.
  uncertain LONG
) AS
WITH
  waits AS (
    SELECT
      s.id,
      s.graph_id,
      s.arg_set_id,
      min(l.last_arrival, s.end_ts) - s.arrival AS dur,
      s.end_ts,
      l.last_arrival,
      l.cpu_dur,
      l.fault_dur,
      l.blocked_dur,
      iif(
        NOT EXISTS(
          SELECT
            1
          FROM _graph_gap
        ),
        min(s.complete) OVER (PARTITION BY s.graph_id, s.arg_set_id),
        (
          SELECT
            r.complete
          FROM _operator_seen AS r
          WHERE r.graph_id = s.graph_id AND r.arg_set_id = s.arg_set_id
        )
      ) AS complete
    FROM _hindered_slice AS s
    JOIN _late_part AS l
      ON l.graph_id = s.graph_id AND l.arg_set_id = s.arg_set_id AND l.is_last
    WHERE
      NOT EXISTS(
        SELECT
          1
        FROM _uncertain_run AS u
        WHERE u.graph_id = s.graph_id AND u.arg_set_id = s.arg_set_id
      )
  ),
  late AS MATERIALIZED (
    SELECT
      w.id,
      sum(min(h.ts + h.dur, w.end_ts) - max(h.ts, w.last_arrival)) AS dur
    FROM _taken_in_operator AS h
    JOIN waits AS w
      ON w.id = h.slice_id
    WHERE h.ts + h.dur > w.last_arrival
    GROUP BY w.id
  ),
  sums AS (
    SELECT
      w.arg_set_id,
      sum(min(w.dur, w.cpu_dur)) AS interference_dur,
      sum(min(w.dur, w.cpu_dur + w.fault_dur) - min(w.dur, w.cpu_dur)) AS fault_dur,
      sum(
        min(w.dur, w.cpu_dur + w.fault_dur + w.blocked_dur)
        - min(w.dur, w.cpu_dur + w.fault_dur)
      ) AS blocked_dur,
      sum(coalesce(l.dur, 0)) AS late_dur
    FROM waits AS w
    LEFT JOIN late AS l
      USING (id)
    WHERE w.complete
    GROUP BY w.arg_set_id
  ),
  doubts AS (
    SELECT
      arg_set_id,
      count() AS uncertain
    FROM _uncertain_run
    GROUP BY arg_set_id
  )
SELECT
  a.arg_set_id,
  coalesce(s.interference_dur, 0) AS interference_dur,
  iif(c.has_calls, coalesce(s.fault_dur, 0), NULL) AS fault_dur,
  coalesce(s.blocked_dur, 0) AS blocked_dur,
  coalesce(s.late_dur, 0) AS late_dur,
  coalesce(d.uncertain, 0) AS uncertain
FROM _operator_arg_set AS a
CROSS JOIN _scheduler AS c
LEFT JOIN sums AS s
  USING (arg_set_id)
LEFT JOIN doubts AS d
  USING (arg_set_id)
ORDER BY a.arg_set_id;

-- States that a loss may have to do with: those that are not certain, and waits for a CPU.
CREATE PERFETTO TABLE _touchy_state(
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- CPU that the thread waited for.
  ucpu LONG,
  -- Whether the state is certain.
  complete BOOL
) AS
SELECT
  ts,
  dur,
  ucpu,
  complete
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

-- Losses that may have hidden something. Where a single switch was found to be missing, that is so
-- when it concerns a thread of the target, or a CPU that one was waiting for.
CREATE PERFETTO TABLE _scheduler_doubt(
  -- Records lost.
  lost LONG
) AS
SELECT
  l.lost
FROM _scheduler_loss AS l
WHERE
  l.left_tid IS NULL
  OR EXISTS(
    SELECT
      1
    FROM _touchy_state AS s
    WHERE
      s.ts <= l.ts
      AND s.ts + s.dur >= l.first_ts
      AND (
        NOT s.complete
        OR s.ucpu = l.cpu
      )
  );

-- What of the scheduler's doings may be missing.
CREATE PERFETTO FUNCTION profinfer_scheduling_doubts()
-- Records of the scheduler and of the engine that were lost, and operator runs whose split is not
-- certain; 0 for none.
RETURNS LONG AS
SELECT
  (
    SELECT
      coalesce(sum(lost), 0)
    FROM _scheduler_doubt
  ) + (
    SELECT
      coalesce(sum(lost), 0)
    FROM _loss_event
  ) + (
    SELECT
      count()
    FROM _uncertain_run
  );
