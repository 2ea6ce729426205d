-- Page faults and file reads: which operator, which tensor, which expert.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.memory.files;
INCLUDE PERFETTO MODULE profinfer.memory.weights;
INCLUDE PERFETTO MODULE profinfer.operators.slices;
INCLUDE PERFETTO MODULE profinfer.recording.losses;

-- Whether something was to be recorded of a process.
CREATE PERFETTO FUNCTION profinfer_was_asked(
  -- Process.
  upid JOINID(process.id),
  -- Setting: faults or block_io.
  setting STRING
)
-- False also for traces that do not say.
RETURNS BOOL AS
SELECT
  EXISTS (
    SELECT
      1
    FROM _recording_arg
    WHERE upid = $upid AND key = 'config.' || $setting AND value IN ('1', 'true')
  );

-- What the kernel itself has counted of a process while it was recorded.
CREATE PERFETTO FUNCTION profinfer_kernel_count(
  -- Process.
  upid JOINID(process.id),
  -- One of minor, major and read_bytes.
  what STRING
)
-- NULL where that could not be read, and when only some micro-batches were recorded.
RETURNS LONG AS
SELECT
  CAST(sum(value) AS INTEGER)
FROM _recording_arg
WHERE upid = $upid AND key = 'memory.kernel.' || $what;

-- The same, or, of a process that has ended, what it had counted when it was asked at last.
CREATE PERFETTO FUNCTION profinfer_kernel_at_least(
  -- Process.
  upid JOINID(process.id),
  -- One of minor, major and read_bytes.
  what STRING
)
-- NULL where nothing could be read, and when only some micro-batches were recorded.
RETURNS LONG AS
SELECT
  CAST(sum(value) AS INTEGER)
FROM _recording_arg
WHERE upid = $upid AND key IN ('memory.kernel.' || $what, 'memory.kernel_at_least.' || $what);

-- Bytes of a page of a process's memory.
CREATE PERFETTO FUNCTION _page_size(
  -- Process.
  upid JOINID(process.id)
)
-- NULL where it is not told.
RETURNS LONG AS
SELECT
  CAST(max(value) AS INTEGER)
FROM _recording_arg
WHERE upid = $upid AND key = 'page_size';

-- How many records were lost by which a fault or a read may have missed its operator.
CREATE PERFETTO FUNCTION profinfer_doubtful_memory(
  -- Process.
  upid JOINID(process.id)
)
-- Records of operators, and of the beginnings of graphs.
RETURNS LONG AS
SELECT
  profinfer_lost($upid, 'operator')
  + profinfer_lost($upid, 'fused')
  + profinfer_lost($upid, 'graph_begin');

-- Page faults of the processes that were recorded.
CREATE PERFETTO TABLE profinfer_fault(
  -- Slice id.
  id LONG,
  -- When it had been served.
  ts TIMESTAMP,
  -- Thread.
  utid JOINID(thread.id),
  -- Either major (something had to be read) or minor.
  kind STRING,
  -- Address that was touched.
  address LONG,
  -- File that is mapped there; NULL for other memory, and where it is not known.
  file LONG,
  -- Whether it is memory of no file, for certain: a major fault there is a page from swap.
  of_no_file BOOL,
  -- Place in that file.
  offset LONG,
  -- Tensor of a model that lies there in its file.
  model_tensor_id LONG,
  -- Weight that lies there outside files (see profinfer_weight), or came to lie there later.
  weight_id LONG,
  -- Expert that lies there.
  expert LONG,
  -- Slice of the operator during which it happened, NULL outside.
  operator_slice_id LONG,
  -- Graph run in which it happened, NULL outside operators.
  graph_id LONG,
  -- Arguments of the operator's slice, with its description.
  arg_set_id ARGSETID,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  faults AS MATERIALIZED (
    SELECT
      *
    FROM _fault_event
  ),
  placed AS MATERIALIZED (
    SELECT
      id,
      -- The last piece that begins before it.
      max(piece_id) OVER (
        PARTITION BY file ORDER BY offset, id IS NOT NULL ROWS UNBOUNDED PRECEDING
      ) AS piece_id
    FROM (
      SELECT file, offset, piece_id, NULL AS id FROM _model_piece
      UNION ALL
      SELECT file, offset, NULL AS piece_id, id FROM faults WHERE file != 0
    )
  ),
  -- The last place of weights that begins before it.
  weighed AS MATERIALIZED (
    SELECT
      id,
      ts,
      address,
      max(place_id) OVER (
        PARTITION BY upid ORDER BY address, id IS NOT NULL ROWS UNBOUNDED PRECEDING
      ) AS place_id
    FROM (
      SELECT upid, address, place_id, NULL AS id, NULL AS ts FROM _weight_place
      UNION ALL
      SELECT upid, address, NULL AS place_id, id, ts FROM faults WHERE file = 0
    )
  ),
  places AS MATERIALIZED (
    SELECT
      p.place_id,
      w.*
    FROM _weight_place AS p
    JOIN profinfer_weight AS w
      USING (weight_id)
  ),
  -- Of several that lay there at the time, under several names, one.
  in_weights AS MATERIALIZED (
    SELECT
      a.id,
      max(w.weight_id) AS weight_id,
      (a.address - w.data) * w.experts / w.bytes AS expert
    FROM weighed AS a
    JOIN places AS w
      USING (place_id)
    WHERE a.id IS NOT NULL AND a.ts > w.since_ts AND a.ts <= w.last_ts
    GROUP BY a.id
  )
SELECT
  f.id,
  f.ts,
  f.utid,
  iif(f.is_major, 'major', 'minor') AS kind,
  f.address,
  nullif(f.file, 0) AS file,
  f.file = 0 AND f.offset = 1 AS of_no_file,
  iif(f.file = 0, NULL, f.offset) AS offset,
  m.model_tensor_id,
  w.weight_id,
  coalesce(m.expert, w.expert) AS expert,
  o.id AS operator_slice_id,
  o.graph_id,
  o.arg_set_id,
  f.upid
FROM faults AS f
LEFT JOIN placed AS p
  ON p.id = f.id
LEFT JOIN _model_piece AS m
  ON m.piece_id = p.piece_id AND f.offset < m.offset + m.bytes
LEFT JOIN in_weights AS w
  ON w.id = f.id
LEFT JOIN profinfer_operator_slice AS o
  ON o.id = f.operator_slice_id
ORDER BY f.ts;

-- Pages that came into memory, thread by thread: the next row is the next one of the same thread.
CREATE PERFETTO TABLE _page_read(
  -- Slice id.
  id JOINID(slice.id),
  -- As in _file_read_event.
  ts TIMESTAMP,
  -- Thread.
  utid JOINID(thread.id),
  -- File.
  file LONG,
  -- Place in the file.
  offset LONG,
  -- Length.
  bytes LONG,
  -- As in _file_read_event.
  operator_slice_id JOINID(slice.id),
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  id,
  ts,
  utid,
  file,
  offset,
  bytes,
  operator_slice_id,
  upid
FROM _file_read_event
ORDER BY utid, ts, id;

-- Parts of files that came into memory because of the target's threads: by a fault, by a read
-- call, or ahead of either. The kernel brings pages; those that came one after another, within 1 ms
-- and during one operator, are one row.
CREATE PERFETTO TABLE profinfer_file_read(
  -- Slice id of the first page.
  id LONG,
  -- When the kernel made room for the first page; the data comes after.
  ts TIMESTAMP,
  -- Thread.
  utid JOINID(thread.id),
  -- File.
  file LONG,
  -- Place in the file.
  offset LONG,
  -- Length.
  bytes LONG,
  -- Slice of the operator during which it happened, NULL outside.
  operator_slice_id LONG,
  -- Graph run in which it happened, NULL outside operators.
  graph_id LONG,
  -- Arguments of the operator's slice, with its description.
  arg_set_id ARGSETID,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  firsts AS (
    SELECT
      p._auto_id AS first,
      lead(p._auto_id, 1, (SELECT count() FROM _page_read)) OVER (ORDER BY p._auto_id) - 1 AS last
    FROM _page_read AS p
    LEFT JOIN _page_read AS b
      ON b._auto_id = p._auto_id - 1
      AND b.utid = p.utid
      AND b.file IS p.file
      AND b.offset + b.bytes = p.offset
      AND b.operator_slice_id IS p.operator_slice_id
      AND p.ts - b.ts < 1000000
    WHERE b.utid IS NULL
  ),
  runs AS MATERIALIZED (
    SELECT
      b.id,
      b.ts,
      b.utid,
      b.upid,
      b.file,
      b.offset,
      e.offset + e.bytes - b.offset AS bytes,
      b.operator_slice_id
    FROM firsts AS f
    CROSS JOIN _page_read AS b
      ON b._auto_id = f.first
    CROSS JOIN _page_read AS e
      ON e._auto_id = f.last
  )
SELECT
  r.id,
  r.ts,
  r.utid,
  r.file,
  r.offset,
  r.bytes,
  o.id AS operator_slice_id,
  o.graph_id,
  o.arg_set_id,
  r.upid
FROM runs AS r
LEFT JOIN profinfer_operator_slice AS o
  ON o.id = r.operator_slice_id
ORDER BY r.ts;

-- What was read during operators and, as far as faults show it, never touched. A fault makes a
-- neighbourhood of 64 KiB accessible, as far as it is in memory by then; whatever is touched there
-- later shows no fault. So what has seen a fault in its neighbourhood since it was read counts as
-- touched.
CREATE PERFETTO TABLE _untouched_part(
  -- The read (see profinfer_file_read).
  file_read_id LONG,
  -- Place in the file.
  offset LONG,
  -- Length.
  bytes LONG
) AS
WITH RECURSIVE
  -- Neighbourhoods are aligned by address, not by place in the file.
  phases AS MATERIALIZED (
    SELECT
      file,
      min((start - offset) & 65535) AS phase
    FROM _file_mapping
    GROUP BY file
  ),
  touched AS MATERIALIZED (
    SELECT
      f.file,
      (f.offset + p.phase) >> 16 AS neighbourhood,
      max(f.ts) AS ts
    FROM profinfer_fault AS f
    JOIN phases AS p
      USING (file)
    GROUP BY f.file, neighbourhood
  ),
  parts(id, ts, file, phase, neighbourhood, begin, end) AS (
    SELECT
      r.id,
      r.ts,
      r.file,
      p.phase,
      (r.offset + p.phase) >> 16,
      r.offset + p.phase,
      r.offset + p.phase + r.bytes
    FROM profinfer_file_read AS r
    JOIN phases AS p
      USING (file)
    WHERE r.operator_slice_id IS NOT NULL
    UNION ALL
    SELECT
      id,
      ts,
      file,
      phase,
      neighbourhood + 1,
      begin,
      end
    FROM parts
    WHERE (neighbourhood + 1) << 16 < end
  )
SELECT
  p.id AS file_read_id,
  max(p.begin, p.neighbourhood << 16) - p.phase AS offset,
  min(p.end, (p.neighbourhood + 1) << 16) - max(p.begin, p.neighbourhood << 16) AS bytes
FROM parts AS p
LEFT JOIN touched AS t
  ON t.file = p.file AND t.neighbourhood = p.neighbourhood
WHERE t.ts IS NULL OR t.ts < p.ts
ORDER BY p.id;

-- Reads of models by what lies there: one row per read and tensor, or expert of a tensor.
CREATE PERFETTO TABLE profinfer_model_read(
  -- The read (see profinfer_file_read).
  file_read_id LONG,
  -- When the kernel made room for it.
  ts TIMESTAMP,
  -- Tensor.
  model_tensor_id LONG,
  -- Expert, NULL for a tensor without.
  expert LONG,
  -- Place in the file.
  offset LONG,
  -- Bytes of it that were read.
  bytes LONG,
  -- Those of them, read during operators, in whose neighbourhood no fault has followed: read for
  -- nothing, as far as faults show it. NULL without --faults.
  untouched_bytes LONG,
  -- Graph run in which it happened, NULL outside operators.
  graph_id LONG,
  -- Arguments of the operator's slice, with its description.
  arg_set_id ARGSETID,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  -- Not read by read.
  asked AS MATERIALIZED (
    SELECT
      upid
    FROM _recorded_process
    WHERE profinfer_was_asked(upid, 'faults')
  ),
  placed AS (
    SELECT
      id,
      is_end,
      max(piece_id) OVER (
        PARTITION BY file ORDER BY offset, id IS NOT NULL ROWS UNBOUNDED PRECEDING
      ) AS piece_id
    FROM (
      SELECT file, offset, piece_id, NULL AS id, NULL AS is_end FROM _model_piece
      UNION ALL
      SELECT file, offset, NULL AS piece_id, id, 0 AS is_end FROM profinfer_file_read
      UNION ALL
      SELECT
        file,
        offset + bytes - 1 AS offset,
        NULL AS piece_id,
        id,
        1 AS is_end
      FROM profinfer_file_read
    )
  ),
  spans AS MATERIALIZED (
    SELECT
      id,
      max(iif(is_end, 0, piece_id)) AS first,
      max(iif(is_end, piece_id, 0)) AS last
    FROM placed
    WHERE id IS NOT NULL
    GROUP BY id
  ),
  parts AS MATERIALIZED (
    SELECT
      r.id AS file_read_id,
      r.ts,
      m.model_tensor_id,
      m.expert,
      max(r.offset, m.offset) AS offset,
      min(r.offset + r.bytes, m.offset + m.bytes) - max(r.offset, m.offset) AS bytes,
      r.graph_id,
      r.arg_set_id,
      r.upid
    FROM profinfer_file_read AS r
    JOIN spans AS s
      ON s.id = r.id
    JOIN _model_piece AS m
      ON m.piece_id BETWEEN s.first AND s.last
    WHERE
      m.file = r.file
      AND m.offset < r.offset + r.bytes
      AND r.offset < m.offset + m.bytes
  )
SELECT
  p.file_read_id,
  p.ts,
  p.model_tensor_id,
  p.expert,
  p.offset,
  p.bytes,
  iif(
    p.upid IN (SELECT upid FROM asked),
    coalesce((
      SELECT
        sum(max(min(u.offset + u.bytes, p.offset + p.bytes) - max(u.offset, p.offset), 0))
      FROM _untouched_part AS u
      WHERE u.file_read_id = p.file_read_id
    ), 0),
    NULL
  ) AS untouched_bytes,
  p.graph_id,
  p.arg_set_id,
  p.upid
FROM parts AS p
ORDER BY p.ts;
