-- How the time of operators and graphs divides into running and the ways of not running. Where the
-- scheduler was not recorded, durations are NULL, not 0.

INCLUDE PERFETTO MODULE intervals.intersect;
INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.operators.slices;
INCLUDE PERFETTO MODULE profinfer.scheduling.off_cpu;
INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;

-- The time of operator slices in which their thread did not run. Only those that had any.
CREATE PERFETTO TABLE _operator_off_cpu(
  -- The operator's slice.
  slice_id JOINID(slice.id),
  -- Time not running at all.
  dur DURATION,
  -- Preempted.
  preempted_dur DURATION,
  -- Throttled: the quota of its cgroup was used up.
  throttled_dur DURATION,
  -- Waiting for a CPU otherwise.
  runnable_dur DURATION,
  -- Blocked in a futex.
  futex_dur DURATION,
  -- Uninterruptible sleep.
  io_dur DURATION,
  -- Asleep in a page fault.
  fault_dur DURATION,
  -- Other sleep.
  sleep_dur DURATION,
  -- Whether all of that is certain.
  complete BOOL
) AS
SELECT
  p.slice_id,
  sum(iif(s.kind IS 'running', 0, p.dur)) AS dur,
  sum(iif(s.kind = 'preempted', p.dur, 0)) AS preempted_dur,
  sum(iif(s.kind = 'throttled', p.dur, 0)) AS throttled_dur,
  sum(iif(s.kind = 'runnable', p.dur, 0)) AS runnable_dur,
  sum(iif(s.kind = 'futex', p.dur, 0)) AS futex_dur,
  sum(iif(s.kind = 'io', p.dur, 0)) AS io_dur,
  sum(iif(s.kind = 'fault', p.dur, 0)) AS fault_dur,
  sum(iif(s.kind = 'sleep', p.dur, 0)) AS sleep_dur,
  min(s.complete AND s.kind IS NOT NULL AND s.kind != 'ended') AS complete
FROM _off_cpu AS p
JOIN profinfer_thread_state AS s
  ON s.id = p.state_id
GROUP BY p.slice_id
ORDER BY p.slice_id;

-- How the time of each operator and thread divides: the columns add up to the slice's dur.
CREATE PERFETTO VIEW profinfer_operator_scheduling(
  -- The operator's slice, as in profinfer_operator_slice.
  id JOINID(slice.id),
  -- Time in which the thread ran. NULL, as all of these, where its states were not recorded.
  running_dur DURATION,
  -- Time in which it could have run on, but was switched out.
  preempted_dur DURATION,
  -- Time in which it could have run on, but its cgroup had used up its quota.
  throttled_dur DURATION,
  -- Time in which it waited for a CPU after a wake-up or a yield.
  runnable_dur DURATION,
  -- Time blocked in a futex: most of it waits for the other threads. NULL where system calls were
  -- not recorded: it is then among sleep_dur.
  futex_dur DURATION,
  -- Time in uninterruptible sleep, as for a disk.
  io_dur DURATION,
  -- Time asleep in a page fault. NULL where system calls were not recorded: it is then among io_dur.
  fault_dur DURATION,
  -- Time in other sleep.
  sleep_dur DURATION,
  -- False when the slice's end or a state within it is not certain; NULL where the scheduler was
  -- not recorded.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  o.id,
  iif(o.is_known, o.dur - coalesce(f.dur, 0), NULL) AS running_dur,
  iif(o.is_known, coalesce(f.preempted_dur, 0), NULL) AS preempted_dur,
  iif(o.is_known, coalesce(f.throttled_dur, 0), NULL) AS throttled_dur,
  iif(o.is_known, coalesce(f.runnable_dur, 0), NULL) AS runnable_dur,
  iif(o.is_known AND c.has_calls, coalesce(f.futex_dur, 0), NULL) AS futex_dur,
  iif(o.is_known, coalesce(f.io_dur, 0), NULL) AS io_dur,
  iif(o.is_known AND c.has_calls, coalesce(f.fault_dur, 0), NULL) AS fault_dur,
  iif(o.is_known, coalesce(f.sleep_dur, 0), NULL) AS sleep_dur,
  iif(c.mode IS NULL, NULL, o.complete AND o.is_known AND coalesce(f.complete, TRUE)) AS complete,
  o.upid
FROM (
  SELECT
    s.id,
    s.upid,
    s.dur,
    s.complete,
    s.dur IS NOT NULL AND coalesce(s.ts >= t.ts, FALSE) AS is_known
  FROM profinfer_operator_slice AS s
  LEFT JOIN _scheduled_thread AS t
    USING (utid)
) AS o
LEFT JOIN _operator_off_cpu AS f
  ON f.slice_id = o.id
LEFT JOIN _scheduler AS c
  ON c.upid = o.upid;

-- How the time of each thread in each graph run divides.
CREATE PERFETTO TABLE profinfer_graph_scheduling(
  -- Graph run.
  graph_id LONG,
  -- Thread.
  utid JOINID(thread.id),
  -- Time in the graph: a worker's begins with its first operator, and ends with the thread if that
  -- comes before the graph's end.
  dur DURATION,
  -- Running. NULL, as all of these, where the thread's states were not recorded.
  running_dur DURATION,
  -- Preempted.
  preempted_dur DURATION,
  -- Throttled: the quota of its cgroup was used up.
  throttled_dur DURATION,
  -- Waiting for a CPU after a wake-up or a yield.
  runnable_dur DURATION,
  -- Blocked in a futex; NULL where system calls were not recorded.
  futex_dur DURATION,
  -- Uninterruptible sleep.
  io_dur DURATION,
  -- Asleep in a page fault; NULL where system calls were not recorded.
  fault_dur DURATION,
  -- Other sleep.
  sleep_dur DURATION,
  -- False when the graph's end or a state within it is not certain; NULL where the scheduler was
  -- not recorded.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  graphs AS MATERIALIZED (
    SELECT
      id,
      ts,
      dur,
      utid
    FROM _graph_event
    WHERE dur > 0
  ),
  sums AS MATERIALIZED (
    SELECT
      i.id_0 AS id,
      sum(iif(s.kind = 'running', i.dur, 0)) AS running_dur,
      sum(iif(s.kind = 'preempted', i.dur, 0)) AS preempted_dur,
      sum(iif(s.kind = 'throttled', i.dur, 0)) AS throttled_dur,
      sum(iif(s.kind = 'runnable', i.dur, 0)) AS runnable_dur,
      sum(iif(s.kind = 'futex', i.dur, 0)) AS futex_dur,
      sum(iif(s.kind = 'io', i.dur, 0)) AS io_dur,
      sum(iif(s.kind = 'fault', i.dur, 0)) AS fault_dur,
      sum(iif(s.kind = 'sleep', i.dur, 0)) AS sleep_dur,
      sum(iif(s.kind = 'ended', i.dur, 0)) AS ended_dur,
      min(s.kind IS NOT NULL AND (s.complete OR s.kind = 'ended')) AS complete
    FROM _interval_intersect!(
      (graphs, (SELECT id, ts, dur, utid FROM profinfer_thread_state WHERE dur > 0)),
      (utid)
    ) AS i
    JOIN profinfer_thread_state AS s
      ON s.id = i.id_1
    GROUP BY i.id_0
  )
SELECT
  e.graph_id,
  e.utid,
  g.dur - coalesce(s.ended_dur, 0) AS dur,
  iif(e.ts >= t.ts, s.running_dur, NULL) AS running_dur,
  iif(e.ts >= t.ts, s.preempted_dur, NULL) AS preempted_dur,
  iif(e.ts >= t.ts, s.throttled_dur, NULL) AS throttled_dur,
  iif(e.ts >= t.ts, s.runnable_dur, NULL) AS runnable_dur,
  iif(e.ts >= t.ts AND c.has_calls, s.futex_dur, NULL) AS futex_dur,
  iif(e.ts >= t.ts, s.io_dur, NULL) AS io_dur,
  iif(e.ts >= t.ts AND c.has_calls, s.fault_dur, NULL) AS fault_dur,
  iif(e.ts >= t.ts, s.sleep_dur, NULL) AS sleep_dur,
  iif(c.mode IS NULL, NULL, m.complete AND coalesce(e.ts >= t.ts AND s.complete, FALSE)) AS complete,
  e.upid
FROM _graph_event AS e
JOIN profinfer_graph AS m
  USING (graph_id)
LEFT JOIN graphs AS g
  ON g.id = e.id
LEFT JOIN sums AS s
  ON s.id = e.id
LEFT JOIN _scheduled_thread AS t
  ON t.utid = e.utid
LEFT JOIN _scheduler AS c
  ON c.upid = e.upid
ORDER BY e.id;
