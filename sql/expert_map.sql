-- How did experts come and go, step by step and layer by layer?
-- While decoding; up to 120 columns for a process: where there are more steps, one is the mean of so many
-- that follow each other. The distance is counted in runs of the layer since an expert was used last (1 is
-- the run before); time is that of the operators that take the ids; faults as in expert_reuse. NULL where
-- nothing of the kind is known: first uses have no distance. incomplete counts runs that are in no mean,
-- with the graphs whose layers are not known. Needs record --experts.

INCLUDE PERFETTO MODULE profinfer.experts.readings;
INCLUDE PERFETTO MODULE profinfer.experts.uses;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.recording.losses;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Distance and time by step and layer
WITH
  steps AS MATERIALIZED (
    SELECT
      upid,
      ubatch_id,
      row_number() OVER (PARTITION BY upid ORDER BY ubatch_id) AS step,
      (count() OVER (PARTITION BY upid) + 119) / 120 AS stride
    FROM profinfer_expert_reading
    WHERE phase = 'decode'
    GROUP BY upid, ubatch_id
  )
SELECT
  profinfer_process_label(s.upid) AS process,
  r.layer,
  min(s.step) AS step,
  count(DISTINCT s.step) AS steps,
  round(avg(iif(r.complete, r.mean_distance, NULL)), 2) AS mean_distance,
  sum(iif(r.complete, r.fresh, 0)) AS first_uses,
  round(avg(iif(r.complete, r.operators_dur, NULL)) / 1e3, 1) AS mean_us,
  sum(iif(r.complete, r.major_faults, NULL)) AS major_faults,
  sum(NOT r.complete)
  + profinfer_unknown_graphs(s.upid)
  + profinfer_doubtful_phases(s.upid)
  + profinfer_lost(s.upid, 'fault') AS incomplete
FROM profinfer_expert_reuse AS r
JOIN profinfer_expert_reading AS e
  USING (reading_id)
JOIN steps AS s
  ON s.ubatch_id = e.ubatch_id
GROUP BY s.upid, r.layer, (s.step - 1) / s.stride
ORDER BY s.upid, r.layer, step;

-- Of the first layer, one in the middle and the last one that have experts.

-- title: Experts used (the first 48 steps)
WITH
  steps AS MATERIALIZED (
    SELECT
      upid,
      ubatch_id,
      row_number() OVER (PARTITION BY upid ORDER BY ubatch_id) AS rank
    FROM profinfer_expert_reading
    WHERE phase = 'decode'
    GROUP BY upid, ubatch_id
  ),
  layers AS MATERIALIZED (
    SELECT
      upid,
      layer
    FROM (
      SELECT
        upid,
        layer,
        row_number() OVER (PARTITION BY upid ORDER BY layer) AS number,
        count() OVER (PARTITION BY upid) AS layers
      FROM profinfer_expert_reading
      WHERE layer IS NOT NULL
      GROUP BY upid, layer
    )
    WHERE number IN (1, (layers + 1) / 2, layers)
  ),
  ranked AS (
    SELECT
      s.upid,
      s.rank,
      u.layer,
      u.expert,
      u.tokens,
      u.distance,
      u.complete
    FROM profinfer_expert_use AS u
    JOIN profinfer_expert_reading AS e
      USING (reading_id)
    JOIN steps AS s
      ON s.ubatch_id = e.ubatch_id
    JOIN layers AS l
      ON l.upid = u.upid AND l.layer = u.layer
  )
SELECT
  profinfer_process_label(upid) AS process,
  layer,
  rank AS step,
  expert,
  tokens,
  iif(complete, distance, NULL) AS distance,
  (NOT complete) + profinfer_unknown_graphs(upid) + profinfer_doubtful_phases(upid) AS incomplete
FROM ranked
WHERE rank <= 48
ORDER BY upid, layer, rank, expert;
