-- What speaks for memory or arithmetic as what bounds the engine's own work.

INCLUDE PERFETTO MODULE profinfer.verdict.threads;
INCLUDE PERFETTO MODULE profinfer.verdict.words;
INCLUDE PERFETTO MODULE profinfer.verdict.work;

-- Columns as in _evidence.
CREATE PERFETTO TABLE _arithmetic_evidence(
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
JOIN _verdict_thread AS w
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
JOIN _verdict_thread AS w
  USING (upid)
-- Not the first, cold run alone.
WHERE w.disturbed < 0.1 AND p.runs >= 3 AND p.covered >= 0.5;
