-- What was lost of the recording, and when.

INCLUDE PERFETTO MODULE profinfer.events;

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
  lost LONG,
  -- The process whose recording lost them.
  upid JOINID(process.id)
) AS
SELECT
  ts,
  first_ts,
  cpu,
  kind,
  lost,
  upid
FROM _loss_event
UNION ALL
SELECT
  ts,
  first_ts,
  cpu,
  kind,
  lost,
  upid
FROM _scheduler_loss;

-- Whether records of an engine may have been lost between two times.
CREATE PERFETTO FUNCTION profinfer_has_loss(
  -- The engine's process.
  upid JOINID(process.id),
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
    WHERE l.upid = $upid AND l.first_ts <= $ts + $dur AND l.ts >= $ts
  );

-- How many records of one kind a process's recording lost. What a query cannot tell from the rows that
-- are there it counts by this.
CREATE PERFETTO FUNCTION profinfer_lost(
  -- Process.
  upid JOINID(process.id),
  -- Kind of record, as in profinfer_loss.
  kind STRING
)
-- Records lost; 0 for none.
RETURNS LONG AS
SELECT
  coalesce(sum(lost), 0)
FROM _loss_event
WHERE upid = $upid AND kind = $kind;

-- How many records of a process's engine were lost.
CREATE PERFETTO FUNCTION _lost_records(
  -- Process.
  upid JOINID(process.id)
)
-- Records lost; 0 for none.
RETURNS LONG AS
SELECT
  coalesce(sum(lost), 0)
FROM _loss_event
WHERE upid = $upid;

-- Gaps in what is known of micro-batches.
CREATE PERFETTO TABLE _ubatch_loss(
  -- Time of the last record lost.
  ts TIMESTAMP,
  -- Time before which none of these was lost.
  first_ts TIMESTAMP,
  -- True when the tokens of a micro-batch are missing: its own, or it is missing itself.
  of_tokens BOOL,
  -- True when it is not known where a micro-batch begins or ends.
  of_bounds BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  ts,
  first_ts,
  kind IN ('ubatch_begin', 'tokens') AS of_tokens,
  kind IN ('ubatch_begin', 'ubatch_end') AS of_bounds,
  upid
FROM _loss_event
WHERE kind IN ('ubatch_begin', 'ubatch_end', 'tokens')
ORDER BY ts;
