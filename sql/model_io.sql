-- What was read from storage, of which tensors and experts, and how much of it for nothing?
-- Needs a recording with --block-io. Reads are what came into the page cache because of the target's
-- threads, the kernel's reading ahead included; what another process had read before is not in it,
-- nor is direct I/O, which kernel_count includes.
-- untouched_bytes (with --faults) are those read during operators in whose neighbourhood of 64 KiB
-- no fault followed: wasted, as far as faults show it.

INCLUDE PERFETTO MODULE profinfer.memory.files;
INCLUDE PERFETTO MODULE profinfer.memory.paging;
INCLUDE PERFETTO MODULE profinfer.recording.losses;
INCLUDE PERFETTO MODULE profinfer.recording.metadata;

-- title: Bytes read (no numbers: not recorded, see --block-io)
SELECT
  iif(profinfer_was_asked('block_io'), coalesce(sum(r.bytes), 0), NULL) AS read_bytes,
  iif(profinfer_was_asked('block_io'), coalesce(sum(iif(m.file IS NULL, 0, r.bytes)), 0), NULL) AS of_models,
  iif(
    profinfer_was_asked('block_io'),
    coalesce(sum(iif(r.operator_slice_id IS NULL, 0, r.bytes)), 0),
    NULL
  ) AS in_operators,
  iif(
    profinfer_was_asked('block_io') AND profinfer_was_asked('faults'),
    (
      SELECT
        coalesce(sum(bytes), 0)
      FROM _untouched_part
    ),
    NULL
  ) AS untouched_bytes,
  profinfer_kernel_count('read_bytes') AS kernel_count,
  profinfer_doubtful_memory() + profinfer_lost('file_read') + profinfer_lost('fault') AS incomplete
FROM profinfer_file_read AS r
LEFT JOIN profinfer_model AS m
  USING (file)
HAVING
  EXISTS (
    SELECT
      1
    FROM profinfer_recording
  );

-- title: Bytes read by tensor (the first 60)
SELECT
  t.name AS tensor,
  t.layer,
  t.type,
  t.bytes,
  sum(r.bytes) AS read_bytes,
  round(1.0 * sum(r.bytes) / t.bytes, 2) AS times_read,
  sum(iif(r.arg_set_id IS NULL, 0, r.bytes)) AS in_operators,
  sum(r.untouched_bytes) AS untouched_bytes,
  profinfer_doubtful_memory() + profinfer_lost('file_read') + profinfer_lost('fault') AS incomplete
FROM profinfer_model_read AS r
JOIN profinfer_model_tensor AS t
  USING (model_tensor_id)
GROUP BY r.model_tensor_id
ORDER BY read_bytes DESC, tensor
LIMIT 60;

-- title: Bytes read by expert, during operators (the first 60)
SELECT
  t.layer,
  r.expert,
  sum(r.bytes) AS read_bytes,
  round(1.0 * sum(r.bytes) / min(e.bytes), 2) AS times_read,
  count(DISTINCT r.graph_id) AS graphs,
  sum(r.untouched_bytes) AS untouched_bytes,
  profinfer_doubtful_memory() + profinfer_lost('file_read') + profinfer_lost('fault') AS incomplete
FROM profinfer_model_read AS r
JOIN profinfer_model_tensor AS t
  USING (model_tensor_id)
JOIN (
  SELECT
    file,
    layer,
    sum(expert_bytes) AS bytes
  FROM profinfer_model_tensor
  WHERE experts IS NOT NULL
  GROUP BY file, layer
) AS e
  ON e.file = t.file AND e.layer IS t.layer
WHERE r.expert IS NOT NULL AND r.arg_set_id IS NOT NULL
GROUP BY t.file, t.layer, r.expert
ORDER BY read_bytes DESC, t.layer, r.expert
LIMIT 60;

-- title: Bytes read by file (the first 20)
SELECT
  coalesce(f.path, printf('device %d inode %d', f.device, f.inode)) AS file,
  sum(r.bytes) AS read_bytes,
  sum(iif(r.operator_slice_id IS NULL, 0, r.bytes)) AS in_operators,
  profinfer_doubtful_memory() + profinfer_lost('file_read') AS incomplete
FROM profinfer_file_read AS r
JOIN profinfer_file AS f
  USING (file)
GROUP BY r.file
ORDER BY read_bytes DESC, file
LIMIT 20;

-- title: Models whose reads cannot be told (none when empty)
SELECT
  path,
  iif(
    overlaid,
    'on an overlay file system: what is read of it stands under a file without a path',
    error
  ) AS reason
FROM profinfer_model
WHERE overlaid OR error IS NOT NULL;
