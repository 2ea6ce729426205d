-- Files that the target has mapped or read, and the tensors of the models among them.

INCLUDE PERFETTO MODULE profinfer.events;

-- Where files were mapped, as the recorder saw it a few times per second.
CREATE PERFETTO TABLE _file_mapping(
  -- File.
  file LONG,
  -- Its path as the target sees it.
  path STRING,
  -- First address.
  start LONG,
  -- Place in the file of that address.
  offset LONG,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  max(iif(key = 'file', int_value, NULL)) AS file,
  max(iif(key = 'path', string_value, NULL)) AS path,
  max(iif(key = 'start', int_value, NULL)) AS start,
  max(iif(key = 'offset', int_value, NULL)) AS offset,
  upid
FROM _memory_arg
WHERE category = 'memory.mapping'
GROUP BY id
ORDER BY file;

-- Files of which something was mapped or read.
CREATE PERFETTO TABLE profinfer_file(
  -- Number of the file in this recording.
  file LONG,
  -- Path as the target sees it; NULL for one that it was never seen to map.
  path STRING,
  -- Device, as the kernel numbers it: major * 2^20 + minor.
  device LONG,
  -- Inode.
  inode LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  files AS (
    SELECT
      max(iif(key = 'file', int_value, NULL)) AS file,
      max(iif(key = 'device', int_value, NULL)) AS device,
      max(iif(key = 'inode', int_value, NULL)) AS inode,
      upid
    FROM _memory_arg
    WHERE category = 'memory.file'
    GROUP BY id
  )
SELECT
  f.file,
  (
    SELECT
      min(m.path)
    FROM _file_mapping AS m
    WHERE m.file = f.file
  ) AS path,
  f.device,
  f.inode,
  f.upid
FROM files AS f
ORDER BY f.file;

-- GGUF files that the target had mapped.
CREATE PERFETTO TABLE profinfer_model(
  -- File.
  file LONG,
  -- Path as the target sees it.
  path STRING,
  -- Architecture that it names.
  architecture STRING,
  -- Experts per layer, NULL where it has none.
  expert_count LONG,
  -- Experts that a token uses, NULL where it has none.
  expert_used_count LONG,
  -- Tensors.
  tensor_count LONG,
  -- Whether it lies on an overlay file system, as those of containers do: what is read of it is then
  -- told of the file below, which is another row of profinfer_file, and so of no tensor.
  overlaid BOOL,
  -- Why its header could not be read; NULL when it could.
  error STRING,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  max(iif(key = 'file', int_value, NULL)) AS file,
  max(iif(key = 'path', string_value, NULL)) AS path,
  max(iif(key = 'architecture', string_value, NULL)) AS architecture,
  nullif(max(iif(key = 'expert_count', int_value, NULL)), 0) AS expert_count,
  nullif(max(iif(key = 'expert_used_count', int_value, NULL)), 0) AS expert_used_count,
  max(iif(key = 'tensor_count', int_value, NULL)) AS tensor_count,
  max(key = 'overlaid' AND int_value = 1) AS overlaid,
  max(iif(key = 'error', string_value, NULL)) AS error,
  upid
FROM _memory_arg
WHERE category = 'memory.model'
GROUP BY id
ORDER BY file;

-- Tensors as they lie in the models' files.
CREATE PERFETTO TABLE profinfer_model_tensor(
  -- Number of the tensor, in order of files and places.
  model_tensor_id LONG,
  -- File.
  file LONG,
  -- Name, such as blk.0.attn_q.weight.
  name STRING,
  -- Element type, such as Q4_K.
  type STRING,
  -- Layer number parsed from the name.
  layer LONG,
  -- Place in the file.
  offset LONG,
  -- Length in the file.
  bytes LONG,
  -- Experts whose weights it holds, one after another; NULL where it is not made of experts.
  experts LONG,
  -- Length of one expert's part.
  expert_bytes LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  tensors AS (
    SELECT
      name,
      max(iif(key = 'file', int_value, NULL)) AS file,
      max(iif(key = 'type', string_value, NULL)) AS type,
      max(iif(key = 'layer', int_value, NULL)) AS layer,
      max(iif(key = 'offset', int_value, NULL)) AS offset,
      max(iif(key = 'bytes', int_value, NULL)) AS bytes,
      max(iif(key = 'experts', int_value, NULL)) AS experts,
      max(iif(key = 'expert_bytes', int_value, NULL)) AS expert_bytes,
      upid
    FROM _memory_arg
    WHERE category = 'memory.tensor'
    GROUP BY id
  )
SELECT
  row_number() OVER (ORDER BY file, offset) AS model_tensor_id,
  file,
  name,
  type,
  layer,
  offset,
  bytes,
  experts,
  expert_bytes,
  upid
FROM tensors
WHERE bytes > 0
ORDER BY file, offset;

-- The smallest parts of models that are told apart: experts of tensors, and tensors without.
CREATE PERFETTO TABLE _model_piece(
  -- Number, in order of files and places.
  piece_id LONG,
  -- File.
  file LONG,
  -- Place in the file.
  offset LONG,
  -- Length.
  bytes LONG,
  -- Tensor.
  model_tensor_id LONG,
  -- Expert, NULL for a tensor without.
  expert LONG
) AS
WITH RECURSIVE
  numbers(n) AS (
    SELECT
      0
    UNION ALL
    SELECT
      n + 1
    FROM numbers
    WHERE
      n + 1 < (
        SELECT
          max(experts)
        FROM profinfer_model_tensor
      )
  )
SELECT
  row_number() OVER (ORDER BY t.file, t.offset, n.n) AS piece_id,
  t.file,
  t.offset + n.n * coalesce(t.expert_bytes, 0) AS offset,
  coalesce(t.expert_bytes, t.bytes) AS bytes,
  t.model_tensor_id,
  iif(t.experts IS NULL, NULL, n.n) AS expert
FROM profinfer_model_tensor AS t
JOIN numbers AS n
  ON n.n < coalesce(t.experts, 1)
ORDER BY t.file, t.offset, n.n;
