-- How much longer micro-batches took since their threads could not run.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.scheduling.late_parts;
INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;

-- Micro-batches with operators that were done later than they would have been, had their threads not been
-- hindered. Known where barriers and the scheduler were recorded; else empty.
CREATE PERFETTO TABLE profinfer_ubatch_disturbance(
  -- Micro-batch.
  ubatch_id LONG,
  -- Later by this much, since another thread had the CPU of one of its threads.
  preempted_dur DURATION,
  -- Later by this much, since threads were throttled: their cgroup had used up its quota.
  throttled_dur DURATION,
  -- Later by this much, since threads slept in page faults; 0 where system calls were not recorded.
  fault_dur DURATION,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  g.ubatch_id,
  sum(l.cpu_dur) AS preempted_dur,
  sum(l.throttled_dur) AS throttled_dur,
  sum(l.fault_dur) AS fault_dur,
  g.upid
FROM _late_part AS l
JOIN profinfer_graph AS g
  USING (graph_id)
WHERE g.ubatch_id IS NOT NULL AND _has_barriers(g.upid)
GROUP BY g.ubatch_id
HAVING sum(l.cpu_dur + l.throttled_dur + l.fault_dur) > 0
ORDER BY g.ubatch_id;

-- Processes of which it is known how much longer their micro-batches took.
CREATE PERFETTO TABLE _disturbance_known(
  -- Process.
  upid JOINID(process.id),
  -- Whether page faults are told from other sleep.
  has_faults BOOL
) AS
SELECT
  upid,
  has_calls AS has_faults
FROM _scheduler
WHERE _has_barriers(upid)
ORDER BY upid;
