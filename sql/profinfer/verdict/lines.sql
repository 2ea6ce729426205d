-- The verdict in words: how fast, bound by what, what to try first, what it is not, what is not known.

INCLUDE PERFETTO MODULE profinfer.recording.share;
INCLUDE PERFETTO MODULE profinfer.recording.slowdown;
INCLUDE PERFETTO MODULE profinfer.scheduling.interference;
INCLUDE PERFETTO MODULE profinfer.verdict.requests;
INCLUDE PERFETTO MODULE profinfer.verdict.rules;
INCLUDE PERFETTO MODULE profinfer.verdict.unknowns;
INCLUDE PERFETTO MODULE profinfer.verdict.waits;
INCLUDE PERFETTO MODULE profinfer.verdict.words;

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
      'speed' AS kind,
      3 AS place,
      'probes' AS rule,
      'Of its operators'' work, ' || _ms!(busy_dur) || ', the probes took ' || _in_percent(share)
      || ': net times are without.' AS sentence,
      100.0 * share AS value,
      'work' AS query
    FROM profinfer_probes_share
    -- Below that nobody would decide otherwise.
    WHERE share > 0.02
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
      *
    FROM _unknown_line
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
    VALUES ('speed', 1, 3), ('bound', 2, 3), ('try', 3, 2), ('ruled_out', 4, 2), ('unknown', 5, 3)
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
