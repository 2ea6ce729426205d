-- What a recording cannot say, and how to record it.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.recording.share;
INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;
INCLUDE PERFETTO MODULE profinfer.verdict.requests;
INCLUDE PERFETTO MODULE profinfer.verdict.rules;
INCLUDE PERFETTO MODULE profinfer.verdict.waits;
INCLUDE PERFETTO MODULE profinfer.verdict.words;
INCLUDE PERFETTO MODULE profinfer.verdict.work;

-- Columns as in _verdict_line.
CREATE PERFETTO TABLE _unknown_line(
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
  'Page faults: record --faults, or the scheduler'
  || iif(w.upid IN (SELECT upid FROM _scheduler), ' with barriers (--level barrier)', '') || '.' AS sentence,
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
UNION ALL
SELECT
  upid,
  'unknown' AS kind,
  9 AS place,
  'probes' AS rule,
  'What of its operators'' work is the probes'' own: ' || reason || '.' AS sentence,
  NULL AS value,
  'overhead' AS query
FROM profinfer_probes_share
WHERE reason IS NOT NULL;
