-- Whether the recording is whole.

INCLUDE PERFETTO MODULE profinfer.events;

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
  printf('level %s was not recorded: %s', substr(key, length('plan.missing.') + 1), value)
    AS message,
  'this engine has no such probe point; what would be in that level''s tables is missing' AS hint
FROM _recording_arg
WHERE event = 'recording started' AND key GLOB 'plan.missing.*'
UNION ALL
SELECT
  value AS message,
  'record the process that computes; profinfer doctor --pid shows what one maps' AS hint
FROM _recording_arg
WHERE event = 'recording ended' AND key = 'silent'
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
