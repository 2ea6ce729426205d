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

-- title: Distance, time and faults by layer, decode
WITH
  runs AS (
    SELECT
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
    GROUP BY layer
  ),
  rows AS (
    SELECT FALSE AS is_all, * FROM layers
    UNION ALL
    SELECT
      TRUE AS is_all,
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
    HAVING count() > 0
  )
SELECT
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
  incomplete + profinfer_unknown_graphs() + profinfer_lost('fault') AS incomplete
FROM rows
ORDER BY is_all DESC, rows.layer IS NULL DESC, rows.layer;

-- title: Uses by distance, decode
WITH
  uses AS MATERIALIZED (
    SELECT
      distance,
      count() AS uses
    FROM profinfer_expert_use
    WHERE complete AND phase = 'decode'
    GROUP BY distance
  )
SELECT
  iif(distance <= 8, distance, 1 << CAST(ceil(ln(distance) / ln(2.0)) AS INTEGER)) AS up_to,
  sum(uses) AS uses,
  round(100.0 * sum(uses) / sum(sum(uses)) OVER (), 1) AS percent,
  round(
    100.0 * sum(sum(uses)) OVER (ORDER BY distance IS NULL, min(distance)) / sum(sum(uses)) OVER (), 1
  ) AS cumulated
FROM uses
GROUP BY up_to
ORDER BY up_to IS NULL, up_to;

-- title: Time and faults by operator and distance, decode
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
  )
SELECT
  t.name,
  sum(o.runs) AS runs,
  round(sum(o.distance) / nullif(sum(o.distances), 0), 2) AS mean_distance,
  round(1.0 * sum(o.dur) / nullif(sum(o.runs), 0) / 1e3, 1) AS mean_us,
  round(max(o.max_dur) / 1e3, 1) AS max_us,
  sum(o.major) AS major_faults,
  sum(o.minor) AS minor_faults
FROM operators AS o
JOIN profinfer_tensor AS t
  USING (tensor_id)
GROUP BY t.name
ORDER BY sum(o.any_dur) DESC
LIMIT 40;

-- title: Longest runs (the first 20), decode
SELECT
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
FROM profinfer_expert_reuse AS r
JOIN profinfer_expert_reading AS e
  USING (reading_id)
LEFT JOIN profinfer_expert_token AS t
  ON t.ubatch_id = e.ubatch_id AND t.row = 0
WHERE r.complete AND r.phase = 'decode' AND r.operators_dur IS NOT NULL
ORDER BY r.operators_dur DESC
LIMIT 20;
