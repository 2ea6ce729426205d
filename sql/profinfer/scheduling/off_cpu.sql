-- Where operators met states in which their threads did not run.

INCLUDE PERFETTO MODULE intervals.intersect;
INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.operators.work;
INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;

-- Where operators met a state in which their thread did not run, or of which that is not certain.
CREATE PERFETTO TABLE _off_cpu(
  -- The operator's slice.
  slice_id JOINID(slice.id),
  -- The state.
  state_id LONG,
  -- Start of what they have in common.
  ts TIMESTAMP,
  -- Its duration.
  dur DURATION
) AS
WITH
  graphs AS MATERIALIZED (
    SELECT
      id,
      ts,
      iif(dur < 0, trace_end() - ts, dur) AS dur,
      utid
    FROM _graph_event
    WHERE dur != 0
  ),
  -- Graphs are few: operators need then be looked for in those alone that met such a state.
  pieces AS (
    SELECT
      id_0 AS graph_slice_id,
      id_1 AS state_id,
      ts,
      ts + dur AS end_ts
    FROM _interval_intersect!(
      (
        graphs,
        (
          SELECT
            id,
            ts,
            dur,
            utid
          FROM profinfer_thread_state
          WHERE dur > 0 AND NOT (kind IS 'running' AND complete)
        )
      ),
      (utid)
    )
  )
SELECT
  w.id AS slice_id,
  p.state_id,
  max(w.ts, p.ts) AS ts,
  min(w.end_ts, p.end_ts) - max(w.ts, p.ts) AS dur
FROM pieces AS p
CROSS JOIN _operator_work AS w
  ON w.parent_id = p.graph_slice_id AND w.ts < p.end_ts AND w.end_ts > p.ts
WHERE w.end_ts > w.ts;

-- Without it each preemption reads all of them.
CREATE PERFETTO INDEX _off_cpu_state_id ON _off_cpu(state_id);
