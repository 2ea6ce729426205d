-- What each thread did during the steps that stand for all others, as it can be drawn: the whole of a
-- step, and one layer of it. What is too short to be seen is put together with what is next to it.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.threads;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.slices;
INCLUDE PERFETTO MODULE profinfer.scheduling.preemptions;
INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;
INCLUDE PERFETTO MODULE profinfer.tokens.typical;

-- Operators in these steps.
CREATE PERFETTO TABLE _typical_operator(
  -- As in profinfer_typical_step.
  which STRING,
  -- Start.
  ts TIMESTAMP,
  -- End.
  end_ts TIMESTAMP,
  -- Of that, waiting at the barrier after it; 0 where barriers were not recorded.
  wait_dur DURATION,
  -- The thread's row, as in _thread_row.
  row JOINID(thread.id),
  -- Name for people.
  label STRING,
  -- Operator.
  op STRING,
  -- Layer number.
  layer LONG,
  -- Part of the model.
  module STRING,
  -- Whether it is of the step's own micro-batch.
  is_own BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  s.which,
  o.ts,
  o.ts + o.dur AS end_ts,
  coalesce(o.wait_dur, 0) AS wait_dur,
  r.row,
  coalesce(k.label, o.name) AS label,
  k.op,
  k.layer,
  k.module,
  g.ubatch_id IS s.ubatch_id AS is_own,
  o.upid
FROM profinfer_typical_step AS s
JOIN profinfer_operator_slice AS o
  ON o.upid = s.upid AND o.ts >= s.ts AND o.ts < s.ts + s.dur
JOIN profinfer_graph AS g
  USING (graph_id)
JOIN _thread_row AS r
  ON r.utid = o.utid
LEFT JOIN _operator_kind AS k
  ON k.arg_set_id = o.arg_set_id
WHERE o.dur > 0
ORDER BY o.upid, s.which, r.row, o.ts;

-- The threads that computed them.
CREATE PERFETTO TABLE _typical_thread(
  -- Row, as in _thread_row.
  row JOINID(thread.id),
  -- Number in the process, from 1: the thread that computes graphs comes first.
  number LONG,
  -- Number of the thread in the system; NULL where the row is several.
  tid LONG,
  -- Its name, or what it is.
  name STRING,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  mains AS MATERIALIZED (
    SELECT DISTINCT
      r.row
    FROM profinfer_graph AS g
    JOIN _thread_row AS r
      USING (utid)
  ),
  rows AS (
    SELECT DISTINCT
      row,
      upid
    FROM _typical_operator
  )
SELECT
  o.row,
  row_number() OVER (
    PARTITION BY o.upid ORDER BY o.row IN (SELECT row FROM mains) DESC, r.tid, o.row
  ) AS number,
  r.tid,
  r.name,
  o.upid
FROM rows AS o
JOIN _thread_row AS r
  ON r.utid = o.row
ORDER BY o.row;

-- Where the layers of the step's own micro-batch begin and end, on all threads together.
CREATE PERFETTO TABLE _typical_layer(
  -- As in profinfer_typical_step.
  which STRING,
  -- Layer number.
  layer LONG,
  -- Start of its first operator.
  ts TIMESTAMP,
  -- To the end of its last one.
  dur DURATION,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  which,
  layer,
  min(ts) AS ts,
  max(end_ts) - min(ts) AS dur,
  upid
FROM _typical_operator
WHERE is_own AND layer IS NOT NULL
GROUP BY upid, which, layer
ORDER BY upid, which, ts;

-- Stretches of time to be drawn: each step, and the layer by which the two differ most.
CREATE PERFETTO TABLE _look(
  -- Number of the row.
  look_id LONG,
  -- As in profinfer_typical_step.
  which STRING,
  -- Layer number, NULL for the whole step.
  layer LONG,
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  differing AS (
    SELECT
      upid,
      layer,
      row_number() OVER (
        PARTITION BY upid
        ORDER BY count() DESC, sum(iif(count = 1 OR which = 'slowest', dur, -dur)) DESC, layer
      ) AS rank
    FROM (
      SELECT
        *,
        count() OVER (PARTITION BY upid, layer) AS count
      FROM _typical_layer
    )
    GROUP BY upid, layer
  ),
  looks AS (
    SELECT
      which,
      NULL AS layer,
      ts,
      dur,
      upid
    FROM profinfer_typical_step
    UNION ALL
    SELECT
      l.which,
      l.layer,
      l.ts,
      l.dur,
      l.upid
    FROM _typical_layer AS l
    JOIN differing AS d
      ON d.upid = l.upid AND d.layer = l.layer AND d.rank = 1
  )
SELECT
  row_number() OVER (ORDER BY upid, which, layer) AS look_id,
  which,
  layer,
  ts,
  dur,
  upid
FROM looks
ORDER BY look_id;

-- What operators are drawn as. Those shorter than a 400th of what is drawn are one piece with their
-- neighbours of the same 200th.
CREATE PERFETTO TABLE _look_operator(
  -- As in _look.
  look_id LONG,
  -- As in _thread_row.
  row JOINID(thread.id),
  -- Start.
  ts TIMESTAMP,
  -- End.
  end_ts TIMESTAMP,
  -- Of that, waiting at barriers after operators.
  wait_dur DURATION,
  -- Operators in it.
  operators LONG,
  -- Name of the longest one.
  label STRING,
  -- Its op.
  op STRING,
  -- Its layer.
  layer LONG,
  -- Its part of the model.
  module STRING
) AS
WITH
  cut AS (
    SELECT
      l.look_id,
      o.row,
      max(o.ts, l.ts) AS ts,
      min(o.end_ts, l.ts + l.dur) AS end_ts,
      o.wait_dur,
      o.label,
      o.op,
      o.layer,
      o.module,
      iif(
        (o.end_ts - o.ts) * 400 < l.dur, (o.ts - l.ts) * 200 / l.dur, NULL
      ) AS bucket
    FROM _look AS l
    JOIN _typical_operator AS o
      ON
        o.upid = l.upid
        AND o.which = l.which
        AND o.ts < l.ts + l.dur
        AND o.end_ts > l.ts
  ),
  marked AS (
    SELECT
      *,
      NOT coalesce(bucket = lag(bucket) OVER thread, FALSE) AS is_new
    FROM cut
    WINDOW thread AS (PARTITION BY look_id, row ORDER BY ts)
  ),
  numbered AS (
    SELECT
      *,
      sum(is_new) OVER (PARTITION BY look_id, row ORDER BY ts) AS piece
    FROM marked
  ),
  ranked AS (
    SELECT
      *,
      row_number() OVER (
        PARTITION BY look_id, row, piece ORDER BY end_ts - ts DESC, ts
      ) AS rank
    FROM numbered
  )
SELECT
  look_id,
  row,
  min(ts) AS ts,
  max(end_ts) AS end_ts,
  -- Of an operator that is cut off at the end, so may its wait be.
  min(sum(wait_dur), max(end_ts) - min(ts)) AS wait_dur,
  count() AS operators,
  max(iif(rank = 1, label, NULL)) AS label,
  max(iif(rank = 1, op, NULL)) AS op,
  max(iif(rank = 1, layer, NULL)) AS layer,
  max(iif(rank = 1, module, NULL)) AS module
FROM ranked
GROUP BY look_id, row, piece
ORDER BY look_id, row, ts;

-- When these threads did not run.
CREATE PERFETTO TABLE _look_state(
  -- As in _look.
  look_id LONG,
  -- As in _thread_row.
  row JOINID(thread.id),
  -- Start.
  ts TIMESTAMP,
  -- End.
  end_ts TIMESTAMP,
  -- As in profinfer_thread_state; unknown where that is NULL.
  kind STRING,
  -- Who ran in its place, or what it was blocked in.
  cause STRING,
  -- Whether it is certain.
  complete BOOL
) AS
WITH
  states AS (
    SELECT
      l.look_id,
      r.row,
      s.id,
      max(s.ts, l.ts) AS ts,
      min(s.ts + s.dur, l.ts + l.dur) AS end_ts,
      coalesce(s.kind, 'unknown') AS kind,
      s.blocked_in,
      s.complete
    FROM _look AS l
    JOIN profinfer_thread_state AS s
      ON s.upid = l.upid AND s.ts < l.ts + l.dur AND s.ts + s.dur > l.ts
    JOIN _thread_row AS r
      ON r.utid = s.utid
    WHERE
      s.kind IS NOT 'running'
      AND s.kind IS NOT 'ended'
      AND r.row IN (
        SELECT
          row
        FROM _typical_thread
      )
  )
SELECT
  look_id,
  row,
  ts,
  end_ts,
  kind,
  coalesce(
    (
      SELECT
        group_concat(name, ', ')
      FROM (
        SELECT
          coalesce(p.taker_name, 'a thread of unknown name') || iif(
            p.is_own, ' (of the same process)', ''
          ) AS name
        FROM profinfer_preemption AS p
        WHERE p.state_id = states.id
        GROUP BY 1
        ORDER BY sum(p.dur) DESC
      )
    ),
    blocked_in
  ) AS cause,
  complete
FROM states
ORDER BY look_id, row, ts;
