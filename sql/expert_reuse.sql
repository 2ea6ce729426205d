-- How long ago were a layer's experts last used, and does its time follow from that?
-- The distance is counted in runs of the layer: 1 is the run before. Time is that of the operators
-- that take the ids (gate, up and down), from the first thread's start to the last one's end. Where
-- experts have left memory since they were used, time grows with the distance: correlation is
-- Pearson's, over the decoding runs. Runs that are not complete are not in the sums; the last
-- column counts them, with the graphs whose layers are not known. Needs record --experts.

INCLUDE PERFETTO MODULE profinfer.expert_readings;
INCLUDE PERFETTO MODULE profinfer.expert_use;
INCLUDE PERFETTO MODULE profinfer.graphs;

-- title: Distance and time by layer, decode
WITH
  runs AS (
    SELECT
      layer,
      experts,
      fresh,
      complete,
      iif(complete AND operators_dur IS NOT NULL, mean_distance, NULL) AS x,
      iif(complete AND mean_distance IS NOT NULL, operators_dur / 1e3, NULL) AS y
    FROM profinfer_expert_reuse
    WHERE phase = 'decode'
  )
SELECT
  coalesce(cast_string!(layer), 'all') AS layer,
  sum(complete) AS runs,
  round(avg(x), 2) AS mean_distance,
  sum(iif(complete, fresh, 0)) AS first_uses,
  round(avg(y), 1) AS mean_us,
  round(max(y), 1) AS max_us,
  round(
    (avg(x * y) - avg(x) * avg(y))
    / nullif(sqrt(max(avg(x * x) - avg(x) * avg(x), 0) * max(avg(y * y) - avg(y) * avg(y), 0)), 0),
    3
  ) AS correlation,
  sum(NOT complete) + profinfer_unknown_graphs() AS incomplete
FROM (
  SELECT * FROM runs
  UNION ALL
  SELECT NULL AS layer, experts, fresh, complete, x, y FROM runs
)
GROUP BY layer
ORDER BY layer IS NULL DESC, layer;

-- title: Uses by distance, decode
SELECT
  iif(u.distance <= 8, u.distance, 1 << CAST(ceil(ln(u.distance) / ln(2.0)) AS INTEGER)) AS up_to,
  count() AS uses,
  round(100.0 * count() / sum(count()) OVER (), 1) AS percent,
  round(100.0 * sum(count()) OVER (ORDER BY u.distance IS NULL, min(u.distance)) / sum(count()) OVER (), 1) AS cumulated
FROM profinfer_expert_use AS u
WHERE u.complete AND u.phase = 'decode'
GROUP BY up_to
ORDER BY up_to IS NULL, up_to;

-- title: Time by operator and distance, decode
SELECT
  t.name,
  sum(o.complete) AS runs,
  round(avg(iif(o.complete, r.mean_distance, NULL)), 2) AS mean_distance,
  round(avg(iif(o.complete, o.dur, NULL)) / 1e3, 1) AS mean_us,
  round(max(iif(o.complete, o.dur, NULL)) / 1e3, 1) AS max_us
FROM profinfer_expert_operator AS o
JOIN profinfer_expert_reuse AS r
  ON r.graph_id = o.graph_id AND r.layer = o.layer
JOIN profinfer_tensor AS t
  USING (tensor_id)
WHERE r.complete AND r.phase = 'decode'
GROUP BY t.name
ORDER BY sum(o.dur) DESC
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
  round(r.operators_dur / 1e3, 1) AS us
FROM profinfer_expert_reuse AS r
JOIN profinfer_expert_reading AS e
  USING (reading_id)
LEFT JOIN profinfer_expert_token AS t
  ON t.ubatch_id = e.ubatch_id AND t.row = 0
WHERE r.complete AND r.phase = 'decode' AND r.operators_dur IS NOT NULL
ORDER BY r.operators_dur DESC
LIMIT 20;
