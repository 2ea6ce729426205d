-- What do the counters say of the operators?
-- Only of operators' work, by the threads that did it: without waits at barriers where these are
-- recorded (level barrier), and whoever else used the CPUs. total is an estimate where
-- counted_percent is below 100: the counter then shared its hardware with others. unread says how
-- many slices lack a reading at an end, and incomplete how many may be cut short: neither is in the
-- sums; per_run is the mean of the runs that have none of either. Lost records are those
-- of the probes in the engine, in the whole recording.

INCLUDE PERFETTO MODULE profinfer.counters.metrics;
INCLUDE PERFETTO MODULE profinfer.counters.readings;
INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.recording.losses;
INCLUDE PERFETTO MODULE profinfer.recording.metadata;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Counters by op
-- rows: 20
WITH
  -- A run is one operator of one graph, all threads together.
  summed AS (
    SELECT
      c.upid,
      k.op,
      c.counter_id,
      count() AS runs,
      sum(c.value) AS value,
      sum(c.cpu_dur) AS cpu_dur,
      sum(c.counted_dur) AS counted_dur,
      sum(c.unread) AS unread,
      sum(c.incomplete) AS incomplete,
      -- The mean is that of the runs of which nothing is missing.
      avg(
        iif(c.unread + c.incomplete = 0, c.value * c.cpu_dur / nullif(c.counted_dur, 0), NULL)
      ) AS per_run
    FROM _run_counter AS c
    LEFT JOIN _operator_kind AS k
      ON k.arg_set_id = c.run & 0xFFFFFFFF
    GROUP BY c.upid, k.op, c.counter_id
  )
SELECT
  profinfer_process_label(s.upid) AS process,
  s.op,
  n.name AS counter,
  n.unit,
  s.runs,
  round(s.value * s.cpu_dur / nullif(s.counted_dur, 0), 1) AS total,
  round(s.per_run, 2) AS per_run,
  round(s.value * 1e6 / nullif(s.counted_dur, 0), 3) AS per_cpu_ms,
  round(100.0 * s.counted_dur / nullif(s.cpu_dur, 0), 1) AS counted_percent,
  s.counted_dur < s.cpu_dur AS multiplexed,
  s.unread,
  s.incomplete,
  _lost_records(s.upid) AS lost_records
FROM summed AS s
JOIN profinfer_counter AS n
  USING (upid, counter_id)
ORDER BY s.upid, n.counter_id, s.value DESC;

-- title: Instructions, stalls and memory by op
-- rows: 10
WITH
  known AS (
    SELECT
      m.upid,
      k.op,
      count() AS runs,
      sum(iif(m.complete, m.work_dur, 0)) AS work_dur,
      sum(iif(m.complete, m.instructions, NULL)) AS instructions,
      sum(iif(m.complete, m.cycles, NULL)) AS cycles,
      sum(iif(m.complete, m.backend_stall_ratio * m.cycles, NULL)) AS stalled,
      sum(iif(m.complete, m.read_bytes, NULL)) AS read_bytes,
      sum(iif(m.complete, m.written_bytes, NULL)) AS written_bytes,
      sum(iif(m.complete, m.bandwidth * m.work_dur, NULL)) AS moved,
      sum(m.complete) AS whole,
      max(m.multiplexed) AS multiplexed
    FROM profinfer_operator_metric AS m
    LEFT JOIN _operator_kind AS k
      USING (arg_set_id)
    -- Where nothing of the kind was counted, a table of dashes says less than an empty one.
    WHERE EXISTS(SELECT 1 FROM profinfer_counter WHERE role IS NOT NULL)
    GROUP BY m.upid, k.op
  )
SELECT
  profinfer_process_label(upid) AS process,
  op,
  runs,
  round(instructions / nullif(cycles, 0), 3) AS ipc,
  round(stalled / nullif(cycles, 0), 3) AS backend_stall_ratio,
  round(read_bytes / nullif(whole, 0), 0) AS read_bytes_per_run,
  round(written_bytes / nullif(whole, 0), 0) AS written_bytes_per_run,
  round(moved / nullif(work_dur, 0) / 1e9, 3) AS gbytes_per_s,
  multiplexed,
  runs - whole AS incomplete
FROM known
ORDER BY upid, work_dur DESC;

-- title: What was counted
SELECT
  profinfer_process_label(upid) AS process,
  name,
  unit,
  role,
  leader AS group_of,
  source
FROM profinfer_counter;

-- title: What was not counted, and why
SELECT
  profinfer_process_label(upid) AS process,
  value AS reason
FROM profinfer_recording
WHERE key GLOB 'counters.notes*';
