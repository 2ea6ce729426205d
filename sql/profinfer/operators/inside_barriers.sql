-- Waiting inside operators: MUL_MAT, for instance, calls the barrier between quantising its
-- input and multiplying. There only the arrival is recorded.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.operators.runs;

-- One row per barrier inside an operator: all threads together.
CREATE PERFETTO TABLE profinfer_inside_barrier(
  -- Graph run.
  graph_id LONG,
  -- Arguments of the operator's slices.
  arg_set_id ARGSETID,
  -- Number of the barrier within the operator, from 1.
  number LONG,
  -- Arrival of the last thread.
  ts TIMESTAMP,
  -- Threads that arrived.
  thread_count LONG,
  -- Wait until the last thread's arrival, summed over threads: the wait was at least this long.
  wait_dur DURATION,
  -- False when a record of the operator may have been lost.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  -- Most operators have one barrier inside: those need no counting through.
  firsts AS MATERIALIZED (
    SELECT
      operator_slice_id,
      min(ts) AS ts,
      count() AS barriers
    FROM _inside_event
    GROUP BY operator_slice_id
  ),
  numbered AS (
    SELECT
      operator_slice_id,
      ts,
      1 AS number
    FROM firsts
    WHERE barriers = 1
    UNION ALL
    SELECT
      i.operator_slice_id,
      i.ts,
      row_number() OVER (PARTITION BY i.operator_slice_id ORDER BY i.ts) AS number
    FROM firsts AS f
    JOIN _inside_event AS i
      USING (operator_slice_id)
    WHERE f.barriers > 1
  )
SELECT
  o.graph_id,
  o.arg_set_id,
  n.number,
  max(n.ts) AS ts,
  count() AS thread_count,
  count() * max(n.ts) - sum(n.ts) AS wait_dur,
  -- A thread whose arrival was lost is not in these rows, but its operator is incomplete.
  iif(
    NOT EXISTS(
      SELECT
        1
      FROM _graph_gap
    ),
    min(o.complete),
    (
      SELECT
        r.complete
      FROM _operator_seen AS r
      WHERE r.graph_id = o.graph_id AND r.arg_set_id = o.arg_set_id
    )
  ) AS complete,
  o.upid
FROM numbered AS n
JOIN profinfer_operator_slice AS o
  ON o.id = n.operator_slice_id
GROUP BY o.graph_id, o.arg_set_id, n.number;
