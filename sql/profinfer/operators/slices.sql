-- Operators, as each thread ran them, with all that is known of them.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.operators.work;
INCLUDE PERFETTO MODULE profinfer.recording.net;
INCLUDE PERFETTO MODULE profinfer.scheduling.kernel_states;

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
  -- Of that, what the engine would have taken without the probes; NULL where their cost is not known
  -- (profinfer_operator_cost says why).
  busy_net_dur DURATION,
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
  _net!(w.arrival - w.ts - coalesce(t.dur, 0), _work_hits!(o.arg_set_id, g.upid)) AS busy_net_dur,
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
