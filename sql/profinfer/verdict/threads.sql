-- What speaks for each rule on how threads shared the work.

INCLUDE PERFETTO MODULE profinfer.verdict.waits;
INCLUDE PERFETTO MODULE profinfer.verdict.words;
INCLUDE PERFETTO MODULE profinfer.verdict.work;

-- Work and waits of each process's threads, and what makes them uncertain.
CREATE PERFETTO TABLE _verdict_thread(
  -- Process.
  upid JOINID(process.id),
  -- Threads that computed graphs.
  threads LONG,
  -- Time in operators, summed over threads; NULL where barriers were not recorded.
  dur DURATION,
  -- As in _verdict_wait.
  busy_dur DURATION,
  -- As in _verdict_wait.
  wait_dur DURATION,
  -- As in _verdict_wait.
  imbalance_dur DURATION,
  -- As in _verdict_wait.
  release_dur DURATION,
  -- As in _verdict_wait.
  runs LONG,
  -- As in _verdict_wait.
  incomplete DOUBLE,
  -- As in _verdict_wait.
  op STRING,
  -- As in _verdict_wait.
  op_dur DURATION,
  -- As in _verdict_wait.
  uneven STRING,
  -- As in _verdict_wait.
  uneven_dur DURATION,
  -- Whether it is known when threads did not run.
  is_told BOOL,
  -- For how much of their time that is not certain, or not whose fault.
  uncertain DOUBLE,
  -- Share of graphs' time that went to what kept threads from working.
  disturbed DOUBLE,
  -- What shares are of, in words.
  of_threads STRING
) AS
SELECT
  w.upid,
  g.threads,
  w.busy_dur + w.wait_dur AS dur,
  w.busy_dur,
  w.wait_dur,
  w.imbalance_dur,
  w.release_dur,
  w.runs,
  w.incomplete,
  w.op,
  w.op_dur,
  w.uneven,
  w.uneven_dur,
  w.upid IN (SELECT upid FROM _verdict_delay) AS is_told,
  max(coalesce(d.uncertain, 0.0), coalesce(1.0 * d.untold_dur / nullif(d.thread_dur, 0), 0.0)) AS uncertain,
  coalesce(
    1.0 * (d.others_dur + d.own_dur + d.throttled_dur + coalesce(d.fault_dur, 0) + d.blocked_dur) / g.dur,
    1.0 * f.dur / f.all_dur,
    0.0
  ) AS disturbed,
  ' of the ' || _ms!(w.busy_dur + w.wait_dur) || ' of its threads in operators' AS of_threads
FROM _verdict_wait AS w
JOIN _verdict_graph AS g
  USING (upid)
LEFT JOIN _verdict_delay AS d
  USING (upid)
LEFT JOIN _verdict_fault AS f
  USING (upid);

-- Columns as in _evidence.
CREATE PERFETTO TABLE _thread_evidence(
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
SELECT
  upid,
  'imbalance' AS rule,
  1.0 * imbalance_dur / dur AS share,
  max(incomplete, uncertain) AS incomplete,
  'Imbalance: threads waited ' || _ms!(imbalance_dur) || of_threads || ' ('
  || _in_percent(1.0 * imbalance_dur / dur) || ') for one that was still at work; '
  || _ms!(uneven_dur) || ' of that in ' || _in_short(uneven) || '.' AS sentence,
  'Put its threads on CPUs of one speed, one each (--cpu-mask, taskset), or take fewer of them.' AS advice,
  'imbalance' AS name
FROM _verdict_thread
WHERE is_told AND threads > 1
UNION ALL
SELECT
  upid,
  'late' AS rule,
  1.0 * imbalance_dur / dur AS share,
  incomplete,
  'Waiting: threads waited ' || _ms!(imbalance_dur) || of_threads || ' ('
  || _in_percent(1.0 * imbalance_dur / dur) || ') for the last one to arrive; why that came later was not '
  || 'recorded.' AS sentence,
  'Record the scheduler (--scheduler): it tells a thread that had more work from one that lost its'
  || ' CPU, slept, or was throttled.' AS advice,
  'waiting for the last thread' AS name
FROM _verdict_thread
WHERE NOT is_told AND threads > 1 AND wait_dur IS NOT NULL
UNION ALL
SELECT
  upid,
  'barriers' AS rule,
  1.0 * release_dur / dur AS share,
  max(incomplete, uncertain) AS incomplete,
  'Barriers: threads waited ' || _ms!(release_dur) || of_threads || ' ('
  || _in_percent(1.0 * release_dur / dur) || ') after all had arrived; an operator''s work is '
  || _ms!(1.0 * busy_dur / runs) || ' on average, on all threads.' AS sentence,
  'Take fewer threads: these operators are short for so many.' AS advice,
  'barriers' AS name
FROM _verdict_thread
WHERE threads > 1 AND wait_dur IS NOT NULL
UNION ALL
SELECT
  upid,
  'work' AS rule,
  1.0 * busy_dur / dur AS share,
  incomplete,
  'Its own work: ' || _ms!(busy_dur) || of_threads || ' (' || _in_percent(1.0 * busy_dur / dur)
  || iif(disturbed >= 0.05, ', time without a CPU among it), ', '), ') || _in_percent(1.0 * op_dur / busy_dur) || ' of that in ' || op || '.' AS sentence,
  NULL AS advice,
  NULL AS name
FROM _verdict_thread
WHERE dur > 0
UNION ALL
SELECT
  upid,
  'operators' AS rule,
  1.0 * op_dur / busy_dur AS share,
  incomplete,
  'Operators: ' || _in_percent(1.0 * op_dur / busy_dur) || ' of their ' || _ms!(busy_dur)
  || ' on all threads is ' || op || ', waits for other threads among it.' AS sentence,
  NULL AS advice,
  NULL AS name
FROM _verdict_thread
WHERE wait_dur IS NULL AND busy_dur > 0;
