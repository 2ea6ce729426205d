-- The recording's own handlers: hits, and what a hit costs.
--
-- A hit is the kernel's way to the handler and back, which the recorder measured on this machine
-- at such an instruction with an empty handler, before and, if that took a while, after, and the handler's own run time, of which the kernel
-- keeps count during a part of the recording. What was not measured is NULL, and so is whatever
-- would be computed from it: in traces of older recorders, and where the end is missing.

INCLUDE PERFETTO MODULE profinfer.events;

-- Handlers, and what their hits cost. One in whose place stubs record some of the calls has two rows.
CREATE PERFETTO TABLE profinfer_handler(
  -- Handler.
  handler STRING,
  -- Function in the target whose calls it sees; several are separated by commas.
  symbol STRING,
  -- How its probe was placed: direct (in the engine's code) or stub (in a redirected call); or
  -- recording: there is none, the stub has written the records itself.
  via STRING,
  -- Kind of the instruction that is probed, such as push, jcc, nop5 or stepped.
  site STRING,
  -- Times it ran in the recording, exact even where records were lost. NULL for handlers whose
  -- runs cannot be told from their records: those at graphs and calls.
  hits LONG,
  -- Mean run time as the kernel counts it, in ns; the counting itself is in it.
  run_ns DOUBLE,
  -- Of that, what an empty handler would not have needed, in ns.
  handler_ns DOUBLE,
  -- A hit of an empty handler at such an instruction, in ns; of a stub that records, what its
  -- record takes. Where a handler has several probes, the mean of theirs; of the beginning and the end
  -- of the recording, where it was measured at both.
  trap_ns DOUBLE,
  -- That is with 95 % at least so much, by the spread of its measurements; NULL in traces of older recorders.
  trap_low_ns DOUBLE,
  -- And at most so much.
  trap_high_ns DOUBLE,
  -- By how much it had changed at the end, in ns; NULL where it was not measured there.
  trap_drift_ns DOUBLE,
  -- A whole hit in ns: both of these.
  hit_ns DOUBLE,
  -- All hits, summed over threads.
  total_ns DURATION,
  -- The process that was recorded. One that was recorded several times has no rows: what hits cost
  -- differs between recordings, and slices do not tell which one they are of.
  upid JOINID(process.id)
) AS
WITH
  items AS (
    SELECT
      substr(key, 1, instr(key, ']')) AS item,
      substr(key, instr(key, ']') + 2) AS field,
      -- What JSON calls null.
      nullif(nullif(value, 'none'), '') AS value,
      upid
    FROM _recording_arg
    WHERE
      (key GLOB 'plan.probes[[]*' OR key GLOB 'handlers[[]*')
      AND upid IN (SELECT upid FROM _recorded_process WHERE recordings = 1)
  ),
  intervals AS (
    SELECT
      upid,
      substr(key, 20, instr(key, '[') - 20) AS site,
      CAST(max(iif(key GLOB '*[[]0]', value, NULL)) AS REAL) AS low_ns,
      CAST(max(iif(key GLOB '*[[]1]', value, NULL)) AS REAL) AS high_ns
    FROM _recording_arg
    WHERE key GLOB 'hit_cost.intervals.*'
    GROUP BY upid, event, site
  ),
  spans AS (
    SELECT
      upid,
      site,
      min(low_ns) AS low_ns,
      max(high_ns) AS high_ns
    FROM intervals
    GROUP BY upid, site
  ),
  ends AS (
    SELECT
      upid,
      substr(key, 16) AS site,
      CAST(value AS REAL) AS end_ns
    FROM _recording_arg
    WHERE event = 'recording ended' AND key GLOB 'hit_cost.sites.*' AND value != 'none'
  ),
  probes AS (
    SELECT
      upid,
      max(iif(field = 'handler', value, NULL)) AS handler,
      max(iif(field = 'symbol', value, NULL)) AS symbol,
      max(iif(field = 'via', value, NULL)) AS via,
      max(iif(field = 'site', value, NULL)) AS site,
      CAST(max(iif(field = 'hit_ns', value, NULL)) AS REAL) AS hit_ns
    FROM items
    WHERE item GLOB 'plan.*'
    GROUP BY upid, item
  ),
  planned AS (
    SELECT
      upid,
      handler,
      via = 'recording' AS is_by_stubs,
      group_concat(DISTINCT symbol) AS symbol,
      group_concat(DISTINCT via) AS via,
      group_concat(DISTINCT site) AS site,
      -- One probe that was not measured makes the mean unknown.
      iif(count() = count(hit_ns), avg((hit_ns + coalesce(end_ns, hit_ns)) / 2), NULL) AS trap_ns,
      iif(count() = count(end_ns), avg(end_ns - hit_ns), NULL) AS trap_drift_ns,
      iif(count() = count(low_ns), avg(low_ns), NULL) AS trap_low_ns,
      iif(count() = count(high_ns), avg(high_ns), NULL) AS trap_high_ns
    FROM probes
    LEFT JOIN spans
      USING (upid, site)
    LEFT JOIN ends
      USING (upid, site)
    GROUP BY upid, handler, is_by_stubs
  ),
  counted AS (
    SELECT
      upid,
      max(iif(field = 'handler', value, NULL)) AS handler,
      coalesce(max(iif(field = 'via', value, NULL)), '') = 'recording' AS is_by_stubs,
      CAST(max(iif(field = 'runs', value, NULL)) AS INTEGER) AS hits,
      CAST(max(iif(field = 'timed_ns', value, NULL)) AS REAL)
      / nullif(CAST(max(iif(field = 'timed_runs', value, NULL)) AS INTEGER), 0) AS run_ns
    FROM items
    WHERE item GLOB 'handlers[[]*'
    GROUP BY upid, item
  ),
  floor AS (
    SELECT
      upid,
      CAST(nullif(value, 'none') AS REAL) AS ns
    FROM _recording_arg
    WHERE event = 'recording started' AND key = 'hit_cost.empty_handler_ns'
  ),
  named AS (
    SELECT upid, handler, is_by_stubs FROM planned
    UNION
    SELECT upid, handler, is_by_stubs FROM counted
  ),
  costs AS (
    SELECT
      n.upid,
      n.handler,
      p.symbol,
      p.via,
      p.site,
      c.hits,
      c.run_ns,
      -- A stub that records has no handler.
      iif(n.is_by_stubs, 0.0, c.run_ns - f.ns) AS handler_ns,
      p.trap_ns,
      p.trap_low_ns,
      p.trap_high_ns,
      p.trap_drift_ns,
      p.trap_ns + iif(n.is_by_stubs, 0.0, c.run_ns - f.ns) AS hit_ns
    FROM named AS n
    LEFT JOIN floor AS f
      USING (upid)
    LEFT JOIN planned AS p
      USING (upid, handler, is_by_stubs)
    LEFT JOIN counted AS c
      USING (upid, handler, is_by_stubs)
    WHERE n.handler IS NOT NULL
  )
SELECT
  handler,
  symbol,
  via,
  site,
  hits,
  run_ns,
  handler_ns,
  trap_ns,
  trap_low_ns,
  trap_high_ns,
  trap_drift_ns,
  hit_ns,
  CAST(round(iif(hits = 0, 0, hits * hit_ns)) AS INTEGER) AS total_ns,
  upid
FROM costs
ORDER BY upid, handler, via;

-- Programs at events of the kernel's own (context switches, page faults, reads), which run in
-- whatever process brings them about. What the way to them costs was not measured.
CREATE PERFETTO TABLE profinfer_event_program(
  -- Program.
  program STRING,
  -- The kernel's tracepoint or software event.
  event STRING,
  -- Times it ran in the recording, on all CPUs and for all processes; NULL where that is not known
  -- since not each of its runs makes a record.
  runs LONG,
  -- Mean run time as the kernel counts it, in ns; the counting itself is in it.
  run_ns DOUBLE,
  -- All runs, summed over CPUs.
  total_ns DURATION,
  -- The process with whose recording it came. One that was recorded several times has no rows.
  upid JOINID(process.id)
) AS
WITH
  items AS (
    SELECT
      substr(key, 1, instr(key, ']')) AS item,
      substr(key, instr(key, ']') + 2) AS field,
      nullif(nullif(value, 'none'), '') AS value,
      upid
    FROM _recording_arg
    WHERE
      key GLOB 'event_programs[[]*'
      AND upid IN (SELECT upid FROM _recorded_process WHERE recordings = 1)
  ),
  programs AS (
    SELECT
      upid,
      max(iif(field = 'program', value, NULL)) AS program,
      max(iif(field = 'event', value, NULL)) AS event,
      CAST(max(iif(field = 'runs', value, NULL)) AS INTEGER) AS runs,
      CAST(max(iif(field = 'timed_ns', value, NULL)) AS REAL)
      / nullif(CAST(max(iif(field = 'timed_runs', value, NULL)) AS INTEGER), 0) AS run_ns
    FROM items
    GROUP BY upid, item
  )
SELECT
  program,
  event,
  runs,
  run_ns,
  CAST(round(iif(runs = 0, 0, runs * run_ns)) AS INTEGER) AS total_ns,
  upid
FROM programs
ORDER BY upid, program;

-- What a hit of the handlers costs that run for every operator and barrier: a row per process. Where stubs record
-- some of the calls, the mean.
CREATE PERFETTO TABLE _hit_cost(
  -- Way to the handler and back, operator, in ns.
  operator_trap DOUBLE,
  -- Handler's own time, operator, in ns.
  operator_handler DOUBLE,
  -- Way to the handler and back, fused operator, in ns.
  fused_trap DOUBLE,
  -- Handler's own time, fused operator, in ns.
  fused_handler DOUBLE,
  -- Way to the handler and back, barrier, in ns.
  barrier_trap DOUBLE,
  -- Handler's own time, barrier, in ns.
  barrier_handler DOUBLE,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  totals AS (
    SELECT
      upid,
      handler,
      -- One row's mean does without the number of hits.
      iif(count() OVER (PARTITION BY upid, handler) = 1, 1, hits) AS hits,
      trap_ns,
      handler_ns
    FROM profinfer_handler
  ),
  means AS (
    SELECT
      upid,
      handler,
      -- What is not known of some hits is not known of their mean.
      iif(max(hits != 0 AND trap_ns IS NULL), NULL, sum(hits * trap_ns) / nullif(sum(hits), 0))
        AS trap_ns,
      iif(
        max(hits != 0 AND handler_ns IS NULL),
        NULL,
        sum(hits * handler_ns) / nullif(sum(hits), 0)
      ) AS handler_ns
    FROM totals
    GROUP BY upid, handler
  )
SELECT
  max(iif(handler = 'on_operator', trap_ns, NULL)) AS operator_trap,
  max(iif(handler = 'on_operator', handler_ns, NULL)) AS operator_handler,
  max(iif(handler = 'on_fused', trap_ns, NULL)) AS fused_trap,
  max(iif(handler = 'on_fused', handler_ns, NULL)) AS fused_handler,
  max(iif(handler = 'on_barrier', trap_ns, NULL)) AS barrier_trap,
  max(iif(handler = 'on_barrier', handler_ns, NULL)) AS barrier_handler,
  p.upid
FROM _recorded_process AS p
LEFT JOIN means AS h
  USING (upid)
GROUP BY p.upid
ORDER BY p.upid;

-- Time of these many hits in ns: NULL only where one is needed that was not measured.
CREATE PERFETTO FUNCTION _hits_dur(
  -- Hits at operators.
  operators LONG,
  -- What one costs.
  operator_ns DOUBLE,
  -- Hits at fused operators.
  fused LONG,
  -- What one costs.
  fused_ns DOUBLE,
  -- Hits at barriers.
  barriers LONG,
  -- What one costs.
  barrier_ns DOUBLE
)
-- Their sum.
RETURNS DURATION AS
SELECT
  CAST(
    round(
      iif($operators = 0, 0, $operators * $operator_ns)
      + iif($fused = 0, 0, $fused * $fused_ns)
      + iif($barriers = 0, 0, $barriers * $barrier_ns)
    )
    AS INTEGER
  );
