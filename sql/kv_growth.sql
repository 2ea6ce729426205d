-- How does attention slow down as the context grows?
-- A line through the work of every decoded token (one sequence at a time, summed over threads):
-- slope_ns_per_token against the length of the context, ns_per_cell against the cells of the KV
-- cache that the operator spans. Engines round these up, so that time grows in steps of step_cells,
-- each us_per_step high. r2 says how much of the variance a line explains. Layers with a sliding
-- window stop growing at its end. NULL where nothing grew.

INCLUDE PERFETTO MODULE profinfer.kv_cache;
INCLUDE PERFETTO MODULE profinfer.graphs;
INCLUDE PERFETTO MODULE profinfer.recording;

-- title: Attention of all layers against the context
WITH
  points AS MATERIALIZED (
    SELECT
      part,
      ubatch_id,
      min(context) AS context,
      max(cells) AS cells,
      sum(busy_dur) AS work,
      min(complete) AS complete
    FROM profinfer_attention
    GROUP BY part, ubatch_id
  ),
  gaps AS (
    SELECT
      part,
      min(gap) AS step_cells
    FROM (
      SELECT
        part,
        cells - lag(cells) OVER (PARTITION BY part ORDER BY cells) AS gap
      FROM points
      GROUP BY part, cells
    )
    GROUP BY part
  ),
  sums AS (
    SELECT
      part,
      count() AS n,
      min(context) AS first,
      max(context) AS last,
      1.0 * avg(context) AS x,
      1.0 * avg(cells) AS z,
      1.0 * avg(work) AS y
    FROM points
    WHERE complete
    GROUP BY part
  ),
  fits AS (
    SELECT
      s.part,
      sum((p.context - s.x) * (p.work - s.y)) AS xy,
      sum((p.context - s.x) * (p.context - s.x)) AS xx,
      sum((p.cells - s.z) * (p.work - s.y)) AS zy,
      sum((p.cells - s.z) * (p.cells - s.z)) AS zz,
      sum((p.work - s.y) * (p.work - s.y)) AS yy
    FROM sums AS s
    JOIN points AS p
      USING (part)
    WHERE p.complete
    GROUP BY s.part
  )
SELECT
  p.part,
  s.n AS tokens,
  s.first AS context_from,
  s.last AS context_to,
  round(s.y / 1e3, 1) AS mean_us,
  round(f.xy / nullif(f.xx, 0), 2) AS slope_ns_per_token,
  round(f.xy * f.xy / nullif(f.xx * f.yy, 0), 3) AS r2,
  g.step_cells,
  round(f.zy / nullif(f.zz, 0), 2) AS ns_per_cell,
  round(f.zy / nullif(f.zz, 0) * g.step_cells / 1e3, 1) AS us_per_step,
  p.incomplete + profinfer_unknown_graphs() + profinfer_doubtful_phases() AS incomplete
FROM (
  SELECT
    part,
    sum(NOT complete)
    + profinfer_lost('ubatch_begin')
    + profinfer_lost('tokens')
    + profinfer_lost('tensor') AS incomplete
  FROM points
  GROUP BY part
) AS p
LEFT JOIN sums AS s
  USING (part)
LEFT JOIN fits AS f
  USING (part)
LEFT JOIN gaps AS g
  USING (part)
ORDER BY p.part;

-- title: Attention by layer against the context
WITH
  sums AS MATERIALIZED (
    SELECT
      part,
      layer,
      count() AS n,
      1.0 * avg(context) AS x,
      1.0 * avg(busy_dur) AS y,
      min(cells) AS cells_from,
      max(cells) AS cells_to
    FROM profinfer_attention
    WHERE complete
    GROUP BY part, layer
  )
SELECT
  a.part,
  a.layer,
  s.n AS tokens,
  s.cells_from,
  s.cells_to,
  round(s.y / 1e3, 1) AS mean_us,
  round(
    sum(iif(a.complete, (a.context - s.x) * (a.busy_dur - s.y), 0))
    / nullif(sum(iif(a.complete, (a.context - s.x) * (a.context - s.x), 0)), 0),
    2
  ) AS slope_ns_per_token,
  sum(NOT a.complete)
  + profinfer_lost('ubatch_begin')
  + profinfer_lost('tokens')
  + profinfer_lost('tensor')
  + profinfer_unknown_graphs()
  + profinfer_doubtful_phases() AS incomplete
FROM profinfer_attention AS a
LEFT JOIN sums AS s
  ON s.part = a.part AND s.layer IS a.layer
GROUP BY a.part, a.layer
ORDER BY a.part, a.layer;
