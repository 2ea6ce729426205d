-- The recording's own cost within graphs: hits on each thread, and the time that they took.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.threads;
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
  fused AS MATERIALIZED (
    SELECT
      parent_id,
      count() AS slices
    FROM _operator_event
    WHERE
      arg_set_id IN (
        SELECT
          arg_set_id
        FROM _operator_kind
        WHERE fused_tensor_id IS NOT NULL
      )
    GROUP BY parent_id
  ),
  inside AS MATERIALIZED (
    SELECT
      o.parent_id,
      count() AS hits
    FROM _inside_event AS i
    CROSS JOIN _operator_event AS o
      ON o.id = i.operator_slice_id
    GROUP BY o.parent_id
  ),
  filtered AS (
    SELECT
      upid
    FROM _recording_arg
    WHERE key GLOB 'config.operator_names[[]*' OR key GLOB 'config.operator_ops[[]*'
  ),
  counts AS (
    SELECT
      w.graph_id,
      w.utid,
      w.upid,
      w.slices - coalesce(f.slices, 0) AS operators,
      coalesce(f.slices, 0) AS fused,
      w.waits + coalesce(i.hits, 0) AS barriers,
      w.incomplete = 0 AS complete
    FROM _thread_work AS w
    LEFT JOIN fused AS f
      ON f.parent_id = w.id
    LEFT JOIN inside AS i
      ON i.parent_id = w.id
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
