-- Counters of operators (record --counters).

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.operators.runs;

-- What was counted, by process.
CREATE PERFETTO TABLE profinfer_counter(
  -- Number in the recording of its process.
  counter_id LONG,
  -- Name, as the event is asked for.
  name STRING,
  -- What its values are given in.
  unit STRING,
  -- What it stands for: cycles, instructions, stall_backend (cycles), memory_read or memory_write
  -- (bytes); NULL for none of these.
  role STRING,
  -- The first counter of the group with which it shares its hardware; NULL for what the kernel
  -- counts itself, always.
  leader STRING,
  -- What the event is, and who says so.
  source STRING,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  named AS (
    SELECT
      cast_int!(substr(key, 17, instr(key, ']') - 17)) AS counter_id,
      substr(key, instr(key, ']') + 2) AS field,
      nullif(value, '') AS value,
      upid
    FROM _recording_arg
    WHERE key GLOB 'counters.events*' AND event = 'recording started'
  )
SELECT
  counter_id,
  max(iif(field = 'name', value, NULL)) AS name,
  max(iif(field = 'unit', value, NULL)) AS unit,
  max(iif(field = 'role', value, NULL)) AS role,
  max(iif(field = 'leader', value, NULL)) AS leader,
  max(iif(field = 'source', value, NULL)) AS source,
  upid
FROM named
GROUP BY upid, counter_id
ORDER BY upid, counter_id;

-- Where the counters of each thread's graphs are read. Of tracks that bear the same name, since the process
-- was recorded more than once, the one that was read in the graph.
CREATE PERFETTO TABLE _graph_counter(
  -- The thread's graph slice, as in _graph_event.
  parent_id JOINID(slice.id),
  -- Graph run.
  graph_id LONG,
  -- Thread.
  utid JOINID(thread.id),
  -- As in profinfer_counter.
  counter_id LONG,
  -- The counter's track, NULL where it was not read.
  track_id JOINID(track.id),
  -- That of the thread's CPU time.
  cpu_track_id JOINID(track.id),
  -- That of the time in which the counter's group did not count.
  missed_track_id JOINID(track.id),
  -- Whether it has such a group.
  is_grouped BOOL,
  -- Whether barriers were recorded in the graph.
  has_barriers BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  read AS MATERIALIZED (
    SELECT
      g.id AS parent_id,
      t.name,
      min(t.track_id) AS track_id
    FROM _graph_event AS g
    JOIN _counter_track AS t
      USING (utid)
    WHERE
      EXISTS(
        SELECT
          1
        FROM _reading AS c
        WHERE
          c.ts BETWEEN g.ts AND iif(g.dur < 0, trace_end(), g.ts + g.dur)
          AND c.track_id = t.track_id
      )
    GROUP BY g.id, t.name
  )
SELECT
  g.id AS parent_id,
  g.graph_id,
  g.utid,
  k.counter_id,
  v.track_id,
  c.track_id AS cpu_track_id,
  m.track_id AS missed_track_id,
  k.leader IS NOT NULL AS is_grouped,
  g.has_barriers,
  g.upid
FROM _graph_event AS g
JOIN profinfer_counter AS k
  USING (upid)
LEFT JOIN read AS v
  ON v.parent_id = g.id AND v.name = k.name
LEFT JOIN read AS c
  ON c.parent_id = g.id AND c.name = 'CPU time'
LEFT JOIN read AS m
  ON m.parent_id = g.id AND m.name = 'not counted: ' || k.leader
ORDER BY g.id, k.counter_id;

-- Operators and what counters said at their ends. A view: there can be millions. Trace Processor finds a
-- reading by its time, which is that of the slice's beginning, wait or end.
CREATE PERFETTO VIEW _operator_reading(
  -- The operator's slice.
  id JOINID(slice.id),
  -- As in _operator_work.
  run LONG,
  -- As in _operator_work.
  arrival TIMESTAMP,
  -- As in _operator_work.
  end_ts TIMESTAMP,
  -- Thread.
  utid JOINID(thread.id),
  -- As in profinfer_counter.
  counter_id LONG,
  -- As in _graph_counter.
  track_id JOINID(track.id),
  -- The reading at its beginning.
  begin_value DOUBLE,
  -- When its work was done.
  arrival_value DOUBLE,
  -- Time of the work in which the thread was on a CPU.
  cpu_dur DOUBLE,
  -- The part of it in which the counter did not count.
  missed_dur DOUBLE,
  -- As in _graph_counter.
  has_barriers BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  w.id,
  w.run,
  w.arrival,
  w.end_ts,
  k.utid,
  k.counter_id,
  k.track_id,
  b.value AS begin_value,
  a.value AS arrival_value,
  ca.value - cb.value AS cpu_dur,
  iif(
    k.is_grouped,
    (SELECT m.value FROM _reading AS m WHERE m.ts = w.arrival AND m.track_id = k.missed_track_id)
    - (SELECT m.value FROM _reading AS m WHERE m.ts = w.ts AND m.track_id = k.missed_track_id),
    0
  ) AS missed_dur,
  k.has_barriers,
  k.upid
FROM _graph_counter AS k
CROSS JOIN _operator_work AS w
  USING (parent_id)
LEFT JOIN _reading AS b
  ON b.ts = w.ts AND b.track_id = k.track_id
LEFT JOIN _reading AS a
  ON a.ts = w.arrival AND a.track_id = k.track_id AND a.id > b.id
LEFT JOIN _reading AS cb
  ON cb.ts = w.ts AND cb.track_id = k.cpu_track_id
LEFT JOIN _reading AS ca
  ON ca.ts = w.arrival AND ca.track_id = k.cpu_track_id AND ca.id > cb.id;

-- One row per operator, thread and counter.
CREATE PERFETTO VIEW profinfer_operator_counter(
  -- The operator's slice.
  id JOINID(slice.id),
  -- Thread.
  utid JOINID(thread.id),
  -- Graph run.
  graph_id LONG,
  -- Arguments of the slice; one set per distinct operator.
  arg_set_id ARGSETID,
  -- The counter, as in profinfer_counter.
  counter_id LONG,
  -- What it has counted in the operator's work, by this thread alone, in its unit: until the wait
  -- at the barrier, or, when barriers were not recorded, until the operator's end. NULL when it
  -- was not read at both ends; a worker's last operator of a graph ends unread without a barrier.
  value DOUBLE,
  -- The same of the wait; NULL when barriers were not recorded or it was not read.
  wait_value DOUBLE,
  -- Time of the work in which the thread was on a CPU.
  cpu_dur DURATION,
  -- The part of it in which the counter counted: less when it had to share its hardware.
  counted_dur DURATION,
  -- The value that there would have been, had it counted all of cpu_dur as it did in counted_dur;
  -- NULL when it did not count at all.
  estimate DOUBLE,
  -- Whether the slice is complete and the counter was read at both ends.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  id,
  utid,
  run >> 32 AS graph_id,
  run & 0xFFFFFFFF AS arg_set_id,
  counter_id,
  arrival_value - begin_value AS value,
  CASE
    WHEN NOT has_barriers OR begin_value IS NULL
    THEN NULL
    WHEN coalesce(end_ts = arrival, TRUE)
    THEN 0.0
    ELSE (
      SELECT
        e.value
      FROM _reading AS e
      WHERE e.ts = o.end_ts AND e.track_id = o.track_id
    ) - arrival_value
  END AS wait_value,
  cast_int!(cpu_dur) AS cpu_dur,
  cast_int!(cpu_dur - missed_dur) AS counted_dur,
  iif(
    missed_dur = 0,
    arrival_value - begin_value,
    (arrival_value - begin_value) * cpu_dur / nullif(cpu_dur - missed_dur, 0)
  ) AS estimate,
  arrival_value - begin_value IS NOT NULL
  AND NOT id IN (
    SELECT
      id
    FROM _incomplete_work
  ) AS complete,
  upid
FROM _operator_reading AS o;
