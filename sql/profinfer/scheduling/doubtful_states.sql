-- Which states of threads may be other than they look, since records were lost.

INCLUDE PERFETTO MODULE intervals.intersect;
INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.scheduling.kernel_states;

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
      p.ts,
      p.end_ts
    FROM (
      SELECT
        utid,
        min(ts) AS ts,
        max(ts + dur) AS end_ts
      FROM _placed_state
      WHERE
        EXISTS(
          SELECT
            1
          FROM _state_loss
        )
      GROUP BY utid
    ) AS p
    JOIN thread AS t
      USING (utid)
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
SELECT DISTINCT
  i.id_0 AS id
FROM _interval_intersect!(
  (
    (
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
    ),
    (SELECT id, ts, dur, utid FROM _thread_loss)
  ),
  (utid)
) AS i
CROSS JOIN _thread_loss AS l
  ON l.id = i.id_1
CROSS JOIN thread_state AS s
  ON s.id = i.id_0
-- What ends a thread's running happens on its CPU, and what begins it there.
WHERE s.state IS NOT 'Running' OR l.cpu IS NULL OR l.cpu = s.cpu
ORDER BY id;
