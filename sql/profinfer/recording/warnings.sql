-- Whether the recordings are whole.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- Threads of the processes that were recorded.
CREATE PERFETTO VIEW _target_thread(
  -- Thread id.
  tid LONG,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  t.tid,
  t.upid
FROM thread AS t
JOIN _recorded_process AS p
  USING (upid);

-- Which process a warning is about, to put before it.
CREATE PERFETTO FUNCTION _of_process(
  -- Process.
  upid JOINID(process.id)
)
-- Its label with a colon, or '' where there is only one.
RETURNS STRING AS
SELECT
  coalesce(profinfer_process_label($upid) || ': ', '');

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
WHERE (
  SELECT
    sum(recordings)
  FROM _recorded_process
) > (
  SELECT
    count(DISTINCT printf('%d %d', upid, ts))
  FROM _recording_arg
  WHERE event = 'recording ended'
)
UNION ALL
SELECT
  printf(
    '%sthis process was recorded %d times: what is summed is summed over all of them',
    _of_process(upid),
    recordings
  ) AS message,
  'the recordings'' own cost is not shown of it; ask each trace alone for it' AS hint
FROM _recorded_process
WHERE recordings > 1
UNION ALL
SELECT
  printf(
    '%slevel %s was not recorded: %s', _of_process(upid), substr(key, length('plan.missing.') + 1), value
  ) AS message,
  'this engine has no such probe point; what would be in that level''s tables is missing' AS hint
FROM _recording_arg
WHERE event = 'recording started' AND key GLOB 'plan.missing.*'
UNION ALL
SELECT
  printf(
    '%s%s was %s on disk while the process ran it', _of_process(d.upid), o.value, d.value
  ) AS message,
  'build id, functions and layout are of the file that ran; tools that look at the path see another one, or none' AS hint
FROM _recording_arg AS d
JOIN _recording_arg AS o
  ON o.upid = d.upid AND o.ts = d.ts AND o.key = replace(d.key, '.on_disk', '.path')
WHERE d.key GLOB 'target.objects*.on_disk'
UNION ALL
SELECT
  value AS message,
  'record the process that computes; profinfer doctor --pid shows what one maps' AS hint
FROM _recording_arg
WHERE event = 'recording ended' AND key = 'silent'
UNION ALL
SELECT
  printf('%s%d records were lost in %d gaps', _of_process(upid), sum(lost), count()) AS message,
  'profinfer_loss says which and when; record with a larger --ring-size or a lower --level' AS hint
FROM _loss_event
GROUP BY upid
UNION ALL
SELECT
  printf(
    '%s%d records of the scheduler were lost in %d gaps: states of threads around them are uncertain',
    _of_process(upid),
    sum(lost),
    count()
  ) AS message,
  'profinfer_loss says which and when; a larger --ring-size or --scheduler target loses fewer' AS hint
FROM _scheduler_loss
WHERE left_tid IS NULL
GROUP BY upid
UNION ALL
SELECT
  printf('%sthe kernel did not report %d switches of the target''s threads', _of_process(upid), sum(lost))
    AS message,
  'profinfer_loss says when: what these threads did around them is uncertain' AS hint
FROM _scheduler_loss AS l
WHERE EXISTS(
  SELECT
    1
  FROM _target_thread AS t
  WHERE t.upid = l.upid AND t.tid IN (l.left_tid, l.found_tid)
)
GROUP BY upid
UNION ALL
SELECT
  printf(
    '%s%d runs of layers do not say which experts tokens were sent to: %s', _of_process(upid), count(), reason
  ) AS message,
  'what lies on a device cannot be read; of what is lost a larger --structure-ring-size loses less' AS hint
FROM _expert_event
WHERE reason IS NOT NULL
GROUP BY upid, reason
UNION ALL
SELECT
  printf('%s%s operator records belong to no graph that was recorded', _of_process(upid), value) AS message,
  'recording began within a graph, or the record of its beginning was lost' AS hint
FROM _recording_arg
WHERE key = 'unattributed' AND value != '0';
