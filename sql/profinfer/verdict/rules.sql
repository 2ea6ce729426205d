-- The verdict in words: how fast, bound by what, what to try first, what it is not, what is not known.
--
-- A rule compares a share with its threshold. It says nothing where what it needs was not recorded, or
-- where more than a tenth of that may be incomplete: then a line says what to record.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.recording.losses;
INCLUDE PERFETTO MODULE profinfer.recording.processes;
INCLUDE PERFETTO MODULE profinfer.recording.slowdown;
INCLUDE PERFETTO MODULE profinfer.scheduling.interference;
INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;
INCLUDE PERFETTO MODULE profinfer.verdict.requests;
INCLUDE PERFETTO MODULE profinfer.verdict.waits;
INCLUDE PERFETTO MODULE profinfer.verdict.words;
INCLUDE PERFETTO MODULE profinfer.verdict.work;

-- When rules speak.
CREATE PERFETTO TABLE _rule(
  -- Name.
  rule STRING,
  -- 1: what could be otherwise, the largest share first. 2: what is left, the engine's work, in this order.
  tier LONG,
  -- Order within the second tier, and of what was ruled out.
  place LONG,
  -- From which share on.
  threshold DOUBLE,
  -- Of what.
  whole STRING,
  -- The ready query that has the numbers.
  query STRING
) AS
WITH
  rules(rule, tier, place, threshold, whole, query) AS (
    VALUES
      -- Of the time of graphs. A decoding speed spreads by some percent from run to run on a machine that
      -- has other things to do; less than a twentieth would be lost in that.
      ('others', 1, 1, 0.05, 'graphs'' time', 'interference'),
      ('own threads', 1, 2, 0.05, 'graphs'' time', 'interference'),
      ('quota', 1, 3, 0.05, 'graphs'' time', 'interference'),
      ('faults', 1, 4, 0.05, 'graphs'' time', 'stalls'),
      ('sleep', 1, 5, 0.05, 'graphs'' time', 'stalls'),
      ('starting', 1, 6, 0.05, 'graphs'' time', 'stalls'),
      -- Of threads' time: as much as makes imbalance and barriers uncertain.
      ('no CPU', 1, 6, 0.1, 'threads'' time', 'interference'),
      -- Of operators' time: how long runs took that had a major fault, not how long the faults did. So more.
      ('major faults', 1, 7, 0.2, 'operators'' time', 'faults'),
      -- Of threads' time. Chunks of work are not divisible at will: engines that share it out well still
      -- lose some percent.
      ('imbalance', 1, 8, 0.1, 'threads'' time', 'stalls'),
      ('late', 1, 9, 0.1, 'threads'' time', 'stalls'),
      ('barriers', 1, 10, 0.1, 'threads'' time', 'stalls'),
      -- Of what requests waited for. Sampling and its like take up to a tenth with small models.
      ('other requests', 1, 11, 0.2, 'requests'' time', 'requests'),
      ('outside', 1, 12, 0.2, 'the time from step to step', 'requests'),
      -- Of the median time per token: a tenth more at the end of the context than at its beginning.
      ('context', 1, 13, 0.1, 'the time per token', 'kv_growth'),
      -- Of the time of micro-batches. Token embeddings stay on the CPU even where all else is offloaded.
      ('backends', 1, 14, 0.2, 'micro-batches'' time', 'summary'),
      -- Of the time of micro-batches, where those of prompts have fewer than 32 tokens: weights are read once
      -- for each. From some 32 tokens on arithmetic takes longer than that on CPUs.
      ('small batches', 1, 15, 0.2, 'micro-batches'' time', 'summary'),
      -- Of cycles. Half of them stalled is what reading from memory looks like; a fifth, what a well-fed
      -- kernel does.
      ('stalled', 2, 1, 0.5, 'cycles', 'counters'),
      ('fed', 2, 2, 0.8, 'cycles', 'counters'),
      -- Of the time for one token: what a second one does not add, or adds.
      ('step', 2, 3, 0.5, 'the time for one token', 'hotspots'),
      ('arithmetic', 2, 4, 0.8, 'the time for one token', 'hotspots'),
      -- Of threads' time.
      ('work', 2, 5, 0.5, 'threads'' time', 'stalls'),
      ('operators', 2, 6, 0.0, 'operators'' time', 'summary')
  )
SELECT
  *
FROM rules;

-- What speaks for each rule.
CREATE PERFETTO TABLE _evidence(
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
  ),
  waits AS (
    SELECT
      w.*,
      g.threads,
      w.busy_dur + w.wait_dur AS dur,
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
      USING (upid)
  ),
  known AS (
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
      iif(d.is_told AND d.others_dur < 0.05 * d.dur, 'throttling', NULL) AS name
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
    WHERE NOT f.upid IN (SELECT upid FROM _verdict_delay WHERE fault_dur IS NOT NULL)
    UNION ALL
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
    FROM waits
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
    FROM waits
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
    FROM waits
    WHERE threads > 1 AND wait_dur IS NOT NULL
    UNION ALL
    SELECT
      upid,
      'other requests' AS rule,
      1.0 * others_dur / dur AS share,
      incomplete,
      'Other requests: of the ' || _ms!(dur) || ' that requests waited, ' || _ms!(others_dur) || ' ('
      || _in_percent(1.0 * others_dur / dur) || ') passed in micro-batches of others; most for request '
      || worst_id || ', ' || _ms!(worst_others_dur) || ' of ' || _ms!(worst_dur) || '.' AS sentence,
      'See who_delayed; serve fewer at a time, or cut long prompts into smaller micro-batches'
      || ' (--ubatch-size).' AS advice,
      'waiting for other requests' AS name
    FROM _verdict_step
    WHERE dur > 0
    UNION ALL
    SELECT
      upid,
      'outside' AS rule,
      1.0 * outside_dur / step_dur AS share,
      incomplete,
      'Between micro-batches: ' || _ms!(outside_dur) || ' of the ' || _ms!(step_dur)
      || ' from step to step (' || _in_percent(1.0 * outside_dur / step_dur) || ') passed in none'
      || coalesce(', ' || _ms!(sample_dur) || ' of that in the sampler', '') || '.' AS sentence,
      iif(
        sample_dur * 2 > outside_dur,
        'Make sampling cheaper: top-k first, fewer samplers, no grammar, no log-probabilities.',
        'Look at what the engine does between steps: sampling, grammar, detokenising, copies, sending.'
      ) AS advice,
      'time between micro-batches' AS name
    FROM _verdict_step
    WHERE step_dur > 0
    UNION ALL
    SELECT
      a.upid,
      'context' AS rule,
      a.work_dur / g.threads / s.median AS share,
      max(a.incomplete, s.incomplete) AS incomplete,
      'The KV cache: from ' || a.context_from || ' to ' || _counted(a.context_to, 'token')
      || ' of context a token''s attention grew by ' || _ms!(a.work_dur) || ' of work'
      || iif(g.threads > 1, ', on ' || _counted(g.threads, 'thread'), '') || ': '
      || _in_percent(a.work_dur / g.threads / s.median) || ' of the median time per token.' AS sentence,
      'Keep the context shorter, or its cache smaller (--cache-type-k q8_0)'
      || iif(a.is_flash, '.', ', and try flash attention (--flash-attn on).') AS advice,
      'growth with the context' AS name
    FROM _verdict_growth AS a
    JOIN _verdict_graph AS g
      USING (upid)
    JOIN _verdict_step AS s
      USING (upid)
    WHERE s.median > 0 AND g.threads > 0
    UNION ALL
    SELECT
      b.upid,
      'backends' AS rule,
      1.0 * b.cpu_dur / b.dur AS share,
      0.0 AS incomplete,
      _counted(b.backends, 'backend') || ' (' || _in_short(b.names) || '): '
      || printf('%.1f', 1.0 * b.graphs / b.ubatches) || ' graphs in a micro-batch; the CPU''s take '
      || _ms!(b.cpu_dur) || ' of their ' || _ms!(b.dur) || ' (' || _in_percent(1.0 * b.cpu_dur / b.dur) || ')'
      || coalesce('; of its operators ' || _in_short(w.op) || ' takes the most', '') || '.' AS sentence,
      'Offload more layers (--n-gpu-layers), or see in hotspots which operators fall back to the CPU.' AS advice,
      NULL AS name
    FROM _verdict_backend AS b
    LEFT JOIN _verdict_wait AS w
      USING (upid)
    UNION ALL
    SELECT
      p.upid,
      'small batches' AS rule,
      iif(p.tokens < 32 * p.ubatches, 1.0 * p.dur / p.all_dur, 0.0) AS share,
      0.0 AS incomplete,
      'Small batches: prompts were computed by ' || printf('%.1f', 1.0 * p.tokens / p.ubatches)
      || ' tokens at a time, '      || _ms!(p.dur) || ' of the ' || _ms!(p.all_dur) || ' of all micro-batches ('
      || _in_percent(1.0 * p.dur / p.all_dur) || '); each reads the weights again.' AS sentence,
      'Compute prompts in larger micro-batches (--ubatch-size 512, --batch-size 2048).' AS advice,
      NULL AS name
    FROM _verdict_prompt AS p
    UNION ALL
    SELECT
      upid,
      'stalled' AS rule,
      stalled AS share,
      incomplete,
      'Memory, most likely: operators stalled in ' || _in_percent(stalled) || ' of their cycles'
      || coalesce(' (' || _in_digits(ipc) || ' instructions a cycle)', '') || '.' AS sentence,
      'Move fewer bytes: a smaller quantisation, or more tokens a step (several requests at once, drafts).' AS advice,
      NULL AS name
    FROM _verdict_counter
    UNION ALL
    SELECT
      upid,
      'fed' AS rule,
      1.0 - stalled AS share,
      incomplete,
      'Compute: operators did not stall in ' || _in_percent(1.0 - stalled) || ' of their cycles'
      || coalesce(' (' || _in_digits(ipc) || ' instructions a cycle)', '') || '.' AS sentence,
      'More or faster cores, or a build that uses more of this CPU''s instructions.' AS advice,
      NULL AS name
    FROM _verdict_counter
    UNION ALL
    SELECT
      p.upid,
      'step' AS rule,
      p.fixed AS share,
      max(w.incomplete, coalesce(w.uncertain, 0)) AS incomplete,
      'The fixed cost of a step, as of reading weights (' || _in_digits(p.weight_bytes / 1e6)
      || ' MB), is ' || _in_percent(p.fixed)
      || ' of what one token takes in matrix products: those that ran for 1 and for ' || p.tokens
      || ' tokens (' || _in_percent(p.covered) || ' of their time) took ' || _ms!(p.one_dur) || ' and '
      || _ms!(p.many_dur) || '.' AS sentence,
      'More tokens a step (several requests at once, a draft model), or a smaller quantisation.' AS advice,
      NULL AS name
    FROM _verdict_product AS p
    JOIN waits AS w
      USING (upid)
    -- They speak for the step where they are most of it.
    WHERE w.disturbed < 0.1 AND p.covered >= 0.5
    UNION ALL
    SELECT
      p.upid,
      'arithmetic' AS rule,
      1.0 - p.fixed AS share,
      max(w.incomplete, coalesce(w.uncertain, 0)) AS incomplete,
      'Arithmetic: matrix products that ran for 1 and for ' || p.tokens || ' tokens ('
      || _in_percent(p.covered) || ' of their time) took ' || _ms!(p.one_dur) || ' and ' || _ms!(p.many_dur)
      || ': each token adds ' || _in_percent(1.0 - p.fixed)
      || ' of what one takes.' AS sentence,
      'More or faster cores, or a build that uses more of this CPU''s instructions.' AS advice,
      NULL AS name
    FROM _verdict_product AS p
    JOIN waits AS w
      USING (upid)
    -- Not the first, cold run alone.
    WHERE w.disturbed < 0.1 AND p.runs >= 3 AND p.covered >= 0.5
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
    FROM waits
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
    FROM waits
    WHERE wait_dur IS NULL AND busy_dur > 0
  )
SELECT
  *
FROM known
WHERE share IS NOT NULL;

-- Rules that apply, in the order of what they cost.
CREATE PERFETTO TABLE _finding(
  -- Process.
  upid JOINID(process.id),
  -- Number within the process.
  place LONG,
  -- Rule.
  rule STRING,
  -- Its share.
  share DOUBLE,
  -- Sentence.
  sentence STRING,
  -- What to try.
  advice STRING,
  -- The ready query that has the numbers.
  query STRING
) AS
WITH
  applied AS (
    SELECT
      e.*,
      r.tier,
      r.place,
      r.query,
      row_number() OVER (PARTITION BY e.upid, r.tier ORDER BY r.place) AS first
    FROM _evidence AS e
    JOIN _rule AS r
      USING (rule)
    WHERE e.share >= r.threshold AND e.incomplete <= 0.1
  )
SELECT
  upid,
  row_number() OVER (
    PARTITION BY upid ORDER BY tier, iif(tier = 1, -share, 0.0), place
  ) AS place,
  rule,
  share,
  sentence,
  advice,
  query
FROM applied
-- Of the second tier one.
WHERE tier = 1 OR first = 1
ORDER BY upid, place;

-- The lines of the verdict, of all kinds.
CREATE PERFETTO TABLE _verdict_line(
  -- Process.
  upid JOINID(process.id),
  -- Kind.
  kind STRING,
  -- Number within the kind, from the most important on; may have gaps.
  place LONG,
  -- Rule.
  rule STRING,
  -- Sentence.
  sentence STRING,
  -- Its number.
  value DOUBLE,
  -- Ready query.
  query STRING
) AS
WITH
  speeds AS (
    SELECT
      upid,
      slowest,
      iif(
        requests = 1,
        iif(
          slow_id IS NULL,
          NULL,
          'Request ' || slow_id || ': '
          || substr(
            coalesce(
              ', prompt ' || _in_digits(prompt_rate) || ' t/s (' || _counted(prompt_tokens, 'token') || ')', ''
            )
            || coalesce(', TTFT ' || _ms!(ttft), '')
            || coalesce(', decode ' || _in_digits(slowest) || ' t/s, TPOT median ' || _ms!(slow_tpot), ''),
            3
          )
        ),
        _counted(requests, 'request') || ': '
        || coalesce(
          'decode ' || _in_digits(slowest)
          || iif(_in_digits(fastest) = _in_digits(slowest), '', ' to ' || _in_digits(fastest)) || ' t/s ('
          || iif(decoded = 1, '', 'slowest ') || 'request '
          || slow_id || ', TPOT median ' || _ms!(slow_tpot) || '), ',
          ''
        )
        || coalesce('TTFT up to ' || _ms!(ttft) || ' (request ' || ttft_id || ')', 'no TTFT known')
      ) || '.' AS sentence
    FROM _verdict_speeds
    WHERE decoded > 0 OR ttft IS NOT NULL OR prompt_rate IS NOT NULL
  ),
  -- What comes to less than its rule asks for, in the rules' order.
  denied AS (
    SELECT
      e.upid,
      r.query,
      r.whole,
      r.place,
      e.share,
      e.name || ' ' || _in_percent(e.share) AS text
    FROM _evidence AS e
    JOIN _rule AS r
      USING (rule)
    WHERE e.share < r.threshold AND e.incomplete <= 0.1 AND e.name IS NOT NULL
    ORDER BY r.place
  ),
  denials AS (
    SELECT
      upid,
      query,
      min(place) AS place,
      max(share) AS share,
      group_concat(text, ', ') || ' of ' || whole AS text
    FROM denied
    GROUP BY upid, query, whole
    ORDER BY min(place)
  ),
  lines AS (
    SELECT
      upid,
      'speed' AS kind,
      1 AS place,
      'speed' AS rule,
      sentence,
      slowest AS value,
      'summary' AS query
    FROM speeds
    UNION ALL
    SELECT
      upid,
      'speed' AS kind,
      1 AS place,
      'graphs' AS rule,
      _counted(graphs, 'graph') || ' took ' || _ms!(dur) || ', ' || _ms!(1.0 * dur / graphs)
      || ' each; tokens per second are not known.' AS sentence,
      1e-6 * dur / graphs AS value,
      'summary' AS query
    FROM _verdict_graph
    WHERE NOT upid IN (SELECT upid FROM speeds)
    UNION ALL
    SELECT
      upid,
      'speed' AS kind,
      2 AS place,
      'overhead' AS rule,
      'The recording itself made decoding slower: by '
      || _in_percent((trap_dur + handler_dur + displaced_dur) / dur) || ', '
      || _ms!((trap_dur + handler_dur + displaced_dur) / tokens) || ' of ' || _ms!(dur / tokens)
      || ' a token.' AS sentence,
      100.0 * (trap_dur + handler_dur + displaced_dur) / dur AS value,
      'overhead' AS query
    FROM _decoding_overhead
    -- A twentieth: what the speeds above spread by anyway.
    WHERE trap_dur + handler_dur + displaced_dur >= 0.05 * dur AND tokens > 0
    UNION ALL
    SELECT
      upid,
      'bound' AS kind,
      place,
      rule,
      sentence,
      100.0 * share AS value,
      query
    FROM _finding
    UNION ALL
    SELECT
      upid,
      'try' AS kind,
      place,
      rule,
      advice AS sentence,
      100.0 * share AS value,
      query
    FROM _finding
    WHERE advice IS NOT NULL
    UNION ALL
    SELECT
      upid,
      'ruled_out' AS kind,
      min(place) AS place,
      query AS rule,
      'Not the cause: ' || group_concat(text, '; ') || '.' AS sentence,
      100.0 * max(share) AS value,
      query
    FROM denials
    GROUP BY upid, query
    UNION ALL
    SELECT
      upid,
      'unknown' AS kind,
      1 AS place,
      'losses' AS rule,
      'What ' || _counted(sum(lost), 'lost record')
      || ' would have said: record with a larger --ring-size, or a lower --level.' AS sentence,
      1.0 * sum(lost) AS value,
      'summary' AS query
    FROM _loss_event
    GROUP BY upid
    UNION ALL
    SELECT
      p.upid,
      'unknown' AS kind,
      2 AS place,
      'operators' AS rule,
      'What it is bound by: operators were not recorded (record --level barrier).' AS sentence,
      NULL AS value,
      'summary' AS query
    FROM (SELECT upid FROM _verdict_graph UNION SELECT upid FROM _verdict_speeds) AS p
    WHERE NOT p.upid IN (SELECT upid FROM _verdict_wait)
    UNION ALL
    SELECT
      g.upid,
      'unknown' AS kind,
      3 AS place,
      'scheduler' AS rule,
      upper(substr(g.reason, 1, 1)) || substr(g.reason, 2) || '.' AS sentence,
      NULL AS value,
      'interference' AS query
    FROM profinfer_scheduling_gap AS g
    JOIN _verdict_wait AS w
      USING (upid)
    UNION ALL
    SELECT
      upid,
      'unknown' AS kind,
      3 AS place,
      'uncertain' AS rule,
      'When threads ran is not certain in ' || _in_percent(uncertain)
      || ' of operator runs, since the scheduler''s records have gaps: record again (--ring-size, --scheduler target).'
        AS sentence,
      100.0 * uncertain AS value,
      'interference' AS query
    FROM _verdict_delay
    WHERE uncertain > 0.1
    UNION ALL
    SELECT
      w.upid,
      'unknown' AS kind,
      4 AS place,
      'barriers' AS rule,
      'Barriers were not recorded (record --level barrier): work is not told from waiting for other threads.' AS sentence,
      NULL AS value,
      'stalls' AS query
    FROM _verdict_wait AS w
    WHERE w.wait_dur IS NULL AND NOT w.upid IN (SELECT upid FROM _scheduler)
    UNION ALL
    SELECT
      w.upid,
      'unknown' AS kind,
      5 AS place,
      'memory' AS rule,
      'Whether memory or arithmetic bounds its operators'
      || coalesce(
        ' (by their shapes they move ' || _in_digits(t.rate) || ' GB/s)', ''
      )
      || ': record --counters stalls,memory on a CPU that counts them.' AS sentence,
      t.rate AS value,
      'memory' AS query
    FROM _verdict_wait AS w
    LEFT JOIN _verdict_traffic AS t
      USING (upid)
    WHERE
      NOT w.upid IN (SELECT upid FROM _finding WHERE rule IN ('stalled', 'fed', 'step', 'arithmetic'))
    UNION ALL
    SELECT
      w.upid,
      'unknown' AS kind,
      6 AS place,
      'faults' AS rule,
      'Page faults: record --faults, or the scheduler.' AS sentence,
      NULL AS value,
      'faults' AS query
    FROM _verdict_wait AS w
    WHERE NOT w.upid IN (SELECT upid FROM _evidence WHERE rule IN ('faults', 'major faults'))
    UNION ALL
    SELECT
      upid,
      'unknown' AS kind,
      7 AS place,
      'requests' AS rule,
      'What is missing of ' || iif(requests = 1, 'the request', incomplete || ' of ' || _counted(requests, 'request'))
      || ': recording began or ended within, or records were lost.' AS sentence,
      1.0 * incomplete AS value,
      'summary' AS query
    FROM _verdict_speeds
    WHERE incomplete > 0
    UNION ALL
    SELECT
      upid,
      'unknown' AS kind,
      8 AS place,
      'certain' AS rule,
      iif(
        count() = 1,
        'Whether the request is told rightly: ',
        'Whether ' || sum(NOT certain) || ' of ' || _counted(count(), 'request') || ' are told rightly: '
      ) || min(reason) || '.' AS sentence,
      1.0 * sum(NOT certain) AS value,
      'requests' AS query
    FROM profinfer_request
    WHERE kind = 'request'
    GROUP BY upid
    HAVING sum(NOT certain) > 0
  )
SELECT
  *
FROM lines;

-- The verdict on each process, at most ten lines: the most important of each kind.
CREATE PERFETTO TABLE profinfer_verdict(
  -- Number of the line, from 1.
  rank LONG,
  -- One of speed, bound (by what), try (what), ruled_out, and unknown: what the recording cannot say.
  kind STRING,
  -- The rule that says it.
  rule STRING,
  -- One sentence.
  sentence STRING,
  -- Its number: tokens per second (speed), percent, or how many; NULL where there is none.
  value DOUBLE,
  -- The ready query that has it.
  query STRING,
  -- Records that were lost and operator runs that are not certain, in all of the recording: they are in no
  -- sum.
  incomplete LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  kinds(kind, number, most) AS (
    VALUES ('speed', 1, 2), ('bound', 2, 3), ('try', 3, 2), ('ruled_out', 4, 2), ('unknown', 5, 3)
  ),
  placed AS (
    SELECT
      l.*,
      k.number,
      k.most,
      row_number() OVER (PARTITION BY l.upid, l.kind ORDER BY l.place) AS line
    FROM _verdict_line AS l
    JOIN kinds AS k
      USING (kind)
  ),
  ranked AS (
    SELECT
      *,
      row_number() OVER (PARTITION BY upid ORDER BY number, line) AS rank
    FROM placed
    WHERE line <= most
  )
SELECT
  rank,
  kind,
  rule,
  sentence,
  round(value, 2) AS value,
  query,
  profinfer_scheduling_doubts(upid) AS incomplete,
  upid
FROM ranked
WHERE rank <= 10
ORDER BY upid, rank;
