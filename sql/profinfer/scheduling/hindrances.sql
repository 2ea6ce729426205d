-- What kept threads from working on operators, and on which part of them. The parts of a run lie
-- between barriers: at each one all threads meet.

INCLUDE PERFETTO MODULE intervals.intersect;
INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.operators.inside_barriers;
INCLUDE PERFETTO MODULE profinfer.operators.work;
INCLUDE PERFETTO MODULE profinfer.scheduling.off_cpu;
INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;
INCLUDE PERFETTO MODULE profinfer.scheduling.waits;

-- What kept threads from running within operator slices, other than waiting for each other.
CREATE PERFETTO TABLE _idle_piece(
  -- The operator's slice.
  slice_id JOINID(slice.id),
  -- The state in which it waited for a CPU; NULL for others.
  state_id LONG,
  -- One of cpu (it waited for one that was taken), throttled, fault, blocked (other sleep, futexes left out),
  -- unknown (a state that is not certain; such a one may be among the others, too).
  kind STRING,
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION
) AS
SELECT
  o.slice_id,
  o.state_id,
  'cpu' AS kind,
  max(o.ts, w.ts) AS ts,
  min(o.ts + o.dur, w.ts + w.dur) - max(o.ts, w.ts) AS dur
FROM _cpu_wait AS w
CROSS JOIN _off_cpu AS o
  USING (state_id)
WHERE o.ts < w.ts + w.dur AND o.ts + o.dur > w.ts
UNION ALL
SELECT
  p.slice_id,
  NULL AS state_id,
  iif(s.kind IN ('throttled', 'fault'), s.kind, 'blocked') AS kind,
  p.ts,
  p.dur
FROM _off_cpu AS p
JOIN profinfer_thread_state AS s
  ON s.id = p.state_id
WHERE s.kind IN ('throttled', 'fault', 'io', 'sleep')
UNION ALL
SELECT
  p.slice_id,
  NULL AS state_id,
  'unknown' AS kind,
  p.ts,
  p.dur
FROM _off_cpu AS p
JOIN profinfer_thread_state AS s
  ON s.id = p.state_id
WHERE NOT s.complete OR s.kind IS NULL;

-- Idle pieces with what is known of their operators.
CREATE PERFETTO TABLE _placed_piece(
  -- The operator's slice.
  slice_id JOINID(slice.id),
  -- As in _idle_piece.
  state_id LONG,
  -- As in _idle_piece.
  kind STRING,
  -- Start.
  ts TIMESTAMP,
  -- End.
  end_ts TIMESTAMP,
  -- As in _operator_work.
  run LONG,
  -- As in _operator_work.
  parent_id JOINID(slice.id),
  -- End of the operator, its wait included.
  left_ts TIMESTAMP,
  -- Whether the operator ended with a wait.
  has_waited BOOL
) AS
SELECT
  p.slice_id,
  p.state_id,
  p.kind,
  p.ts,
  p.ts + p.dur AS end_ts,
  w.run,
  w.parent_id,
  w.end_ts AS left_ts,
  w.end_ts > w.arrival AND g.has_barriers AS has_waited
FROM _idle_piece AS p
CROSS JOIN _operator_work AS w
  ON w.id = p.slice_id
CROSS JOIN _graph_event AS g
  ON g.id = w.parent_id;

-- The same of slices that began late: what kept their thread in the barrier before when all had
-- arrived there. It delays what comes after.
CREATE PERFETTO TABLE _late_start(
  -- The operator's slice that began late.
  slice_id JOINID(slice.id),
  -- As in _idle_piece.
  state_id LONG,
  -- As in _idle_piece.
  kind STRING,
  -- Start: not before all had arrived.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION
) AS
WITH
  met AS MATERIALIZED (
    SELECT
      i.run,
      max(w.arrival) AS ts
    FROM (SELECT DISTINCT run FROM _placed_piece WHERE has_waited) AS i
    CROSS JOIN _operator_work AS w
      USING (run)
    GROUP BY i.run
  )
SELECT
  n.slice_id,
  p.state_id,
  p.kind,
  max(p.ts, n.met_ts) AS ts,
  p.end_ts - max(p.ts, n.met_ts) AS dur
FROM (
  SELECT
    p._auto_id AS piece_id,
    m.ts AS met_ts,
    -- The thread's next operator begins when it leaves this one, unless a record was lost.
    coalesce(
      min(n.id),
      (
        SELECT
          x.id
        FROM _operator_work AS x
        WHERE x.parent_id = p.parent_id AND x.ts > p.left_ts
        ORDER BY x.id
        LIMIT 1
      )
    ) AS slice_id
  FROM _placed_piece AS p
  CROSS JOIN met AS m
    ON m.run = p.run AND p.end_ts > m.ts
  LEFT JOIN _operator_work AS n
    ON n.parent_id = p.parent_id AND n.ts = p.left_ts AND n.id > p.slice_id
  GROUP BY p._auto_id
) AS n
CROSS JOIN _placed_piece AS p
  ON p._auto_id = n.piece_id
WHERE n.slice_id IS NOT NULL;

-- Threads that began while they were recorded, and computed graphs.
CREATE PERFETTO TABLE _started_thread(
  -- Thread.
  utid JOINID(thread.id),
  -- When it began.
  ts TIMESTAMP
) AS
SELECT
  utid,
  start_ts AS ts
FROM thread
WHERE
  start_ts IS NOT NULL
  AND utid IN (
    SELECT
      utid
    FROM _graph_event
    WHERE NOT is_main
  )
ORDER BY utid;

-- What passed between a graph's beginning and a thread's first operator in it.
CREATE PERFETTO TABLE _entry(
  -- Slice of that operator.
  id JOINID(slice.id),
  -- The graph's beginning.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- Thread.
  utid JOINID(thread.id)
) AS
WITH
  firsts AS MATERIALIZED (
    SELECT
      graph_id,
      utid,
      (
        SELECT
          w.id
        FROM _operator_work AS w
        WHERE w.parent_id = g.id
        ORDER BY w.id
        LIMIT 1
      ) AS id
    FROM _graph_event AS g
    WHERE
      EXISTS(SELECT 1 FROM _cpu_wait)
      OR EXISTS(SELECT 1 FROM _throttled)
      OR EXISTS(SELECT 1 FROM _started_thread)
  )
SELECT
  f.id,
  g.ts,
  w.ts - g.ts AS dur,
  f.utid
FROM firsts AS f
JOIN profinfer_graph AS g
  USING (graph_id)
JOIN _operator_work AS w
  USING (id)
WHERE w.ts > g.ts
ORDER BY f.id;

-- Preemptions and throttling in that time.
CREATE PERFETTO TABLE _late_entry(
  -- Slice of that operator.
  slice_id JOINID(slice.id),
  -- As in _idle_piece.
  state_id LONG,
  -- As in _idle_piece.
  kind STRING,
  -- Start of what they have in common.
  ts TIMESTAMP,
  -- Its duration.
  dur DURATION
) AS
SELECT
  id_0 AS slice_id,
  id_1 AS state_id,
  'cpu' AS kind,
  ts,
  dur
FROM _interval_intersect!(
  (_entry, (SELECT state_id AS id, ts, dur, utid FROM _cpu_wait)),
  (utid)
)
UNION ALL
SELECT
  id_0 AS slice_id,
  NULL AS state_id,
  'throttled' AS kind,
  ts,
  dur
FROM _interval_intersect!(
  (_entry, (SELECT id, ts, dur, utid FROM profinfer_thread_state WHERE kind = 'throttled')),
  (utid)
);

-- Threads that were started within the graph: the rest of that time.
CREATE PERFETTO TABLE _starting(
  -- Slice of the thread's first operator.
  slice_id JOINID(slice.id),
  -- The graph's beginning.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION
) AS
WITH
  others AS MATERIALIZED (
    SELECT
      slice_id,
      sum(dur) AS dur
    FROM _late_entry
    GROUP BY slice_id
  )
SELECT
  e.id AS slice_id,
  e.ts,
  e.dur - coalesce(o.dur, 0) AS dur
FROM _entry AS e
JOIN _started_thread AS t
  ON t.utid = e.utid AND t.ts BETWEEN e.ts AND e.ts + e.dur
LEFT JOIN others AS o
  ON o.slice_id = e.id
WHERE e.dur > coalesce(o.dur, 0)
ORDER BY e.id;

-- What kept threads from working on operators: within them, or before, when they could have begun.
CREATE PERFETTO TABLE _hindrance(
  -- The operator's slice.
  slice_id JOINID(slice.id),
  -- As in _idle_piece.
  state_id LONG,
  -- One of cpu, throttled, fault, blocked, as in _idle_piece, or start: its thread was started within
  -- the graph.
  kind STRING,
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION
) AS
SELECT
  slice_id,
  state_id,
  kind,
  ts,
  dur
FROM _idle_piece
WHERE kind != 'unknown'
UNION ALL
SELECT
  slice_id,
  state_id,
  kind,
  ts,
  dur
FROM _late_start
WHERE kind != 'unknown'
UNION ALL
SELECT
  slice_id,
  state_id,
  kind,
  ts,
  dur
FROM _late_entry
UNION ALL
SELECT
  slice_id,
  NULL AS state_id,
  'start' AS kind,
  ts,
  dur
FROM _starting;

-- Runs of operators in which threads were hindered, once for each hindrance: of a table they are grouped at
-- a third of what DISTINCT costs.
CREATE PERFETTO TABLE _hindered_run(
  -- As in _operator_work.
  run LONG
) AS
SELECT
  w.run
FROM _hindrance AS h
CROSS JOIN _operator_work AS w
  ON w.id = h.slice_id;

-- Slices of operator runs in which some thread was hindered.
CREATE PERFETTO TABLE _hindered_slice(
  -- Slice id.
  id JOINID(slice.id),
  -- As in _operator_work.
  run LONG,
  -- Start.
  ts TIMESTAMP,
  -- When its work was done.
  arrival TIMESTAMP,
  -- When it ended.
  end_ts TIMESTAMP
) AS
SELECT
  w.id,
  w.run,
  w.ts,
  w.arrival,
  w.end_ts
FROM (SELECT run FROM _hindered_run GROUP BY run) AS r
CROSS JOIN _operator_work AS w
  USING (run);

-- When their threads had done a part of the work: parts end at the barriers inside, at each of which
-- all threads meet, and with the work.
CREATE PERFETTO TABLE _part_end(
  -- The operator's slice.
  slice_id JOINID(slice.id),
  -- As in _operator_work.
  run LONG,
  -- Number of the part within the operator, from 1.
  number LONG,
  -- When its work was done.
  arrival TIMESTAMP,
  -- Whether it ends with the operator's work.
  is_last BOOL
) AS
WITH
  inside AS MATERIALIZED (
    SELECT
      s.id AS slice_id,
      s.run,
      i.ts AS arrival
    FROM _hindered_slice AS s
    CROSS JOIN _inside_work AS i
      USING (id)
  )
SELECT
  slice_id,
  run,
  row_number() OVER (PARTITION BY slice_id ORDER BY arrival, is_last) AS number,
  arrival,
  is_last
FROM (
  SELECT slice_id, run, arrival, FALSE AS is_last FROM inside
  UNION ALL
  SELECT
    id AS slice_id,
    run,
    arrival,
    TRUE AS is_last
  FROM _hindered_slice
  -- Not one by one, as without the plus.
  WHERE +id IN (SELECT slice_id FROM inside)
)
UNION ALL
-- Most have no barrier inside.
SELECT
  id AS slice_id,
  run,
  1 AS number,
  arrival,
  TRUE AS is_last
FROM _hindered_slice
WHERE NOT id IN (SELECT slice_id FROM inside);

-- When all threads had done so.
CREATE PERFETTO TABLE _part_met(
  -- As in _operator_work.
  run LONG,
  -- Number of the part within the operator.
  number LONG,
  -- The last thread's arrival.
  ts TIMESTAMP
) AS
SELECT
  run,
  number,
  max(arrival) AS ts
FROM _part_end
GROUP BY run, number;

-- The work of these slices by parts.
CREATE PERFETTO TABLE _hindered_part(
  -- The operator's slice.
  slice_id JOINID(slice.id),
  -- As in _operator_work.
  run LONG,
  -- Number of the part within the operator, from 1.
  number LONG,
  -- Start: when all threads had met before. 0 for the first: what kept a thread from beginning with
  -- it belongs to it.
  ts TIMESTAMP,
  -- When its work was done.
  arrival TIMESTAMP,
  -- Whether it ends with the operator's work.
  is_last BOOL
) AS
SELECT
  p.slice_id,
  p.run,
  p.number,
  iif(
    p.number = 1,
    0,
    (
      SELECT
        m.ts
      FROM _part_met AS m
      WHERE m.run = p.run AND m.number = p.number - 1
    )
  ) AS ts,
  p.arrival,
  p.is_last
FROM _part_end AS p;

-- Without it each hindrance reads all of them.
CREATE PERFETTO INDEX _hindered_part_slice_id ON _hindered_part(slice_id);

-- Hindrances within parts.
CREATE PERFETTO TABLE _hindrance_in_part(
  -- Part: the row's number in _hindered_part.
  part_id LONG,
  -- As in _operator_work.
  run LONG,
  -- Number of the part within the operator.
  number LONG,
  -- As in _idle_piece.
  state_id LONG,
  -- Kind, as a number: texts take their time. 1 is cpu, 2 throttled, 3 start, 4 fault and 5 blocked.
  rank LONG,
  -- Start of what they have in common.
  ts TIMESTAMP,
  -- Its duration.
  dur DURATION
) AS
SELECT
  p._auto_id AS part_id,
  p.run,
  p.number,
  h.state_id,
  CASE h.kind WHEN 'cpu' THEN 1 WHEN 'throttled' THEN 2 WHEN 'start' THEN 3 WHEN 'fault' THEN 4 ELSE 5 END AS rank,
  max(h.ts, p.ts) AS ts,
  min(h.ts + h.dur, p.arrival) - max(h.ts, p.ts) AS dur
FROM _hindrance AS h
CROSS JOIN _hindered_part AS p
  USING (slice_id)
WHERE h.ts < p.arrival AND h.ts + h.dur > p.ts;
