-- States of the threads that compute graphs, as the kernel's switches and wake-ups tell them.

INCLUDE PERFETTO MODULE intervals.intersect;
INCLUDE PERFETTO MODULE profinfer.events;

-- Time between recordings: what threads did then is not known.
CREATE PERFETTO TABLE _unrecorded(
  -- End of a recording.
  ts TIMESTAMP,
  -- Beginning of the next one.
  end_ts TIMESTAMP
) AS
WITH
  bounds AS MATERIALIZED (
    SELECT DISTINCT
      ts,
      event
    FROM _recording_arg
  ),
  counted AS (
    SELECT
      ts,
      event,
      sum(iif(event = 'recording started', 1, -1)) OVER (ORDER BY ts) AS going_on,
      lead(ts) OVER (ORDER BY ts) AS next_ts
    FROM bounds
  )
SELECT
  ts,
  next_ts AS end_ts
FROM counted
WHERE going_on = 0 AND next_ts IS NOT NULL
ORDER BY ts;

-- How the scheduler was to be recorded with each process.
CREATE PERFETTO TABLE _scheduler_mode(
  -- Process.
  upid JOINID(process.id),
  -- Either system or target: everything, or what involves the process's threads.
  mode STRING,
  -- Whether it is known in which system call a thread of it was blocked.
  has_calls BOOL,
  -- Of what the kernel says that it is throttled: task, or queue (the threads of a group on a CPU); none, or
  -- NULL, where it was not asked.
  throttling STRING,
  -- Whether it counts for how long.
  has_throttled_time BOOL
) AS
SELECT
  upid,
  max(iif(key = 'scheduler.mode', value, NULL)) AS mode,
  coalesce(max(iif(key = 'scheduler.system_calls', value, NULL)) = '1', FALSE) AS has_calls,
  max(iif(key = 'scheduler.throttling', value, NULL)) AS throttling,
  coalesce(max(iif(key = 'scheduler.throttled_time', value, NULL)) = '1', FALSE) AS has_throttled_time
FROM _recording_arg
WHERE
  key IN (
    'scheduler.mode', 'scheduler.system_calls', 'scheduler.throttling', 'scheduler.throttled_time'
  )
GROUP BY upid
ORDER BY upid;

-- Missing records that may make a state of a thread that computed graphs look other than it was.
CREATE PERFETTO TABLE _state_loss(
  -- Time before which none of these was lost.
  first_ts TIMESTAMP,
  -- Time of the last one.
  ts TIMESTAMP,
  -- CPU, NULL when it may have been any.
  cpu LONG,
  -- The only thread that it concerns, NULL when it may be any.
  tid LONG,
  -- The only process whose threads it concerns, NULL when it may be any.
  upid JOINID(process.id)
) AS
SELECT
  l.first_ts,
  l.ts,
  l.cpu,
  NULL AS tid,
  iif(m.mode = 'target', l.upid, NULL) AS upid
FROM _scheduler_loss AS l
LEFT JOIN _scheduler_mode AS m
  ON m.upid = l.upid
WHERE l.kind IN ('switch', 'waking', 'newtask') AND l.left_tid IS NULL
UNION ALL
SELECT
  ts AS first_ts,
  end_ts AS ts,
  NULL AS cpu,
  NULL AS tid,
  NULL AS upid
FROM _unrecorded
UNION ALL
SELECT
  l.first_ts,
  l.ts,
  l.cpu,
  t.tid,
  NULL AS upid
FROM _scheduler_loss AS l
JOIN thread AS t
  ON t.tid IN (l.left_tid, l.found_tid)
WHERE
  t.utid IN (
    SELECT
      utid
    FROM _graph_event
  );

-- States of these threads as the kernel tells them, thread by thread: the next row is the thread's next one.
CREATE PERFETTO TABLE _own_state(
  -- Id of the row in thread_state.
  id JOINID(thread_state.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration, -1 when it is unknown.
  dur DURATION,
  -- Thread.
  utid JOINID(thread.id),
  -- State, NULL where several at once stand for one that is not known.
  state STRING,
  -- CPU.
  ucpu LONG,
  -- Its number.
  cpu LONG
) AS
SELECT
  id,
  ts,
  dur,
  utid,
  iif(state GLOB 'SDT*', NULL, state) AS state,
  ucpu,
  cpu
FROM thread_state
WHERE utid IN (
  SELECT
    utid
  FROM _graph_event
)
ORDER BY utid, ts, id;

-- States of these threads as the kernel tells them, with what comes before and after.
CREATE PERFETTO TABLE _placed_state(
  -- Id of the row in thread_state.
  id JOINID(thread_state.id),
  -- Start.
  ts TIMESTAMP,
  -- To the thread's next state, or to the end of the trace.
  dur DURATION,
  -- Thread.
  utid JOINID(thread.id),
  -- State, NULL where several at once stand for one that is not known.
  state STRING,
  -- CPU.
  ucpu LONG,
  -- Its number.
  cpu LONG,
  -- CPU of the state before.
  left_ucpu LONG,
  -- CPU of the next state.
  next_ucpu LONG,
  -- Whether the record of the wake-up is missing.
  lacks_waking BOOL,
  -- Whether it ran before.
  has_run BOOL
) AS
SELECT
  s.id,
  s.ts,
  -- Of the last state of a thread, and of one that a loss cut off, the duration is unknown.
  iif(s.dur < 0, coalesce(n.ts, trace_end()) - s.ts, s.dur) AS dur,
  s.utid,
  s.state,
  s.ucpu,
  s.cpu,
  b.ucpu AS left_ucpu,
  n.ucpu AS next_ucpu,
  -- A thread that slept waits for a CPU, however shortly, from its wake-up on. Where that is
  -- missing it was not recorded, or it came while the thread was still leaving its CPU.
  s.state GLOB '[SDITtP]*' AND n.state IS 'Running' AS lacks_waking,
  b.state IS 'Running' AS has_run
FROM _own_state AS s
LEFT JOIN _own_state AS b
  ON b._auto_id = s._auto_id - 1 AND b.utid = s.utid
LEFT JOIN _own_state AS n
  ON n._auto_id = s._auto_id + 1 AND n.utid = s.utid
ORDER BY s.ts;

-- Losses thread by thread, of those that there were at the time.
CREATE PERFETTO TABLE _thread_loss(
  -- Number of the row.
  id LONG,
  -- Time before which none of these was lost.
  ts TIMESTAMP,
  -- To the time of the last one, and one longer.
  dur DURATION,
  -- Thread.
  utid JOINID(thread.id),
  -- CPU, NULL when it may have been any.
  cpu LONG
) AS
WITH
  lives AS MATERIALIZED (
    SELECT
      p.utid,
      t.tid,
      t.upid,
      min(p.ts) AS ts,
      max(p.ts + p.dur) AS end_ts
    FROM _placed_state AS p
    JOIN thread AS t
      USING (utid)
    WHERE
      EXISTS(
        SELECT
          1
        FROM _state_loss
      )
    GROUP BY p.utid
  )
SELECT
  row_number() OVER () AS id,
  l.first_ts AS ts,
  l.ts - l.first_ts + 1 AS dur,
  t.utid,
  l.cpu
FROM _state_loss AS l
JOIN lives AS t
  ON l.first_ts <= t.end_ts AND l.ts >= t.ts
WHERE coalesce(l.tid = t.tid, TRUE) AND coalesce(l.upid = t.upid, TRUE);

-- Those that met a loss: closed intervals, for which each is taken to be one longer.
CREATE PERFETTO TABLE _doubtful_state(
  -- Id of the row in thread_state.
  id JOINID(thread_state.id)
) AS
WITH
  states AS MATERIALIZED (
    SELECT
      id,
      ts,
      dur + 1 AS dur,
      utid
    FROM _placed_state
    WHERE
      EXISTS(
        SELECT
          1
        FROM _thread_loss
      )
  )
SELECT DISTINCT
  i.id_0 AS id
FROM _interval_intersect!((states, (SELECT id, ts, dur, utid FROM _thread_loss)), (utid)) AS i
CROSS JOIN _thread_loss AS l
  ON l.id = i.id_1
CROSS JOIN thread_state AS s
  ON s.id = i.id_0
-- What ends a thread's running happens on its CPU, and what begins it there.
WHERE s.state IS NOT 'Running' OR l.cpu IS NULL OR l.cpu = s.cpu
ORDER BY id;

-- States of the threads that computed graphs, one after another without a gap, as they are left and
-- entered: thread_states.sql divides them.
CREATE PERFETTO TABLE _kernel_state(
  -- Id of the row in thread_state.
  id JOINID(thread_state.id),
  -- Start.
  ts TIMESTAMP,
  -- To the thread's next state, or to the end of the trace.
  dur DURATION,
  -- Thread.
  utid JOINID(thread.id),
  -- As in profinfer_thread_state, which knows throttled in addition.
  kind STRING,
  -- CPU on which it ran, or for which it waited: that on which it was preempted, or on which it
  -- ran after the wake-up. NULL while it was blocked.
  ucpu LONG,
  -- CPU of its next state, NULL unless it runs then.
  next_ucpu LONG,
  -- What it was blocked in, or yielded by: a system call, or page fault.
  blocked_in STRING,
  -- False when a record that would have ended the state may have been lost, or when that of the
  -- wake-up is missing: how long the thread waited for a CPU is then unknown.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  p.id,
  p.ts,
  p.dur AS dur,
  p.utid,
  CASE
    WHEN EXISTS(
      SELECT
        1
      FROM _unrecorded AS u
      WHERE u.ts < p.ts + p.dur AND u.end_ts > p.ts
    )
    THEN NULL
    WHEN p.state = 'Running' THEN 'running'
    -- R+ is said only of a thread that was in the kernel. From its own code it leaves as R.
    WHEN p.state = 'R+' OR (p.state = 'R' AND p.has_run AND b.name IS NOT 'sched_yield')
    THEN 'preempted'
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
  p.next_ucpu,
  b.name AS blocked_in,
  NOT coalesce(p.lacks_waking, FALSE)
  AND NOT p.id IN (
    SELECT
      id
    FROM _doubtful_state
  ) AS complete,
  t.upid
FROM _placed_state AS p
JOIN thread AS t
  USING (utid)
LEFT JOIN _blocked_event AS b
  ON b.ts = p.ts AND b.utid = p.utid
ORDER BY p.ts;

-- Without it a join by id reads all states, for each row.
CREATE PERFETTO INDEX _kernel_state_id ON _kernel_state(id);

-- Processes of which only their own switches were to be recorded, while a recording of another process
-- had everything: merging has kept that one's.
CREATE PERFETTO TABLE _scheduled_by_other(
  -- Process.
  upid JOINID(process.id)
) AS
SELECT DISTINCT
  mine.upid
FROM _recorded_process AS mine
JOIN _scheduler_mode AS m
  ON m.upid = mine.upid
JOIN _recorded_process AS other
  ON
    other.machine_id IS mine.machine_id
    AND other.ts <= mine.ts
    AND other.end_ts >= mine.end_ts
JOIN _scheduler_mode AS o
  ON o.upid = other.upid
WHERE m.mode = 'target' AND o.mode = 'system'
ORDER BY mine.upid;

-- Who ran on which CPU. Where only the target's switches are recorded, only its threads are among these, idle
-- CPUs that they left, and stand-ins. A view: there can be millions.
CREATE PERFETTO VIEW _cpu_run(
  -- Id of the row in sched.
  id JOINID(sched.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration. Where recordings follow each other, one may end long before the next.
  dur DURATION,
  -- Thread that ran.
  utid JOINID(thread.id),
  -- CPU.
  ucpu LONG
) AS
SELECT
  id,
  ts,
  iif(
    dur < 0,
    coalesce((SELECT min(n.ts) FROM sched AS n WHERE n.ucpu = s.ucpu AND n.ts > s.ts), trace_end()) - ts,
    dur
  ) AS dur,
  utid,
  ucpu
FROM sched AS s
WHERE dur != 0;
