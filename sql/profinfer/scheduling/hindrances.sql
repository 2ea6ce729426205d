-- What kept threads from working on operators, and on which part of them. The parts of a run lie
-- between barriers: at each one all threads meet.

INCLUDE PERFETTO MODULE intervals.intersect;
INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.operators.runs;
INCLUDE PERFETTO MODULE profinfer.scheduling.operators;
INCLUDE PERFETTO MODULE profinfer.scheduling.preemptions;
INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;

-- Preemptions within operators.
CREATE PERFETTO TABLE _taken_in_operator(
  -- The operator's slice.
  slice_id JOINID(slice.id),
  -- Preemption, as in profinfer_preemption.
  preemption_id LONG,
  -- Start of what they have in common.
  ts TIMESTAMP,
  -- Its duration.
  dur DURATION
) AS
SELECT
  o.slice_id,
  i.id_1 AS preemption_id,
  i.ts,
  i.dur
FROM _interval_intersect!(
  (
    (SELECT id, ts, dur, state_id FROM _off_cpu),
    (SELECT id, ts, dur, state_id FROM profinfer_preemption)
  ),
  (state_id)
) AS i
JOIN _off_cpu AS o
  ON o.id = i.id_0;

-- What kept threads from running within operator slices, other than waiting for each other.
CREATE PERFETTO TABLE _idle_piece(
  -- The operator's slice.
  slice_id JOINID(slice.id),
  -- Preemption; NULL for others.
  preemption_id LONG,
  -- One of cpu (it waited for one that was taken), throttled, fault, blocked (other sleep, futexes left out),
  -- unknown (a state that is not certain; such a one may be among the others, too).
  kind STRING,
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION
) AS
SELECT
  slice_id,
  preemption_id,
  'cpu' AS kind,
  ts,
  dur
FROM _taken_in_operator
UNION ALL
SELECT
  p.slice_id,
  NULL AS preemption_id,
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
  NULL AS preemption_id,
  'unknown' AS kind,
  p.ts,
  p.dur
FROM _off_cpu AS p
JOIN profinfer_thread_state AS s
  ON s.id = p.state_id
WHERE NOT s.complete OR s.kind IS NULL;

-- The same of slices that began late: what kept their thread in the barrier before when all had
-- arrived there. It delays what comes after.
CREATE PERFETTO TABLE _late_start(
  -- The operator's slice that began late.
  slice_id JOINID(slice.id),
  -- As in _idle_piece.
  preemption_id LONG,
  -- As in _idle_piece.
  kind STRING,
  -- Start: not before all had arrived.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION
) AS
WITH
  idle AS MATERIALIZED (
    SELECT DISTINCT
      o.graph_id * 16777216 + o.arg_set_id AS run
    FROM _idle_piece AS p
    JOIN profinfer_operator_slice AS o
      ON o.id = p.slice_id
    WHERE o.wait_dur > 0
  ),
  met AS MATERIALIZED (
    SELECT
      graph_id * 16777216 + arg_set_id AS run,
      max(arrival) AS ts
    FROM profinfer_operator_slice
    WHERE
      graph_id * 16777216 + arg_set_id IN (
        SELECT
          run
        FROM idle
      )
    GROUP BY 1
  ),
  late AS MATERIALIZED (
    SELECT
      p.slice_id,
      p.preemption_id,
      p.kind,
      max(p.ts, m.ts) AS ts,
      p.ts + p.dur AS end_ts,
      o.graph_id
    FROM _idle_piece AS p
    JOIN profinfer_operator_slice AS o
      ON o.id = p.slice_id
    JOIN met AS m
      ON m.run = o.graph_id * 16777216 + o.arg_set_id
    WHERE p.ts + p.dur > m.ts
  ),
  following AS MATERIALIZED (
    SELECT
      id,
      lead(id) OVER (PARTITION BY graph_id, utid ORDER BY ts) AS next_id
    FROM profinfer_operator_slice
    WHERE graph_id IN (
      SELECT
        graph_id
      FROM late
    )
  )
SELECT
  f.next_id AS slice_id,
  l.preemption_id,
  l.kind,
  l.ts,
  l.end_ts - l.ts AS dur
FROM late AS l
JOIN following AS f
  ON f.id = l.slice_id
WHERE f.next_id IS NOT NULL;

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
      id,
      graph_id,
      utid,
      min(ts) AS ts
    FROM profinfer_operator_slice
    WHERE
      EXISTS(SELECT 1 FROM profinfer_preemption)
      OR EXISTS(SELECT 1 FROM _throttled)
      OR EXISTS(SELECT 1 FROM _started_thread)
    GROUP BY graph_id, utid
  )
SELECT
  f.id,
  g.ts,
  f.ts - g.ts AS dur,
  f.utid
FROM firsts AS f
JOIN profinfer_graph AS g
  USING (graph_id)
WHERE f.ts > g.ts
ORDER BY f.id;

-- Preemptions and throttling in that time.
CREATE PERFETTO TABLE _late_entry(
  -- Slice of that operator.
  slice_id JOINID(slice.id),
  -- As in _idle_piece.
  preemption_id LONG,
  -- As in _idle_piece.
  kind STRING,
  -- Start of what they have in common.
  ts TIMESTAMP,
  -- Its duration.
  dur DURATION
) AS
SELECT
  id_0 AS slice_id,
  id_1 AS preemption_id,
  'cpu' AS kind,
  ts,
  dur
FROM _interval_intersect!(
  (_entry, (SELECT id, ts, dur, utid FROM profinfer_preemption)),
  (utid)
)
UNION ALL
SELECT
  id_0 AS slice_id,
  NULL AS preemption_id,
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
  -- Preemption; NULL for others.
  preemption_id LONG,
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
  preemption_id,
  kind,
  ts,
  dur
FROM _idle_piece
WHERE kind != 'unknown'
UNION ALL
SELECT
  slice_id,
  preemption_id,
  kind,
  ts,
  dur
FROM _late_start
WHERE kind != 'unknown'
UNION ALL
SELECT
  slice_id,
  preemption_id,
  kind,
  ts,
  dur
FROM _late_entry
UNION ALL
SELECT
  slice_id,
  NULL AS preemption_id,
  'start' AS kind,
  ts,
  dur
FROM _starting;

-- Slices of operator runs in which some thread was hindered.
CREATE PERFETTO TABLE _hindered_slice(
  -- Slice id.
  id JOINID(slice.id),
  -- Graph run.
  graph_id LONG,
  -- Arguments of the operator.
  arg_set_id ARGSETID,
  -- Start.
  ts TIMESTAMP,
  -- When its work was done.
  arrival TIMESTAMP,
  -- When it ended.
  end_ts TIMESTAMP,
  -- Whether the split of its time is certain.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  runs AS MATERIALIZED (
    SELECT DISTINCT
      o.graph_id * 16777216 + o.arg_set_id AS run
    FROM _hindrance AS h
    JOIN profinfer_operator_slice AS o
      ON o.id = h.slice_id
  )
SELECT
  o.id,
  o.graph_id,
  o.arg_set_id,
  o.ts,
  o.arrival,
  o.ts + o.dur AS end_ts,
  o.complete,
  o.upid
FROM profinfer_operator_slice AS o
WHERE
  EXISTS(
    SELECT
      1
    FROM _hindrance
  )
  AND o.graph_id * 16777216 + o.arg_set_id IN (
    SELECT
      run
    FROM runs
  );

-- The work of these slices, cut at the barriers inside them: at each one all threads meet.
CREATE PERFETTO TABLE _hindered_part(
  -- Number of the row.
  id LONG,
  -- The operator's slice.
  slice_id JOINID(slice.id),
  -- Graph run.
  graph_id LONG,
  -- Arguments of the operator.
  arg_set_id ARGSETID,
  -- Number of the part within the operator, from 1.
  number LONG,
  -- Start: when all threads had met before. 0 for the first: what kept a thread from beginning with
  -- it belongs to it.
  ts TIMESTAMP,
  -- When its work was done.
  arrival TIMESTAMP,
  -- When the work of the last thread was.
  last_arrival TIMESTAMP,
  -- Whether it ends with the operator's work.
  is_last BOOL
) AS
WITH
  arrivals AS (
    SELECT
      s.id AS slice_id,
      s.graph_id,
      s.arg_set_id,
      i.ts AS arrival,
      FALSE AS is_last
    FROM _hindered_slice AS s
    JOIN _inside_event AS i
      ON i.operator_slice_id = s.id
    UNION ALL
    SELECT
      id AS slice_id,
      graph_id,
      arg_set_id,
      arrival,
      TRUE AS is_last
    FROM _hindered_slice
  ),
  numbered AS (
    SELECT
      *,
      row_number() OVER (PARTITION BY slice_id ORDER BY arrival, is_last) AS number
    FROM arrivals
  ),
  met AS (
    SELECT
      *,
      max(arrival) OVER (PARTITION BY graph_id, arg_set_id, number) AS last_arrival
    FROM numbered
  ),
  begun AS (
    SELECT
      *,
      lag(last_arrival) OVER (PARTITION BY slice_id ORDER BY number) AS met_before
    FROM met
  )
SELECT
  row_number() OVER () AS id,
  b.slice_id,
  b.graph_id,
  b.arg_set_id,
  b.number,
  coalesce(b.met_before, 0) AS ts,
  b.arrival,
  b.last_arrival,
  b.is_last
FROM begun AS b;

-- Hindrances within parts.
CREATE PERFETTO TABLE _hindrance_in_part(
  -- Part.
  part_id LONG,
  -- Preemption; NULL for others.
  preemption_id LONG,
  -- Kind, as in _hindrance.
  kind STRING,
  -- Duration of what they have in common.
  dur DURATION
) AS
SELECT
  p.id AS part_id,
  h.preemption_id,
  h.kind,
  min(h.ts + h.dur, p.arrival) - max(h.ts, p.ts) AS dur
FROM _hindrance AS h
JOIN _hindered_part AS p
  USING (slice_id)
WHERE h.ts < p.arrival AND h.ts + h.dur > p.ts;
