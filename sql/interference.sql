-- Who took the CPU from the target's threads, for how long, and which operators and tokens came later?
-- Needs a recording of the scheduler (record --scheduler). A thread waits when it could run and
-- another one has its CPU: preempted, or not yet running after a wake-up or a yield. It matters
-- while the thread has work to do, which only a recording at level barrier tells: delay is by how
-- much later the last thread of an operator was done than it would have been, had each thread done
-- the work that it did. What others did in its place meanwhile is not in it. Other threads of the
-- target (own) compete when there are more threads than CPUs. A throttled thread is kept from
-- its CPU since its cgroup has used up its quota: whoever runs there meanwhile has taken nothing from it.
-- incomplete counts records that were lost and runs that are not certain.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.threads;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.recording.processes;
INCLUDE PERFETTO MODULE profinfer.scheduling.delays;
INCLUDE PERFETTO MODULE profinfer.scheduling.hindrances;
INCLUDE PERFETTO MODULE profinfer.scheduling.interference;
INCLUDE PERFETTO MODULE profinfer.scheduling.late_parts;
INCLUDE PERFETTO MODULE profinfer.scheduling.operators;
INCLUDE PERFETTO MODULE profinfer.scheduling.preemptions;
INCLUDE PERFETTO MODULE profinfer.scheduling.stalls;
INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;
INCLUDE PERFETTO MODULE profinfer.scheduling.waits;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;

-- title: In short
WITH
  threads AS (
    SELECT
      upid,
      max(threads) AS threads
    FROM (SELECT upid, count() AS threads FROM _graph_event GROUP BY graph_id)
    GROUP BY upid
  ),
  cpus AS (
    SELECT
      upid,
      count(DISTINCT ucpu) AS cpus
    FROM profinfer_thread_state
    WHERE kind = 'running'
    GROUP BY upid
  ),
  waits AS (
    SELECT
      upid,
      sum(dur) AS dur,
      sum(iif(is_own, dur, 0)) AS own_dur
    FROM _taker
    GROUP BY upid
  ),
  throttled AS (
    SELECT
      upid,
      sum(dur) AS dur,
      count() AS times
    FROM profinfer_thread_state
    WHERE kind = 'throttled'
    GROUP BY upid
  )
SELECT
  profinfer_process_label(t.upid) AS process,
  format(
    '%d compute threads on %d CPU%s: %.0f ms of %.0f ms of waiting were CPU taken by the engine''s '
    || 'own threads',
    t.threads,
    c.cpus,
    iif(c.cpus = 1, '', 's'),
    w.own_dur / 1e6,
    w.dur / 1e6
  ) AS what
FROM threads AS t
JOIN cpus AS c
  USING (upid)
JOIN waits AS w
  USING (upid)
WHERE w.own_dur >= 5e5
UNION ALL
SELECT
  profinfer_process_label(upid) AS process,
  format(
    'its threads were throttled %d times, %.0f ms in all: their cgroup had used up its quota',
    times,
    dur / 1e6
  ) AS what
FROM throttled;

-- title: Who took the CPU (the first 20)
-- rows: 10
WITH
  delays AS MATERIALIZED (
    SELECT
      p.upid,
      p.tid AS taker_tid,
      p.name AS taker_name,
      sum(d.dur) AS dur,
      sum(d.work_dur) AS work,
      count(DISTINCT iif(d.dur > 0, d.run, NULL)) AS operators,
      count(DISTINCT iif(d.dur > 0 AND u.phase = 'decode', u.ubatch_id, NULL)) AS tokens
    FROM _run_delay AS d
    CROSS JOIN _taker AS p
      USING (taker)
    LEFT JOIN profinfer_graph AS g
      ON g.graph_id = d.run >> 32
    LEFT JOIN profinfer_ubatch AS u
      USING (ubatch_id)
    GROUP BY p.upid, p.tid, p.name
  ),
  taken AS MATERIALIZED (
    SELECT
      upid,
      name AS taker_name,
      tid AS taker_tid,
      process AS taker_process,
      is_own,
      sum(times) AS times,
      sum(dur) AS dur,
      max(max_dur) AS max_dur
    FROM _taker
    GROUP BY upid, tid, name
  ),
  takers AS (
    SELECT
      t.*,
      coalesce(d.work, 0) AS work,
      coalesce(d.dur, 0) AS delay,
      coalesce(d.operators, 0) AS operators,
      coalesce(d.tokens, 0) AS tokens,
      _has_barriers(t.upid) AS has_barriers
    FROM taken AS t
    LEFT JOIN delays AS d
      ON d.upid = t.upid AND d.taker_tid IS t.taker_tid AND d.taker_name IS t.taker_name
  ),
  ranked AS (
    SELECT
      *,
      row_number() OVER (
        PARTITION BY upid
        ORDER BY
          iif(has_barriers, round(delay / 1e6, 2), NULL) DESC,
          round(dur / 1e6, 2) DESC,
          taker_tid
      ) AS rank
    FROM takers
  )
SELECT
  profinfer_process_label(upid) AS taken_from,
  coalesce(taker_name, '(not recorded)') AS thread,
  taker_tid AS tid,
  taker_process AS process,
  is_own AS own,
  times,
  round(dur / 1e6, 2) AS taken_ms,
  round(max_dur / 1e6, 2) AS longest_ms,
  iif(has_barriers, round(work / 1e6, 2), NULL) AS in_work_ms,
  iif(has_barriers, round(delay / 1e6, 2), NULL) AS delay_ms,
  iif(has_barriers, operators, NULL) AS operators,
  iif(has_barriers, tokens, NULL) AS tokens,
  profinfer_scheduling_doubts(upid) AS incomplete
FROM ranked
WHERE rank <= 20
ORDER BY upid, rank;

-- title: Operators that came later (the first 30)
-- rows: 10
WITH
  causes AS MATERIALIZED (
    SELECT
      k.operator_id,
      p.name AS taker_name,
      row_number() OVER (
        PARTITION BY k.operator_id ORDER BY sum(d.dur) DESC, p.name
      ) AS rank
    FROM _run_delay AS d
    CROSS JOIN _taker AS p
      USING (taker)
    CROSS JOIN _operator_kind AS k
      ON k.arg_set_id = d.run & 0xFFFFFFFF
    WHERE d.dur IS NOT NULL
    GROUP BY k.operator_id, p.name
  ),
  runs AS MATERIALIZED (
    SELECT
      cast_int!(run & 0xFFFFFFFF) AS arg_set_id,
      sum(dur) AS dur
    FROM _run_delay
    WHERE dur IS NOT NULL
    GROUP BY run
  ),
  late AS (
    SELECT
      arg_set_id,
      sum(dur > 0) AS runs,
      sum(dur) AS dur,
      max(dur) AS max_dur,
      sum(throttled_dur) AS throttled_dur
    FROM (
      SELECT
        arg_set_id,
        dur,
        0 AS throttled_dur
      FROM runs
      UNION ALL
      SELECT
        arg_set_id,
        0 AS dur,
        throttled_dur
      FROM _late_part
      WHERE throttled_dur > 0
    )
    GROUP BY arg_set_id
  ),
  ranked AS (
    SELECT
      k.upid,
      k.operator_id,
      k.label AS name,
      k.op,
      sum(r.runs) AS runs,
      sum(r.dur) AS dur,
      max(r.max_dur) AS max_dur,
      sum(r.throttled_dur) AS throttled_dur,
      row_number() OVER (
        PARTITION BY k.upid ORDER BY round(sum(r.dur + r.throttled_dur) / 1e6, 3) DESC, k.label
      ) AS rank
    FROM late AS r
    JOIN _operator_kind AS k
      USING (arg_set_id)
    WHERE k.operator_id IS NOT NULL AND (r.dur > 0 OR r.throttled_dur > 0)
    GROUP BY k.operator_id
  )
SELECT
  profinfer_process_label(r.upid) AS process,
  r.name,
  r.op,
  r.runs,
  round(r.dur / 1e6, 3) AS delay_ms,
  round(r.max_dur / 1e6, 3) AS longest_ms,
  round(r.throttled_dur / 1e6, 3) AS throttled_ms,
  iif(c.rank IS NULL, NULL, coalesce(c.taker_name, '(not recorded)')) AS mostly_by,
  profinfer_scheduling_doubts(r.upid) AS incomplete
FROM ranked AS r
LEFT JOIN causes AS c
  ON c.operator_id = r.operator_id AND c.rank = 1
WHERE r.rank <= 30
ORDER BY r.upid, r.rank;

-- outside: what the thread that decodes waited for a CPU while it was in no graph, as while it
-- sampled. throttled: by how much it was later since threads were throttled, and how long the thread that
-- decodes was so in no graph. mostly_by: of the delay.

-- title: Tokens that came later (the first 30)
-- rows: 10
WITH
  steps AS MATERIALIZED (
    SELECT
      row_number() OVER () AS id,
      t.request_id,
      t.slice_id,
      t.step,
      t.position,
      t.ts,
      t.tpot AS dur,
      t.ubatch_id,
      t.complete,
      t.upid,
      u.utid
    FROM profinfer_token AS t
    JOIN profinfer_ubatch AS u
      USING (ubatch_id)
    WHERE t.tpot > 0
  ),
  waits AS MATERIALIZED (
    SELECT
      i.id_0 AS id,
      sum(i.dur) AS dur
    FROM _interval_intersect!(
      (steps, (SELECT state_id AS id, ts, dur, utid FROM _cpu_wait)),
      (utid)
    ) AS i
    GROUP BY i.id_0
  ),
  graphs AS MATERIALIZED (
    SELECT
      g.graph_id AS id,
      g.ts,
      g.dur,
      g.utid
    FROM profinfer_graph AS g
    WHERE g.dur > 0
  ),
  inside AS MATERIALIZED (
    SELECT
      g.ubatch_id,
      sum(i.dur) AS dur
    FROM _interval_intersect!(
      (graphs, (SELECT state_id AS id, ts, dur, utid FROM _cpu_wait)),
      (utid)
    ) AS i
    JOIN profinfer_graph AS g
      ON g.graph_id = i.id_0
    GROUP BY g.ubatch_id
  ),
  throttled AS MATERIALIZED (
    SELECT
      id,
      ts,
      dur,
      utid
    FROM profinfer_thread_state
    WHERE kind = 'throttled'
  ),
  throttled_steps AS MATERIALIZED (
    SELECT
      id_0 AS id,
      sum(dur) AS dur
    FROM _interval_intersect!((steps, throttled), (utid))
    GROUP BY id_0
  ),
  throttled_inside AS MATERIALIZED (
    SELECT
      g.ubatch_id,
      sum(i.dur) AS dur
    FROM _interval_intersect!((graphs, throttled), (utid)) AS i
    JOIN profinfer_graph AS g
      ON g.graph_id = i.id_0
    GROUP BY g.ubatch_id
  ),
  throttled_delays AS MATERIALIZED (
    SELECT
      g.ubatch_id,
      sum(l.throttled_dur) AS dur
    FROM _late_part AS l
    JOIN profinfer_graph AS g
      USING (graph_id)
    GROUP BY g.ubatch_id
  ),
  causes AS MATERIALIZED (
    SELECT
      g.ubatch_id,
      p.name AS taker_name,
      sum(d.dur) AS dur
    FROM _run_delay AS d
    CROSS JOIN _taker AS p
      USING (taker)
    JOIN profinfer_graph AS g
      ON g.graph_id = d.run >> 32
    WHERE d.dur IS NOT NULL
    GROUP BY g.ubatch_id, p.name
  ),
  doubtful AS MATERIALIZED (
    SELECT DISTINCT
      g.ubatch_id
    FROM _uncertain_run AS u
    JOIN profinfer_graph AS g
      USING (graph_id)
    WHERE g.ubatch_id IS NOT NULL
  ),
  delays AS (
    SELECT
      s.*,
      iif(
        _has_barriers(s.upid),
        coalesce((SELECT sum(c.dur) FROM causes AS c WHERE c.ubatch_id = s.ubatch_id), 0),
        NULL
      ) AS delay,
      coalesce(w.dur, 0) - coalesce(i.dur, 0) AS outside,
      iif(
        _has_barriers(s.upid),
        coalesce(x.dur, 0) - coalesce(n.dur, 0) + coalesce(l.dur, 0),
        NULL
      ) AS throttled
    FROM steps AS s
    LEFT JOIN waits AS w
      USING (id)
    LEFT JOIN inside AS i
      ON i.ubatch_id = s.ubatch_id
    LEFT JOIN throttled_steps AS x
      ON x.id = s.id
    LEFT JOIN throttled_inside AS n
      ON n.ubatch_id = s.ubatch_id
    LEFT JOIN throttled_delays AS l
      ON l.ubatch_id = s.ubatch_id
  ),
  ranked AS (
    SELECT
      *,
      row_number() OVER (
        PARTITION BY upid
        ORDER BY coalesce(delay, 0) + outside + coalesce(throttled, 0) DESC, request_id, step
      ) AS rank
    FROM delays
    WHERE coalesce(delay, 0) + outside + coalesce(throttled, 0) > 0
  )
SELECT
  profinfer_process_label(d.upid) AS process,
  d.request_id AS request,
  d.step,
  d.position,
  round(d.dur / 1e6, 3) AS tpot_ms,
  round(d.delay / 1e6, 3) AS delay_ms,
  round(d.outside / 1e6, 3) AS outside_ms,
  round(d.throttled / 1e6, 3) AS throttled_ms,
  (
    SELECT
      coalesce(c.taker_name, '(not recorded)')
    FROM causes AS c
    WHERE c.ubatch_id = d.ubatch_id
    ORDER BY c.dur DESC, c.taker_name
    LIMIT 1
  ) AS mostly_by,
  d.complete
  AND NOT d.ubatch_id IN (SELECT ubatch_id FROM doubtful)
  AND NOT EXISTS(
    SELECT
      1
    FROM _scheduler_doubt AS l
    WHERE l.upid = d.upid AND l.first_ts <= d.ts + d.dur AND l.ts >= d.ts
  ) AS complete,
  d.slice_id
FROM ranked AS d
WHERE d.rank <= 30
ORDER BY d.upid, d.rank;

-- title: Threads while they computed graphs (ms)
SELECT
  profinfer_process_label(s.upid) AS process,
  t.tid,
  t.name AS thread,
  round(sum(iif(s.complete, s.dur, NULL)) / 1e6, 2) AS graphs_ms,
  round(sum(iif(s.complete, s.running_dur, NULL)) / 1e6, 2) AS running_ms,
  round(sum(iif(s.complete, s.preempted_dur, NULL)) / 1e6, 2) AS preempted_ms,
  round(sum(iif(s.complete, s.throttled_dur, NULL)) / 1e6, 2) AS throttled_ms,
  round(sum(iif(s.complete, s.runnable_dur, NULL)) / 1e6, 2) AS runnable_ms,
  round(sum(iif(s.complete, s.futex_dur, NULL)) / 1e6, 2) AS futex_ms,
  round(sum(iif(s.complete, s.io_dur, NULL)) / 1e6, 2) AS io_ms,
  round(sum(iif(s.complete, s.fault_dur, NULL)) / 1e6, 2) AS fault_ms,
  round(sum(iif(s.complete, s.sleep_dur, NULL)) / 1e6, 2) AS sleep_ms,
  sum(NOT s.complete) + profinfer_scheduling_doubts(s.upid) AS incomplete
FROM profinfer_graph_scheduling AS s
JOIN _thread_row AS t
  USING (utid)
GROUP BY t.row
ORDER BY s.upid, running_ms DESC, t.tid;

-- title: What cannot be told, and why
SELECT
  profinfer_process_label(upid) AS process,
  reason
FROM profinfer_scheduling_gap;
