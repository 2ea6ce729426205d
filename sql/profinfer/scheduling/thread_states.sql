-- States of the threads that compute graphs, as the scheduler has them.
--
-- They are the kernel's: a thread that is switched out while it could have gone on is preempted.

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
  ts AS first_ts,
  end_ts AS ts,
  NULL AS cpu,
  NULL AS tid
FROM _unrecorded
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
  -- One of running, preempted (it was switched out though it could run on), runnable (it waited
  -- for a CPU after a wake-up or a yield), futex, io (uninterruptible sleep), fault (asleep in a
  -- page fault), sleep (in another system call, or stopped), ended; NULL when records around it
  -- were lost, or nothing was recorded for a part of it. Where system calls were not recorded, futex is among sleep, fault among io, and a
  -- yield is a preemption.
  kind STRING,
  -- CPU on which it ran, or for which it waited: that on which it was preempted, or on which it
  -- ran after the wake-up. NULL while it was blocked.
  ucpu LONG,
  -- What it was blocked in, or yielded by: a system call, or page fault.
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
      -- Several states at once stand for one that is not known.
      iif(s.state GLOB 'SDT*', NULL, s.state) AS state,
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
    WHEN EXISTS(
      SELECT
        1
      FROM _unrecorded AS u
      WHERE u.ts < p.ts + p.known_dur AND u.end_ts > p.ts
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

-- What the scheduler's tables cannot tell of this recording, and why.
CREATE PERFETTO VIEW profinfer_scheduling_gap(
  -- One sentence.
  reason STRING
) AS
SELECT
  coalesce(
    (
      SELECT
        min(value)
      FROM _recording_arg
      WHERE key GLOB 'notes*' AND value GLOB 'the scheduler was not recorded*'
    ),
    'the scheduler was not recorded (record --scheduler)'
  ) || ': when threads ran, and who took their CPUs, is not known' AS reason
WHERE
  NOT EXISTS(SELECT 1 FROM _scheduler)
  AND EXISTS(SELECT 1 FROM _recording_arg WHERE event = 'recording started')
UNION ALL
SELECT
  'only the target''s switches were recorded (--scheduler target): who took a CPU is known by its '
  || 'number and name, not its process; and not who ran when a thread was woken' AS reason
FROM _scheduler
WHERE mode = 'target'
UNION ALL
SELECT
  'the kernel does not tell in which system call a thread is: futexes and page faults are not told '
  || 'from other sleep, nor yields from preemptions' AS reason
FROM _scheduler
WHERE NOT has_calls
UNION ALL
SELECT
  'barriers were not recorded (record --level barrier): work is not told from waiting for other '
  || 'threads, so which operators and tokens came later is not known' AS reason
FROM _scheduler
WHERE NOT _has_barriers();
