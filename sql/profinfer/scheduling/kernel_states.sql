-- States of the threads that compute graphs, as the kernel's switches and wake-ups tell them.

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
  -- State, as a number: texts take their time. 1 is Running, 2 R+ and 3 R; of others 8, and in addition 4 for
  -- one that ended, 2 for uninterruptible and 1 for any sleep. NULL where several at once stand for one that
  -- is not known.
  state LONG,
  -- CPU.
  ucpu LONG
) AS
SELECT
  id,
  ts,
  dur,
  utid,
  CASE state
    WHEN 'Running' THEN 1
    WHEN 'R+' THEN 2
    WHEN 'R' THEN 3
    WHEN 'S' THEN 9
    ELSE
      iif(
        state GLOB 'SDT*',
        NULL,
        8 + 4 * (state GLOB '*[XZ]*') + 2 * (state GLOB 'D*') + (state GLOB '[SDITtP]*')
      )
  END AS state,
  ucpu
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
  -- As in _own_state.
  state LONG,
  -- CPU.
  ucpu LONG,
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
  b.ucpu AS left_ucpu,
  n.ucpu AS next_ucpu,
  -- A thread that slept waits for a CPU, however shortly, from its wake-up on. Where that is
  -- missing it was not recorded, or it came while the thread was still leaving its CPU.
  s.state >= 8 AND s.state & 1 AND n.state IS 1 AS lacks_waking,
  b.state IS 1 AS has_run
FROM _own_state AS s
LEFT JOIN _own_state AS b
  ON b._auto_id = s._auto_id - 1 AND b.utid = s.utid
LEFT JOIN _own_state AS n
  ON n._auto_id = s._auto_id + 1 AND n.utid = s.utid
ORDER BY s.ts;

-- Those that met time between recordings.
CREATE PERFETTO TABLE _unrecorded_state(
  -- Id of the row in thread_state.
  id JOINID(thread_state.id)
) AS
SELECT DISTINCT
  p.id
FROM _unrecorded AS u
CROSS JOIN _placed_state AS p
  ON p.ts < u.end_ts
WHERE p.ts + p.dur > u.ts;

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
  -- Whether the record of the wake-up is missing.
  lacks_waking BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  p.id,
  p.ts,
  p.dur AS dur,
  p.utid,
  CASE
    WHEN p.id IN (SELECT id FROM _unrecorded_state)
    THEN NULL
    WHEN p.state = 1 THEN 'running'
    -- R+ is said only of a thread that was in the kernel. From its own code it leaves as R.
    WHEN p.state = 2 OR (p.state = 3 AND p.has_run AND b.name IS NOT 'sched_yield')
    THEN 'preempted'
    WHEN p.state = 3 THEN 'runnable'
    WHEN p.state >= 12 THEN 'ended'
    WHEN b.name = 'page fault' THEN 'fault'
    WHEN b.name GLOB 'futex*' THEN 'futex'
    WHEN p.state & 2 THEN 'io'
    WHEN p.state IS NOT NULL THEN 'sleep'
  END AS kind,
  CASE
    WHEN p.state = 1 THEN p.ucpu
    WHEN p.state = 2 OR (p.state = 3 AND p.has_run) THEN p.left_ucpu
    WHEN p.state = 3 THEN p.next_ucpu
  END AS ucpu,
  p.next_ucpu,
  b.name AS blocked_in,
  coalesce(p.lacks_waking, FALSE) AS lacks_waking,
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

-- How the scheduler was recorded: one row for each process of whose threads there are states.
CREATE PERFETTO TABLE _scheduler(
  -- Process.
  upid JOINID(process.id),
  -- Either system or target: everything, or what involves the process's threads.
  mode STRING,
  -- Whether it is known in which system call a thread was blocked. Not where the switches are another
  -- recording's: its clock was read at other times.
  has_calls BOOL,
  -- As in _scheduler_mode; NULL where the switches are another recording's.
  throttling STRING,
  -- As in _scheduler_mode.
  has_throttled_time BOOL,
  -- When the first state begins.
  ts TIMESTAMP
) AS
SELECT
  s.upid,
  iif(s.upid IN (SELECT upid FROM _scheduled_by_other), 'system', coalesce(m.mode, 'system')) AS mode,
  NOT s.upid IN (SELECT upid FROM _scheduled_by_other) AND coalesce(m.has_calls, FALSE) AS has_calls,
  iif(s.upid IN (SELECT upid FROM _scheduled_by_other), NULL, m.throttling) AS throttling,
  coalesce(m.has_throttled_time, FALSE) AS has_throttled_time,
  s.ts
-- Grouped before it is joined, which needs no sorting.
FROM (SELECT upid, min(ts) AS ts FROM _kernel_state GROUP BY upid) AS s
LEFT JOIN _scheduler_mode AS m
  ON m.upid = s.upid
ORDER BY s.upid;

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
