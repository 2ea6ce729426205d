-- Which operators, and which tensors, take page faults?
-- Needs a recording with --faults. A minor fault finds its page in memory, a major one has to read
-- it. Counts are of faults taken by the target's threads; the kernel's own count is higher by those
-- that it takes on their behalf (mapping a file at once, reading into fresh memory), and by what
-- was lost, which the column incomplete counts.

INCLUDE PERFETTO MODULE profinfer.memory.files;
INCLUDE PERFETTO MODULE profinfer.memory.paging;
INCLUDE PERFETTO MODULE profinfer.operators.runs;
INCLUDE PERFETTO MODULE profinfer.recording.losses;
INCLUDE PERFETTO MODULE profinfer.recording.metadata;

-- title: Faults by kind (no numbers: not recorded, see --faults)
SELECT
  k.kind,
  iif(profinfer_was_asked('faults'), count(f.id), NULL) AS recorded,
  iif(profinfer_was_asked('faults'), count(f.operator_slice_id), NULL) AS in_operators,
  iif(profinfer_was_asked('faults'), count(f.model_tensor_id), NULL) AS in_models,
  profinfer_kernel_count(k.kind) AS kernel_count,
  profinfer_doubtful_memory() + profinfer_lost('fault') AS incomplete
FROM (
  SELECT 'major' AS kind
  UNION ALL
  SELECT 'minor' AS kind
) AS k
LEFT JOIN profinfer_fault AS f
  USING (kind)
WHERE
  EXISTS (
    SELECT
      1
    FROM profinfer_recording
  )
GROUP BY k.kind;

-- title: Faults by operator (the first 40)
SELECT
  coalesce(s.name, 'outside operators') AS name,
  k.op,
  k.layer,
  sum(f.kind = 'major') AS major,
  sum(f.kind = 'minor') AS minor,
  count(f.model_tensor_id) AS in_models,
  profinfer_doubtful_memory() + profinfer_lost('fault') AS incomplete
FROM profinfer_fault AS f
LEFT JOIN profinfer_operator_slice AS s
  ON s.id = f.operator_slice_id
LEFT JOIN _operator_kind AS k
  ON k.arg_set_id = f.arg_set_id
GROUP BY s.name, k.op
ORDER BY major DESC, minor DESC, name
LIMIT 40;

-- title: Faults by tensor of a model (the first 40)
SELECT
  t.name AS tensor,
  t.layer,
  t.type,
  t.bytes,
  sum(f.kind = 'major') AS major,
  sum(f.kind = 'minor') AS minor,
  count(f.operator_slice_id) AS in_operators,
  count(DISTINCT f.expert) AS experts,
  profinfer_doubtful_memory() + profinfer_lost('fault') AS incomplete
FROM profinfer_fault AS f
JOIN profinfer_model_tensor AS t
  USING (model_tensor_id)
GROUP BY f.model_tensor_id
ORDER BY major DESC, minor DESC, tensor
LIMIT 40;

-- title: Models whose tensors are unknown (none when empty)
SELECT
  path,
  error
FROM profinfer_model
WHERE error IS NOT NULL;
