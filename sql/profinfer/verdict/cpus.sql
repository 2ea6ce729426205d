-- What kept threads from CPUs while they computed graphs, where barriers were not recorded: what came
-- later by that is not known then.

INCLUDE PERFETTO MODULE intervals.intersect;
INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.scheduling.operators;
INCLUDE PERFETTO MODULE profinfer.scheduling.preemptions;
INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;
INCLUDE PERFETTO MODULE profinfer.verdict.waits;
INCLUDE PERFETTO MODULE profinfer.verdict.words;

-- Sums over each such process's threads.
CREATE PERFETTO TABLE _verdict_cpu(
  -- Process.
  upid JOINID(process.id),
  -- How long its threads computed graphs.
  dur DURATION,
  -- For how much of that they were throttled.
  throttled_dur DURATION,
  -- How often threads were, in all.
  times_throttled LONG,
  -- For how much threads of others had their CPUs.
  others_dur DURATION,
  -- And other threads of the process.
  own_dur DURATION,
  -- Of the others, who had them longest.
  taker STRING,
  -- For how long.
  taker_dur DURATION,
  -- CPUs on which threads ran.
  cpus LONG,
  -- Whether the kernel said whom a quota kept from CPUs.
  tells_throttled BOOL,
  -- Share of the time of which it is not certain when threads ran.
  incomplete DOUBLE
) AS
WITH
  asked AS MATERIALIZED (
    SELECT upid FROM _scheduler WHERE NOT _has_barriers(upid)
  ),
  graphs AS (
    SELECT
      upid,
      sum(dur) AS all_dur,
      sum(iif(complete, dur, 0)) AS dur,
      sum(iif(complete, throttled_dur, 0)) AS throttled_dur
    FROM profinfer_graph_scheduling
    WHERE upid IN (SELECT upid FROM asked)
    GROUP BY upid
  ),
  states AS (
    SELECT
      upid,
      sum(kind = 'throttled') AS times_throttled,
      count(DISTINCT iif(kind = 'running', ucpu, NULL)) AS cpus
    FROM profinfer_thread_state
    WHERE upid IN (SELECT upid FROM asked)
    GROUP BY upid
  ),
  takers AS MATERIALIZED (
    SELECT
      p.upid,
      p.is_own,
      coalesce(p.taker_name, '(not recorded)') || coalesce(' (' || p.taker_tid || ')', '') AS taker,
      sum(i.dur) AS dur
    FROM _interval_intersect!(
      (
        (
          SELECT
            id,
            ts,
            dur,
            utid
          FROM _graph_event
          WHERE dur > 0 AND upid IN (SELECT upid FROM asked)
        ),
        (SELECT id, ts, dur, utid FROM profinfer_preemption WHERE complete AND dur > 0)
      ),
      (utid)
    ) AS i
    JOIN profinfer_preemption AS p
      ON p.id = i.id_1
    GROUP BY p.upid, p.is_own, p.taker_tid, p.taker_name
  ),
  ranked AS (
    SELECT
      *,
      row_number() OVER (PARTITION BY upid ORDER BY dur DESC, taker) AS rank
    FROM takers
    WHERE NOT is_own
  )
SELECT
  g.upid,
  g.dur,
  g.throttled_dur,
  s.times_throttled,
  coalesce((SELECT sum(t.dur) FROM takers AS t WHERE t.upid = g.upid AND NOT t.is_own), 0) AS others_dur,
  coalesce((SELECT sum(t.dur) FROM takers AS t WHERE t.upid = g.upid AND t.is_own), 0) AS own_dur,
  r.taker,
  r.dur AS taker_dur,
  s.cpus,
  coalesce(c.throttling, 'none') != 'none' AS tells_throttled,
  1.0 - 1.0 * g.dur / g.all_dur AS incomplete
FROM graphs AS g
JOIN _scheduler AS c
  USING (upid)
JOIN states AS s
  USING (upid)
LEFT JOIN ranked AS r
  ON r.upid = g.upid AND r.rank = 1
WHERE g.dur > 0
ORDER BY g.upid;

-- Columns as in _evidence.
CREATE PERFETTO TABLE _cpu_evidence(
  -- Process.
  upid JOINID(process.id),
  -- Rule.
  rule STRING,
  -- What is compared with the threshold.
  share DOUBLE,
  -- Share of what it was computed from that is not complete.
  incomplete DOUBLE,
  -- What is said if the rule applies.
  sentence STRING,
  -- What to try then.
  advice STRING,
  -- What it is called where it is ruled out, NULL where that would say nothing.
  name STRING
) AS
WITH
  cpus AS (
    SELECT
      c.*,
      g.threads,
      ' of the ' || _ms!(c.dur) || ' in which they computed graphs (' AS of_threads
    FROM _verdict_cpu AS c
    JOIN _verdict_graph AS g
      USING (upid)
  )
SELECT
  upid,
  'taken' AS rule,
  1.0 * others_dur / dur AS share,
  incomplete,
  'Somebody else: threads of others had its threads'' CPUs for ' || _ms!(others_dur) || of_threads
  || _in_percent(1.0 * others_dur / dur) || coalesce('); ' || _ms!(taker_dur) || ' of that ' || _in_short(taker), ')')
  || '.' AS sentence,
  'Keep ' || coalesce(_in_short(taker), 'others')
  || ' off its CPUs (taskset, a cpuset, nice), or take fewer threads than CPUs.' AS advice,
  'CPUs taken by others' AS name
FROM cpus
UNION ALL
SELECT
  upid,
  'taken by own' AS rule,
  1.0 * own_dur / dur AS share,
  incomplete,
  iif(threads > cpus, 'Too many threads: ', 'Its own threads: ')
  || _counted(threads, 'compute thread') || ' ran on ' || _counted(cpus, 'CPU')
  || '; threads of the process had their CPUs for ' || _ms!(own_dur) || of_threads
  || _in_percent(1.0 * own_dur / dur) || ').' AS sentence,
  iif(
    threads > cpus,
    'Take ' || _counted(cpus, 'compute thread') || ' (--threads ' || cpus || ').',
    'Take one compute thread less, or give the others CPUs of their own.'
  ) AS advice,
  'CPUs taken by own threads' AS name
FROM cpus
UNION ALL
SELECT
  upid,
  'throttled' AS rule,
  1.0 * throttled_dur / dur AS share,
  incomplete,
  'Its CPU quota: threads were throttled ' || _counted(times_throttled, 'time')
  || ', their cgroup having used up its share, for ' || _ms!(throttled_dur) || of_threads
  || _in_percent(1.0 * throttled_dur / dur) || ').' AS sentence,
  'Raise the quota of its cgroup (cpu.max), or take no more threads than it has CPUs'' worth of time.' AS advice,
  -- A CPU that somebody has does not tell whether the quota would have let the thread run.
  iif(tells_throttled OR others_dur < 0.1 * dur, 'throttling', NULL) AS name
FROM cpus;
