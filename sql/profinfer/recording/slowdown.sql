-- By how much the recording makes decoding slower.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.recording.losses;
INCLUDE PERFETTO MODULE profinfer.recording.metadata;
INCLUDE PERFETTO MODULE profinfer.recording.overhead;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;

-- What the recording cost in the decoding steps that are complete, on one of the threads that carry their
-- hits at the same time: the mean over the threads of each graph.
CREATE PERFETTO TABLE _decoding_overhead(
  -- Process.
  upid JOINID(process.id),
  -- Steps.
  steps LONG,
  -- Their tokens.
  tokens DOUBLE,
  -- Most threads that worked on a graph.
  threads LONG,
  -- How long the steps took.
  dur DURATION,
  -- Hits.
  hits DOUBLE,
  -- Ways to the handlers and back, in ns; NULL where they were not measured.
  trap_dur DOUBLE,
  -- The handlers' own time, in ns.
  handler_dur DOUBLE,
  -- Waiting for a CPU that the recorder had, in ns, at most.
  displaced_dur DOUBLE,
  -- Steps that are in none of these, and graphs and micro-batches that may be missing.
  incomplete LONG
) AS
WITH
  graphs AS (
    SELECT
      upid,
      ubatch_id,
      1.0 * sum(operators + fused + barriers) / count() AS hits,
      1.0 * sum(trap_dur) / count() AS trap_dur,
      1.0 * sum(handler_dur) / count() AS handler_dur,
      count() AS threads,
      min(complete) AS complete
    FROM profinfer_overhead
    GROUP BY graph_id
  ),
  costs AS (
    SELECT
      upid,
      ubatch_id,
      sum(hits) AS hits,
      sum(trap_dur) AS trap_dur,
      sum(handler_dur) AS handler_dur,
      max(threads) AS threads,
      min(complete) AS complete
    FROM graphs
    GROUP BY upid, ubatch_id
  ),
  -- Several sequences may be decoded in one step.
  steps AS (
    SELECT
      t.ubatch_id,
      u.tokens,
      max(t.tpot) AS dur,
      min(t.complete) AS complete
    FROM profinfer_token AS t
    JOIN profinfer_ubatch AS u
      USING (ubatch_id)
    WHERE u.phase = 'decode'
    GROUP BY t.ubatch_id
  ),
  totals AS (
    SELECT
      c.upid,
      sum(s.complete AND c.complete) AS steps,
      1.0 * sum(iif(s.complete AND c.complete, s.tokens, NULL)) AS tokens,
      max(c.threads) AS threads,
      sum(iif(s.complete AND c.complete, s.dur, NULL)) AS dur,
      sum(iif(s.complete AND c.complete, c.hits, NULL)) AS hits,
      sum(iif(s.complete AND c.complete, c.trap_dur, NULL)) AS trap_dur,
      sum(iif(s.complete AND c.complete, c.handler_dur, NULL)) AS handler_dur,
      sum(NOT (s.complete AND c.complete))
      + profinfer_unknown_graphs(c.upid)
      + profinfer_doubtful_phases(c.upid)
      + profinfer_lost(c.upid, 'ubatch_begin') AS incomplete
    FROM steps AS s
    JOIN costs AS c
      USING (ubatch_id)
    GROUP BY c.upid
  ),
  -- The recorder takes the place of a thread where no CPU is idle.
  recorder AS (
    SELECT
      upid,
      1e9 * min(
        CAST(max(iif(key = 'recorder_cpu_s', nullif(value, 'none'), NULL)) AS REAL),
        CAST(max(iif(key = 'threads_waited_s', nullif(value, 'none'), NULL)) AS REAL)
      )
      / nullif(CAST(max(iif(key = 'drained', value, NULL)) AS INTEGER), 0) AS ns_per_record
    FROM profinfer_recording
    WHERE upid IN (SELECT upid FROM _recorded_process WHERE recordings = 1)
    GROUP BY upid
  )
SELECT
  t.upid,
  t.steps,
  t.tokens,
  t.threads,
  t.dur,
  t.hits,
  t.trap_dur,
  t.handler_dur,
  t.hits * t.threads * r.ns_per_record AS displaced_dur,
  t.incomplete
FROM totals AS t
LEFT JOIN recorder AS r
  USING (upid)
ORDER BY t.upid;
