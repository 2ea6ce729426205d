-- What speaks for each rule on steps, and what they are made of.

INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.verdict.requests;
INCLUDE PERFETTO MODULE profinfer.verdict.waits;
INCLUDE PERFETTO MODULE profinfer.verdict.words;
INCLUDE PERFETTO MODULE profinfer.verdict.work;

-- Columns as in _evidence.
CREATE PERFETTO TABLE _step_evidence(
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
  || coalesce(', ' || _ms!(sample_dur) || ' of that in the sampler', '')
  || iif(is_elsewhere, '; what other backends were given is awaited there', '') || '.' AS sentence,
  CASE
    WHEN is_elsewhere
      THEN 'See backends: how long other backends compute is not known, but they may be what is awaited.'
    WHEN sample_dur * 2 > outside_dur
      THEN 'Make sampling cheaper: top-k first, fewer samplers, no grammar, no log-probabilities.'
    ELSE 'Look at what the engine does between steps: sampling, grammar, detokenising, copies, sending.'
  END AS advice,
  'time between micro-batches' AS name
FROM (
  SELECT
    *,
    -- Their graphs are submitted, and whoever reads the results first waits: most often the sampler.
    upid IN (SELECT upid FROM profinfer_graph WHERE backend != 'CPU') AS is_elsewhere
  FROM _verdict_step
)
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
FROM _verdict_prompt AS p;
