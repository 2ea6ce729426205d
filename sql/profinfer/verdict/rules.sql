-- When rules speak, and which do.
--
-- A rule compares a share with its threshold. It says nothing where what it needs was not recorded, or
-- where more than a tenth of that may be incomplete: then a line says what to record.

INCLUDE PERFETTO MODULE profinfer.verdict.arithmetic;
INCLUDE PERFETTO MODULE profinfer.verdict.cpus;
INCLUDE PERFETTO MODULE profinfer.verdict.hindrances;
INCLUDE PERFETTO MODULE profinfer.verdict.steps;
INCLUDE PERFETTO MODULE profinfer.verdict.threads;

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
      -- Of threads' time, their waits for each other among it: not all of that makes anything later. So more.
      ('taken', 1, 6, 0.1, 'threads'' time', 'interference'),
      ('taken by own', 1, 6, 0.1, 'threads'' time', 'interference'),
      ('throttled', 1, 6, 0.1, 'threads'' time', 'interference'),
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
  known AS (
    SELECT
      *
    FROM _hindrance_evidence
    UNION ALL
    SELECT
      *
    FROM _cpu_evidence
    UNION ALL
    SELECT
      *
    FROM _thread_evidence
    UNION ALL
    SELECT
      *
    FROM _step_evidence
    UNION ALL
    SELECT
      *
    FROM _arithmetic_evidence
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
