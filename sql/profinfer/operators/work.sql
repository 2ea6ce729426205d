-- Operators, as each thread ran them.

INCLUDE PERFETTO MODULE intervals.intersect;
INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.scheduling.kernel_states;
INCLUDE PERFETTO MODULE profinfer.scheduling.throttling;

-- Operators as threads ran them, by their numbers alone: there can be millions, and each column takes
-- its time. profinfer_operator_slice (profinfer.operators.slices) has everything else of them.
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
  o.arrival,
  o.end_ts
FROM _waited_event AS o
CROSS JOIN _graph_event AS g
  ON g.id = o.parent_id
UNION ALL
SELECT
  o.id,
  o.parent_id,
  g.graph_id << 32 | o.arg_set_id AS run,
  o.ts,
  iif(o.dur < 0, NULL, o.ts + o.dur) AS arrival,
  iif(o.dur < 0, NULL, o.ts + o.dur) AS end_ts
-- None has two waits: where there are as many as operators, none without need be looked for.
FROM (
  SELECT
    1
  WHERE
    (SELECT count() FROM _operator_event) != (SELECT count() FROM _wait_event WHERE dur >= 0)
)
CROSS JOIN _operator_event AS o
CROSS JOIN _graph_event AS g
  ON g.id = o.parent_id
WHERE NOT o.id IN (SELECT operator_slice_id FROM _wait_event WHERE dur >= 0);

-- Without these a join reads all of them, for each row.
CREATE PERFETTO INDEX _operator_work_id ON _operator_work(id);

-- As that.
CREATE PERFETTO INDEX _operator_work_parent_id ON _operator_work(parent_id, ts);

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
      t._auto_id AS id,
      t.ts,
      t.end_ts - t.ts AS dur,
      s.utid
    FROM _throttled AS t
    JOIN _kernel_state AS s
      ON s.id = t.state_id
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

-- Operator runs of which a record may have been lost.
CREATE PERFETTO TABLE _incomplete_run(
  -- As in _operator_work.
  run LONG,
  -- Threads that ran it.
  thread_count LONG
) AS
WITH
  -- Threads' graphs among those that lost records.
  gap_graphs AS MATERIALIZED (
    SELECT
      e.id,
      e.graph_id,
      (
        SELECT
          count()
        FROM _operator_work AS w
        WHERE w.parent_id = e.id
      ) AS operators
    FROM _graph_gap AS x
    CROSS JOIN _graph_event AS e
      USING (graph_id)
  ),
  gaps AS MATERIALIZED (
    SELECT
      x.graph_id,
      x.thread_count,
      x.operators >= max(e.operators) AS is_wide
    FROM gap_graphs AS e
    JOIN _graph_gap AS x
      USING (graph_id)
    GROUP BY x.graph_id
  ),
  -- Where records were lost within the graph, a thread's part may be missing. One that is seen
  -- nowhere in the graph has lost as many operators as others ran.
  gap_runs AS (
    SELECT
      w.run
    FROM gap_graphs AS e
    CROSS JOIN _operator_work AS w
      ON w.parent_id = e.id
    JOIN gaps AS x
      USING (graph_id)
    GROUP BY w.run
    HAVING x.is_wide OR x.thread_count != count()
  ),
  runs AS (
    SELECT
      w.run
    FROM _incomplete_work AS i
    CROSS JOIN _operator_work AS w
      USING (id)
    UNION
    SELECT
      run
    FROM gap_runs
  )
SELECT
  r.run,
  count() AS thread_count
FROM runs AS r
CROSS JOIN _operator_work AS w
  USING (run)
GROUP BY r.run;

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
      g.graph_id,
      k.tensor_id
    FROM _graph_gap AS g
    CROSS JOIN _graph_event AS e
      USING (graph_id)
    CROSS JOIN _operator_work AS w
      ON w.parent_id = e.id
    JOIN _operator_kind AS k
      ON k.arg_set_id = w.run & 0xFFFFFFFF
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
