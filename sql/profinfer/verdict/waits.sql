-- What kept threads from their work, in sums over each process.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.operators.sums;
INCLUDE PERFETTO MODULE profinfer.scheduling.delays;
INCLUDE PERFETTO MODULE profinfer.scheduling.late_parts;
INCLUDE PERFETTO MODULE profinfer.scheduling.operators;
INCLUDE PERFETTO MODULE profinfer.scheduling.preemptions;
INCLUDE PERFETTO MODULE profinfer.scheduling.stalls;
INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;

-- By how much operators of a process were done later since threads could not run, summed over them.
-- Only where that is known: barriers and the scheduler were recorded.
CREATE PERFETTO TABLE _verdict_delay(
  -- Process.
  upid JOINID(process.id),
  -- Since threads of others had the CPU.
  others_dur DURATION,
  -- Since other threads of the process had it.
  own_dur DURATION,
  -- Since they were throttled.
  throttled_dur DURATION,
  -- Since they were started within the graph.
  start_dur DURATION,
  -- Since they slept in page faults; NULL where these are not told from other sleep.
  fault_dur DURATION,
  -- Since they slept otherwise, but not for each other.
  blocked_dur DURATION,
  -- Of the others, who delayed it most.
  taker STRING,
  -- By how much.
  taker_dur DURATION,
  -- How often threads were throttled.
  times_throttled LONG,
  -- CPUs on which its threads ran.
  cpus LONG,
  -- Whether the kernel said whom a quota kept from CPUs.
  tells_throttled BOOL,
  -- Share of the operator runs of which it is not certain when their threads ran.
  uncertain DOUBLE,
  -- Where nobody else's switches were recorded, how long threads waited for a CPU after a wake-up while they
  -- computed graphs: in none of the above, since nobody knows who had it. Else 0.
  untold_dur DURATION,
  -- How long threads computed graphs, all of them together.
  thread_dur DURATION
) AS
WITH
  takers AS MATERIALIZED (
    SELECT
      p.upid,
      p.is_own,
      coalesce(p.name, '(not recorded)') AS name,
      p.tid,
      sum(d.dur) AS dur
    FROM _run_delay AS d
    CROSS JOIN _taker AS p
      USING (taker)
    WHERE d.dur IS NOT NULL
    GROUP BY p.upid, p.tid, p.name
  ),
  ranked AS (
    SELECT
      *,
      row_number() OVER (PARTITION BY upid ORDER BY dur DESC, tid) AS rank
    FROM takers
    WHERE NOT is_own
  ),
  late AS MATERIALIZED (
    SELECT
      g.upid,
      sum(l.throttled_dur) AS throttled_dur,
      sum(l.start_dur) AS start_dur,
      sum(l.fault_dur) AS fault_dur,
      sum(l.blocked_dur) AS blocked_dur
    FROM _late_part AS l
    JOIN profinfer_graph AS g
      USING (graph_id)
    GROUP BY g.upid
  ),
  states AS MATERIALIZED (
    SELECT
      upid,
      sum(kind = 'throttled') AS times_throttled,
      count(DISTINCT iif(kind = 'running', ucpu, NULL)) AS cpus
    FROM profinfer_thread_state
    GROUP BY upid
  ),
  runs AS MATERIALIZED (
    SELECT
      g.upid,
      count() AS runs
    FROM (SELECT run FROM _operator_work GROUP BY run) AS r
    CROSS JOIN _graph_context AS g
      ON g.graph_id = r.run >> 32
    GROUP BY g.upid
  ),
  doubts AS MATERIALIZED (
    SELECT upid, count() AS runs FROM _uncertain_run GROUP BY upid
  ),
  threads AS MATERIALIZED (
    SELECT
      upid,
      sum(iif(complete, runnable_dur, 0)) AS runnable_dur,
      sum(iif(complete, dur, 0)) AS dur
    FROM profinfer_graph_scheduling
    GROUP BY upid
  )
SELECT
  c.upid,
  coalesce((SELECT sum(t.dur) FROM takers AS t WHERE t.upid = c.upid AND NOT t.is_own), 0) AS others_dur,
  coalesce((SELECT sum(t.dur) FROM takers AS t WHERE t.upid = c.upid AND t.is_own), 0) AS own_dur,
  coalesce(l.throttled_dur, 0) AS throttled_dur,
  coalesce(l.start_dur, 0) AS start_dur,
  iif(c.has_calls, coalesce(l.fault_dur, 0), NULL) AS fault_dur,
  coalesce(l.blocked_dur, 0) AS blocked_dur,
  k.name || coalesce(' (' || k.tid || ')', '') AS taker,
  k.dur AS taker_dur,
  s.times_throttled,
  s.cpus,
  coalesce(c.throttling, 'none') != 'none' AS tells_throttled,
  coalesce(1.0 * d.runs / r.runs, 0.0) AS uncertain,
  iif(c.mode = 'target', coalesce(h.runnable_dur, 0), 0) AS untold_dur,
  coalesce(h.dur, 0) AS thread_dur
FROM _scheduler AS c
JOIN runs AS r
  USING (upid)
JOIN states AS s
  USING (upid)
LEFT JOIN late AS l
  USING (upid)
LEFT JOIN doubts AS d
  USING (upid)
LEFT JOIN threads AS h
  USING (upid)
LEFT JOIN ranked AS k
  ON k.upid = c.upid AND k.rank = 1
WHERE _has_barriers(c.upid)
ORDER BY c.upid;

-- How the time of threads in operators divides. Without operators that may be incomplete.
CREATE PERFETTO TABLE _verdict_wait(
  -- Process.
  upid JOINID(process.id),
  -- Work, summed over threads.
  busy_dur DURATION,
  -- Wait at barriers; NULL where these were not recorded.
  wait_dur DURATION,
  -- Of that, for another thread that was at work. Where the scheduler was not recorded, for one that came
  -- later for whatever reason.
  imbalance_dur DURATION,
  -- And when all had arrived.
  release_dur DURATION,
  -- And for threads that slept in page faults; NULL where these are not told from other sleep.
  fault_dur DURATION,
  -- For threads that slept otherwise; NULL where the scheduler was not recorded.
  blocked_dur DURATION,
  -- For threads that were started within the graph.
  start_dur DURATION,
  -- Complete runs.
  runs LONG,
  -- Share of runs that may be incomplete, at most.
  incomplete DOUBLE,
  -- The op with the most work.
  op STRING,
  -- How much.
  op_dur DURATION,
  -- The operator with the most imbalance.
  uneven STRING,
  -- How much.
  uneven_dur DURATION
) AS
WITH
  divided AS MATERIALIZED (
    SELECT
      t.upid,
      t.op,
      t.label,
      t.runs,
      t.busy_dur,
      t.wait_dur,
      t.imbalance_dur - coalesce(
        s.interference_dur + s.throttled_dur + s.start_dur + coalesce(s.fault_dur, 0)
        + s.blocked_dur,
        0
      ) AS imbalance_dur,
      t.wait_dur - t.imbalance_dur - coalesce(s.late_dur + s.late_throttled_dur, 0) AS release_dur,
      s.fault_dur,
      s.blocked_dur,
      s.start_dur,
      t.operator_id,
      t.incomplete
    FROM _operator_total AS t
    LEFT JOIN profinfer_operator_stall AS s
      ON s.arg_set_id = t.arg_set_id AND s.upid = t.upid
  ),
  ops AS (
    SELECT
      upid,
      op,
      sum(busy_dur) AS dur,
      row_number() OVER (PARTITION BY upid ORDER BY sum(busy_dur) DESC, op) AS rank
    FROM divided
    GROUP BY upid, op
  ),
  uneven AS (
    SELECT
      upid,
      label || coalesce(' (' || op || ')', '') AS name,
      sum(imbalance_dur) AS dur,
      row_number() OVER (PARTITION BY upid ORDER BY sum(imbalance_dur) DESC, label) AS rank
    FROM divided
    GROUP BY upid, label, op
  ),
  sums AS (
    SELECT
      upid,
      sum(busy_dur) AS busy_dur,
      sum(wait_dur) AS wait_dur,
      sum(imbalance_dur) AS imbalance_dur,
      sum(release_dur) AS release_dur,
      sum(fault_dur) AS fault_dur,
      sum(blocked_dur) AS blocked_dur,
      sum(start_dur) AS start_dur,
      sum(runs) AS runs,
      sum(incomplete) AS incomplete,
      count(operator_id) AS operators
    FROM divided
    GROUP BY upid
  ),
  -- Each operator of a known graph counts those that are not known, too.
  unknown AS MATERIALIZED (
    SELECT
      upid,
      profinfer_unknown_graphs(upid) AS graphs,
      count() AS all_graphs
    FROM profinfer_graph
    GROUP BY upid
  )
SELECT
  s.upid,
  s.busy_dur,
  s.wait_dur,
  s.imbalance_dur,
  s.release_dur,
  s.fault_dur,
  s.blocked_dur,
  s.start_dur,
  s.runs,
  max(
    1.0 * (s.incomplete - s.operators * n.graphs) / (s.runs + s.incomplete - s.operators * n.graphs),
    1.0 * n.graphs / (n.all_graphs + n.graphs)
  ) AS incomplete,
  coalesce(o.op, 'operators of unknown graphs') AS op,
  o.dur AS op_dur,
  u.name AS uneven,
  u.dur AS uneven_dur
FROM sums AS s
JOIN ops AS o
  ON o.upid = s.upid AND o.rank = 1
JOIN uneven AS u
  ON u.upid = s.upid AND u.rank = 1
JOIN unknown AS n
  ON n.upid = s.upid
WHERE s.runs > 0
ORDER BY s.upid;

-- Graphs and threads.
CREATE PERFETTO TABLE _verdict_graph(
  -- Process.
  upid JOINID(process.id),
  -- Graphs that were recorded whole.
  graphs LONG,
  -- How long they took, one after another.
  dur DURATION,
  -- Most threads that worked on one.
  threads LONG
) AS
SELECT
  upid,
  count(dur) AS graphs,
  sum(dur) AS dur,
  max(thread_count) AS threads
FROM profinfer_graph
GROUP BY upid
HAVING sum(dur) > 0
ORDER BY upid;
