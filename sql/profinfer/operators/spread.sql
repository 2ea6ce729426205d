-- How far the threads that run an operator are apart.

INCLUDE PERFETTO MODULE profinfer.operators.work;

-- One row per distinct tensor that is computed (another size is another): sums over its complete runs.
CREATE PERFETTO TABLE _operator_spread(
  -- Arguments of its slices.
  arg_set_id ARGSETID,
  -- Work of the thread that worked longest in each run.
  slowest_dur DURATION,
  -- Work of the thread that worked least in each run.
  fastest_dur DURATION
) AS
WITH
  throttled AS MATERIALIZED (
    SELECT DISTINCT
      w.run
    FROM _throttled_work AS t
    CROSS JOIN _operator_work AS w
      ON w.id = t.slice_id
  ),
  runs AS (
    SELECT
      run,
      max(arrival - ts) AS slowest_dur,
      min(arrival - ts) AS fastest_dur
    FROM _operator_work
    GROUP BY run
    HAVING NOT run IN (SELECT run FROM throttled)
    UNION ALL
    SELECT
      w.run,
      max(w.arrival - w.ts - coalesce(t.dur, 0)) AS slowest_dur,
      min(w.arrival - w.ts - coalesce(t.dur, 0)) AS fastest_dur
    FROM throttled AS r
    CROSS JOIN _operator_work AS w
      USING (run)
    LEFT JOIN _throttled_work AS t
      ON t.slice_id = w.id
    GROUP BY w.run
  )
SELECT
  run & 0xFFFFFFFF AS arg_set_id,
  sum(slowest_dur) AS slowest_dur,
  sum(fastest_dur) AS fastest_dur
FROM runs
WHERE NOT run IN (SELECT run FROM _incomplete_run)
GROUP BY 1;
