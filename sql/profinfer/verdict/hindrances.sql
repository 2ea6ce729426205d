-- What speaks for each rule on what kept threads from working.

INCLUDE PERFETTO MODULE profinfer.verdict.waits;
INCLUDE PERFETTO MODULE profinfer.verdict.words;
INCLUDE PERFETTO MODULE profinfer.verdict.work;

-- Columns as in _evidence.
CREATE PERFETTO TABLE _hindrance_evidence(
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
  delays AS (
    SELECT
      d.*,
      w.fault_dur AS fault_wait,
      w.blocked_dur AS blocked_wait,
      w.start_dur AS start_wait,
      g.dur,
      g.threads,
      max(d.uncertain, w.incomplete) AS incomplete,
      d.untold_dur < 0.05 * d.thread_dur OR d.untold_dur = 0 AS is_told,
      ' of the ' || _ms!(g.dur) || ' that its graphs took' AS of_graphs
    FROM _verdict_delay AS d
    JOIN _verdict_graph AS g
      USING (upid)
    JOIN _verdict_wait AS w
      USING (upid)
  )
SELECT
  upid,
  'others' AS rule,
  1.0 * others_dur / dur AS share,
  incomplete,
  'Somebody else: threads of others had its threads'' CPUs, and operators were done '
  || _ms!(others_dur) || ' later in all, ' || _in_percent(1.0 * others_dur / dur) || of_graphs
  || coalesce('; ' || _ms!(taker_dur) || ' of that by ' || _in_short(taker), '') || '.' AS sentence,
  'Keep ' || coalesce(_in_short(taker), 'others')
  || ' off its CPUs (taskset, a cpuset, nice), or take fewer threads than CPUs.' AS advice,
  iif(is_told, 'CPUs taken by others', NULL) AS name
FROM delays
UNION ALL
SELECT
  upid,
  'own threads' AS rule,
  1.0 * own_dur / dur AS share,
  incomplete,
  iif(threads > cpus, 'Too many threads: ', 'Its own threads: ')
  || _counted(threads, 'compute thread') || ' ran on ' || _counted(cpus, 'CPU') || '; '
  || 'threads of the process had their CPUs, and operators were done ' || _ms!(own_dur)
  || ' later in all, ' || _in_percent(1.0 * own_dur / dur) || of_graphs || '.' AS sentence,
  iif(
    threads > cpus,
    'Take ' || _counted(cpus, 'compute thread') || ' (--threads ' || cpus || ').',
    'Take one compute thread less, or give the others CPUs of their own.'
  ) AS advice,
  iif(is_told, 'CPUs taken by own threads', NULL) AS name
FROM delays
UNION ALL
SELECT
  upid,
  'no CPU' AS rule,
  1.0 * untold_dur / thread_dur AS share,
  incomplete,
  'Waiting for a CPU: threads that were woken waited ' || _ms!(untold_dur) || ' of the ' || _ms!(thread_dur)
  || ' in which they computed graphs (' || _in_percent(1.0 * untold_dur / thread_dur)
  || ') for one; who had it was not recorded.' AS sentence,
  'Record with --scheduler system: it tells who has the CPUs.' AS advice,
  NULL AS name
FROM delays
WHERE untold_dur > 0
UNION ALL
SELECT
  d.upid,
  'quota' AS rule,
  1.0 * d.throttled_dur / d.dur AS share,
  d.incomplete,
  -- Which group is not said: one of the first version is another one for each controller.
  'Its CPU quota: threads were throttled ' || _counted(d.times_throttled, 'time')
  || ', their cgroup having used up its share, and operators were done ' || _ms!(d.throttled_dur) || ' later in all, '
  || _in_percent(1.0 * d.throttled_dur / d.dur) || d.of_graphs || '.' AS sentence,
  'Raise the quota of its cgroup (cpu.max), or take no more threads than it has CPUs'' worth of time.' AS advice,
  -- A CPU that somebody has does not tell whether the quota would have let the thread run.
  iif(d.tells_throttled OR (d.is_told AND d.others_dur < 0.05 * d.dur), 'throttling', NULL) AS name
FROM delays AS d
UNION ALL
SELECT
  d.upid,
  'faults' AS rule,
  1.0 * d.fault_dur / d.dur AS share,
  d.incomplete,
  'Page faults: threads slept in them, others waited ' || _ms!(d.fault_wait)
  || ' for these at barriers, and operators were done ' || _ms!(d.fault_dur)
  || ' later in all, ' || _in_percent(1.0 * d.fault_dur / d.dur) || d.of_graphs
  || coalesce('; operators took ' || _counted(f.faults, 'major fault'), '')
  || coalesce('; ' || _in_digits(nullif(f.bytes, 0) / 1e6) || ' MB of files were read meanwhile', '')
  || '.' AS sentence,
  'Give it memory for all of its weights (its limit, less beside it), lock them there (--mlock), or'
  || ' take a smaller quantisation.' AS advice,
  'sleep in page faults' AS name
FROM delays AS d
LEFT JOIN _verdict_fault AS f
  USING (upid)
WHERE d.fault_dur IS NOT NULL
UNION ALL
SELECT
  upid,
  'sleep' AS rule,
  1.0 * blocked_dur / dur AS share,
  incomplete,
  iif(fault_dur IS NULL, 'Sleep, page faults perhaps', 'Sleep')
  || ': threads slept while they had work to do, others waited ' || _ms!(blocked_wait)
  || ' for these at barriers, and operators were done ' || _ms!(blocked_dur)
  || ' later in all, ' || _in_percent(1.0 * blocked_dur / dur) || of_graphs || '.' AS sentence,
  'See io_ms and sleep_ms of its threads in interference'
  || iif(fault_dur IS NULL, ', and record --faults.', ': reads, or locks.') AS advice,
  iif(fault_dur IS NULL, 'sleep', 'other sleep') AS name
FROM delays
UNION ALL
SELECT
  upid,
  'starting' AS rule,
  1.0 * start_dur / dur AS share,
  incomplete,
  'Threads that are started anew for each graph: others waited ' || _ms!(start_wait)
  || ' for them at barriers, and operators were done ' || _ms!(start_dur)
  || ' later in all, ' || _in_percent(1.0 * start_dur / dur) || of_graphs || '.' AS sentence,
  'Take a build whose threads stay (a thread pool, OpenMP), or fewer threads.' AS advice,
  NULL AS name
FROM delays
UNION ALL
-- Where it is not known for how long threads slept in them.
SELECT
  f.upid,
  'major faults' AS rule,
  iif(f.faults = 0, 0.0, 1.0 * f.dur / f.all_dur) AS share,
  w.incomplete,
  'Page faults that had to read: ' || _counted(f.faults, 'major fault')
  || ' in operators; the runs that had any took '
  || _ms!(f.dur) || ' of the ' || _ms!(f.all_dur) || ' of all runs ('
  || _in_percent(1.0 * f.dur / f.all_dur) || ')'
  || coalesce('; ' || _in_digits(nullif(f.bytes, 0) / 1e6) || ' MB of files were read meanwhile', '')
  || '.' AS sentence,
  'Give it memory for all of its weights (its limit, less beside it), lock them there (--mlock), or'
  || ' take a smaller quantisation.' AS advice,
  'runs with major page faults' AS name
FROM _verdict_fault AS f
JOIN _verdict_wait AS w
  USING (upid)
WHERE NOT f.upid IN (SELECT upid FROM _verdict_delay WHERE fault_dur IS NOT NULL);
