-- Which processes were recorded, and what is known of them.

INCLUDE PERFETTO MODULE profinfer.events;

-- What a recorded process is called.
CREATE PERFETTO TABLE _process_name(
  -- Process.
  upid JOINID(process.id),
  -- Its number in the system.
  pid LONG,
  -- Its name, as the recorder found it.
  name STRING,
  -- Name and number, and which one it is where these are not unique: a process that becomes another
  -- program keeps its number.
  label STRING
) AS
WITH
  named AS (
    SELECT
      p.upid,
      p.number,
      q.pid,
      coalesce(
        (
          SELECT
            min(a.value)
          FROM _recording_arg AS a
          WHERE a.upid = p.upid AND a.event = 'recording started' AND a.key = 'target.name'
        ),
        q.name,
        'process'
      ) AS name
    FROM _recorded_process AS p
    JOIN process AS q
      USING (upid)
  )
SELECT
  upid,
  pid,
  name,
  printf('%s (%d)', name, pid) || iif(
    count() OVER (PARTITION BY name, pid) = 1,
    '',
    printf(' #%d', row_number() OVER (PARTITION BY name, pid ORDER BY number))
  ) AS label
FROM named
ORDER BY upid;

-- What the ready queries call a process.
CREATE PERFETTO FUNCTION profinfer_process_label(
  -- Process.
  upid JOINID(process.id)
)
-- Its name and number; NULL where only one process was recorded, which needs no telling apart.
RETURNS STRING AS
SELECT
  label
FROM _process_name
WHERE upid = $upid AND (SELECT count() FROM _recorded_process) > 1;

-- The processes that were recorded, one row each. Several where traces were merged.
CREATE PERFETTO VIEW profinfer_process(
  -- Process: every table of runs has it.
  upid JOINID(process.id),
  -- Its number in the system.
  pid LONG,
  -- Its name, as the recorder found it.
  name STRING,
  -- Name and number, as the ready queries call it; a number more where these are not unique.
  label STRING,
  -- Start of its recording.
  ts TIMESTAMP,
  -- To the end of its recording, or of the trace where that is missing.
  dur DURATION,
  -- How many recordings of it there are, one after another.
  recordings LONG,
  -- The engine: version of its ggml, and the file that holds its operators.
  engine STRING,
  -- Levels that were recorded, separated by commas.
  levels STRING,
  -- Levels that were asked for and are missing, each with the reason; NULL for none.
  left_out STRING,
  -- Graphs that it is seen to have computed.
  graphs LONG,
  -- What a reader should know: that it holds an engine and has computed nothing.
  note STRING,
  -- Its cgroup; NULL where the recorder did not say.
  cgroup STRING,
  -- Id of the container that it is in; NULL for none, and where the recorder did not say.
  container_id STRING,
  -- systemd's unit that it is in; NULL for none, and where the recorder did not say.
  unit STRING
) AS
WITH
  -- One row per recording and setting.
  said AS MATERIALIZED (
    SELECT
      upid,
      ts,
      event,
      key,
      -- What JSON calls null.
      nullif(nullif(value, 'none'), '') AS value
    FROM _recording_arg
  ),
  probes AS MATERIALIZED (
    SELECT
      upid,
      max(iif(key GLOB '*.level', value, NULL)) AS level,
      max(iif(key GLOB '*.handler', value, NULL)) AS handler,
      max(iif(key GLOB '*.object', value, NULL)) AS object,
      -- In the engine's own file.
      coalesce(max(iif(key GLOB '*.via', value, NULL)), '') NOT IN ('stub', 'recording')
        AS is_direct
    FROM said
    WHERE key GLOB 'plan.probes[[]*'
    GROUP BY upid, ts, substr(key, 1, instr(key, ']'))
  ),
  -- From the general to the particular.
  level(rank, name) AS (
    VALUES (1, 'token'), (2, 'graph'), (3, 'operator'), (4, 'barrier')
  ),
  levels AS (
    SELECT
      upid,
      group_concat(name, ', ') AS levels
    FROM (
      SELECT DISTINCT
        p.upid,
        l.name
      FROM probes AS p
      JOIN level AS l
        ON l.name = p.level
      ORDER BY p.upid, l.rank
    )
    GROUP BY upid
  ),
  left_out AS (
    SELECT
      upid,
      group_concat(substr(key, length('plan.missing.') + 1) || ': ' || value, '; ') AS left_out
    FROM said
    WHERE key GLOB 'plan.missing.*'
    GROUP BY upid
  ),
  objects AS (
    SELECT
      upid,
      coalesce(
        min(iif(handler = 'on_operator', object, NULL)),
        min(iif(level = 'graph', object, NULL)),
        min(object)
      ) AS object
    FROM probes
    WHERE is_direct
    GROUP BY upid
  ),
  facts AS (
    SELECT
      upid,
      group_concat(DISTINCT iif(key = 'layout.version', value, NULL)) AS version,
      min(iif(key = 'target.objects[0].path', value, NULL)) AS object,
      min(iif(key = 'silent', value, NULL)) AS silent,
      min(iif(key = 'target.cgroup', value, NULL)) AS cgroup,
      min(iif(key = 'target.container_id', value, NULL)) AS container_id,
      min(iif(key = 'target.unit', value, NULL)) AS unit
    FROM said
    GROUP BY upid
  ),
  graphs AS (
    SELECT
      upid,
      count() AS graphs
    FROM _graph_event
    WHERE is_main
    GROUP BY upid
  )
SELECT
  p.upid,
  n.pid,
  n.name,
  n.label,
  p.ts,
  p.end_ts - p.ts AS dur,
  p.recordings,
  'ggml'
  || coalesce(' ' || f.version, '')
  || coalesce(
    -- Without the folders.
    ', ' || replace(
      coalesce(o.object, f.object),
      rtrim(coalesce(o.object, f.object), replace(coalesce(o.object, f.object), '/', '')),
      ''
    ),
    ''
  ) AS engine,
  l.levels,
  m.left_out,
  coalesce(g.graphs, 0) AS graphs,
  iif(
    g.graphs > 0
    -- At level token, and where what is missing was lost.
    OR p.upid IN (SELECT upid FROM _ubatch_event)
    OR p.upid IN (SELECT upid FROM _loss_event),
    NULL,
    coalesce(f.silent, 'it holds an engine and has computed nothing')
  ) AS note,
  f.cgroup,
  f.container_id,
  f.unit
FROM _recorded_process AS p
JOIN _process_name AS n
  USING (upid)
JOIN facts AS f
  USING (upid)
LEFT JOIN levels AS l
  USING (upid)
LEFT JOIN left_out AS m
  USING (upid)
LEFT JOIN objects AS o
  USING (upid)
LEFT JOIN graphs AS g
  USING (upid)
ORDER BY p.number;

-- Processes that were met and not recorded, since they had an engine and nothing to compute.
CREATE PERFETTO VIEW profinfer_idle_process(
  -- Name and number.
  label STRING,
  -- Its number in the system.
  pid LONG,
  -- What the recorder says of it.
  note STRING
) AS
SELECT
  label,
  cast_int!(replace(rtrim(label, ')'), rtrim(rtrim(label, ')'), '0123456789'), '')) AS pid,
  'it' || substr(value, length(label) + 1) AS note
FROM (
  SELECT
    value,
    substr(value, 1, instr(value, ' holds an engine and has computed nothing') - 1) AS label
  FROM _recording_arg
  WHERE
    event = 'recording ended'
    AND key GLOB 'notes[[]*'
    AND value GLOB '* (*) holds an engine and has computed nothing*'
);
