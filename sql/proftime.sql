-- What did each thread do during a token of the median, and during the slowest one?
-- Tokens are decoding steps, from one to the next; where none is known, runs of the graph that took most
-- of the time. Times are counted from the start of what is shown: the whole step, or the layer by which
-- the two differ most. Operators that are too short to be seen there are one row with their neighbours,
-- which bears the longest one's name; waits are those at barriers after operators (without level barrier they are
-- within work). Where records were lost (incomplete counts them), others may have been the median
-- and the slowest.

INCLUDE PERFETTO MODULE profinfer.recording.losses;
INCLUDE PERFETTO MODULE profinfer.recording.processes;
INCLUDE PERFETTO MODULE profinfer.tokens.timelines;
INCLUDE PERFETTO MODULE profinfer.tokens.typical;

-- title: Steps
SELECT
  profinfer_process_label(s.upid) AS process,
  s.which,
  s.request_id AS request,
  s.step,
  s.steps AS of_steps,
  round(s.dur / 1e6, 3) AS time_ms,
  round((o.end_ts - o.ts) / 1e6, 3) AS operators_ms,
  o.operators,
  _lost_records(s.upid) AS incomplete
FROM profinfer_typical_step AS s
LEFT JOIN (
  SELECT
    upid,
    which,
    min(ts) AS ts,
    max(end_ts) AS end_ts,
    count() AS operators
  FROM _typical_operator
  GROUP BY upid, which
) AS o
  USING (upid, which)
ORDER BY s.upid, s.which;

-- title: Threads in them (ms)
SELECT
  profinfer_process_label(t.upid) AS process,
  o.which,
  t.number AS thread,
  t.tid,
  t.name,
  o.operators,
  round(o.work_dur / 1e6, 3) AS work_ms,
  iif(_has_barriers(t.upid), round(o.wait_dur / 1e6, 3), NULL) AS wait_ms,
  round(s.taken_dur / 1e6, 3) AS preempted_ms,
  round(s.throttled_dur / 1e6, 3) AS throttled_ms,
  round(s.fault_dur / 1e6, 3) AS fault_ms,
  _lost_records(t.upid) AS incomplete
FROM (
  SELECT
    upid,
    which,
    row,
    count() AS operators,
    sum(end_ts - ts - wait_dur) AS work_dur,
    sum(wait_dur) AS wait_dur
  FROM _typical_operator
  GROUP BY upid, which, row
) AS o
JOIN _typical_thread AS t
  ON t.row = o.row
LEFT JOIN (
  SELECT
    l.upid,
    l.which,
    s.row,
    sum(iif(s.kind = 'preempted', s.end_ts - s.ts, 0)) AS taken_dur,
    sum(iif(s.kind = 'throttled', s.end_ts - s.ts, 0)) AS throttled_dur,
    sum(iif(s.kind = 'fault', s.end_ts - s.ts, 0)) AS fault_dur
  FROM _look_state AS s
  JOIN _look AS l
    USING (look_id)
  WHERE l.layer IS NULL
  GROUP BY l.upid, l.which, s.row
) AS s
  ON s.upid = o.upid AND s.which = o.which AND s.row = o.row
ORDER BY t.upid, o.which, t.number;

-- title: Layers (us)
-- rows: 10
SELECT
  profinfer_process_label(l.upid) AS process,
  l.which,
  l.layer,
  round((l.ts - s.ts) / 1e3, 1) AS start_us,
  round(l.dur / 1e3, 1) AS time_us,
  _lost_records(l.upid) AS incomplete
FROM _typical_layer AS l
JOIN profinfer_typical_step AS s
  USING (upid, which)
ORDER BY l.upid, l.which, l.ts;

-- title: What is shown (us)
SELECT
  profinfer_process_label(l.upid) AS process,
  l.which,
  l.layer AS of_layer,
  round((l.ts - s.ts) / 1e3, 1) AS start_us,
  round(l.dur / 1e3, 1) AS time_us,
  _lost_records(l.upid) AS incomplete
FROM _look AS l
JOIN profinfer_typical_step AS s
  USING (upid, which)
ORDER BY l.look_id;

-- title: Operators (us, the shortest together)
-- rows: 15
SELECT
  profinfer_process_label(l.upid) AS process,
  l.which,
  l.layer AS of_layer,
  t.number AS thread,
  round((o.ts - l.ts) / 1e3, 2) AS start_us,
  round((o.end_ts - o.ts - o.wait_dur) / 1e3, 2) AS work_us,
  round(o.wait_dur / 1e3, 2) AS wait_us,
  o.operators,
  o.label AS name,
  o.op,
  o.layer,
  o.module,
  _lost_records(l.upid) AS incomplete
FROM _look_operator AS o
JOIN _look AS l
  USING (look_id)
JOIN _typical_thread AS t
  ON t.row = o.row
ORDER BY l.look_id, t.number, o.ts;

-- title: When threads did not run (us)
-- rows: 10
SELECT
  profinfer_process_label(l.upid) AS process,
  l.which,
  l.layer AS of_layer,
  t.number AS thread,
  round((s.ts - l.ts) / 1e3, 2) AS start_us,
  round((s.end_ts - s.ts) / 1e3, 2) AS time_us,
  s.kind AS state,
  s.cause,
  s.complete
FROM _look_state AS s
JOIN _look AS l
  USING (look_id)
JOIN _typical_thread AS t
  ON t.row = s.row
ORDER BY l.look_id, t.number, s.ts;
