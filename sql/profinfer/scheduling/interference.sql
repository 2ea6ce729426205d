-- What of who took the target's CPUs is not certain.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.recording.losses;
INCLUDE PERFETTO MODULE profinfer.scheduling.kernel_states;
INCLUDE PERFETTO MODULE profinfer.scheduling.stalls;
INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;

-- States that a loss may have to do with: those that are not certain, and waits for a CPU.
CREATE PERFETTO TABLE _touchy_state(
  -- As in profinfer_thread_state.
  id LONG,
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- CPU that the thread waited for.
  ucpu LONG,
  -- Whether the state is certain.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  id,
  ts,
  dur,
  ucpu,
  complete,
  upid
FROM profinfer_thread_state
WHERE
  EXISTS(
    SELECT
      1
    FROM _scheduler_loss
  )
  AND (
    NOT complete
    OR kind IN ('preempted', 'runnable')
  );

-- Losses that may have hidden something of a process. Where a single switch was found to be missing,
-- that is so when it concerns a thread of it, or a CPU that one was waiting for.
CREATE PERFETTO TABLE _scheduler_doubt(
  -- Time before which none of these was lost.
  first_ts TIMESTAMP,
  -- Time of the last one.
  ts TIMESTAMP,
  -- Records lost.
  lost LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  losses AS MATERIALIZED (
    SELECT
      row_number() OVER () AS id,
      l.first_ts,
      l.ts,
      l.lost,
      l.cpu,
      l.left_tid,
      p.upid
    FROM _scheduler_loss AS l
    LEFT JOIN _scheduler_mode AS m
      ON m.upid = l.upid
    JOIN _recorded_process AS o
      ON o.upid = l.upid
    JOIN _recorded_process AS p
      -- Who records everything loses something of whoever is recorded at the time.
      ON
        p.upid = l.upid
        OR (
          m.mode IS NOT 'target'
          AND p.machine_id IS o.machine_id
          AND p.ts <= l.ts
          AND p.end_ts >= l.first_ts
        )
  ),
  -- A loss meets a state if, of those that begin before its end, the last to end does so after its
  -- beginning.
  waiting AS (
    SELECT
      id,
      max(end_ts) OVER (
        PARTITION BY upid, cpu ORDER BY ts, id IS NOT NULL ROWS UNBOUNDED PRECEDING
      ) AS end_ts
    FROM (
      SELECT NULL AS id, upid, ucpu AS cpu, ts, ts + dur AS end_ts FROM _touchy_state
      UNION ALL
      SELECT id, upid, cpu, ts, NULL AS end_ts FROM losses WHERE left_tid IS NOT NULL
    )
    WHERE cpu IS NOT NULL
  ),
  uncertain AS (
    SELECT
      id,
      max(end_ts) OVER (
        PARTITION BY upid ORDER BY ts, id IS NOT NULL ROWS UNBOUNDED PRECEDING
      ) AS end_ts
    FROM (
      SELECT NULL AS id, upid, ts, ts + dur AS end_ts FROM _touchy_state WHERE NOT complete
      UNION ALL
      SELECT id, upid, ts, NULL AS end_ts FROM losses WHERE left_tid IS NOT NULL
    )
  ),
  met AS MATERIALIZED (
    SELECT
      w.id
    FROM waiting AS w
    CROSS JOIN losses AS l
      USING (id)
    WHERE w.end_ts >= l.first_ts
    UNION
    SELECT
      u.id
    FROM uncertain AS u
    CROSS JOIN losses AS l
      USING (id)
    WHERE u.end_ts >= l.first_ts
  )
SELECT
  first_ts,
  ts,
  lost,
  upid
FROM losses
WHERE left_tid IS NULL OR +id IN (SELECT id FROM met);

-- What of the scheduler's doings may be missing of a process.
CREATE PERFETTO FUNCTION profinfer_scheduling_doubts(
  -- Process.
  upid JOINID(process.id)
)
-- Records of the scheduler and of the engine that were lost, and operator runs whose split is not
-- certain; 0 for none.
RETURNS LONG AS
SELECT
  (
    SELECT
      coalesce(sum(lost), 0)
    FROM _scheduler_doubt
    WHERE upid = $upid
  ) + _lost_records($upid) + (
    SELECT
      count()
    FROM _uncertain_run
    WHERE upid = $upid
  );
