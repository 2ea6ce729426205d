-- Attention over the KV cache, step by step of decoding.

INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.operators.attention;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.runs;
INCLUDE PERFETTO MODULE profinfer.recording.losses;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;

-- Attention while one token of one sequence was decoded: the operators that read the KV cache,
-- layer by layer.
CREATE PERFETTO TABLE profinfer_attention(
  -- Micro-batch.
  ubatch_id LONG,
  -- Either FLASH_ATTN_EXT, or KQ (queries with keys) and KQV (weights with values).
  part STRING,
  -- Layer number.
  layer LONG,
  -- Tokens that the new one attends to, itself included, as far as the layer's window lets it.
  context LONG,
  -- Cells of the cache that the operator spans: engines round the context up.
  cells LONG,
  -- From the first thread's start to the last thread's end.
  dur DURATION,
  -- Work, summed over threads.
  busy_dur DURATION,
  -- False when something may have been lost.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  steps AS MATERIALIZED (
    SELECT
      s.ubatch_id,
      s.position + 1 AS context,
      u.complete,
      s.upid
    FROM profinfer_sequence AS s
    JOIN profinfer_ubatch AS u
      USING (ubatch_id)
    WHERE s.phase = 'decode' AND u.sequences = 1 AND u.tokens = 1
  )
SELECT
  s.ubatch_id,
  a.part,
  a.layer,
  s.context,
  a.cells,
  r.dur,
  r.busy_dur,
  r.complete AND s.complete AS complete,
  s.upid
FROM _operator_run AS r
JOIN _attention_kind AS a
  USING (arg_set_id)
JOIN profinfer_graph AS g
  USING (graph_id)
JOIN steps AS s
  USING (ubatch_id)
ORDER BY s.ubatch_id;

-- What grows with the context: the work of each token's attention.
CREATE PERFETTO TABLE _attention_point(
  -- As in profinfer_attention.
  part STRING,
  -- Layer number; NULL of all layers together, and of those that are not known.
  layer LONG,
  -- Whether this is the sum of all layers.
  of_all_layers BOOL,
  -- Tokens that the new one attends to.
  context LONG,
  -- Cells of the cache.
  cells LONG,
  -- Work, summed over threads.
  work DURATION,
  -- False when something may have been lost.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  part,
  layer,
  FALSE AS of_all_layers,
  context,
  cells,
  busy_dur AS work,
  complete,
  upid
FROM profinfer_attention
UNION ALL
SELECT
  part,
  NULL AS layer,
  TRUE AS of_all_layers,
  min(context) AS context,
  max(cells) AS cells,
  sum(busy_dur) AS work,
  min(complete) AS complete,
  upid
FROM profinfer_attention
GROUP BY upid, part, ubatch_id;

-- Medians that the lines lead through: of up to 32 parts of the context, and of each number of cells.
CREATE PERFETTO TABLE _attention_median(
  -- As in profinfer_attention.
  part STRING,
  -- Layer number; NULL of all layers together, and of those that are not known.
  layer LONG,
  -- Whether this is the sum of all layers.
  of_all_layers BOOL,
  -- Whether it is that of a number of cells; else that of a part of the context.
  is_by_cells BOOL,
  -- Cells, or the part's mean context.
  x DOUBLE,
  -- Work of a token, summed over threads, in ns.
  y DOUBLE,
  -- Tokens.
  n LONG,
  -- Mean of x over the tokens of all medians of the line.
  mean_x DOUBLE,
  -- Mean of y.
  mean_y DOUBLE,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  -- What a median is taken of: x is the context, or cells.
  groups AS (
    SELECT
      upid,
      part,
      layer,
      of_all_layers,
      FALSE AS is_by_cells,
      ntile(32) OVER (PARTITION BY upid, part, layer, of_all_layers ORDER BY context) AS bin,
      context AS x,
      work
    FROM _attention_point
    WHERE complete
    UNION ALL
    SELECT
      upid,
      part,
      layer,
      of_all_layers,
      TRUE AS is_by_cells,
      cells AS bin,
      cells AS x,
      work
    FROM _attention_point
    WHERE complete
  ),
  ranked AS (
    SELECT
      *,
      avg(x) OVER same AS mean_x,
      count() OVER same AS n,
      row_number() OVER (PARTITION BY upid, part, layer, of_all_layers, is_by_cells, bin ORDER BY work) AS rank
    FROM groups
    WINDOW
      same AS (PARTITION BY upid, part, layer, of_all_layers, is_by_cells, bin)
  ),
  medians AS (
    SELECT
      upid,
      part,
      layer,
      of_all_layers,
      is_by_cells,
      min(mean_x) AS x,
      avg(work) AS y,
      min(n) AS n
    FROM ranked
    WHERE rank IN ((n + 1) / 2, (n + 2) / 2)
    GROUP BY upid, part, layer, of_all_layers, is_by_cells, bin
  )
SELECT
  part,
  layer,
  of_all_layers,
  is_by_cells,
  x,
  y,
  n,
  sum(n * x) OVER line / sum(n) OVER line AS mean_x,
  sum(n * y) OVER line / sum(n) OVER line AS mean_y,
  upid
FROM medians
WINDOW
  line AS (PARTITION BY upid, part, layer, of_all_layers, is_by_cells)
ORDER BY upid, part, layer, of_all_layers, is_by_cells, x;

-- Lines through the work of attention while tokens were decoded. So that tokens which were disturbed
-- do not bend them, they lead through medians: of up to 32 parts of the context, and of each number
-- of cells. NULL where nothing grew.
CREATE PERFETTO TABLE profinfer_attention_fit(
  -- As in profinfer_attention.
  part STRING,
  -- Layer number; NULL of all layers together, and of those that are not known.
  layer LONG,
  -- Whether this is the sum of all layers.
  of_all_layers BOOL,
  -- Tokens that were decoded, those that are not complete left out.
  tokens LONG,
  -- Shortest context.
  context_from LONG,
  -- Longest context.
  context_to LONG,
  -- Fewest cells of the cache.
  cells_from LONG,
  -- Most cells.
  cells_to LONG,
  -- The smallest difference between two numbers of cells: how far engines round up.
  step_cells LONG,
  -- Mean work of a token, summed over threads, in ns.
  mean_dur DOUBLE,
  -- By how many ns work grows with each token of the context.
  ns_per_token DOUBLE,
  -- How much of the variance of the medians this line explains.
  r2 DOUBLE,
  -- By how many ns work grows with each cell.
  ns_per_cell DOUBLE,
  -- Tokens that are not complete, and records lost by which some may be missing.
  incomplete LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  gaps AS (
    SELECT
      upid,
      part,
      layer,
      of_all_layers,
      min(gap) AS step_cells
    FROM (
      SELECT
        upid,
        part,
        layer,
        of_all_layers,
        cells - lag(cells) OVER (PARTITION BY upid, part, layer, of_all_layers ORDER BY cells) AS gap
      FROM _attention_point
      GROUP BY upid, part, layer, of_all_layers, cells
    )
    GROUP BY upid, part, layer, of_all_layers
  ),
  centered AS (
    SELECT
      upid,
      part,
      layer,
      of_all_layers,
      is_by_cells,
      n,
      x - mean_x AS x,
      y - mean_y AS y
    FROM _attention_median
  ),
  fits AS (
    SELECT
      upid,
      part,
      layer,
      of_all_layers,
      sum(iif(is_by_cells, 0, n * x * y)) / nullif(sum(iif(is_by_cells, 0, n * x * x)), 0) AS ns_per_token,
      pow(sum(iif(is_by_cells, 0, n * x * y)), 2)
      / nullif(sum(iif(is_by_cells, 0, n * x * x)) * sum(iif(is_by_cells, 0, n * y * y)), 0) AS r2,
      sum(iif(is_by_cells, n * x * y, 0)) / nullif(sum(iif(is_by_cells, n * x * x, 0)), 0) AS ns_per_cell
    FROM centered
    GROUP BY upid, part, layer, of_all_layers
  ),
  summed AS (
    SELECT
      upid,
      part,
      layer,
      of_all_layers,
      sum(complete) AS tokens,
      min(iif(complete, context, NULL)) AS context_from,
      max(iif(complete, context, NULL)) AS context_to,
      min(iif(complete, cells, NULL)) AS cells_from,
      max(iif(complete, cells, NULL)) AS cells_to,
      avg(iif(complete, work, NULL)) AS mean_dur,
      sum(NOT complete)
      + profinfer_lost(upid, 'ubatch_begin')
      + profinfer_lost(upid, 'tokens')
      + profinfer_lost(upid, 'tensor')
      + profinfer_unknown_graphs(upid)
      + profinfer_doubtful_phases(upid) AS incomplete
    FROM _attention_point
    GROUP BY upid, part, layer, of_all_layers
  )
SELECT
  s.part,
  s.layer,
  s.of_all_layers,
  s.tokens,
  s.context_from,
  s.context_to,
  s.cells_from,
  s.cells_to,
  g.step_cells,
  s.mean_dur,
  f.ns_per_token,
  f.r2,
  f.ns_per_cell,
  s.incomplete,
  s.upid
FROM summed AS s
LEFT JOIN gaps AS g
  ON g.upid = s.upid AND g.part = s.part AND g.layer IS s.layer AND g.of_all_layers = s.of_all_layers
LEFT JOIN fits AS f
  ON f.upid = s.upid AND f.part = s.part AND f.layer IS s.layer AND f.of_all_layers = s.of_all_layers
ORDER BY s.upid, s.part, s.layer;
