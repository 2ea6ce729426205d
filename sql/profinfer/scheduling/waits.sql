-- When threads waited for a CPU that another thread had.

INCLUDE PERFETTO MODULE intervals.intersect;
INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.scheduling.kernel_states;
INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;

-- Pieces of the time in which a thread waited for a CPU, each with the thread that ran on it.
CREATE PERFETTO MACRO _occupied_pieces(
  -- The states: preempted or runnable.
  kind Expr
)
-- Columns state_id (the waiting thread's), ts, dur; taker: who ran there, as in _taker.
RETURNS TableOrSubquery
AS
(
  WITH
    waits AS MATERIALIZED (
      SELECT
        id,
        ts,
        dur,
        utid,
        ucpu
      FROM profinfer_thread_state
      WHERE kind = $kind AND dur > 0 AND ucpu IS NOT NULL
    ),
    -- Who else took a CPU from one of them, where only its switches are recorded.
    takers AS MATERIALIZED (
      SELECT
        id,
        ts,
        iif(dur < 0, lead(ts, 1, trace_end()) OVER (PARTITION BY utid ORDER BY ts) - ts, dur) AS dur,
        utid
      FROM _taker_event
      WHERE
        dur != 0
        AND NOT utid IN (
          SELECT
            t.utid
          FROM thread AS t
          JOIN _scheduled_by_other AS o
            USING (upid)
        )
    )
  SELECT
    i.id_0 AS state_id,
    i.ts,
    i.dur,
    coalesce(w.upid, 0) << 33 | s.utid AS taker
  FROM _interval_intersect!((waits, (SELECT id, ts, dur, ucpu FROM _cpu_run)), (ucpu)) AS i
  CROSS JOIN sched AS s
    ON s.id = i.id_1
  CROSS JOIN profinfer_thread_state AS w
    ON w.id = i.id_0
  -- Neither idle CPUs nor those of which it is not known who ran: no thread's number is above 2^22.
  WHERE
    +s.utid IN (
      SELECT
        utid
      FROM thread
      WHERE tid BETWEEN 1 AND 0x400000
    )
  UNION ALL
  SELECT
    i.id_0 AS state_id,
    i.ts,
    i.dur,
    coalesce(w.upid, 0) << 33 | 0x100000000 | i.id_1 AS taker
  FROM _interval_intersect!((waits, takers), (utid)) AS i
  CROSS JOIN profinfer_thread_state AS w
    ON w.id = i.id_0
);

-- Such pieces, of threads that waited after a wake-up or a yield. (Who ran while one was preempted is asked at the end.)
CREATE PERFETTO TABLE _occupied_runnable(
  -- The waiting thread's state.
  state_id LONG,
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- Who ran there, as in _taker.
  taker LONG
) AS
SELECT
  state_id,
  ts,
  dur,
  taker
FROM _occupied_pieces!('runnable');

-- When threads waited for a CPU that another one had: the whole of a state in which a thread was preempted, and of
-- those in which it waited otherwise, the pieces.
CREATE PERFETTO TABLE _cpu_wait(
  -- The waiting thread's state.
  state_id LONG,
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- The thread.
  utid JOINID(thread.id)
) AS
SELECT
  id AS state_id,
  ts,
  dur,
  utid
FROM profinfer_thread_state
WHERE kind = 'preempted' AND dur > 0
UNION ALL
SELECT
  o.state_id,
  o.ts,
  o.dur,
  s.utid
FROM _occupied_runnable AS o
JOIN profinfer_thread_state AS s
  ON s.id = o.state_id;
