-- Who took the CPU from the threads of the processes that were recorded.

INCLUDE PERFETTO MODULE intervals.intersect;
INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.scheduling.kernel_states;
INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;

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
  -- Then the event that tells it, as in _taker_event.
  taker_event_id LONG
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
  -- Who else took a CPU from one of them, where only its switches are recorded.
  takers AS MATERIALIZED (
    SELECT
      id,
      ts,
      iif(dur < 0, lead(ts, 1, trace_end()) OVER (PARTITION BY utid ORDER BY ts) - ts, dur) AS dur,
      utid
    FROM _taker_event
    WHERE dur != 0
  )
SELECT
  i.id_0 AS state_id,
  i.ts,
  i.dur,
  t.utid,
  NULL AS taker_event_id
FROM _interval_intersect!((waits, _cpu_run), (ucpu)) AS i
JOIN _cpu_run AS s
  ON s.id = i.id_1
JOIN thread AS t
  ON t.utid = s.utid
-- Neither idle CPUs nor those of which it is not known who ran: no thread's number is above 2^22.
WHERE t.tid BETWEEN 1 AND 0x400000
UNION ALL
SELECT
  i.id_0 AS state_id,
  i.ts,
  i.dur,
  NULL AS utid,
  i.id_1 AS taker_event_id
FROM _interval_intersect!((waits, takers), (utid)) AS i;

-- Pieces of the time in which a thread was preempted, and who ran then is not known: of several threads
-- that take turns in its place only the first one's is, where nobody else's switches are recorded.
CREATE PERFETTO TABLE _unoccupied(
  -- The waiting thread's state.
  state_id LONG,
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION
) AS
WITH
  bounds AS (
    SELECT
      o.state_id,
      o.ts,
      o.ts + o.dur AS end_ts,
      s.ts AS begin_ts
    FROM _occupied AS o
    JOIN profinfer_thread_state AS s
      ON s.id = o.state_id
    WHERE s.kind = 'preempted'
    UNION ALL
    SELECT
      id AS state_id,
      ts + dur AS ts,
      ts + dur AS end_ts,
      ts AS begin_ts
    FROM profinfer_thread_state
    WHERE kind = 'preempted' AND dur > 0
  ),
  before AS (
    SELECT
      state_id,
      coalesce(
        max(end_ts) OVER (
          PARTITION BY state_id ORDER BY ts, end_ts ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ),
        begin_ts
      ) AS ts,
      ts AS end_ts
    FROM bounds
  )
SELECT
  state_id,
  ts,
  end_ts - ts AS dur
FROM before
WHERE end_ts > ts;

-- Both in order.
CREATE PERFETTO TABLE _taken_piece(
  -- The waiting thread's state.
  state_id LONG,
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- As in _occupied.
  utid JOINID(thread.id),
  -- As in _occupied.
  taker_event_id LONG
) AS
SELECT
  *
FROM _occupied
UNION ALL
SELECT
  state_id,
  ts,
  dur,
  NULL AS utid,
  NULL AS taker_event_id
FROM _unoccupied
ORDER BY ts, state_id;

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
  -- Whether it is another thread of the same process.
  is_own BOOL,
  -- CPU.
  ucpu LONG,
  -- False when records around it may have been lost.
  complete BOOL,
  -- Process of the target's thread.
  upid JOINID(process.id)
) AS
SELECT
  p._auto_id + 1 AS id,
  p.ts,
  p.dur,
  s.utid,
  p.state_id,
  p.utid AS taker_utid,
  coalesce(t.tid, e.tid) AS taker_tid,
  iif(p.utid IS NULL, e.name, t.name) AS taker_name,
  q.name AS taker_process,
  coalesce(t.upid = s.upid, FALSE) AS is_own,
  s.ucpu,
  s.complete,
  s.upid
FROM _taken_piece AS p
CROSS JOIN profinfer_thread_state AS s
  ON s.id = p.state_id
LEFT JOIN thread AS t
  ON t.utid = p.utid
LEFT JOIN process AS q
  ON q.upid = t.upid
LEFT JOIN _taker_event AS e
  ON e.id = p.taker_event_id;
