-- How was it recorded, of which engine and on which machine: what does it take to do it again?
-- Settings are those that `record --config` takes from a file; those that have no value are left out.
-- Of a process that was recorded several times each recording says so.

INCLUDE PERFETTO MODULE profinfer.recording.metadata;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Command
WITH
  words AS (
    SELECT DISTINCT
      upid,
      CAST(substr(key, length('target.command[') + 1) AS INTEGER) AS number,
      iif(
        value GLOB '*[^-A-Za-z0-9_./:=,+@%]*' OR value = '',
        '''' || replace(value, '''', '''\''''') || '''',
        value
      ) AS word
    FROM profinfer_recording
    WHERE key GLOB 'target.command[[]*'
    ORDER BY upid, number
  )
SELECT
  profinfer_process_label(upid) AS process,
  group_concat(word, ' ') AS command
FROM words
GROUP BY upid
ORDER BY upid;

-- title: Facts
WITH
  known(number, about, key, what) AS (
    VALUES
      (1, 'engine', 'layout.version', 'ggml'),
      (2, 'machine', 'host', 'host'),
      (3, 'machine', 'cpu_model', 'processor'),
      (4, 'machine', 'cpus', 'CPUs'),
      (5, 'machine', 'uname.machine', 'architecture'),
      (6, 'machine', 'uname.sysname', 'system'),
      (7, 'machine', 'uname.release', 'kernel'),
      (8, 'machine', 'uname.version', 'kernel build'),
      (9, 'machine', 'page_size', 'page size'),
      (10, 'recorder', 'profinfer', 'ProfInfer'),
      (11, 'recorder', 'recorder', 'recorder'),
      (12, 'recorder', 'loader', 'programs loaded by'),
      (13, 'recorder', 'attach', 'probes attached by'),
      (14, 'recorder', 'transport', 'records sent through'),
      (15, 'recorder', 'redirection', 'stubs of the audit library'),
      (16, 'recorder', 'recording_stubs', 'stubs that record'),
      (17, 'recorder', 'scheduler.mode', 'scheduler'),
      (18, 'recorder', 'hit_cost.empty_handler_ns', 'empty handler (ns)')
  ),
  facts AS (
    SELECT
      r.upid,
      k.number,
      k.about,
      k.what,
      r.value
    FROM known AS k
    JOIN profinfer_recording AS r
      USING (key)
    UNION ALL
    -- Threads that compute are named by what they do; these are their own names.
    SELECT
      upid,
      19 AS number,
      'threads' AS about,
      substr(key, length('threads.') + 1) AS what,
      value
    FROM profinfer_recording
    WHERE key GLOB 'threads.*'
  )
SELECT DISTINCT
  profinfer_process_label(upid) AS process,
  about,
  what,
  value
FROM facts
WHERE value != 'none' AND value != ''
ORDER BY upid, number, what;

-- title: Files of the engine
SELECT DISTINCT
  profinfer_process_label(o.upid) AS process,
  o.value AS path,
  b.value AS build_id
FROM profinfer_recording AS o
LEFT JOIN profinfer_recording AS b
  ON b.upid = o.upid AND b.key = replace(o.key, '.path', '.build_id')
WHERE o.key GLOB 'target.objects*.path'
ORDER BY o.upid, o.key;

-- title: Settings
-- rows: 10
SELECT DISTINCT
  profinfer_process_label(upid) AS process,
  substr(key, length('config.') + 1) AS setting,
  value
FROM profinfer_recording
WHERE key GLOB 'config.*' AND value != 'none' AND value != ''
ORDER BY upid, key;

-- title: Probes
-- rows: 10
WITH
  probes AS (
    SELECT
      upid,
      substr(key, 1, instr(key, ']')) AS item,
      max(iif(key GLOB '*.level', value, NULL)) AS level,
      max(iif(key GLOB '*.handler', value, NULL)) AS handler,
      max(iif(key GLOB '*.symbol', value, NULL)) AS symbol,
      max(iif(key GLOB '*.via', value, NULL)) AS via,
      max(iif(key GLOB '*.site', value, NULL)) AS site
    FROM profinfer_recording
    WHERE key GLOB 'plan.probes[[]*'
    GROUP BY upid, item
  )
SELECT
  profinfer_process_label(upid) AS process,
  level,
  handler,
  symbol,
  via,
  site,
  count() AS probes
FROM probes
GROUP BY upid, level, handler, symbol, via, site
ORDER BY upid, level, handler, symbol;

-- title: Notes
SELECT DISTINCT
  profinfer_process_label(upid) AS process,
  value AS note
FROM profinfer_recording
WHERE key GLOB '*notes[[]*'
ORDER BY upid, key;
