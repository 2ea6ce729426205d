-- Which experts each token was sent to, in mixture-of-experts models. Needs record --experts.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.experts.readings;

-- Tokens that were sent to an expert: one row per token, layer and rank.
CREATE PERFETTO TABLE profinfer_expert_activation(
  -- Reading, with graph, micro-batch and time.
  reading_id LONG,
  -- Token, NULL when it is not known which it is.
  token_id LONG,
  -- Layer number.
  layer LONG,
  -- Rank among the experts of this token, from 0.
  rank LONG,
  -- Expert, NULL when lost.
  expert LONG,
  -- By what the expert's output is multiplied; NULL unless recorded with --expert-weights.
  weight DOUBLE,
  -- Either prefill or decode, NULL when lost.
  phase STRING,
  -- Whether all ids of its reading are known, and which micro-batch they belong to.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  p.reading_id,
  coalesce(p.first_token + (v.id - p.first_id) / p.used, o.token_id) AS token_id,
  p.layer,
  (v.id - p.first_id) % p.used AS rank,
  iif(v.expert < 0, NULL, v.expert) AS expert,
  w.weight,
  coalesce(p.phase, t.phase) AS phase,
  p.complete,
  p.upid
-- In this order: a look-up per reading, not one per value.
FROM _expert_part AS p
CROSS JOIN _expert_id AS v
  ON v.arg_set_id = p.arg_set_id
LEFT JOIN _expert_output AS o
  ON o.output_key = p.first_output + (v.id - p.first_id) / p.used
LEFT JOIN _expert_weight AS w
  ON w.id = v.id + p.to_weight
LEFT JOIN profinfer_expert_token AS t
  ON
    p.phase IS NULL
    AND t.token_id = coalesce(p.first_token + (v.id - p.first_id) / p.used, o.token_id);
