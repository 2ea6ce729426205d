-- Which operators, and which tensors, take page faults?
-- Needs a recording with --faults. A minor fault finds its page in memory, a major one has to read
-- it. Counts are of faults taken by the target's threads; the kernel's own count is higher by those
-- that it takes on their behalf (mapping a file at once, reading into fresh memory), and by what
-- was lost, which the column incomplete counts.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.memory.files;
INCLUDE PERFETTO MODULE profinfer.memory.paging;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.runs;
INCLUDE PERFETTO MODULE profinfer.recording.losses;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Faults by kind (no numbers: not recorded, see --faults)
SELECT
  profinfer_process_label(p.upid) AS process,
  k.kind,
  iif(profinfer_was_asked(p.upid, 'faults'), count(f.id), NULL) AS recorded,
  iif(profinfer_was_asked(p.upid, 'faults'), count(f.operator_slice_id), NULL) AS in_operators,
  iif(profinfer_was_asked(p.upid, 'faults'), count(f.model_tensor_id), NULL) AS in_models,
  profinfer_kernel_count(p.upid, k.kind) AS kernel_count,
  profinfer_doubtful_memory(p.upid) + profinfer_lost(p.upid, 'fault') AS incomplete
FROM _recorded_process AS p
CROSS JOIN (
  SELECT 'major' AS kind
  UNION ALL
  SELECT 'minor' AS kind
) AS k
LEFT JOIN profinfer_fault AS f
  ON f.upid = p.upid AND f.kind = k.kind
GROUP BY p.upid, k.kind;

-- title: Faults by operator (the first 40)
WITH
  ranked AS (
    SELECT
      f.upid,
      min(coalesce(k.label, s.name)) AS name,
      k.op,
      k.layer,
      sum(f.kind = 'major') AS major,
      sum(f.kind = 'minor') AS minor,
      count(f.model_tensor_id) AS in_models,
      row_number() OVER (
        PARTITION BY f.upid
        ORDER BY
          sum(f.kind = 'major') DESC,
          sum(f.kind = 'minor') DESC,
          coalesce(min(coalesce(k.label, s.name)), 'outside operators')
      ) AS rank
    FROM profinfer_fault AS f
    LEFT JOIN profinfer_operator_slice AS s
      ON s.id = f.operator_slice_id
    LEFT JOIN _operator_kind AS k
      ON k.arg_set_id = f.arg_set_id
    GROUP BY f.upid, s.name IS NULL, k.operator_id
  )
SELECT
  profinfer_process_label(upid) AS process,
  coalesce(name, 'outside operators') AS name,
  op,
  layer,
  major,
  minor,
  in_models,
  profinfer_doubtful_memory(upid) + profinfer_lost(upid, 'fault') AS incomplete
FROM ranked
WHERE rank <= 40
ORDER BY upid, rank;

-- title: Faults by tensor of a model (the first 40)
WITH
  ranked AS (
    SELECT
      f.upid,
      t.name,
      t.layer,
      t.type,
      t.bytes,
      sum(f.kind = 'major') AS major,
      sum(f.kind = 'minor') AS minor,
      count(f.operator_slice_id) AS in_operators,
      count(DISTINCT f.expert) AS experts,
      row_number() OVER (
        PARTITION BY f.upid
        ORDER BY sum(f.kind = 'major') DESC, sum(f.kind = 'minor') DESC, t.name
      ) AS rank
    FROM profinfer_fault AS f
    JOIN profinfer_model_tensor AS t
      USING (model_tensor_id)
    GROUP BY f.upid, f.model_tensor_id
  )
SELECT
  profinfer_process_label(upid) AS process,
  name AS tensor,
  layer,
  type,
  bytes,
  major,
  minor,
  in_operators,
  experts,
  profinfer_doubtful_memory(upid) + profinfer_lost(upid, 'fault') AS incomplete
FROM ranked
WHERE rank <= 40
ORDER BY upid, rank;

-- title: Models whose tensors are unknown (none when empty)
SELECT
  profinfer_process_label(upid) AS process,
  path,
  error
FROM profinfer_model
WHERE error IS NOT NULL;
