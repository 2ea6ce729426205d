-- By how much operators came later since their threads could not run.

INCLUDE PERFETTO MODULE profinfer.operators.work;
INCLUDE PERFETTO MODULE profinfer.scheduling.hindrances;

-- What hindered threads in parts of runs: how long, and how long together with what stands before it.
CREATE PERFETTO TABLE _hindered_dur(
  -- Part: the row's number in _hindered_part.
  part_id LONG,
  -- Waits for a CPU that another thread had.
  cpu_dur DURATION,
  -- With throttling.
  throttled_dur DURATION,
  -- With its start within the graph.
  start_dur DURATION,
  -- With page faults.
  fault_dur DURATION,
  -- With other sleep.
  blocked_dur DURATION
) AS
SELECT
  part_id,
  sum(iif(rank = 1, dur, 0)) AS cpu_dur,
  sum(iif(rank <= 2, dur, 0)) AS throttled_dur,
  sum(iif(rank <= 3, dur, 0)) AS start_dur,
  sum(iif(rank <= 4, dur, 0)) AS fault_dur,
  sum(dur) AS blocked_dur
FROM _hindrance_in_part
GROUP BY part_id;

-- By how much operator runs came later than they would have. A part of a run is over when its last
-- thread arrives: what would have been is computed from when each would have arrived without what
-- hindered it.
CREATE PERFETTO TABLE _late_part(
  -- As in _operator_work.
  run LONG,
  -- Graph run.
  graph_id LONG,
  -- Arguments of the operator.
  arg_set_id ARGSETID,
  -- Number of the part within the operator.
  number LONG,
  -- Whether it ends with the operator's work.
  is_last BOOL,
  -- When the last thread arrived.
  last_arrival TIMESTAMP,
  -- Later by this much, since threads waited for a CPU that another one had.
  cpu_dur DURATION,
  -- And by this much, since they were throttled.
  throttled_dur DURATION,
  -- And by this much, since they were started within the graph.
  start_dur DURATION,
  -- And by this much, since they took page faults.
  fault_dur DURATION,
  -- And by this much, since they slept otherwise.
  blocked_dur DURATION
) AS
WITH
  without AS (
    SELECT
      p.run,
      p.number,
      max(p.is_last) AS is_last,
      max(p.arrival) AS arrival,
      max(p.arrival - coalesce(h.cpu_dur, 0)) AS cpu,
      max(p.arrival - coalesce(h.throttled_dur, 0)) AS throttled,
      max(p.arrival - coalesce(h.start_dur, 0)) AS start,
      max(p.arrival - coalesce(h.fault_dur, 0)) AS fault,
      max(p.arrival - coalesce(h.blocked_dur, 0)) AS blocked
    FROM _hindered_part AS p
    LEFT JOIN _hindered_dur AS h
      ON h.part_id = p._auto_id
    GROUP BY p.run, p.number
  )
SELECT
  run,
  run >> 32 AS graph_id,
  run & 0xFFFFFFFF AS arg_set_id,
  number,
  is_last,
  arrival AS last_arrival,
  arrival - cpu AS cpu_dur,
  cpu - throttled AS throttled_dur,
  throttled - start AS start_dur,
  start - fault AS fault_dur,
  fault - blocked AS blocked_dur
FROM without;
