-- States of the threads that compute graphs, as the scheduler has them.
--
-- They are the kernel's: a thread that is switched out while it could have gone on is preempted. One
-- that is kept from its CPU by its cgroup's quota is throttled.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.scheduling.doubtful_states;
INCLUDE PERFETTO MODULE profinfer.scheduling.kernel_states;
INCLUDE PERFETTO MODULE profinfer.scheduling.throttling;

-- States and their parts, in order.
CREATE PERFETTO TABLE _state_part(
  -- The state, as in _kernel_state.
  state_id LONG,
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- As in profinfer_thread_state.
  kind STRING
) AS
SELECT
  id AS state_id,
  ts,
  dur,
  kind
FROM _kernel_state
WHERE
  NOT id IN (
    SELECT
      state_id
    FROM _throttled
  )
UNION ALL
SELECT
  state_id,
  ts,
  end_ts - ts AS dur,
  'throttled' AS kind
FROM _throttled
UNION ALL
SELECT
  n.state_id,
  n.ts,
  n.end_ts - n.ts AS dur,
  s.kind
FROM _not_throttled AS n
JOIN _kernel_state AS s
  ON s.id = n.state_id
ORDER BY ts, state_id;

-- States of the threads that computed graphs, one after another without a gap.
CREATE PERFETTO TABLE profinfer_thread_state(
  -- Number of the row.
  id LONG,
  -- Row in thread_state; several of ours may be parts of one.
  state_id JOINID(thread_state.id),
  -- Start.
  ts TIMESTAMP,
  -- To the thread's next state, or to the end of the trace.
  dur DURATION,
  -- Thread.
  utid JOINID(thread.id),
  -- One of running, preempted (it was switched out though it could run on), throttled (it could run
  -- on, but its cgroup had used up its quota: throttling.sql), runnable (it waited
  -- for a CPU after a wake-up or a yield), futex, io (uninterruptible sleep), fault (asleep in a
  -- page fault), sleep (in another system call, or stopped), ended; NULL when records around it
  -- were lost, or nothing was recorded for a part of it. Where system calls were not recorded, futex
  -- is among sleep, fault among io, and a yield is a preemption.
  kind STRING,
  -- CPU on which it ran, or for which it waited: that on which it was preempted, or on which it
  -- ran after the wake-up. NULL while it was blocked.
  ucpu LONG,
  -- What it was blocked in, or yielded by: a system call, or page fault.
  blocked_in STRING,
  -- False when a record that would have ended the state may have been lost, or when that of the
  -- wake-up is missing: how long the thread waited for a CPU is then unknown.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  p._auto_id + 1 AS id,
  p.state_id,
  p.ts,
  p.dur,
  s.utid,
  p.kind,
  s.ucpu,
  s.blocked_in,
  NOT s.lacks_waking
  AND NOT p.state_id IN (
    SELECT
      id
    FROM _doubtful_state
  ) AS complete,
  s.upid
FROM _state_part AS p
CROSS JOIN _kernel_state AS s
  ON s.id = p.state_id;

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

-- What the scheduler's tables cannot tell of a process, and why.
CREATE PERFETTO VIEW profinfer_scheduling_gap(
  -- One sentence.
  reason STRING,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  coalesce(
    (
      SELECT
        min(a.value)
      FROM _recording_arg AS a
      WHERE
        a.upid = p.upid
        AND a.key GLOB 'notes*'
        AND a.value GLOB 'the scheduler was not recorded*'
    ),
    'the scheduler was not recorded (record --scheduler)'
  ) || ': when threads ran, and who took their CPUs, is not known' AS reason,
  p.upid
FROM _recorded_process AS p
WHERE p.recordings > 0 AND NOT p.upid IN (SELECT upid FROM _scheduler)
UNION ALL
SELECT
  'only the target''s switches were recorded (--scheduler target): who took a CPU is known by its '
  || 'number and name, not its process; and not who ran when a thread was woken'
  || iif(coalesce(throttling, 'none') = 'none', '; throttled counts until the thread ran again', '') AS reason,
  upid
FROM _scheduler
WHERE mode = 'target'
UNION ALL
SELECT
  'the kernel was not asked whom a quota keeps from CPUs: that a thread was throttled is known only where '
  || 'its CPU was idle meanwhile, and counts as preempted where others had it' AS reason,
  upid
FROM _scheduler
WHERE coalesce(throttling, 'none') = 'none'
UNION ALL
SELECT
  'the kernel does not count for how long a CPU is kept from a group (before Linux 6.6): throttled counts '
  || 'until the thread ran again' AS reason,
  upid
FROM _scheduler
WHERE throttling != 'none' AND NOT has_throttled_time AND upid IN (SELECT upid FROM _told_wait)
UNION ALL
SELECT
  iif(
    upid IN (SELECT upid FROM _scheduled_by_other),
    'its switches are those of another process''s recording',
    'the kernel does not tell in which system call a thread is'
  )
  || ': futexes and page faults are not told from other sleep, nor yields from preemptions' AS reason,
  upid
FROM _scheduler
WHERE NOT has_calls
UNION ALL
SELECT
  'barriers were not recorded (record --level barrier): work is not told from waiting for other '
  || 'threads, so which operators and tokens came later is not known' AS reason,
  upid
FROM _scheduler
WHERE NOT _has_barriers(upid);
