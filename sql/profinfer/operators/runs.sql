-- Operators, as each thread ran them and across threads.

INCLUDE PERFETTO MODULE intervals.intersect;
INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;

-- Waits in order of their operators.
CREATE PERFETTO TABLE _sorted_wait(
  -- The operator's slice.
  operator_slice_id JOINID(slice.id),
  -- How long the thread waited, -1 when the end was not recorded.
  dur DURATION
) AS
SELECT
  operator_slice_id,
  dur
FROM _wait_event
ORDER BY operator_slice_id;

-- Operators as threads ran them, by their numbers alone: there can be millions, and each column takes
-- its time. profinfer_operator_slice has everything else of them.
CREATE PERFETTO TABLE _operator_work(
  -- Slice id.
  id JOINID(slice.id),
  -- The thread's graph slice, as in _graph_event.
  parent_id JOINID(slice.id),
  -- Graph run, in the upper 32 bits, and arguments: one number, since grouping by two takes twice as
  -- long.
  run LONG,
  -- Start.
  ts TIMESTAMP,
  -- When its work was done and the wait at the barrier after it began; NULL when the end was not
  -- recorded.
  arrival TIMESTAMP,
  -- End of that wait: the same where there is none.
  end_ts TIMESTAMP
) AS
SELECT
  o.id,
  o.parent_id,
  g.graph_id << 32 | o.arg_set_id AS run,
  o.ts,
  iif(o.dur < 0, NULL, o.ts + o.dur - coalesce(w.dur, 0)) AS arrival,
  iif(o.dur < 0, NULL, o.ts + o.dur) AS end_ts
FROM _operator_event AS o
CROSS JOIN _graph_event AS g
  ON g.id = o.parent_id
LEFT JOIN _sorted_wait AS w
  ON w.operator_slice_id = o.id;

-- Without these a join reads all of them, for each row.
CREATE PERFETTO INDEX _operator_work_id ON _operator_work(id);

-- As that.
CREATE PERFETTO INDEX _operator_work_parent_id ON _operator_work(parent_id);

-- As that.
CREATE PERFETTO INDEX _operator_work_run ON _operator_work(run);

-- Time in which the threads of operators were throttled before they had done their work.
CREATE PERFETTO TABLE _throttled_work(
  -- The operator's slice.
  slice_id JOINID(slice.id),
  -- How long.
  dur DURATION
) AS
WITH
  throttled AS MATERIALIZED (
    SELECT
      id,
      ts,
      dur,
      utid
    FROM profinfer_thread_state
    WHERE kind = 'throttled'
  ),
  graphs AS MATERIALIZED (
    SELECT
      id,
      ts,
      iif(dur < 0, trace_end() - ts, dur) AS dur,
      utid
    FROM _graph_event
    WHERE
      dur != 0
      AND utid IN (
        SELECT
          utid
        FROM throttled
      )
  ),
  -- Graphs are few: operators need then be looked for in those alone that met such a state.
  pieces AS MATERIALIZED (
    SELECT
      id_0 AS parent_id,
      ts,
      ts + dur AS end_ts
    FROM _interval_intersect!((graphs, throttled), (utid))
  )
SELECT
  w.id AS slice_id,
  sum(min(w.arrival, p.end_ts) - max(w.ts, p.ts)) AS dur
FROM pieces AS p
CROSS JOIN _operator_work AS w
  ON w.parent_id = p.parent_id AND w.ts < p.end_ts AND w.arrival > p.ts
WHERE w.arrival > w.ts
GROUP BY w.id
ORDER BY w.id;

-- One row per operator and thread.
CREATE PERFETTO VIEW profinfer_operator_slice(
  -- Slice id.
  id JOINID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- From its start to the start of the thread's next operator or the end of the graph, the wait
  -- at the barrier included. NULL when the end was not recorded.
  dur DURATION,
  -- Thread.
  utid JOINID(thread.id),
  -- Name of the tensor that is computed.
  name STRING,
  -- Graph run.
  graph_id LONG,
  -- Arguments; one set per distinct operator, with its description.
  arg_set_id ARGSETID,
  -- Time spent waiting for the other threads at the barrier after the operator: 0 where there
  -- is none, NULL when barriers were not recorded.
  wait_dur DURATION,
  -- Work: dur without the wait at the barrier, of which nothing is known when barriers were not
  -- recorded, and without throttled_dur.
  busy_dur DURATION,
  -- Time before the barrier in which the thread was throttled: its cgroup had used up its quota.
  -- NULL where the scheduler was not recorded: it is then among busy_dur.
  throttled_dur DURATION,
  -- When its work was done.
  arrival TIMESTAMP,
  -- False when its end, and so dur, is not certain, since a record may have been lost, or when
  -- the structure of its graph is unknown.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  w.id,
  w.ts,
  w.end_ts - w.ts AS dur,
  g.utid,
  o.name,
  g.graph_id,
  o.arg_set_id,
  iif(g.has_barriers, coalesce(w.end_ts - w.arrival, 0), NULL) AS wait_dur,
  w.arrival - w.ts - coalesce(t.dur, 0) AS busy_dur,
  iif(
    w.arrival IS NOT NULL AND g.upid IN (SELECT upid FROM _scheduler), coalesce(t.dur, 0), NULL
  ) AS throttled_dur,
  w.arrival,
  w.arrival IS NOT NULL AND o.complete AS complete,
  g.upid
FROM _operator_work AS w
JOIN _operator_event AS o
  USING (id)
JOIN _graph_event AS g
  ON g.id = w.parent_id
LEFT JOIN _throttled_work AS t
  ON t.slice_id = w.id;

-- What operators ask of their graph.
CREATE PERFETTO TABLE _graph_context(
  -- Graph run.
  graph_id LONG,
  -- Number of the phase: 0 for a graph whose beginning was lost, of which there is no row in
  -- profinfer_graph, 1 outside any micro-batch.
  phase_id LONG,
  -- Phase of the micro-batch around it.
  phase STRING,
  -- Whether barriers were recorded in it.
  has_barriers BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  e.graph_id,
  CASE
    WHEN g.graph_id IS NULL
    THEN 0
    WHEN u.phase IS NULL
    THEN 1
    ELSE 1 + dense_rank() OVER (ORDER BY u.phase)
  END AS phase_id,
  u.phase,
  e.has_barriers,
  e.upid
FROM (SELECT graph_id, has_barriers, upid FROM _graph_event GROUP BY graph_id) AS e
LEFT JOIN profinfer_graph AS g
  USING (graph_id)
LEFT JOIN profinfer_ubatch AS u
  USING (ubatch_id)
ORDER BY e.graph_id;

-- Operators that are not complete.
CREATE PERFETTO TABLE _incomplete_work(
  -- The operator's slice.
  id JOINID(slice.id)
) AS
SELECT
  id
FROM _incomplete_event
UNION
SELECT
  id
FROM _operator_work
WHERE arrival IS NULL;

-- Operator runs of which something was recorded, by their numbers alone.
CREATE PERFETTO TABLE _operator_seen(
  -- Start on the first thread.
  ts TIMESTAMP,
  -- From the first thread's start to the last thread's end.
  dur DURATION,
  -- Graph run.
  graph_id LONG,
  -- Arguments of its slices.
  arg_set_id ARGSETID,
  -- These, and in the lower 16 bits the number of the phase: what sums are grouped by.
  summand LONG,
  -- Threads that ran it.
  thread_count LONG,
  -- Work, summed over threads.
  busy_dur DURATION,
  -- Time throttled meanwhile, summed over threads; NULL where the scheduler was not recorded.
  throttled_dur DURATION,
  -- Wait at the barrier after it, summed over threads.
  wait_dur DURATION,
  -- What passed until the last thread's arrival, summed over threads.
  arrival_dur DURATION,
  -- Work of the thread that worked longest.
  slowest_dur DURATION,
  -- Work of the thread that worked least.
  fastest_dur DURATION,
  -- Whether all of its slices are complete, and none can be missing altogether.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  -- Operators that the busiest thread of a graph ran, where records were lost.
  gaps AS MATERIALIZED (
    SELECT
      g.graph_id,
      max(n.operators) AS operators
    FROM (
      SELECT
        parent_id,
        count() AS operators
      FROM _operator_event
      WHERE
        +parent_id IN (
          SELECT
            id
          FROM _graph_event
          WHERE
            graph_id IN (
              SELECT
                graph_id
              FROM _graph_gap
            )
        )
      GROUP BY parent_id
    ) AS n
    JOIN _graph_event AS g
      ON g.id = n.parent_id
    GROUP BY g.graph_id
  ),
  throttled AS MATERIALIZED (
    SELECT DISTINCT
      w.run
    FROM _throttled_work AS t
    CROSS JOIN _operator_work AS w
      ON w.id = t.slice_id
  ),
  -- Of one table and by one column: Trace Processor then needs no sorting of its own.
  merged AS (
    SELECT
      run,
      min(ts) AS ts,
      max(end_ts) - min(ts) AS dur,
      count() AS thread_count,
      sum(arrival - ts) AS busy_dur,
      0 AS throttled_dur,
      coalesce(sum(end_ts - arrival), 0) AS wait_dur,
      count() * max(arrival) - sum(arrival) AS arrival_dur,
      max(arrival - ts) AS slowest_dur,
      min(arrival - ts) AS fastest_dur
    FROM _operator_work
    WHERE NOT run IN (SELECT run FROM throttled)
    GROUP BY run
    UNION ALL
    SELECT
      w.run,
      min(w.ts) AS ts,
      max(w.end_ts) - min(w.ts) AS dur,
      count() AS thread_count,
      sum(w.arrival - w.ts - coalesce(t.dur, 0)) AS busy_dur,
      sum(coalesce(t.dur, 0)) AS throttled_dur,
      coalesce(sum(w.end_ts - w.arrival), 0) AS wait_dur,
      count() * max(w.arrival) - sum(w.arrival) AS arrival_dur,
      max(w.arrival - w.ts - coalesce(t.dur, 0)) AS slowest_dur,
      min(w.arrival - w.ts - coalesce(t.dur, 0)) AS fastest_dur
    FROM throttled AS r
    CROSS JOIN _operator_work AS w
      USING (run)
    LEFT JOIN _throttled_work AS t
      ON t.slice_id = w.id
    GROUP BY w.run
  ),
  runs AS (
    SELECT
      *,
      run >> 32 AS graph_id,
      -- Evaluated once, too.
      iif(
        EXISTS(
          SELECT
            1
          FROM _incomplete_work
        ),
        NOT run IN (
          SELECT
            w.run
          FROM _incomplete_work AS i
          CROSS JOIN _operator_work AS w
            USING (id)
        ),
        TRUE
      ) AS complete
    FROM merged
  )
SELECT
  m.ts,
  m.dur,
  m.graph_id,
  m.run & 0xFFFFFFFF AS arg_set_id,
  (m.run & 0xFFFFFFFF) << 16 | g.phase_id AS summand,
  m.thread_count,
  m.busy_dur,
  iif(
    m.busy_dur IS NOT NULL AND g.upid IN (SELECT upid FROM _scheduler), m.throttled_dur, NULL
  ) AS throttled_dur,
  iif(g.has_barriers, m.wait_dur, NULL) AS wait_dur,
  m.arrival_dur,
  m.slowest_dur,
  m.fastest_dur,
  -- Where records were lost within the graph, a thread's part may be missing. One that is seen
  -- nowhere in the graph has lost as many operators as others ran.
  iif(
    NOT EXISTS(
      SELECT
        1
      FROM _graph_gap
    ),
    m.complete,
    m.complete AND NOT EXISTS (
      SELECT
        1
      FROM _graph_gap AS g
      WHERE
        g.graph_id = m.graph_id
        AND (
          g.thread_count != m.thread_count
          OR g.operators >= (
            SELECT
              n.operators
            FROM gaps AS n
            WHERE n.graph_id = m.graph_id
          )
        )
    )
  ) AS complete,
  g.upid
FROM runs AS m
CROSS JOIN _graph_context AS g
  USING (graph_id);

-- Operator runs of which nothing was recorded: their graph lost records, and the operator ran
-- elsewhere, perhaps at another size.
CREATE PERFETTO TABLE _operator_unseen(
  -- Graph run.
  graph_id LONG,
  -- Arguments its slices would have had; of a size that is never seen, those of another size.
  arg_set_id ARGSETID,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  missing AS (
    SELECT
      g.graph_id,
      n.tensor_id
    FROM _graph_gap AS g
    JOIN profinfer_node AS n
      USING (structure_id)
    WHERE g.operators > 0
    EXCEPT
    SELECT
      s.graph_id,
      k.tensor_id
    FROM _graph_gap AS g
    JOIN _operator_seen AS s
      USING (graph_id)
    JOIN _operator_kind AS k
      USING (arg_set_id)
  ),
  alike AS (
    SELECT
      t.role_id,
      min(k.arg_set_id) AS arg_set_id
    FROM _operator_kind AS k
    JOIN profinfer_tensor AS t
      USING (tensor_id)
    GROUP BY t.role_id, k.op
  )
SELECT
  m.graph_id,
  k.arg_set_id,
  t.upid
FROM missing AS m
JOIN _operator_kind AS k
  USING (tensor_id)
JOIN profinfer_tensor AS t
  USING (tensor_id)
UNION ALL
SELECT
  m.graph_id,
  a.arg_set_id,
  t.upid
FROM missing AS m
JOIN profinfer_tensor AS t
  USING (tensor_id)
JOIN alike AS a
  USING (role_id)
WHERE
  t.kind = 'operator'
  AND NOT m.tensor_id IN (
    SELECT
      tensor_id
    FROM _operator_kind
    WHERE tensor_id IS NOT NULL
  );

-- Operator runs by their numbers alone; profinfer_operator adds names.
CREATE PERFETTO VIEW _operator_run(
  -- Start on the first thread.
  ts TIMESTAMP,
  -- From the first thread's start to the last thread's end.
  dur DURATION,
  -- Graph run.
  graph_id LONG,
  -- Arguments of its slices.
  arg_set_id ARGSETID,
  -- Threads that ran it, 0 when nothing of it was recorded.
  thread_count LONG,
  -- Work, summed over threads.
  busy_dur DURATION,
  -- Time throttled meanwhile, summed over threads; NULL where the scheduler was not recorded.
  throttled_dur DURATION,
  -- Wait at the barrier after it, summed over threads.
  wait_dur DURATION,
  -- What passed until the last thread's arrival, summed over threads.
  arrival_dur DURATION,
  -- Work of the thread that worked longest.
  slowest_dur DURATION,
  -- Work of the thread that worked least.
  fastest_dur DURATION,
  -- Whether all of its slices are complete, and none can be missing altogether.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  ts,
  dur,
  graph_id,
  arg_set_id,
  thread_count,
  busy_dur,
  throttled_dur,
  wait_dur,
  arrival_dur,
  slowest_dur,
  fastest_dur,
  complete,
  upid
FROM _operator_seen
UNION ALL
SELECT
  NULL AS ts,
  NULL AS dur,
  graph_id,
  arg_set_id,
  0 AS thread_count,
  NULL AS busy_dur,
  NULL AS throttled_dur,
  NULL AS wait_dur,
  NULL AS arrival_dur,
  NULL AS slowest_dur,
  NULL AS fastest_dur,
  FALSE AS complete,
  upid
FROM _operator_unseen;

-- One row per operator and graph run: all its threads together. A run of which no record is left
-- has a row without times.
CREATE PERFETTO VIEW profinfer_operator(
  -- Start on the first thread.
  ts TIMESTAMP,
  -- From the first thread's start to the last thread's end.
  dur DURATION,
  -- Name of the tensor that is computed.
  name STRING,
  -- Which operator it is, at any size.
  operator_id LONG,
  -- That operator's name for people.
  label STRING,
  -- Operator; both joined by a plus sign when fused.
  op STRING,
  -- Layer number.
  layer LONG,
  -- Part of the model, as in profinfer_tensor.
  module STRING,
  -- Graph run.
  graph_id LONG,
  -- Tensor that is computed, of a fused operator the last one.
  tensor_id LONG,
  -- Threads that ran it, 0 when no record of it is left.
  thread_count LONG,
  -- Work, summed over threads: dur without the wait at the barrier, and without throttled_dur.
  busy_dur DURATION,
  -- Time throttled meanwhile, summed over threads; NULL where the scheduler was not recorded.
  throttled_dur DURATION,
  -- Wait at the barrier after it, summed over threads; NULL when barriers were not recorded.
  wait_dur DURATION,
  -- Part of the wait during which some thread was still at work; the rest of it passed between
  -- the last thread's arrival at the barrier and everybody's departure.
  imbalance_dur DURATION,
  -- Work of the thread that worked longest.
  slowest_dur DURATION,
  -- Work of the thread that worked least.
  fastest_dur DURATION,
  -- Arguments of its slices, with the description.
  arg_set_id ARGSETID,
  -- False when a record of it may have been lost, or when the structure of its graph is unknown:
  -- then all operators of the graph are one row.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  r.ts,
  r.dur,
  k.name,
  k.operator_id,
  coalesce(k.label, k.name) AS label,
  k.op,
  k.layer,
  k.module,
  r.graph_id,
  k.tensor_id,
  r.thread_count,
  r.busy_dur,
  r.throttled_dur,
  r.wait_dur,
  min(r.arrival_dur, r.wait_dur) AS imbalance_dur,
  r.slowest_dur,
  r.fastest_dur,
  r.arg_set_id,
  r.complete,
  r.upid
FROM _operator_run AS r
LEFT JOIN _operator_kind AS k
  USING (arg_set_id);
