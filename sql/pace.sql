-- How fast did the tokens come, and what disturbed which of them?
-- Steps of a request in their order, up to 400 rows for a process: where there are more, a row is the mean
-- of so many steps that follow each other. tpot is the time from step to step, max_ms the longest of them.
-- disturbed_by: what kept threads from running for more than a tenth of the row's time: preempted, throttled
-- or faults, whichever longest (profinfer_ubatch_disturbance; needs level barrier and the scheduler).
-- Times are seconds since recording began. incomplete counts steps in which records may have been lost, and
-- those that were lost altogether.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.recording.processes;
INCLUDE PERFETTO MODULE profinfer.tokens.disturbances;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;
INCLUDE PERFETTO MODULE profinfer.tokens.steps;

-- title: Time per token over time
WITH
  strides AS MATERIALIZED (
    SELECT
      upid,
      (count() + 399) / 400 AS stride
    FROM profinfer_token
    GROUP BY upid
  ),
  parts AS (
    SELECT
      t.upid,
      t.request_id,
      min(t.step) AS step,
      min(t.ts) AS ts,
      count() AS steps,
      sum(t.tokens) AS tokens,
      sum(t.tpot) AS dur,
      max(t.tpot) AS max_dur,
      sum(d.preempted_dur) AS preempted,
      sum(d.throttled_dur) AS throttled,
      sum(d.fault_dur) AS faults,
      sum(NOT t.complete) AS incomplete
    FROM profinfer_token AS t
    JOIN strides AS s
      USING (upid)
    LEFT JOIN profinfer_ubatch_disturbance AS d
      ON d.ubatch_id = t.ubatch_id
    GROUP BY t.upid, t.request_id, (t.step - 1) / s.stride
  )
SELECT
  profinfer_process_label(p.upid) AS process,
  p.request_id AS request,
  p.step,
  round((p.ts - r.ts) / 1e9, 4) AS at_s,
  p.steps,
  p.tokens,
  round(p.dur / 1e6 / p.steps, 3) AS tpot_ms,
  round(p.max_dur / 1e6, 3) AS max_ms,
  iif(k.upid IS NULL, NULL, round(coalesce(p.preempted, 0) / 1e6, 3)) AS preempted_ms,
  iif(k.upid IS NULL, NULL, round(coalesce(p.throttled, 0) / 1e6, 3)) AS throttled_ms,
  iif(k.has_faults, round(coalesce(p.faults, 0) / 1e6, 3), NULL) AS faults_ms,
  CASE
    WHEN k.upid IS NULL OR p.preempted + p.throttled + p.faults <= p.dur / 10
    THEN NULL
    WHEN p.preempted >= max(p.throttled, p.faults)
    THEN 'preempted'
    WHEN p.throttled >= p.faults
    THEN 'throttled'
    WHEN p.faults > 0
    THEN 'faults'
  END AS disturbed_by,
  p.incomplete + _lost_steps(p.upid) AS incomplete
FROM parts AS p
JOIN _recorded_process AS r
  USING (upid)
LEFT JOIN _disturbance_known AS k
  USING (upid)
ORDER BY p.upid, p.request_id, p.step;

-- From the start of the first micro-batch of a request's prefill to the end of the last.

-- title: Prefills (the first 400)
WITH
  ranked AS (
    SELECT
      s.upid,
      s.request_id,
      min(s.ts) AS ts,
      max(s.ts + coalesce(s.dur, 0)) AS end_ts,
      sum(s.tokens) AS tokens,
      sum(NOT s.complete) AS incomplete,
      row_number() OVER (PARTITION BY s.upid ORDER BY s.request_id) AS rank
    FROM profinfer_sequence AS s
    WHERE s.phase IN ('encode', 'prefill') AND s.request_id IS NOT NULL
    GROUP BY s.upid, s.request_id
  )
SELECT
  profinfer_process_label(p.upid) AS process,
  p.request_id AS request,
  p.tokens,
  round((p.ts - r.ts) / 1e9, 4) AS from_s,
  round((p.end_ts - r.ts) / 1e9, 4) AS to_s,
  p.incomplete + _lost_steps(p.upid) AS incomplete
FROM ranked AS p
JOIN _recorded_process AS r
  USING (upid)
WHERE p.rank <= 400
ORDER BY p.upid, p.rank;
