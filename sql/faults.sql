-- Which operators, and which tensors, take page faults?
-- Needs a recording with --faults. A minor fault finds its page in memory, a major one has to read
-- it. Counts are of faults taken by the target's threads; the kernel's own count is higher by those
-- that it takes on their behalf (mapping a file at once, reading into fresh memory), and by what
-- was lost, which the column incomplete counts. in_models counts those in weights, whether in the
-- model's file or outside of it (read, or repacked for the CPU); no_file those in memory of no file:
-- where such a fault is a major one, its page came from swap (swap_mb).

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.memory.files;
INCLUDE PERFETTO MODULE profinfer.memory.paging;
INCLUDE PERFETTO MODULE profinfer.memory.weights;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.slices;
INCLUDE PERFETTO MODULE profinfer.recording.losses;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Faults by kind (no numbers: not recorded, see --faults)
SELECT
  profinfer_process_label(p.upid) AS process,
  k.kind,
  iif(profinfer_was_asked(p.upid, 'faults'), count(f.id), NULL) AS recorded,
  iif(profinfer_was_asked(p.upid, 'faults'), count(f.operator_slice_id), NULL) AS in_operators,
  iif(
    profinfer_was_asked(p.upid, 'faults'), count(coalesce(f.model_tensor_id, f.weight_id)), NULL
  ) AS in_models,
  iif(profinfer_was_asked(p.upid, 'faults'), coalesce(sum(f.of_no_file), 0), NULL) AS no_file,
  iif(
    profinfer_was_asked(p.upid, 'faults') AND k.kind = 'major',
    round(coalesce(sum(f.of_no_file), 0) * _page_size(p.upid) / 1e6, 2),
    NULL
  ) AS swap_mb,
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
-- rows: 8
WITH
  ranked AS (
    SELECT
      f.upid,
      min(coalesce(k.label, s.name)) AS name,
      k.op,
      k.layer,
      sum(f.kind = 'major') AS major,
      sum(f.kind = 'minor') AS minor,
      count(coalesce(f.model_tensor_id, f.weight_id)) AS in_models,
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

-- title: Faults by tensor of a model (the first 40; before_use: before the first graph that used it)
-- rows: 8
WITH
  tensors AS (
    SELECT
      f.upid,
      f.kind,
      f.operator_slice_id,
      f.expert,
      FALSE AS before_use,
      t.model_tensor_id,
      NULL AS weight_id,
      t.name,
      t.layer,
      t.type,
      t.bytes,
      'file' AS place
    FROM profinfer_fault AS f
    JOIN profinfer_model_tensor AS t
      USING (model_tensor_id)
    UNION ALL
    SELECT
      f.upid,
      f.kind,
      f.operator_slice_id,
      f.expert,
      f.ts < w.first_ts AS before_use,
      NULL AS model_tensor_id,
      f.weight_id,
      w.name,
      w.layer,
      w.type,
      w.bytes,
      'outside the file' AS place
    FROM profinfer_fault AS f
    JOIN profinfer_weight AS w
      USING (weight_id)
  ),
  ranked AS (
    SELECT
      upid,
      name,
      layer,
      type,
      bytes,
      place,
      sum(kind = 'major') AS major,
      sum(kind = 'minor') AS minor,
      sum(before_use) AS before_use,
      count(operator_slice_id) AS in_operators,
      count(DISTINCT expert) AS experts,
      row_number() OVER (
        PARTITION BY upid
        ORDER BY sum(kind = 'major') DESC, sum(kind = 'minor') DESC, name, place
      ) AS rank
    FROM tensors
    GROUP BY upid, model_tensor_id, weight_id
  )
SELECT
  profinfer_process_label(upid) AS process,
  name AS tensor,
  layer,
  type,
  bytes,
  place,
  major,
  minor,
  before_use,
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
