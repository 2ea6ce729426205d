-- Waiting inside operators: MUL_MAT, for instance, calls the barrier between quantising its
-- input and multiplying. There only the arrival is recorded.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.operators;

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
  complete BOOL
) AS
WITH
  numbered AS (
    SELECT
      o.graph_id,
      o.arg_set_id,
      o.complete,
      i.ts,
      row_number() OVER (PARTITION BY i.operator_slice_id ORDER BY i.ts) AS number
    FROM _inside_event AS i
    JOIN profinfer_operator_slice AS o
      ON o.id = i.operator_slice_id
  )
SELECT
  graph_id,
  arg_set_id,
  number,
  max(ts) AS ts,
  count() AS thread_count,
  count() * max(ts) - sum(ts) AS wait_dur,
  min(complete) AS complete
FROM numbered
GROUP BY graph_id, arg_set_id, number;
