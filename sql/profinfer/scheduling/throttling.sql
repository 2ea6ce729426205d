-- When threads that could run did not, since their cgroup had used up its quota.
--
-- Where the kernel says of each thread that it is throttled, those are, and no others. Where it says so of
-- a group's queue on a CPU, so are the threads that wait in it. Else, and of threads that were put into
-- such a queue unseen, idle CPUs tell: a CPU does not idle while a thread waits for it. If it does, the
-- thread is kept from it, or waits elsewhere. Who leaves a CPU to idle though it could run on is kept from
-- it. Nobody can tell then while others have the CPU.

INCLUDE PERFETTO MODULE intervals.intersect;
INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.scheduling.kernel_states;

-- Waits of which the kernel has said it.
CREATE PERFETTO TABLE _told_wait(
  -- Number of the row.
  id LONG,
  -- The state, as in _kernel_state.
  state_id LONG,
  -- Start.
  ts TIMESTAMP,
  -- To when the quota let the thread go on, or it ran again.
  dur DURATION,
  -- CPU for which it waited.
  ucpu LONG,
  -- Process.
  upid JOINID(process.id),
  -- As in _scheduler_mode.
  throttling STRING
) AS
SELECT
  row_number() OVER (ORDER BY s.ts, s.id) AS id,
  s.id AS state_id,
  s.ts,
  iif(e.dur < 0, s.dur, min(e.dur, s.dur)) AS dur,
  s.ucpu,
  s.upid,
  m.throttling
FROM _throttled_event AS e
CROSS JOIN _kernel_state AS s
  ON s.utid = e.utid AND s.ts = e.ts
JOIN _scheduler_mode AS m
  ON m.upid = s.upid
WHERE e.dur != 0 AND s.dur > 0 AND s.kind IN ('preempted', 'runnable')
ORDER BY s.ts, s.id;

-- The same of all that waited in the queues concerned, each state's parts in order and apart.
CREATE PERFETTO TABLE _told_part(
  -- The state, as in _kernel_state.
  state_id LONG,
  -- Start.
  ts TIMESTAMP,
  -- End.
  end_ts TIMESTAMP
) AS
WITH
  parts AS (
    SELECT state_id, ts, ts + dur AS end_ts FROM _told_wait
    UNION ALL
    SELECT
      i.id_0 AS state_id,
      i.ts,
      i.ts + i.dur AS end_ts
    FROM _interval_intersect!(
      (
        (
          SELECT
            id,
            ts,
            dur,
            ucpu
          FROM _kernel_state
          WHERE
            kind IN ('preempted', 'runnable')
            AND dur > 0
            AND coalesce(next_ucpu = ucpu, ucpu IS NOT NULL)
            AND upid IN (SELECT upid FROM _told_wait WHERE throttling = 'queue')
        ),
        (SELECT id, ts, dur, ucpu FROM _told_wait WHERE throttling = 'queue' AND ucpu IS NOT NULL)
      ),
      (ucpu)
    ) AS i
    JOIN _kernel_state AS s
      ON s.id = i.id_0
    JOIN _told_wait AS t
      ON t.id = i.id_1
    WHERE t.upid = s.upid AND t.state_id != s.id
  ),
  after AS (
    SELECT
      *,
      max(end_ts) OVER (
        PARTITION BY state_id ORDER BY ts, end_ts ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
      ) AS before
    FROM parts
  ),
  numbered AS (
    SELECT
      *,
      sum(ts > coalesce(before, -1)) OVER (PARTITION BY state_id ORDER BY ts, end_ts) AS number
    FROM after
  )
SELECT
  state_id,
  min(ts) AS ts,
  max(end_ts) AS end_ts
FROM numbered
GROUP BY state_id, number
ORDER BY state_id, ts;

-- Of states in which threads waited for a CPU (id, ts, dur, ucpu) the parts during which it idled: from
-- when the state began, or another thread of the process left the CPU, to when it was last idle before
-- one of them ran again. Who else ran there meanwhile did so in nobody's place.
CREATE PERFETTO MACRO _idle_parts(
  -- The states: a table or subquery.
  states TableOrSubquery
)
-- Columns state_id, ts, end_ts; is_left: whether the CPU idled from the state's beginning on. Where only the target's switches are recorded, it is not known who came
-- after idle: then it ends when one of the process ran again.
RETURNS TableOrSubquery
AS
(
  WITH
    idle AS MATERIALIZED (
      SELECT
        id_0 AS state_id,
        ts,
        ts + dur AS end_ts
      FROM _interval_intersect!(
        (
          $states,
          (SELECT id, ts, dur, ucpu FROM _cpu_run WHERE utid IN (SELECT utid FROM thread WHERE tid = 0))
        ),
        (ucpu)
      )
    ),
    own AS MATERIALIZED (
      SELECT
        i.id_0 AS state_id,
        i.ts,
        i.ts + i.dur AS end_ts
      FROM _interval_intersect!(
        (
          (SELECT id, ts, dur, ucpu FROM $states WHERE +id IN (SELECT state_id FROM idle)),
          (
            SELECT
              id,
              ts,
              dur,
              ucpu
            FROM _cpu_run
            WHERE
              EXISTS(SELECT 1 FROM idle)
              AND utid IN (SELECT t.utid FROM thread AS t JOIN _recorded_process USING (upid))
          )
        ),
        (ucpu)
      ) AS i
      JOIN _kernel_state AS s
        ON s.id = i.id_0
      JOIN sched AS r
        ON r.id = i.id_1
      JOIN thread AS t
        ON t.utid = r.utid
      WHERE t.upid = s.upid
    ),
    turns AS (
      SELECT
        *,
        sum(NOT is_idle) OVER (PARTITION BY state_id ORDER BY ts) AS turn
      FROM (
        SELECT *, TRUE AS is_idle FROM idle
        UNION ALL
        SELECT *, FALSE AS is_idle FROM own
      )
    ),
    grouped AS (
      SELECT
        state_id,
        max(iif(is_idle, NULL, end_ts)) AS left_ts,
        min(ts) AS ts,
        max(iif(is_idle, end_ts, NULL)) AS idle_ts,
        lead(min(ts)) OVER (PARTITION BY state_id ORDER BY turn) AS next_ts
      FROM turns
      GROUP BY state_id, turn
    )
  SELECT
    g.state_id,
    coalesce(g.left_ts, s.ts) AS ts,
    iif(
      m.mode = 'target' AND NOT s.upid IN (SELECT upid FROM _scheduled_by_other),
      coalesce(g.next_ts, s.ts + s.dur),
      g.idle_ts
    ) AS end_ts,
    g.left_ts IS NULL AND g.ts = s.ts AS is_left
  FROM grouped AS g
  JOIN _kernel_state AS s
    ON s.id = g.state_id
  LEFT JOIN _scheduler_mode AS m
    ON m.upid = s.upid
  WHERE g.idle_ts IS NOT NULL
);

-- Such parts of threads that had left their CPU and could have gone on there.
CREATE PERFETTO TABLE _left_to_idle(
  -- The state, as in _kernel_state.
  state_id LONG,
  -- Start.
  ts TIMESTAMP,
  -- End.
  end_ts TIMESTAMP,
  -- Whether it was left to idle at once.
  is_left BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  p.state_id,
  p.ts,
  p.end_ts,
  p.is_left,
  s.upid
FROM _idle_parts!((
  SELECT
    id,
    ts,
    dur,
    ucpu
  FROM _kernel_state
  WHERE
    (kind = 'preempted' OR (kind = 'runnable' AND blocked_in IS NOT NULL))
    AND NOT upid IN (
      SELECT
        upid
      FROM _scheduler_mode
      WHERE throttling = 'task' AND NOT upid IN (SELECT upid FROM _scheduled_by_other)
    )
    AND dur > 0
    AND coalesce(next_ucpu = ucpu, ucpu IS NOT NULL)
)) AS p
JOIN _kernel_state AS s
  ON s.id = p.state_id;

-- Those of processes whose threads are kept from CPUs now and then. Others may have been moved to another
-- CPU, and back. Of a thread that went on elsewhere nothing is said: it may have waited there.
CREATE PERFETTO TABLE _kept_from_cpu(
  -- The state, as in _kernel_state.
  state_id LONG,
  -- Start.
  ts TIMESTAMP,
  -- End.
  end_ts TIMESTAMP,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  state_id,
  ts,
  end_ts,
  upid
FROM _left_to_idle
WHERE upid IN (SELECT upid FROM _left_to_idle WHERE is_left);

-- And of threads that were woken. An idle CPU needs a while to wake up, too: which of both it was, other
-- threads of the process tell. Threads of a group go on together, when its next period begins.
CREATE PERFETTO TABLE _woken_to_idle(
  -- The state, as in _kernel_state.
  state_id LONG,
  -- Start.
  ts TIMESTAMP,
  -- End.
  end_ts TIMESTAMP,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  p.state_id,
  p.ts,
  p.end_ts,
  s.upid
FROM _idle_parts!((
  SELECT
    id,
    ts,
    dur,
    ucpu
  FROM _kernel_state
  WHERE
    kind = 'runnable'
    AND blocked_in IS NULL
    AND dur > 0
    AND ucpu IS NOT NULL
    AND upid IN (SELECT upid FROM _kept_from_cpu)
)) AS p
JOIN _kernel_state AS s
  ON s.id = p.state_id
WHERE p.end_ts > p.ts;

-- Parts of states in which threads were throttled.
CREATE PERFETTO TABLE _throttled(
  -- The state, as in _kernel_state.
  state_id LONG,
  -- Start.
  ts TIMESTAMP,
  -- End.
  end_ts TIMESTAMP
) AS
WITH
  met AS MATERIALIZED (
    SELECT DISTINCT
      w._auto_id AS row
    FROM _interval_intersect!(
      (
        (SELECT _auto_id AS id, ts, end_ts - ts AS dur, upid FROM _woken_to_idle),
        (SELECT _auto_id AS id, ts, end_ts - ts AS dur, upid FROM _kept_from_cpu WHERE end_ts > ts)
      ),
      (upid)
    ) AS i
    JOIN _woken_to_idle AS w
      ON w._auto_id = i.id_0
    JOIN _kept_from_cpu AS k
      ON k._auto_id = i.id_1
    -- Within a tenth of the wait: one CPU is told after the other.
    WHERE 10 * abs(k.end_ts - w.end_ts) <= w.end_ts - w.ts
  )
SELECT
  state_id,
  ts,
  end_ts
FROM _told_part
UNION ALL
SELECT
  state_id,
  ts,
  end_ts
FROM _kept_from_cpu
WHERE NOT state_id IN (SELECT state_id FROM _told_part)
UNION ALL
SELECT
  state_id,
  ts,
  end_ts
FROM _woken_to_idle
WHERE _auto_id IN (SELECT row FROM met) AND NOT state_id IN (SELECT state_id FROM _told_part)
ORDER BY state_id, ts;

-- What is left of these states before, between and after those parts.
CREATE PERFETTO TABLE _not_throttled(
  -- The state, as in _kernel_state.
  state_id LONG,
  -- Start.
  ts TIMESTAMP,
  -- End.
  end_ts TIMESTAMP
) AS
WITH
  parts AS (
    SELECT
      s.id AS state_id,
      lag(t.end_ts, 1, s.ts) OVER state AS ts,
      t.ts AS end_ts
    FROM _throttled AS t
    JOIN _kernel_state AS s
      ON s.id = t.state_id
    WINDOW state AS (PARTITION BY t.state_id ORDER BY t.ts)
    UNION ALL
    SELECT
      s.id AS state_id,
      max(t.end_ts) AS ts,
      s.ts + s.dur AS end_ts
    FROM _throttled AS t
    JOIN _kernel_state AS s
      ON s.id = t.state_id
    GROUP BY s.id
  )
SELECT
  state_id,
  ts,
  end_ts
FROM parts
WHERE ts < end_ts
ORDER BY state_id, ts;
