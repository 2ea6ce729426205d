-- By how much operators came later since other threads had their threads' CPUs, and who these were.

INCLUDE PERFETTO MODULE intervals.intersect;
INCLUDE PERFETTO MODULE profinfer.operators.work;
INCLUDE PERFETTO MODULE profinfer.scheduling.hindrances;
INCLUDE PERFETTO MODULE profinfer.scheduling.late_parts;
INCLUDE PERFETTO MODULE profinfer.scheduling.preemptions;

-- What of the waits for a CPU met parts of runs, and by how much these came later for all of them.
CREATE PERFETTO TABLE _cpu_hindrance(
  -- As in _operator_work.
  run LONG,
  -- The waiting thread's state.
  state_id LONG,
  -- Start of what it has in common with the part.
  ts TIMESTAMP,
  -- Its end.
  end_ts TIMESTAMP,
  -- By how much the part came later, NULL where that is not known.
  late_dur DURATION,
  -- What hindered its threads, all together.
  total_dur DURATION
) AS
WITH
  totals AS MATERIALIZED (
    SELECT
      run,
      number,
      sum(dur) AS dur
    FROM _hindrance_in_part
    WHERE rank = 1
    GROUP BY run, number
  )
SELECT
  h.run,
  h.state_id,
  h.ts,
  h.ts + h.dur AS end_ts,
  iif(g.has_barriers AND g.phase_id > 0, l.cpu_dur, NULL) AS late_dur,
  t.dur AS total_dur
FROM _hindrance_in_part AS h
JOIN totals AS t
  USING (run, number)
JOIN _late_part AS l
  USING (run, number)
JOIN _graph_context AS g
  ON g.graph_id = h.run >> 32
WHERE h.rank = 1;

-- Their pieces: what each preemption has in common with a run, and by how much it delayed it.
CREATE PERFETTO TABLE _piece_delay(
  -- As in _operator_work.
  run LONG,
  -- Preemption, as in profinfer_preemption.
  preemption_id LONG,
  -- As in _taker.
  taker LONG,
  -- Duration of what they have in common.
  work_dur DURATION,
  -- The delay, NULL where that is not known.
  dur DURATION
) AS
SELECT
  h.run,
  p._auto_id AS preemption_id,
  p.taker,
  sum(i.dur) AS work_dur,
  cast_int!(round(sum(1.0 * h.late_dur * i.dur / h.total_dur))) AS dur
FROM _interval_intersect!(
  (
    (
      SELECT
        _auto_id AS id,
        ts,
        end_ts - ts AS dur,
        state_id
      FROM _cpu_hindrance
    ),
    (
      SELECT
        _auto_id AS id,
        ts,
        dur,
        state_id
      FROM _taken_piece
      WHERE state_id IN (
        SELECT
          state_id
        FROM _cpu_hindrance
      )
    )
  ),
  (state_id)
) AS i
CROSS JOIN _cpu_hindrance AS h
  ON h._auto_id = i.id_0
CROSS JOIN _taken_piece AS p
  ON p._auto_id = i.id_1
GROUP BY h.run, i.id_1;

-- Delays of operator runs by preemptions: each bears its share of how much later a part was done.
-- Empty where barriers were not recorded: work is then not told from waiting for other threads.
CREATE PERFETTO VIEW profinfer_delay(
  -- Graph run.
  graph_id LONG,
  -- Arguments of the operator.
  arg_set_id ARGSETID,
  -- Preemption, as in profinfer_preemption.
  preemption_id LONG,
  -- How much later the operator's threads were done: less than the preemption where they would have
  -- had to wait for another thread all the same.
  dur DURATION,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  run >> 32 AS graph_id,
  run & 0xFFFFFFFF AS arg_set_id,
  preemption_id,
  dur,
  taker >> 33 AS upid
FROM _piece_delay
WHERE dur IS NOT NULL;

-- Delays of operator runs by who caused them.
CREATE PERFETTO TABLE _run_delay(
  -- As in _operator_work.
  run LONG,
  -- As in _taker.
  taker LONG,
  -- What they did while the run's threads waited with work to do.
  work_dur DURATION,
  -- The delay, NULL where that is not known.
  dur DURATION
) AS
SELECT
  run,
  taker,
  sum(work_dur) AS work_dur,
  sum(dur) AS dur
FROM _piece_delay
GROUP BY run, taker;
