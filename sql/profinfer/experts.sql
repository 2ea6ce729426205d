-- Which experts each token was sent to, in mixture-of-experts models. Needs record --experts.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs;
INCLUDE PERFETTO MODULE profinfer.recording;

-- Tokens of micro-batches, in the order in which they were computed.
CREATE PERFETTO TABLE profinfer_expert_token(
  -- Number of the token in this recording, from 0.
  token_id LONG,
  -- Micro-batch.
  ubatch_id LONG,
  -- Number of the token within the micro-batch.
  row LONG,
  -- Sequence id (a server's slot), NULL when lost.
  sequence LONG,
  -- Position in the sequence, NULL when lost.
  position LONG,
  -- Either prefill or decode, NULL when lost.
  phase STRING,
  -- Number of the token among those of the micro-batch whose logits are asked for, NULL for others.
  output_row LONG
) AS
WITH
  outputs AS (
    SELECT
      ubatch_id,
      row AS output_row,
      value AS row
    FROM _expert_token_arg
    WHERE what = 'outputs'
  )
SELECT
  row_number() OVER (ORDER BY t.ubatch_id, t.row) - 1 AS token_id,
  t.ubatch_id,
  t.row,
  t.value >> 32 AS sequence,
  t.value & 0xFFFFFFFF AS position,
  s.phase,
  o.output_row
FROM _expert_token_arg AS t
LEFT JOIN _sequence_event AS s
  ON s.ubatch_id = t.ubatch_id AND s.sequence = t.value >> 32
LEFT JOIN outputs AS o
  ON o.ubatch_id = t.ubatch_id AND o.row = t.row
WHERE t.what = 'tokens'
ORDER BY token_id;
