-- How does attention slow down as the context grows?
-- Lines through the work of every decoded token (one sequence at a time, summed over threads; without
-- level barrier their waits are in it): slope_ns_per_token against the length of the context,
-- ns_per_cell against the cells of the KV cache that the operator spans. Engines round these up, so
-- that time grows in steps of step_cells, each us_per_step high. So that tokens which were disturbed
-- do not bend the lines, they lead through medians: of up to 32 parts of the context, and of each
-- number of cells. r2 says how much of the variance of these medians the first line explains. Layers
-- with a sliding window stop growing at its end. NULL where nothing grew.

INCLUDE PERFETTO MODULE profinfer.memory.kv_cache;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Attention of all layers against the context
SELECT
  profinfer_process_label(upid) AS process,
  part,
  tokens,
  context_from,
  context_to,
  round(mean_dur / 1e3, 1) AS mean_us,
  round(ns_per_token, 2) AS slope_ns_per_token,
  round(r2, 3) AS r2,
  step_cells,
  round(ns_per_cell, 2) AS ns_per_cell,
  round(ns_per_cell * step_cells / 1e3, 1) AS us_per_step,
  incomplete
FROM profinfer_attention_fit
WHERE of_all_layers
ORDER BY upid, part;

-- title: Attention by layer against the context
SELECT
  profinfer_process_label(upid) AS process,
  part,
  layer,
  tokens,
  cells_from,
  cells_to,
  round(mean_dur / 1e3, 1) AS mean_us,
  round(ns_per_token, 2) AS slope_ns_per_token,
  round(r2, 3) AS r2,
  round(ns_per_cell, 2) AS ns_per_cell,
  incomplete
FROM profinfer_attention_fit
WHERE NOT of_all_layers
ORDER BY upid, part, layer;

-- Up to 32 medians, and where the line through them is.

-- title: Work of all layers by context
SELECT
  profinfer_process_label(m.upid) AS process,
  m.part,
  round(m.x, 1) AS context,
  round(m.y / 1e3, 2) AS median_us,
  round((m.mean_y + f.ns_per_token * (m.x - m.mean_x)) / 1e3, 2) AS line_us,
  m.n AS tokens,
  f.incomplete
FROM _attention_median AS m
JOIN profinfer_attention_fit AS f
  ON f.upid = m.upid AND f.part = m.part AND f.of_all_layers
WHERE m.of_all_layers AND NOT m.is_by_cells
ORDER BY m.upid, m.part, m.x;
