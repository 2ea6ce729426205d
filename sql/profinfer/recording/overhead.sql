-- The recording's own cost within graphs: hits on each thread, and the time that they took.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.runs;
INCLUDE PERFETTO MODULE profinfer.recording.handlers;

-- Hits on each thread within each graph run, counted by the slices in the trace: the probes at
-- operators and barriers, not those at graphs and micro-batches.
CREATE PERFETTO TABLE profinfer_overhead(
  -- Graph run.
  graph_id LONG,
  -- Thread.
  utid JOINID(thread.id),
  -- Micro-batch around the graph, NULL outside any.
  ubatch_id LONG,
  -- Operators that it began, fused ones left out.
  operators LONG,
  -- Fused operators that it began.
  fused LONG,
  -- Barriers that it entered, those inside operators among them.
  barriers LONG,
  -- Time for the kernel's way to the handlers and back.
  trap_dur DURATION,
  -- Time in the handlers.
  handler_dur DURATION,
  -- Time of all these hits: both.
  dur DURATION,
  -- False when slices may be missing: records may have been lost, or a filter left them out.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  -- Grouped before anything is joined: Trace Processor then needs no sorting of its own.
  runs AS MATERIALIZED (
    SELECT
      graph_id,
      utid,
      upid,
      count() AS slices,
      sum(
        arg_set_id IN (
          SELECT
            arg_set_id
          FROM _operator_kind
          WHERE fused_tensor_id IS NOT NULL
        )
      ) AS fused,
      -- A wait that was recorded is never 0 long (and -1 when it did not end).
      coalesce(sum(wait_dur != 0), 0) AS waits,
      min(complete) AS complete
    FROM profinfer_operator_slice
    GROUP BY graph_id, utid
  ),
  inside AS MATERIALIZED (
    SELECT
      e.graph_id,
      e.utid,
      sum(i.hits) AS hits
    FROM (
      SELECT
        o.parent_id,
        count() AS hits
      FROM _inside_event AS b
      JOIN _operator_event AS o
        ON o.id = b.operator_slice_id
      GROUP BY o.parent_id
    ) AS i
    JOIN _graph_event AS e
      ON e.id = i.parent_id
    GROUP BY e.graph_id, e.utid
  ),
  filtered AS (
    SELECT
      upid
    FROM _recording_arg
    WHERE key GLOB 'config.operator_names[[]*' OR key GLOB 'config.operator_ops[[]*'
  ),
  counts AS (
    SELECT
      r.graph_id,
      r.utid,
      r.upid,
      r.slices - r.fused AS operators,
      r.fused,
      r.waits + coalesce(i.hits, 0) AS barriers,
      r.complete
    FROM runs AS r
    LEFT JOIN inside AS i
      USING (graph_id, utid)
  ),
  costs AS (
    SELECT
      n.*,
      _hits_dur(
        n.operators, c.operator_trap, n.fused, c.fused_trap, n.barriers, c.barrier_trap
      ) AS trap_dur,
      _hits_dur(
        n.operators, c.operator_handler, n.fused, c.fused_handler, n.barriers, c.barrier_handler
      ) AS handler_dur
    FROM counts AS n
    LEFT JOIN _hit_cost AS c
      ON c.upid = n.upid
  )
SELECT
  c.graph_id,
  c.utid,
  g.ubatch_id,
  c.operators,
  c.fused,
  c.barriers,
  c.trap_dur,
  c.handler_dur,
  c.trap_dur + c.handler_dur AS dur,
  c.complete AND g.complete AND NOT c.upid IN filtered AS complete,
  c.upid
FROM costs AS c
JOIN profinfer_graph AS g
  USING (graph_id)
ORDER BY c.graph_id, c.utid;
