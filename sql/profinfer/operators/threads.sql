-- What each thread did of a graph, all its operators together.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.operators.work;

-- One row per graph run and thread.
CREATE PERFETTO TABLE _thread_work(
  -- The thread's graph slice, as in _graph_event.
  id JOINID(slice.id),
  -- Graph run.
  graph_id LONG,
  -- Thread.
  utid JOINID(thread.id),
  -- Operators that it ran.
  slices LONG,
  -- Those among them that are not complete, and in none of the durations.
  incomplete LONG,
  -- Work, without what was throttled of it.
  busy_dur DURATION,
  -- Wait at the barriers after them; NULL when barriers were not recorded.
  wait_dur DURATION,
  -- Barriers that it entered after them, be their end recorded or not.
  waits LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  works AS MATERIALIZED (
    SELECT
      parent_id,
      count() AS slices,
      sum(arrival - ts) AS work_dur,
      sum(end_ts - arrival) AS wait_dur,
      sum(end_ts > arrival) AS waits
    FROM _operator_work
    GROUP BY parent_id
  ),
  incomplete AS MATERIALIZED (
    SELECT
      w.parent_id,
      count() AS slices,
      sum(w.arrival - w.ts) AS work_dur,
      sum(w.end_ts - w.arrival) AS wait_dur
    FROM _incomplete_work AS i
    CROSS JOIN _operator_work AS w
      USING (id)
    GROUP BY w.parent_id
  ),
  throttled AS MATERIALIZED (
    SELECT
      w.parent_id,
      sum(t.dur) AS dur
    FROM _throttled_work AS t
    CROSS JOIN _operator_work AS w
      ON w.id = t.slice_id
    WHERE NOT t.slice_id IN (SELECT id FROM _incomplete_work)
    GROUP BY w.parent_id
  ),
  unended AS MATERIALIZED (
    SELECT
      o.parent_id,
      count() AS waits
    FROM _wait_event AS w
    CROSS JOIN _operator_event AS o
      ON o.id = w.operator_slice_id
    WHERE w.dur < 0
    GROUP BY o.parent_id
  )
SELECT
  g.id,
  g.graph_id,
  g.utid,
  w.slices,
  coalesce(i.slices, 0) AS incomplete,
  coalesce(w.work_dur, 0) - coalesce(i.work_dur, 0) - coalesce(t.dur, 0) AS busy_dur,
  iif(g.has_barriers, coalesce(w.wait_dur, 0) - coalesce(i.wait_dur, 0), NULL) AS wait_dur,
  iif(g.has_barriers, coalesce(w.waits, 0) + coalesce(u.waits, 0), 0) AS waits,
  g.upid
FROM works AS w
JOIN _graph_event AS g
  ON g.id = w.parent_id
LEFT JOIN incomplete AS i
  ON i.parent_id = g.id
LEFT JOIN throttled AS t
  ON t.parent_id = g.id
LEFT JOIN unended AS u
  ON u.parent_id = g.id
ORDER BY g.id;
