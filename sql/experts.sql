-- Which experts do tokens go to, and how evenly?
-- Per layer and phase: skew is the most used expert's share over the mean share (1: all alike);
-- entropy_bits is that of the shares, even_percent the same in percent of the entropy of an even
-- use of all the layer's experts. router_entropy_bits is the mean entropy of what the router gave
-- the chosen experts of one token (record --expert-weights). Readings that are not complete are
-- not in the sums; how many there are is in the last column, with the graphs whose layers are not
-- known. Runs that sent every token to all experts, as llama.cpp's warm-up does, are in none of the
-- tables. Recordings without --experts have no rows.

INCLUDE PERFETTO MODULE profinfer.experts.activations;
INCLUDE PERFETTO MODULE profinfer.experts.readings;
INCLUDE PERFETTO MODULE profinfer.experts.shares;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Experts by layer and phase
-- rows: 20
WITH
  shares AS (
    SELECT
      upid,
      layer,
      phase,
      tokens,
      1.0 * tokens / sum(tokens) OVER (PARTITION BY upid, layer, phase) AS share
    FROM profinfer_expert_share
  ),
  summed AS (
    SELECT
      upid,
      layer,
      phase,
      sum(tokens) AS activations,
      count() AS used_experts,
      max(share) AS top_share,
      -sum(share * ln(share)) / ln(2.0) AS entropy
    FROM shares
    GROUP BY upid, layer, phase
  ),
  whole AS MATERIALIZED (
    SELECT
      upid,
      layer,
      max(experts) AS experts,
      max(used) AS used,
      sum(NOT complete) AS incomplete
    FROM profinfer_expert_reading
    GROUP BY upid, layer
  ),
  routers AS (
    SELECT
      upid,
      layer,
      phase,
      avg(entropy) AS entropy
    FROM (
      SELECT
        upid,
        layer,
        phase,
        -sum(weight / total * ln(weight / total)) / ln(2.0) AS entropy
      FROM (
        SELECT
          upid,
          layer,
          phase,
          token_id,
          weight,
          sum(weight) OVER (PARTITION BY token_id, layer) AS total
        FROM profinfer_expert_activation
        WHERE complete AND weight > 0
      )
      GROUP BY token_id, layer
    )
    GROUP BY upid, layer, phase
  )
SELECT
  profinfer_process_label(w.upid) AS process,
  w.layer,
  coalesce(s.phase, 'unknown') AS phase,
  w.experts,
  w.used AS used_per_token,
  s.activations / w.used AS tokens,
  s.used_experts,
  round(100.0 * s.top_share, 1) AS top_percent,
  round(s.top_share * w.experts, 2) AS skew,
  round(s.entropy, 3) AS entropy_bits,
  round(100.0 * s.entropy / nullif(ln(w.experts) / ln(2.0), 0), 1) AS even_percent,
  round(r.entropy, 3) AS router_entropy_bits,
  w.incomplete + profinfer_unknown_graphs(w.upid) AS incomplete
FROM whole AS w
LEFT JOIN summed AS s
  ON s.upid = w.upid AND s.layer IS w.layer
LEFT JOIN routers AS r
  ON r.upid = s.upid AND r.layer IS s.layer AND r.phase IS s.phase
ORDER BY w.upid, w.layer, s.phase;

-- title: Experts by share of their layer (the first 40)
-- rows: 8
WITH
  ranked AS (
    SELECT
      c.upid,
      c.layer,
      c.expert,
      sum(c.tokens) AS tokens,
      sum(iif(c.phase = 'prefill', c.tokens, 0)) AS prefill_tokens,
      sum(iif(c.phase = 'decode', c.tokens, 0)) AS decode_tokens,
      1.0 * sum(c.tokens) / l.tokens AS share,
      sum(c.mean_weight * c.tokens) / sum(c.tokens) AS mean_weight,
      row_number() OVER (
        PARTITION BY c.upid ORDER BY 1.0 * sum(c.tokens) / l.tokens DESC, c.layer, c.expert
      ) AS rank
    FROM profinfer_expert_share AS c
    JOIN (
      SELECT
        upid,
        layer,
        sum(tokens) AS tokens
      FROM profinfer_expert_share
      GROUP BY upid, layer
    ) AS l
      USING (upid, layer)
    GROUP BY c.upid, c.layer, c.expert
  )
SELECT
  profinfer_process_label(upid) AS process,
  layer,
  expert,
  tokens,
  prefill_tokens,
  decode_tokens,
  round(100.0 * share, 1) AS percent,
  round(mean_weight, 4) AS mean_weight
FROM ranked
WHERE rank <= 40
ORDER BY upid, rank;

-- title: Readings without ids
SELECT
  profinfer_process_label(upid) AS process,
  reason,
  count() AS readings,
  count(DISTINCT layer) AS layers,
  sum(tokens) AS tokens
FROM profinfer_expert_reading
WHERE reason IS NOT NULL
GROUP BY upid, reason
ORDER BY upid, readings DESC;
