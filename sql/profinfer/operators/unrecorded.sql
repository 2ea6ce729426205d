-- Graphs of which no operator was recorded: what computes by itself is missing from every sum of operators.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.operators.work;

-- Recordings' processes, and why operators of all their graphs are missing.
CREATE PERFETTO TABLE _operators_asked(
  -- Process.
  upid JOINID(process.id),
  -- Whether operators were recorded, in each recording of it.
  has_operators BOOL,
  -- Whether only some of them were.
  is_filtered BOOL
) AS
SELECT
  upid,
  count(
    DISTINCT iif(key GLOB 'plan.probes*.handler' AND value IN ('on_operator', 'on_fused'), ts, NULL)
  )
  = count(DISTINCT iif(event = 'recording started', ts, NULL)) AS has_operators,
  max(key GLOB 'config.operator_names*' OR key GLOB 'config.operator_ops*') AS is_filtered
FROM _recording_arg
GROUP BY upid
ORDER BY upid;

-- Time of graphs by the backend that was asked to compute them, and of how much of it no operators are
-- recorded.
CREATE PERFETTO TABLE profinfer_unrecorded(
  -- Process.
  upid JOINID(process.id),
  -- Backend.
  backend STRING,
  -- Graphs.
  graphs LONG,
  -- Their time, NULL where the end of none was recorded. On a backend that works asynchronously it is
  -- the submission.
  dur DURATION,
  -- Those of which no operator was recorded, not even one of an unknown structure.
  unrecorded_graphs LONG,
  -- Their time.
  unrecorded_dur DURATION,
  -- Why there are such; NULL where there are none.
  reason STRING,
  -- Graphs in which records may have been lost.
  incomplete LONG
) AS
WITH
  computed AS MATERIALIZED (
    SELECT DISTINCT
      e.graph_id
    FROM _graph_event AS e
    WHERE
      EXISTS (
        SELECT
          1
        FROM _operator_work AS w
        WHERE w.parent_id = e.id
      )
  ),
  sums AS (
    SELECT
      g.upid,
      g.backend,
      count() AS graphs,
      sum(g.dur) AS dur,
      sum(c.graph_id IS NULL) AS unrecorded_graphs,
      coalesce(sum(iif(c.graph_id IS NULL, g.dur, NULL)), 0) AS unrecorded_dur,
      sum(c.graph_id IS NULL AND NOT g.complete) AS unrecorded_incomplete,
      sum(NOT g.complete) AS incomplete
    FROM profinfer_graph AS g
    LEFT JOIN computed AS c
      USING (graph_id)
    GROUP BY g.upid, g.backend
  )
SELECT
  s.upid,
  s.backend,
  s.graphs,
  s.dur,
  s.unrecorded_graphs,
  s.unrecorded_dur,
  CASE
    WHEN s.unrecorded_graphs = 0
    THEN NULL
    WHEN NOT coalesce(a.has_operators, TRUE)
    THEN 'operators were not recorded (record --level operator)'
    WHEN s.unrecorded_graphs = s.unrecorded_incomplete
    THEN 'records were lost'
    WHEN a.is_filtered
    THEN 'none of their operators was asked for, or the backend computes them by itself'
    WHEN s.backend = 'CPU'
    THEN 'nothing is computed in them, or not by a function that is probed'
    ELSE 'the backend computes operators by itself'
  END AS reason,
  s.incomplete
FROM sums AS s
LEFT JOIN _operators_asked AS a
  USING (upid)
ORDER BY s.upid, s.dur DESC;
