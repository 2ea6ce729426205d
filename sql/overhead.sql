-- What did the recording itself cost, and how much slower did it make the engine?
-- Costs were measured on this machine while recording; NULL where they were not (traces of older
-- recorders; without the end of the recording the handlers' run time and the exact hits are
-- missing). Hits at graphs and micro-batches, a few per token, are in the first and last table only.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.sums;
INCLUDE PERFETTO MODULE profinfer.recording.handlers;
INCLUDE PERFETTO MODULE profinfer.recording.losses;
INCLUDE PERFETTO MODULE profinfer.recording.metadata;
INCLUDE PERFETTO MODULE profinfer.recording.net;
INCLUDE PERFETTO MODULE profinfer.recording.overhead;
INCLUDE PERFETTO MODULE profinfer.recording.processes;
INCLUDE PERFETTO MODULE profinfer.recording.slowdown;

-- title: Hits of each handler (ns per hit; hits are exact, even where records were lost)
-- rows: 10
SELECT
  profinfer_process_label(upid) AS process,
  handler,
  symbol,
  via,
  site,
  hits,
  round(trap_ns, 1) AS trap_ns,
  round(handler_ns, 1) AS handler_ns,
  round(hit_ns, 1) AS hit_ns,
  round(total_ns / 1e6, 2) AS total_ms
FROM profinfer_handler
ORDER BY upid, total_ns DESC, handler;

-- The threads carry their hits at the same time, so that a step becomes longer by what one of
-- them carries: the mean over the threads of a graph. Without the recording a step would have
-- taken token_us - overhead_us: slowdown_percent is the share of the speed that is lost.
-- displaced_us: the recorder takes the place of a thread where no CPU is idle, and the others wait
-- for that one. For how long at the most is known: for as long as it ran, and for as long as the
-- threads together stood in line for a CPU, whoever ran there. Of the lesser of the two, each token
-- bears the part of its records.

-- title: Predicted slowdown of decoding (per token and thread)
SELECT
  profinfer_process_label(upid) AS process,
  steps,
  threads,
  round(hits / tokens, 1) AS hits,
  round(trap_dur / tokens / 1e3, 1) AS trap_us,
  round(handler_dur / tokens / 1e3, 1) AS handler_us,
  round(displaced_dur / tokens / 1e3, 1) AS displaced_us,
  round((trap_dur + handler_dur + displaced_dur) / tokens / 1e3, 1) AS overhead_us,
  round(dur / tokens / 1e3, 1) AS token_us,
  round(100.0 * (trap_dur + handler_dur + displaced_dur) / dur, 2) AS slowdown_percent,
  incomplete
FROM _decoding_overhead
ORDER BY upid;

-- title: Overhead by thread while decoding (ms in all)
SELECT
  profinfer_process_label(s.upid) AS process,
  t.tid,
  t.name AS thread,
  s.graphs,
  s.hits,
  round(s.trap_dur / 1e6, 3) AS trap_ms,
  round(s.handler_dur / 1e6, 3) AS handler_ms,
  round(s.dur / 1e6, 3) AS overhead_ms,
  s.incomplete
FROM (
  SELECT
    o.upid,
    o.utid,
    sum(o.complete) AS graphs,
    sum(iif(o.complete, o.operators + o.fused + o.barriers, 0)) AS hits,
    sum(iif(o.complete, o.trap_dur, NULL)) AS trap_dur,
    sum(iif(o.complete, o.handler_dur, NULL)) AS handler_dur,
    sum(iif(o.complete, o.dur, NULL)) AS dur,
    sum(NOT o.complete)
    + profinfer_unknown_graphs(o.upid)
    + profinfer_doubtful_phases(o.upid)
    + profinfer_lost(o.upid, 'operator')
    + profinfer_lost(o.upid, 'fused') AS incomplete
  FROM profinfer_overhead AS o
  JOIN profinfer_ubatch AS u
    USING (ubatch_id)
  WHERE u.phase = 'decode'
  GROUP BY o.utid
) AS s
JOIN thread AS t
  USING (utid)
ORDER BY s.upid, s.dur DESC, t.tid;

-- title: Overhead in the work of operators while decoding (the first 30 by share)
-- rows: 10
WITH
  runs AS MATERIALIZED (
    SELECT
      upid,
      arg_set_id,
      runs,
      slices,
      busy_dur,
      incomplete
    FROM _operator_sum
    WHERE phase = 'decode'
  ),
  summed AS (
    SELECT
      r.upid,
      min(coalesce(k.label, k.name)) AS name,
      k.op,
      sum(r.runs) AS runs,
      round(sum(r.slices * (1 + c.inside)) / nullif(sum(r.slices), 0), 2) AS hits_per_run,
      round(sum(r.slices * c.hits_ns) / 1e6, 3) AS overhead_ms,
      round(sum(r.busy_dur) / 1e6, 3) AS work_ms,
      round(100.0 * sum(r.slices * c.hits_ns) / nullif(sum(r.busy_dur), 0), 1) AS percent,
      sum(r.incomplete) AS incomplete
    FROM runs AS r
    JOIN profinfer_operator_cost AS c
      ON c.arg_set_id = r.arg_set_id AND c.upid = r.upid
    LEFT JOIN _operator_kind AS k
      ON k.arg_set_id = r.arg_set_id
    GROUP BY r.upid, k.operator_id
  ),
  ranked AS (
    SELECT
      *,
      row_number() OVER (
        PARTITION BY upid ORDER BY percent DESC, overhead_ms DESC, name
      ) AS rank
    FROM summed
  )
SELECT
  profinfer_process_label(upid) AS process,
  name,
  op,
  runs,
  hits_per_run,
  overhead_ms,
  work_ms,
  percent,
  incomplete + profinfer_unknown_graphs(upid) + profinfer_doubtful_phases(upid) AS incomplete
FROM ranked
WHERE rank <= 30
ORDER BY upid, rank;

-- Beside the probes in the engine: the scheduler's tracepoints, page faults and reads. They run for
-- every process, and only a part of that delays the engine. cpu_percent: of one CPU.

-- title: Programs at the kernel's own events (all processes and CPUs)
SELECT
  profinfer_process_label(p.upid) AS process,
  program,
  event,
  runs,
  round(run_ns, 1) AS run_ns,
  round(total_ns / 1e6, 2) AS total_ms,
  round(
    100.0 * total_ns / 1e9
    / (
      SELECT
        CAST(max(iif(key = 'seconds', value, NULL)) AS REAL)
      FROM profinfer_recording AS r
      WHERE r.upid = p.upid
    ),
    3
  ) AS cpu_percent
FROM profinfer_event_program AS p
ORDER BY p.upid, total_ns DESC, program;

-- CPU load P.: the handlers' run time, of all threads, over the recording's time on the most
-- threads that worked on one graph. The second figure leaves out what an empty handler is counted
-- with. left_out counts the handlers that are in neither, since their runs or run time are not
-- known: those at graphs and calls, and what never ran while the kernel counted. Where records of the
-- engine were lost there may have been more threads than are seen: how many records is in the last column.
-- recorder_percent: the recorder's own CPU time, from attaching on, of one CPU.

-- title: CPU load of the handlers
SELECT
  profinfer_process_label(r.upid) AS process,
  r.seconds,
  r.threads,
  round(h.run_ns / 1e6, 2) AS run_ms,
  round(100.0 * h.run_ns / 1e9 / (r.seconds * r.threads), 3) AS cpu_load_percent,
  round(100.0 * h.handler_ns / 1e9 / (r.seconds * r.threads), 3) AS over_empty_percent,
  h.left_out,
  round(100.0 * r.recorder_s / r.seconds, 2) AS recorder_percent,
  _lost_records(r.upid) AS incomplete
FROM (
  SELECT
    s.upid,
    round(CAST(max(iif(s.key = 'seconds', s.value, NULL)) AS REAL), 3) AS seconds,
    CAST(max(iif(s.key = 'recorder_cpu_s', s.value, NULL)) AS REAL) AS recorder_s,
    coalesce(
      (
        SELECT
          max(thread_count)
        FROM profinfer_graph
        WHERE graph_id IN (
          SELECT
            graph_id
          FROM profinfer_overhead
          WHERE upid = s.upid
        )
      ),
      CAST(max(iif(s.key = 'threads', s.value, NULL)) AS INTEGER)
    ) AS threads
  FROM profinfer_recording AS s
  WHERE s.upid IN (SELECT upid FROM _recorded_process WHERE recordings = 1)
  GROUP BY s.upid
) AS r
LEFT JOIN (
  SELECT
    upid,
    sum(hits * run_ns) AS run_ns,
    sum(hits * handler_ns) AS handler_ns,
    sum(hits IS NULL OR (hits != 0 AND run_ns IS NULL)) AS left_out
  FROM profinfer_handler
  GROUP BY upid
) AS h
  USING (upid)
ORDER BY r.upid;
