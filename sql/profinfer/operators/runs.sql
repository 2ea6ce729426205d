-- Operators, as each thread ran them and across threads.

INCLUDE PERFETTO MODULE intervals.intersect;
INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;

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
  operators AS MATERIALIZED (
    SELECT
      o.id,
      o.ts,
      coalesce(w.ts, o.ts + o.dur) - o.ts AS dur,
      g.utid
    FROM _operator_event AS o
    JOIN _graph_event AS g
      ON o.parent_id = g.id
    LEFT JOIN _wait_event AS w
      ON w.operator_slice_id = o.id
    WHERE
      EXISTS(
        SELECT
          1
        FROM throttled
      )
      AND g.utid IN (
        SELECT
          utid
        FROM throttled
      )
      AND o.dur > 0
      AND (w.ts IS NULL OR w.ts > o.ts)
  )
SELECT
  id_0 AS slice_id,
  sum(dur) AS dur
FROM _interval_intersect!((operators, throttled), (utid))
GROUP BY id_0
ORDER BY id_0;

-- One row per operator and thread.
CREATE PERFETTO TABLE profinfer_operator_slice(
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
  o.id,
  o.ts,
  iif(o.dur < 0, NULL, o.dur) AS dur,
  g.utid,
  o.name,
  g.graph_id,
  o.arg_set_id,
  iif(g.has_barriers, coalesce(w.dur, 0), NULL) AS wait_dur,
  iif(o.dur < 0, NULL, o.dur) - coalesce(w.dur, 0) - coalesce(t.dur, 0) AS busy_dur,
  iif(o.dur >= 0 AND g.upid IN (SELECT upid FROM _scheduler), coalesce(t.dur, 0), NULL) AS throttled_dur,
  o.ts + iif(o.dur < 0, NULL, o.dur) - coalesce(w.dur, 0) AS arrival,
  o.complete AND o.dur >= 0 AS complete,
  g.upid
FROM _operator_event AS o
JOIN _graph_event AS g
  ON o.parent_id = g.id
LEFT JOIN _wait_event AS w
  ON w.operator_slice_id = o.id
LEFT JOIN _throttled_work AS t
  ON t.slice_id = o.id;

-- Operator runs of which something was recorded, by their numbers alone.
CREATE PERFETTO TABLE _operator_seen(
  -- Start on the first thread.
  ts TIMESTAMP,
  -- From the first thread's start to the last thread's end.
  dur DURATION,
  -- Name of the tensor that is computed.
  name STRING,
  -- Graph run.
  graph_id LONG,
  -- Arguments of its slices.
  arg_set_id ARGSETID,
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
  merged AS (
    SELECT
      min(ts) AS ts,
      max(ts + dur) - min(ts) AS dur,
      name,
      graph_id,
      arg_set_id,
      count() AS thread_count,
      sum(busy_dur) AS busy_dur,
      sum(throttled_dur) AS throttled_dur,
      sum(wait_dur) AS wait_dur,
      count() * max(arrival) - sum(arrival) AS arrival_dur,
      max(busy_dur) AS slowest_dur,
      min(busy_dur) AS fastest_dur,
      min(complete) AS complete,
      upid
    FROM profinfer_operator_slice
    GROUP BY graph_id, arg_set_id
  )
SELECT
  m.ts,
  m.dur,
  m.name,
  m.graph_id,
  m.arg_set_id,
  m.thread_count,
  m.busy_dur,
  m.throttled_dur,
  m.wait_dur,
  m.arrival_dur,
  m.slowest_dur,
  m.fastest_dur,
  -- Where records were lost within the graph, a thread's part may be missing. One that is seen
  -- nowhere in the graph has lost as many operators as others ran. The first condition is
  -- evaluated once, and true of most recordings.
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
              max(n.operators)
            FROM (
              SELECT
                count() AS operators
              FROM profinfer_operator_slice AS s
              WHERE s.graph_id = m.graph_id
              GROUP BY s.utid
            ) AS n
          )
        )
    )
  ) AS complete,
  m.upid
FROM merged AS m;

-- Operator runs of which nothing was recorded: their graph lost records, and the operator ran
-- elsewhere, perhaps at another size.
CREATE PERFETTO TABLE _operator_unseen(
  -- Name of the tensor that is computed.
  name STRING,
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
  t.name,
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
  t.name,
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
  -- Name of the tensor that is computed.
  name STRING,
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
  name,
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
  name,
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
  r.name,
  k.operator_id,
  coalesce(k.label, r.name) AS label,
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
