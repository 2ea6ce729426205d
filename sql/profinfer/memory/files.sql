-- Files that the target has mapped or read, and the tensors of the models among them.

INCLUDE PERFETTO MODULE profinfer.events;

-- Where files were mapped, as the recorder saw it a few times per second.
CREATE PERFETTO TABLE _file_mapping(
  -- When it was seen first.
  ts TIMESTAMP,
  -- When it was seen to be gone; NULL when it was there to the end.
  gone_ts TIMESTAMP,
  -- File.
  file LONG,
  -- Its path as the target sees it.
  path STRING,
  -- First address.
  start LONG,
  -- Address behind the last one.
  end LONG,
  -- Place in the file of the first address.
  offset LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  told AS (
    SELECT
      ts,
      category = 'memory.unmapping' AS is_gone,
      max(iif(key = 'file', int_value, NULL)) AS file,
      max(iif(key = 'path', string_value, NULL)) AS path,
      max(iif(key = 'start', int_value, NULL)) AS start,
      max(iif(key = 'end', int_value, NULL)) AS end,
      max(iif(key = 'offset', int_value, NULL)) AS offset,
      upid
    FROM _memory_arg
    WHERE category IN ('memory.mapping', 'memory.unmapping')
    GROUP BY id
  ),
  paired AS (
    SELECT
      *,
      lead(is_gone) OVER same AS goes,
      lead(ts) OVER same AS next_ts
    FROM told
    WINDOW
      same AS (PARTITION BY upid, file, start ORDER BY ts)
  )
SELECT
  ts,
  iif(goes, next_ts, NULL) AS gone_ts,
  file,
  path,
  start,
  end,
  offset,
  upid
FROM paired
WHERE NOT is_gone
ORDER BY file;

-- Files of which something was mapped or read, and models that were open.
CREATE PERFETTO TABLE profinfer_file(
  -- Number of the file in this recording.
  file LONG,
  -- Path as the target sees it; NULL for one that it was never seen to map, and that is no model
  -- which it had open, or named.
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
  ),
  files_of_models AS MATERIALIZED (
    SELECT
      id,
      int_value AS file
    FROM _memory_arg
    WHERE category = 'memory.model' AND key = 'file'
  )
SELECT
  f.file,
  coalesce(
    (
      SELECT
        min(m.path)
      FROM _file_mapping AS m
      WHERE m.file = f.file
    ),
    (
      SELECT
        min(a.string_value)
      FROM files_of_models AS o
      JOIN _memory_arg AS a
        ON a.id = o.id AND a.key = 'path'
      WHERE o.file = f.file
    )
  ) AS path,
  f.device,
  f.inode,
  f.upid
FROM files AS f
ORDER BY f.file;

-- GGUF files that the target had mapped or open, or of which it read something.
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
  -- Whether it was open for direct I/O, which passes the page cache by: of its reads nothing is known
  -- but the kernel's count.
  direct BOOL,
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
  max(key = 'direct' AND int_value = 1) AS direct,
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
