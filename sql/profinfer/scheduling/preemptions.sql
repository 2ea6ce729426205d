-- Who took the CPU from the threads of the processes that were recorded.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;
INCLUDE PERFETTO MODULE profinfer.scheduling.waits;

-- Pieces of waits state by state: the next row is the next one of the same state.
CREATE PERFETTO TABLE _occupied_in_order(
  -- The waiting thread's state.
  state_id LONG,
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- As in _taker.
  taker LONG
) AS
SELECT
  state_id,
  ts,
  dur,
  taker
FROM (
  SELECT state_id, ts, dur, taker FROM _occupied_pieces!('preempted')
  UNION ALL
  SELECT state_id, ts, dur, taker FROM _occupied_runnable
)
ORDER BY state_id, ts;

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
  -- Where a piece does not begin as the one before ends. Most do, so that these are few.
  seams AS (
    SELECT
      n._auto_id AS first,
      n.state_id,
      n.ts
    FROM _occupied_in_order AS n
    LEFT JOIN _occupied_in_order AS p
      ON p._auto_id = n._auto_id - 1
    WHERE p.state_id IS NOT n.state_id OR p.ts + p.dur != n.ts
  ),
  joined AS (
    SELECT
      state_id,
      ts,
      lead(first, 1, (SELECT count() FROM _occupied_in_order)) OVER (ORDER BY first) - 1 AS last
    FROM seams
  ),
  bounds AS (
    SELECT
      j.state_id,
      j.ts,
      o.ts + o.dur AS end_ts,
      s.ts AS begin_ts
    FROM joined AS j
    CROSS JOIN _occupied_in_order AS o
      ON o._auto_id = j.last
    CROSS JOIN profinfer_thread_state AS s
      ON s.id = j.state_id
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

-- Both.
CREATE PERFETTO TABLE _taken_piece(
  -- The waiting thread's state.
  state_id LONG,
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- As in _taker.
  taker LONG
) AS
SELECT
  *
FROM _occupied_in_order
UNION ALL
SELECT
  u.state_id,
  u.ts,
  u.dur,
  coalesce(s.upid, 0) << 33 | 0x1FFFFFFFF AS taker
FROM _unoccupied AS u
CROSS JOIN profinfer_thread_state AS s
  ON s.id = u.state_id;

-- As of _occupied_in_order.
CREATE PERFETTO INDEX _taken_piece_state_id ON _taken_piece(state_id);

-- Those who took CPUs from a process.
CREATE PERFETTO TABLE _taker(
  -- Number: from bit 33 on the process from which they were taken, in the lower 32 bits the utid, or,
  -- where bit 32 is set, the id in _taker_event; all of them set where not even that is known.
  taker LONG,
  -- As in profinfer_preemption.
  utid JOINID(thread.id),
  -- As in profinfer_preemption.
  tid LONG,
  -- As in profinfer_preemption.
  name STRING,
  -- As in profinfer_preemption.
  process STRING,
  -- As in profinfer_preemption.
  is_own BOOL,
  -- How many pieces.
  times LONG,
  -- Duration of all of them.
  dur DURATION,
  -- Of the longest.
  max_dur DURATION,
  -- Process from which they were taken.
  upid JOINID(process.id)
) AS
WITH
  sums AS MATERIALIZED (
    SELECT
      taker,
      taker >> 33 AS upid,
      iif(taker >> 32 & 1, NULL, taker & 0xFFFFFFFF) AS utid,
      iif(taker >> 32 & 1, taker & 0xFFFFFFFF, NULL) AS event_id,
      count() AS times,
      sum(dur) AS dur,
      max(dur) AS max_dur
    FROM _taken_piece
    GROUP BY taker
  )
SELECT
  s.taker,
  s.utid,
  coalesce(t.tid, e.tid) AS tid,
  iif(s.utid IS NULL, e.name, t.name) AS name,
  q.name AS process,
  coalesce(t.upid = s.upid, FALSE) AS is_own,
  s.times,
  s.dur,
  s.max_dur,
  s.upid
FROM sums AS s
LEFT JOIN thread AS t
  ON t.utid = s.utid
LEFT JOIN process AS q
  ON q.upid = t.upid
LEFT JOIN _taker_event AS e
  ON e.id = s.event_id
ORDER BY s.taker;

-- Time in which a thread of the target could have run and another thread ran in its place.
CREATE PERFETTO VIEW profinfer_preemption(
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
  p._auto_id AS id,
  p.ts,
  p.dur,
  s.utid,
  p.state_id,
  t.utid AS taker_utid,
  t.tid AS taker_tid,
  t.name AS taker_name,
  t.process AS taker_process,
  t.is_own,
  s.ucpu,
  s.complete,
  s.upid
FROM _taken_piece AS p
JOIN profinfer_thread_state AS s
  ON s.id = p.state_id
JOIN _taker AS t
  ON t.taker = p.taker;
