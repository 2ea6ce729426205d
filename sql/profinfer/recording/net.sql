-- What of operators' time is the recording's own, so that the rest, *net*, is the engine's.
--
-- A hit delays its thread between two records: by what follows its own record, and by what comes before the
-- next one. An operator's slice begins within its own hit and its work ends within the next one: at
-- the barrier after it or, without barriers, at the thread's next operator. So of its own hit the part before the
-- record lies before the slice, and the same part of the next hit within: they are taken to be as long, which
-- they are where both trap. Hits at barriers inside it are within from end to end. What a hit does to the
-- engine's caches is in its cost, since that was measured among work (bpf/recorder/hit_pairs.h).

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.work;
INCLUDE PERFETTO MODULE profinfer.recording.handlers;

-- What the probes cost each distinct operator.
CREATE PERFETTO TABLE profinfer_operator_cost(
  -- Arguments of its slices, with the description.
  arg_set_id ARGSETID,
  -- Barriers inside it, per run and thread: of a complete run.
  inside DOUBLE,
  -- Time of the hits in its work in ns, per run and thread; NULL where it is not known.
  hits_ns DOUBLE,
  -- Time of the hits on one thread from the start of a run to its end in ns: with the one at the barrier after it.
  run_ns DOUBLE,
  -- Why it is not known.
  reason STRING,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  doubtful AS MATERIALIZED (
    SELECT
      g.graph_id
    FROM _incomplete_work AS i
    CROSS JOIN _operator_work AS w
      USING (id)
    JOIN _graph_event AS g
      ON g.id = w.parent_id
  ),
  -- One graph of each structure tells of all its operators.
  graphs AS MATERIALIZED (
    SELECT
      min(graph_id) AS graph_id
    FROM profinfer_graph
    WHERE complete AND structure_id IS NOT NULL AND NOT graph_id IN (SELECT graph_id FROM doubtful)
    GROUP BY structure_id
  ),
  firsts AS MATERIALIZED (
    SELECT DISTINCT
      w.run
    FROM graphs AS f
    CROSS JOIN _graph_event AS g
      USING (graph_id)
    CROSS JOIN _operator_work AS w
      ON w.parent_id = g.id
  ),
  others AS MATERIALIZED (
    SELECT arg_set_id FROM _operator_kind
    EXCEPT
    SELECT run & 0xFFFFFFFF FROM firsts
  ),
  -- Where records were lost, or structures are unknown, all are looked at.
  picked AS MATERIALIZED (
    SELECT run FROM firsts
    UNION ALL
    SELECT
      min(w.run) AS run
    FROM (SELECT 1 WHERE EXISTS(SELECT 1 FROM others))
    CROSS JOIN _operator_work AS w
    WHERE
      w.run & 0xFFFFFFFF IN (SELECT arg_set_id FROM others)
      AND NOT w.run IN (SELECT run FROM _incomplete_run)
    GROUP BY w.run & 0xFFFFFFFF
  ),
  runs AS MATERIALIZED (
    SELECT
      w.run,
      count() AS thread_count,
      max(w.end_ts > w.arrival) AS has_wait
    FROM picked AS p
    CROSS JOIN _operator_work AS w
      USING (run)
    GROUP BY w.run
  ),
  spans AS MATERIALIZED (
    SELECT
      min(ts) AS ts,
      max(iif(dur < 0, trace_end(), ts + dur)) AS end_ts
    FROM _graph_event
    WHERE graph_id IN (SELECT run >> 32 FROM picked)
    GROUP BY graph_id
  ),
  -- Arrivals are in order of time: those of these graphs are found without reading all.
  inside AS MATERIALIZED (
    SELECT
      w.run,
      count() AS barriers
    FROM (
      -- Graphs of several processes may be of the same time.
      SELECT DISTINCT
        i.operator_slice_id,
        i.ts
      FROM spans AS f
      CROSS JOIN _inside_event AS i
        ON i.ts >= f.ts AND i.ts < f.end_ts
    ) AS i
    CROSS JOIN _operator_work AS w
      ON w.id = i.operator_slice_id
    GROUP BY w.run
  ),
  -- Of the first run: the columns without an aggregate are of that one.
  seen AS MATERIALIZED (
    SELECT
      r.run & 0xFFFFFFFF AS arg_set_id,
      min(r.run) AS run,
      r.has_wait,
      coalesce(1.0 * i.barriers / r.thread_count, 0.0) AS inside
    FROM runs AS r
    LEFT JOIN inside AS i
      USING (run)
    GROUP BY 1
  ),
  rates AS MATERIALIZED (
    SELECT
      k.arg_set_id,
      k.upid,
      k.fused_tensor_id IS NOT NULL AS is_fused,
      s.has_wait,
      TRUE AS is_seen,
      s.inside
    FROM seen AS s
    CROSS JOIN _operator_kind AS k
      USING (arg_set_id)
    UNION ALL
    SELECT
      arg_set_id,
      upid,
      fused_tensor_id IS NOT NULL AS is_fused,
      FALSE AS has_wait,
      FALSE AS is_seen,
      NULL AS inside
    FROM _operator_kind
    WHERE NOT arg_set_id IN (SELECT arg_set_id FROM seen)
  ),
  readers AS (
    SELECT
      upid
    FROM _recording_arg
    WHERE event = 'recording started' AND key = 'config.experts' AND value IN ('1', 'true')
  ),
  unended AS (
    SELECT upid FROM _recorded_process
    EXCEPT
    SELECT upid FROM _recording_arg WHERE event = 'recording ended'
  ),
  costs AS (
    SELECT
      r.arg_set_id,
      r.inside,
      coalesce(r.upid, c.upid) AS upid,
      iif(r.is_fused, c.fused_trap + c.fused_handler, c.operator_trap + c.operator_handler)
      + iif(r.inside = 0, 0.0, r.inside * (c.barrier_trap + c.barrier_handler)) AS hits_ns,
      iif(r.has_wait, c.barrier_trap + c.barrier_handler, 0.0) AS wait_ns,
      CASE
        WHEN NOT c.upid IN (SELECT upid FROM _recorded_process WHERE recordings = 1)
        THEN 'the process was recorded several times, and hits cost differently each time'
        WHEN NOT r.is_fused AND c.upid IN (SELECT upid FROM readers)
        THEN 'hits at operators also read experts, some of them'
        WHEN NOT r.is_seen
        THEN 'no run of it is complete'
        WHEN
          iif(r.is_fused, c.fused_trap, c.operator_trap) IS NULL
          OR r.inside > 0 AND c.barrier_trap IS NULL
        THEN 'what a hit costs there was not measured'
        WHEN c.upid IN (SELECT upid FROM unended)
        THEN 'the end of the recording is missing, with the handlers'' time'
        WHEN
          iif(r.is_fused, c.fused_handler, c.operator_handler) IS NULL
          OR r.inside > 0 AND c.barrier_handler IS NULL
        THEN 'the kernel did not count the handlers'' time'
      END AS reason
    FROM rates AS r
    LEFT JOIN _hit_cost AS c
      ON coalesce(c.upid = r.upid, TRUE)
  )
SELECT
  arg_set_id,
  inside,
  iif(reason IS NULL, hits_ns, NULL) AS hits_ns,
  iif(reason IS NULL, hits_ns + wait_ns, NULL) AS run_ns,
  reason,
  upid
FROM costs
ORDER BY arg_set_id;

-- Views look them up run by run.
CREATE PERFETTO INDEX _operator_cost_arg_set_id ON profinfer_operator_cost(arg_set_id);

-- A time without hits: never less than nothing, of which the cost's own spread could make it.
CREATE PERFETTO MACRO _net(
  -- Time in ns.
  dur Expr,
  -- Time of the hits within it, NULL for unknown.
  hits_ns Expr
)
RETURNS Expr AS
cast_int!(max(0.0, round($dur - $hits_ns)));

-- A sum of which each part is known.
CREATE PERFETTO MACRO _whole(
  -- The parts.
  part Expr
)
RETURNS Expr AS
iif(count() = count($part), sum($part), NULL);

-- What rows are ordered and divided by: net time where that of each row of a process is known.
CREATE PERFETTO MACRO _told(
  -- Net time of a row, NULL for unknown.
  net_dur Expr,
  -- The same gross.
  dur Expr
)
RETURNS Expr AS
iif(min($net_dur IS NOT NULL) OVER (PARTITION BY upid), $net_dur, $dur);

-- How much of a time is the probes'.
CREATE PERFETTO MACRO _probes_percent(
  -- Time.
  dur Expr,
  -- The same net, NULL for unknown.
  net_dur Expr
)
RETURNS Expr AS
round(100.0 * ($dur - $net_dur) / nullif($dur, 0), 1);

-- What one hit after the other takes in the work of an operator, on one thread.
CREATE PERFETTO MACRO _work_hits(
  -- Arguments of its slices.
  arg_set_id Expr,
  -- Process.
  upid Expr
)
RETURNS Expr AS
(SELECT c.hits_ns FROM profinfer_operator_cost AS c WHERE c.arg_set_id = $arg_set_id AND c.upid = $upid);

-- The same until the end of its run.
CREATE PERFETTO MACRO _run_hits(
  -- Arguments of its slices.
  arg_set_id Expr,
  -- Process.
  upid Expr
)
RETURNS Expr AS
(SELECT c.run_ns FROM profinfer_operator_cost AS c WHERE c.arg_set_id = $arg_set_id AND c.upid = $upid);
