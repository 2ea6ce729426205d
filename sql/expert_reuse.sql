-- How long ago were a layer's experts last used, and do its time and page faults follow from that?
-- The distance is counted in runs of the layer: 1 is the run before. Time is that of the operators
-- that take the ids (gate, up and down), from the first thread's start to the last one's end; faults are
-- those of their threads, NULL when not recorded (--faults). Where experts have left memory since they
-- were used, both grow with the distance: correlation is Pearson's of distance and time,
-- faults_correlation that of distance and major faults (something had to be read), over the decoding runs.
-- Runs that are not complete are not in the sums; the last column counts them, with the graphs whose
-- layers are not known and the faults whose records were lost. Needs record --experts.

INCLUDE PERFETTO MODULE profinfer.experts.readings;
INCLUDE PERFETTO MODULE profinfer.experts.uses;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.recording.losses;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Distance, time and faults by layer, decode
-- rows: 20
WITH
  runs AS (
    SELECT
      upid,
      layer,
      fresh,
      complete,
      iif(complete AND operators_dur IS NOT NULL, mean_distance, NULL) AS x,
      iif(complete AND mean_distance IS NOT NULL, operators_dur / 1e3, NULL) AS y,
      iif(complete, major_faults, NULL) AS major,
      iif(complete, minor_faults, NULL) AS minor,
      -- Of runs that have both a distance and faults.
      iif(complete AND major_faults IS NOT NULL, mean_distance, NULL) AS fx,
      iif(complete AND mean_distance IS NOT NULL, major_faults, NULL) AS fy
    FROM profinfer_expert_reuse
    WHERE phase = 'decode'
  ),
  layers AS MATERIALIZED (
    SELECT
      upid,
      layer,
      sum(complete) AS runs,
      sum(NOT complete) AS incomplete,
      sum(iif(complete, fresh, 0)) AS fresh,
      count(x) AS n,
      sum(x) AS x,
      sum(y) AS y,
      max(y) AS max_y,
      sum(x * x) AS xx,
      sum(y * y) AS yy,
      sum(x * y) AS xy,
      sum(major) AS major,
      sum(minor) AS minor,
      count(fx) AS fn,
      sum(fx) AS fx,
      sum(fy) AS fy,
      sum(fx * fx) AS fxfx,
      sum(fy * fy) AS fyfy,
      sum(fx * fy) AS fxfy
    FROM runs
    GROUP BY upid, layer
  ),
  rows AS (
    SELECT FALSE AS is_all, * FROM layers
    UNION ALL
    SELECT
      TRUE AS is_all,
      upid,
      NULL AS layer,
      sum(runs),
      sum(incomplete),
      sum(fresh),
      sum(n),
      sum(x),
      sum(y),
      max(max_y),
      sum(xx),
      sum(yy),
      sum(xy),
      sum(major),
      sum(minor),
      sum(fn),
      sum(fx),
      sum(fy),
      sum(fxfx),
      sum(fyfy),
      sum(fxfy)
    FROM layers
    GROUP BY upid
  )
SELECT
  profinfer_process_label(upid) AS process,
  iif(is_all, 'all', coalesce(cast_string!(layer), 'unknown')) AS layer,
  runs,
  round(x / n, 2) AS mean_distance,
  fresh AS first_uses,
  round(y / n, 1) AS mean_us,
  round(max_y, 1) AS max_us,
  round(
    (xy / n - x / n * y / n)
    / nullif(sqrt(max(xx / n - x / n * x / n, 0) * max(yy / n - y / n * y / n, 0)), 0),
    3
  ) AS correlation,
  major AS major_faults,
  minor AS minor_faults,
  round(
    (fxfy / fn - fx / fn * fy / fn)
    / nullif(sqrt(max(fxfx / fn - fx / fn * fx / fn, 0) * max(1.0 * fyfy / fn - 1.0 * fy / fn * fy / fn, 0)), 0),
    3
  ) AS faults_correlation,
  incomplete + profinfer_unknown_graphs(upid) + profinfer_lost(upid, 'fault') AS incomplete
FROM rows
ORDER BY upid, is_all DESC, rows.layer IS NULL DESC, rows.layer;

-- title: Uses by distance, decode
WITH
  uses AS MATERIALIZED (
    SELECT
      upid,
      distance,
      count() AS uses
    FROM profinfer_expert_use
    WHERE complete AND phase = 'decode'
    GROUP BY upid, distance
  )
SELECT
  profinfer_process_label(upid) AS process,
  iif(distance <= 8, distance, 1 << CAST(ceil(ln(distance) / ln(2.0)) AS INTEGER)) AS up_to,
  sum(uses) AS uses,
  round(100.0 * sum(uses) / sum(sum(uses)) OVER (PARTITION BY upid), 1) AS percent,
  round(
    100.0 * sum(sum(uses)) OVER (PARTITION BY upid ORDER BY distance IS NULL, min(distance))
    / sum(sum(uses)) OVER (PARTITION BY upid),
    1
  ) AS cumulated_percent
FROM uses
GROUP BY upid, up_to
ORDER BY upid, up_to IS NULL, up_to;

-- title: Time and faults by operator and distance, decode
-- rows: 8
WITH
  runs AS MATERIALIZED (
    SELECT
      graph_id,
      layer,
      mean_distance
    FROM profinfer_expert_reuse
    WHERE complete AND phase = 'decode'
  ),
  operators AS (
    SELECT
      o.tensor_id,
      sum(o.complete) AS runs,
      sum(iif(o.complete, r.mean_distance, NULL)) AS distance,
      count(iif(o.complete, r.mean_distance, NULL)) AS distances,
      sum(iif(o.complete, o.dur, 0)) AS dur,
      max(iif(o.complete, o.dur, NULL)) AS max_dur,
      sum(o.major_faults) AS major,
      sum(o.minor_faults) AS minor,
      sum(o.dur) AS any_dur
    FROM profinfer_expert_operator AS o
    CROSS JOIN runs AS r
      ON r.graph_id = o.graph_id AND r.layer = o.layer
    GROUP BY o.tensor_id
  ),
  ranked AS (
    SELECT
      t.upid,
      min(t.label) AS name,
      sum(o.runs) AS runs,
      sum(o.distance) / nullif(sum(o.distances), 0) AS mean_distance,
      1.0 * sum(o.dur) / nullif(sum(o.runs), 0) AS mean_dur,
      max(o.max_dur) AS max_dur,
      sum(o.major) AS major,
      sum(o.minor) AS minor,
      row_number() OVER (PARTITION BY t.upid ORDER BY sum(o.any_dur) DESC) AS rank
    FROM operators AS o
    JOIN profinfer_tensor AS t
      USING (tensor_id)
    GROUP BY t.upid, t.role_id
  )
SELECT
  profinfer_process_label(upid) AS process,
  name,
  runs,
  round(mean_distance, 2) AS mean_distance,
  round(mean_dur / 1e3, 1) AS mean_us,
  round(max_dur / 1e3, 1) AS max_us,
  major AS major_faults,
  minor AS minor_faults
FROM ranked
WHERE rank <= 40
ORDER BY upid, rank;

-- title: Longest runs (the first 20), decode
-- rows: 8
WITH
  ranked AS (
    SELECT
      *,
      row_number() OVER (PARTITION BY upid ORDER BY operators_dur DESC, reading_id) AS rank
    FROM profinfer_expert_reuse
    WHERE complete AND phase = 'decode' AND operators_dur IS NOT NULL
  )
SELECT
  profinfer_process_label(r.upid) AS process,
  r.layer,
  t.token_id,
  t.sequence,
  t.position,
  r.experts,
  r.fresh AS first_uses,
  round(r.mean_distance, 2) AS mean_distance,
  round(r.operators_dur / 1e3, 1) AS us,
  r.major_faults,
  r.minor_faults
FROM ranked AS r
JOIN profinfer_expert_reading AS e
  USING (reading_id)
LEFT JOIN profinfer_expert_token AS t
  ON t.ubatch_id = e.ubatch_id AND t.row = 0
WHERE r.rank <= 20
ORDER BY r.upid, r.rank;
