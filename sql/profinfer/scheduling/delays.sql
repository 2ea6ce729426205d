-- By how much operators came later since other threads had their threads' CPUs.

INCLUDE PERFETTO MODULE profinfer.operators.runs;
INCLUDE PERFETTO MODULE profinfer.scheduling.hindrances;

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
  sums AS MATERIALIZED (
    SELECT
      part_id,
      sum(iif(kind = 'cpu', dur, 0)) AS cpu,
      sum(iif(kind = 'throttled', dur, 0)) AS throttled,
      sum(iif(kind = 'start', dur, 0)) AS start,
      sum(iif(kind = 'fault', dur, 0)) AS fault,
      sum(iif(kind = 'blocked', dur, 0)) AS blocked
    FROM _hindrance_in_part
    GROUP BY part_id
  ),
  without AS (
    SELECT
      p.run,
      p.number,
      max(p.is_last) AS is_last,
      max(p.arrival) AS arrival,
      max(p.arrival - coalesce(s.cpu, 0)) AS cpu,
      max(p.arrival - coalesce(s.cpu + s.throttled, 0)) AS throttled,
      max(p.arrival - coalesce(s.cpu + s.throttled + s.start, 0)) AS start,
      max(p.arrival - coalesce(s.cpu + s.throttled + s.start + s.fault, 0)) AS fault,
      max(p.arrival - coalesce(s.cpu + s.throttled + s.start + s.fault + s.blocked, 0)) AS blocked
    FROM _hindered_part AS p
    LEFT JOIN sums AS s
      ON s.part_id = p._auto_id
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

-- Delays of operator runs by preemptions: each bears its share of how much later a part was done.
-- Empty where barriers were not recorded: work is then not told from waiting for other threads.
CREATE PERFETTO TABLE profinfer_delay(
  -- Graph run.
  graph_id LONG,
  -- Arguments of the operator.
  arg_set_id ARGSETID,
  -- Preemption, as in profinfer_preemption.
  preemption_id LONG,
  -- How much later the operator's threads were done: less than the preemption where they would have
  -- had to wait for another thread all the same.
  dur DURATION,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  totals AS MATERIALIZED (
    SELECT
      run,
      number,
      sum(dur) AS dur
    FROM _hindrance_in_part
    WHERE kind = 'cpu'
    GROUP BY run, number
  )
SELECT
  l.graph_id,
  l.arg_set_id,
  h.preemption_id,
  CAST(round(sum(1.0 * l.cpu_dur * h.dur / t.dur)) AS INTEGER) AS dur,
  g.upid
FROM _hindrance_in_part AS h
JOIN totals AS t
  USING (run, number)
JOIN _late_part AS l
  USING (run, number)
JOIN _graph_context AS g
  ON g.graph_id = l.graph_id AND g.phase_id > 0
WHERE h.kind = 'cpu' AND g.has_barriers
GROUP BY h.run, h.preemption_id;
