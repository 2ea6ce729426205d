-- What the scheduler did with the target's threads: the states of threads that compute graphs, and
-- how each operator's time divides into running and the ways of not running.
--
-- States are the kernel's: a thread that is switched out while it could have gone on is preempted.
-- Where the scheduler was not recorded, durations are NULL, not 0.

INCLUDE PERFETTO MODULE intervals.intersect;
INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs;
INCLUDE PERFETTO MODULE profinfer.operators;

-- Missing records that may make a state of a thread that computed graphs look other than it was.
CREATE PERFETTO TABLE _state_loss(
  -- Time before which none of these was lost.
  first_ts TIMESTAMP,
  -- Time of the last one.
  ts TIMESTAMP,
  -- CPU, NULL when it may have been any.
  cpu LONG,
  -- The only thread that it concerns, NULL when it may be any.
  tid LONG
) AS
SELECT
  first_ts,
  ts,
  cpu,
  NULL AS tid
FROM _scheduler_loss
WHERE kind IN ('switch', 'waking', 'newtask') AND left_tid IS NULL
UNION ALL
SELECT
  l.first_ts,
  l.ts,
  l.cpu,
  t.tid
FROM _scheduler_loss AS l
JOIN thread AS t
  ON t.tid IN (l.left_tid, l.found_tid)
WHERE
  t.utid IN (
    SELECT
      utid
    FROM _graph_event
  );

-- States of the threads that computed graphs, one after another without a gap.
CREATE PERFETTO TABLE profinfer_thread_state(
  -- Id of the row in thread_state.
  id JOINID(thread_state.id),
  -- Start.
  ts TIMESTAMP,
  -- To the thread's next state, or to the end of the trace.
  dur DURATION,
  -- Thread.
  utid JOINID(thread.id),
  -- One of running, preempted (another thread took the CPU), runnable (it waited for a CPU after a
  -- wake-up or a yield), futex, io (uninterruptible sleep), fault (asleep in a page fault), sleep
  -- (in another system call, or stopped), ended; NULL when records around it were lost. Where
  -- system calls were not recorded, futex is among sleep and fault among io.
  kind STRING,
  -- CPU on which it ran, or for which it waited: that on which it was preempted, or on which it
  -- ran after the wake-up. NULL while it was blocked.
  ucpu LONG,
  -- What it was blocked in: a system call, or page fault.
  blocked_in STRING,
  -- False when a record that would have ended the state may have been lost, or when that of the
  -- wake-up is missing: how long the thread waited for a CPU is then unknown.
  complete BOOL
) AS
WITH
  mine AS MATERIALIZED (
    SELECT
      s.id,
      s.ts,
      iif(s.dur < 0, NULL, s.dur) AS dur,
      s.utid,
      s.state,
      s.ucpu,
      s.cpu
    FROM thread_state AS s
    WHERE s.utid IN (
      SELECT
        utid
      FROM _graph_event
    )
  ),
  placed AS (
    SELECT
      *,
      -- Of the last state of a thread, and of one that a loss cut off, the duration is unknown.
      coalesce(dur, lead(ts, 1, trace_end()) OVER thread - ts) AS known_dur,
      lag(ucpu) OVER thread AS left_ucpu,
      lead(ucpu) OVER thread AS next_ucpu,
      -- A thread that slept waits for a CPU, however shortly, from its wake-up on. Where that is
      -- missing it was not recorded, or it came while the thread was still leaving its CPU.
      state GLOB '[SDITtP]*' AND lead(state) OVER thread IS 'Running' AS lacks_waking,
      lag(state) OVER thread IS 'Running' AS has_run
    FROM mine
    WINDOW thread AS (PARTITION BY utid ORDER BY ts, id)
  )
SELECT
  p.id,
  p.ts,
  p.known_dur AS dur,
  p.utid,
  CASE
    WHEN p.state = 'Running' THEN 'running'
    WHEN p.state = 'R+' THEN 'preempted'
    WHEN p.state = 'R' THEN 'runnable'
    WHEN p.state GLOB '*[XZ]*' THEN 'ended'
    WHEN b.name = 'page fault' THEN 'fault'
    WHEN b.name GLOB 'futex*' THEN 'futex'
    WHEN p.state GLOB 'D*' THEN 'io'
    WHEN p.state IS NOT NULL THEN 'sleep'
  END AS kind,
  CASE
    WHEN p.state = 'Running' THEN p.ucpu
    WHEN p.state = 'R+' OR (p.state = 'R' AND p.has_run) THEN p.left_ucpu
    WHEN p.state = 'R' THEN p.next_ucpu
  END AS ucpu,
  b.name AS blocked_in,
  NOT coalesce(p.lacks_waking, FALSE) AND iif(
    NOT EXISTS(
      SELECT
        1
      FROM _state_loss
    ),
    TRUE,
    NOT EXISTS(
      SELECT
        1
      FROM _state_loss AS l
      WHERE
        l.first_ts <= p.ts + p.known_dur
        AND l.ts >= p.ts
        AND coalesce(l.tid = t.tid, TRUE)
        -- What ends a thread's running happens on its CPU, and what begins it there.
        AND (
          p.state IS NOT 'Running'
          OR l.cpu IS NULL
          OR l.cpu = p.cpu
        )
    )
  ) AS complete
FROM placed AS p
JOIN thread AS t
  USING (utid)
LEFT JOIN _blocked_event AS b
  ON b.ts = p.ts AND b.utid = p.utid
ORDER BY p.ts;

-- How the scheduler was recorded: one row, or none where it was not.
CREATE PERFETTO TABLE _scheduler(
  -- Either system or target: everything, or what involves the target's threads.
  mode STRING,
  -- Whether it is known in which system call a thread was blocked.
  has_calls BOOL,
  -- When the first state begins.
  ts TIMESTAMP
) AS
SELECT
  coalesce(
    (
      SELECT
        max(value)
      FROM _recording_arg
      WHERE key = 'scheduler.mode'
    ),
    'system'
  ) AS mode,
  EXISTS(
    SELECT
      1
    FROM _recording_arg
    WHERE key = 'scheduler.system_calls' AND value = '1'
  ) AS has_calls,
  min(ts) AS ts
FROM profinfer_thread_state
HAVING count() > 0;

-- From when on the states of a thread are known.
CREATE PERFETTO TABLE _scheduled_thread(
  -- Thread.
  utid JOINID(thread.id),
  -- Start of its first state.
  ts TIMESTAMP
) AS
SELECT
  utid,
  min(ts) AS ts
FROM profinfer_thread_state
GROUP BY utid
ORDER BY utid;

-- Where operators met a state in which their thread did not run, or of which that is not certain.
CREATE PERFETTO TABLE _off_cpu(
  -- Number of the row.
  id LONG,
  -- The operator's slice.
  slice_id JOINID(slice.id),
  -- The state.
  state_id LONG,
  -- Start of what they have in common.
  ts TIMESTAMP,
  -- Its duration.
  dur DURATION
) AS
SELECT
  row_number() OVER () AS id,
  id_0 AS slice_id,
  id_1 AS state_id,
  ts,
  dur
FROM _interval_intersect!(
  (
    (
      SELECT
        id,
        ts,
        dur,
        utid
      FROM profinfer_operator_slice
      WHERE dur > 0 AND EXISTS(SELECT 1 FROM _scheduler)
    ),
    (
      SELECT
        id,
        ts,
        dur,
        utid
      FROM profinfer_thread_state
      WHERE dur > 0 AND NOT (kind IS 'running' AND complete)
    )
  ),
  (utid)
);

-- The time of operator slices in which their thread did not run. Only those that had any.
CREATE PERFETTO TABLE _operator_off_cpu(
  -- The operator's slice.
  slice_id JOINID(slice.id),
  -- Time not running at all.
  dur DURATION,
  -- Preempted.
  preempted_dur DURATION,
  -- Waiting for a CPU otherwise.
  runnable_dur DURATION,
  -- Blocked in a futex.
  futex_dur DURATION,
  -- Uninterruptible sleep.
  io_dur DURATION,
  -- Asleep in a page fault.
  fault_dur DURATION,
  -- Other sleep.
  sleep_dur DURATION,
  -- Whether all of that is certain.
  complete BOOL
) AS
SELECT
  p.slice_id,
  sum(iif(s.kind IS 'running', 0, p.dur)) AS dur,
  sum(iif(s.kind = 'preempted', p.dur, 0)) AS preempted_dur,
  sum(iif(s.kind = 'runnable', p.dur, 0)) AS runnable_dur,
  sum(iif(s.kind = 'futex', p.dur, 0)) AS futex_dur,
  sum(iif(s.kind = 'io', p.dur, 0)) AS io_dur,
  sum(iif(s.kind = 'fault', p.dur, 0)) AS fault_dur,
  sum(iif(s.kind = 'sleep', p.dur, 0)) AS sleep_dur,
  min(s.complete AND s.kind IS NOT NULL AND s.kind != 'ended') AS complete
FROM _off_cpu AS p
JOIN profinfer_thread_state AS s
  ON s.id = p.state_id
GROUP BY p.slice_id
ORDER BY p.slice_id;

-- How the time of each operator and thread divides: the columns add up to the slice's dur.
CREATE PERFETTO VIEW profinfer_operator_scheduling(
  -- The operator's slice, as in profinfer_operator_slice.
  id JOINID(slice.id),
  -- Time in which the thread ran. NULL, as all of these, where its states were not recorded.
  running_dur DURATION,
  -- Time in which it could have run on: another thread had taken its CPU.
  preempted_dur DURATION,
  -- Time in which it waited for a CPU after a wake-up or a yield.
  runnable_dur DURATION,
  -- Time blocked in a futex: most of it waits for the other threads. NULL where system calls were
  -- not recorded: it is then among sleep_dur.
  futex_dur DURATION,
  -- Time in uninterruptible sleep, as for a disk.
  io_dur DURATION,
  -- Time asleep in a page fault. NULL where system calls were not recorded: it is then among io_dur.
  fault_dur DURATION,
  -- Time in other sleep.
  sleep_dur DURATION,
  -- False when the slice's end or a state within it is not certain; NULL where the scheduler was
  -- not recorded.
  complete BOOL
) AS
SELECT
  o.id,
  iif(o.is_known, o.dur - coalesce(f.dur, 0), NULL) AS running_dur,
  iif(o.is_known, coalesce(f.preempted_dur, 0), NULL) AS preempted_dur,
  iif(o.is_known, coalesce(f.runnable_dur, 0), NULL) AS runnable_dur,
  iif(o.is_known AND c.has_calls, coalesce(f.futex_dur, 0), NULL) AS futex_dur,
  iif(o.is_known, coalesce(f.io_dur, 0), NULL) AS io_dur,
  iif(o.is_known AND c.has_calls, coalesce(f.fault_dur, 0), NULL) AS fault_dur,
  iif(o.is_known, coalesce(f.sleep_dur, 0), NULL) AS sleep_dur,
  iif(c.mode IS NULL, NULL, o.complete AND o.is_known AND coalesce(f.complete, TRUE)) AS complete
FROM (
  SELECT
    s.id,
    s.dur,
    s.complete,
    s.dur IS NOT NULL AND coalesce(s.ts >= t.ts, FALSE) AS is_known
  FROM profinfer_operator_slice AS s
  LEFT JOIN _scheduled_thread AS t
    USING (utid)
) AS o
LEFT JOIN _operator_off_cpu AS f
  ON f.slice_id = o.id
LEFT JOIN _scheduler AS c
  ON TRUE;

-- How the time of each thread in each graph run divides.
CREATE PERFETTO TABLE profinfer_graph_scheduling(
  -- Graph run.
  graph_id LONG,
  -- Thread.
  utid JOINID(thread.id),
  -- Time in the graph: a worker's begins with its first operator.
  dur DURATION,
  -- Running. NULL, as all of these, where the thread's states were not recorded.
  running_dur DURATION,
  -- Preempted.
  preempted_dur DURATION,
  -- Waiting for a CPU after a wake-up or a yield.
  runnable_dur DURATION,
  -- Blocked in a futex; NULL where system calls were not recorded.
  futex_dur DURATION,
  -- Uninterruptible sleep.
  io_dur DURATION,
  -- Asleep in a page fault; NULL where system calls were not recorded.
  fault_dur DURATION,
  -- Other sleep.
  sleep_dur DURATION,
  -- False when the graph's end or a state within it is not certain; NULL where the scheduler was
  -- not recorded.
  complete BOOL
) AS
WITH
  graphs AS MATERIALIZED (
    SELECT
      id,
      ts,
      dur,
      utid
    FROM _graph_event
    WHERE dur > 0
  ),
  sums AS MATERIALIZED (
    SELECT
      i.id_0 AS id,
      sum(iif(s.kind = 'running', i.dur, 0)) AS running_dur,
      sum(iif(s.kind = 'preempted', i.dur, 0)) AS preempted_dur,
      sum(iif(s.kind = 'runnable', i.dur, 0)) AS runnable_dur,
      sum(iif(s.kind = 'futex', i.dur, 0)) AS futex_dur,
      sum(iif(s.kind = 'io', i.dur, 0)) AS io_dur,
      sum(iif(s.kind = 'fault', i.dur, 0)) AS fault_dur,
      sum(iif(s.kind = 'sleep', i.dur, 0)) AS sleep_dur,
      min(s.complete AND s.kind IS NOT NULL AND s.kind != 'ended') AS complete
    FROM _interval_intersect!(
      (graphs, (SELECT id, ts, dur, utid FROM profinfer_thread_state WHERE dur > 0)),
      (utid)
    ) AS i
    JOIN profinfer_thread_state AS s
      ON s.id = i.id_1
    GROUP BY i.id_0
  )
SELECT
  e.graph_id,
  e.utid,
  g.dur,
  iif(e.ts >= t.ts, s.running_dur, NULL) AS running_dur,
  iif(e.ts >= t.ts, s.preempted_dur, NULL) AS preempted_dur,
  iif(e.ts >= t.ts, s.runnable_dur, NULL) AS runnable_dur,
  iif(e.ts >= t.ts AND c.has_calls, s.futex_dur, NULL) AS futex_dur,
  iif(e.ts >= t.ts, s.io_dur, NULL) AS io_dur,
  iif(e.ts >= t.ts AND c.has_calls, s.fault_dur, NULL) AS fault_dur,
  iif(e.ts >= t.ts, s.sleep_dur, NULL) AS sleep_dur,
  iif(c.mode IS NULL, NULL, m.complete AND coalesce(e.ts >= t.ts AND s.complete, FALSE)) AS complete
FROM _graph_event AS e
JOIN profinfer_graph AS m
  USING (graph_id)
LEFT JOIN graphs AS g
  ON g.id = e.id
LEFT JOIN sums AS s
  ON s.id = e.id
LEFT JOIN _scheduled_thread AS t
  ON t.utid = e.utid
LEFT JOIN _scheduler AS c
  ON TRUE
ORDER BY e.id;
