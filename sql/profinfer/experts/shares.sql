-- How many tokens each expert was sent.

INCLUDE PERFETTO MODULE profinfer.experts.activations;

-- Tokens by expert, of complete readings.
CREATE PERFETTO TABLE profinfer_expert_share(
  -- Layer number.
  layer LONG,
  -- Either prefill or decode, NULL when lost.
  phase STRING,
  -- Expert.
  expert LONG,
  -- Tokens that were sent to it.
  tokens LONG,
  -- Mean of what the router gave it, NULL unless recorded with --expert-weights.
  mean_weight DOUBLE,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  layer,
  phase,
  expert,
  count() AS tokens,
  avg(weight) AS mean_weight,
  upid
FROM profinfer_expert_activation
WHERE complete
GROUP BY upid, layer, phase, expert
ORDER BY upid, layer, phase, expert;
