-- The recording itself: how it was made, whether it is whole, and what was lost.

INCLUDE PERFETTO MODULE profinfer.events;

-- How the trace was recorded: versions, target, layout, probe plan, configuration, machine, and
-- how the recording ended.
CREATE PERFETTO VIEW profinfer_recording(
  -- Name of the setting or fact, such as config.level or uname.release.
  key STRING,
  -- Its value as text.
  value STRING
) AS
SELECT
  key,
  value
FROM _recording_arg;

-- Records that did not fit into a ring, as they were noticed.
CREATE PERFETTO VIEW profinfer_loss(
  -- Time of the last one of these.
  ts TIMESTAMP,
  -- Time before which none of these was lost: the gap is from here to ts.
  first_ts TIMESTAMP,
  -- CPU whose ring was full; NULL when it may have been any.
  cpu LONG,
  -- Kind of record: operator, fused, barrier, graph_begin, graph_end, ubatch_begin, ubatch_end,
  -- node, tensor, structure, tokens, counters, experts, expert_weights, fault or file_read; of the
  -- scheduler switch, waking, newtask, newname, rename, exit, free or reason.
  kind STRING,
  -- How many.
  lost LONG
) AS
SELECT
  ts,
  first_ts,
  cpu,
  kind,
  lost
FROM _loss_event
UNION ALL
SELECT
  ts,
  first_ts,
  cpu,
  kind,
  lost
FROM _scheduler_loss;

-- Whether records of the engine may have been lost between two times.
CREATE PERFETTO FUNCTION profinfer_has_loss(
  -- Start of the window.
  ts TIMESTAMP,
  -- Its duration.
  dur DURATION
)
-- True when a gap overlaps the window.
RETURNS BOOL AS
SELECT
  EXISTS (
    SELECT
      1
    FROM _loss_event AS l
    WHERE l.first_ts <= $ts + $dur AND l.ts >= $ts
  );

-- How many records of one kind were lost. What a query cannot tell from the rows that are there
-- it counts by this.
CREATE PERFETTO FUNCTION profinfer_lost(
  -- Kind of record, as in profinfer_loss.
  kind STRING
)
-- Records lost; 0 for none.
RETURNS LONG AS
SELECT
  coalesce(sum(lost), 0)
FROM _loss_event
WHERE kind = $kind;

-- Gaps in what is known of micro-batches.
CREATE PERFETTO TABLE _ubatch_loss(
  -- Time of the last record lost.
  ts TIMESTAMP,
  -- Time before which none of these was lost.
  first_ts TIMESTAMP,
  -- True when the tokens of a micro-batch are missing: its own, or it is missing itself.
  of_tokens BOOL,
  -- True when it is not known where a micro-batch begins or ends.
  of_bounds BOOL
) AS
SELECT
  ts,
  first_ts,
  kind IN ('ubatch_begin', 'tokens') AS of_tokens,
  kind IN ('ubatch_begin', 'ubatch_end') AS of_bounds
FROM _loss_event
WHERE kind IN ('ubatch_begin', 'ubatch_end', 'tokens')
ORDER BY ts;

-- The target's threads.
CREATE PERFETTO VIEW _target_thread(
  -- Thread id.
  tid LONG
) AS
SELECT
  t.tid
FROM thread AS t
JOIN process AS p
  USING (upid)
WHERE
  p.pid IN (
    SELECT
      CAST(value AS INTEGER)
    FROM _recording_arg
    WHERE event = 'recording started' AND key = 'target.pid'
  );

-- What a reader of this trace must know before believing a number.
CREATE PERFETTO VIEW profinfer_recording_warning(
  -- What is the matter.
  message STRING,
  -- What to do about it.
  hint STRING
) AS
SELECT
  'this trace was not recorded by ProfInfer, or its beginning is missing: its tables are empty' AS message,
  'profinfer record makes traces that these queries understand' AS hint
WHERE NOT EXISTS (
  SELECT
    1
  FROM _recording_arg
  WHERE event = 'recording started'
)
UNION ALL
SELECT
  'this trace is truncated: the end of the recording is missing' AS message,
  'the file was cut, or the recorder was killed: statistics cover what is there' AS hint
WHERE _recordings() > (
  SELECT
    count(DISTINCT ts)
  FROM _recording_arg
  WHERE event = 'recording ended'
)
UNION ALL
SELECT
  printf('this trace holds %d recordings: what is summed is summed over all of them', _recordings())
    AS message,
  'the recording''s own cost is not shown; ask each trace alone for it' AS hint
WHERE _recordings() > 1
UNION ALL
SELECT
  printf('%d records were lost in %d gaps', sum(lost), count()) AS message,
  'profinfer_loss says which and when; record with a larger --ring-size or a lower --level' AS hint
FROM _loss_event
HAVING count() > 0
UNION ALL
SELECT
  printf(
    '%d records of the scheduler were lost in %d gaps: states of threads around them are uncertain',
    sum(lost),
    count()
  ) AS message,
  'profinfer_loss says which and when; a larger --ring-size or --scheduler target loses fewer' AS hint
FROM _scheduler_loss
WHERE left_tid IS NULL
HAVING count() > 0
UNION ALL
SELECT
  printf('the kernel did not report %d switches of the target''s threads', sum(lost)) AS message,
  'profinfer_loss says when: what these threads did around them is uncertain' AS hint
FROM _scheduler_loss
WHERE
  left_tid IN (
    SELECT
      tid
    FROM _target_thread
  )
  OR found_tid IN (
    SELECT
      tid
    FROM _target_thread
  )
HAVING count() > 0
UNION ALL
SELECT
  printf('%d runs of layers do not say which experts tokens were sent to: %s', count(), reason) AS message,
  'what lies on a device cannot be read; of what is lost a larger --structure-ring-size loses less' AS hint
FROM _expert_event
WHERE reason IS NOT NULL
GROUP BY reason
UNION ALL
SELECT
  printf('%s operator records belong to no graph that was recorded', value) AS message,
  'recording began within a graph, or the record of its beginning was lost' AS hint
FROM _recording_arg
WHERE key = 'unattributed' AND value != '0';
