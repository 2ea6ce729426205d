-- Where the engine's weights lie: in mappings of files, or outside, as weights that were read, or
-- repacked for the CPU, do.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.memory.files;

-- Weights that graphs used, by where they lay.
CREATE PERFETTO TABLE _used_weight(
  -- Tensor, the first of those that are alike.
  tensor_id LONG,
  -- Name, such as blk.0.attn_q.weight.
  name STRING,
  -- Address of the first element.
  data LONG,
  -- Length.
  bytes LONG,
  -- Start of the first graph that used it.
  first_ts TIMESTAMP,
  -- End of the last one.
  last_ts TIMESTAMP,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  uses AS MATERIALIZED (
    SELECT
      structure_id,
      min(ts) AS first_ts,
      max(ts + coalesce(dur, 0)) AS last_ts
    FROM profinfer_graph
    WHERE structure_id IS NOT NULL
    GROUP BY structure_id
  )
SELECT
  min(w.tensor_id) AS tensor_id,
  w.name,
  w.data,
  w.bytes,
  min(u.first_ts) AS first_ts,
  max(u.last_ts) AS last_ts,
  w.upid
FROM uses AS u
JOIN profinfer_node AS n
  USING (structure_id)
JOIN profinfer_edge AS e
  USING (tensor_id)
JOIN profinfer_tensor AS w
  ON w.tensor_id = e.src_tensor_id
WHERE w.kind = 'weight' AND w.data IS NOT NULL AND w.bytes > 0
GROUP BY w.upid, w.data, w.bytes, w.name
ORDER BY w.upid, w.data;

-- Weights that graphs used. What is told of files needs a recording with --faults or --block-io.
CREATE PERFETTO TABLE profinfer_weight(
  -- Number of the weight in this trace.
  weight_id LONG,
  -- Tensor (see profinfer_tensor), the first of those that are alike.
  tensor_id LONG,
  -- Name, such as blk.0.attn_q.weight.
  name STRING,
  -- Element type, such as q4_K.
  type STRING,
  -- Layer number parsed from the name.
  layer LONG,
  -- Address of the first element.
  data LONG,
  -- Length.
  bytes LONG,
  -- Experts that it holds, one after another; NULL where it is not made of experts.
  experts LONG,
  -- File that is mapped there; NULL outside files, and where it is not known.
  file LONG,
  -- Place in that file.
  offset LONG,
  -- Whether it lies in a mapped file; NULL where mappings were not recorded.
  in_file BOOL,
  -- Of one that lies outside, whether a mapped file holds it, too; NULL where it is not known.
  twice BOOL,
  -- Until then another weight lay at some of its addresses; 0 when none did.
  since_ts TIMESTAMP,
  -- Start of the first graph that used it.
  first_ts TIMESTAMP,
  -- End of the last one.
  last_ts TIMESTAMP,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  -- What was mapped there at the time, give or take the second that a look may come late.
  placed AS MATERIALIZED (
    SELECT
      w.tensor_id,
      w.first_ts,
      min(m.ts) AS ts,
      m.file,
      w.data - m.start + m.offset AS offset
    FROM _used_weight AS w
    JOIN _file_mapping AS m
      ON m.upid = w.upid
      AND w.data >= m.start
      AND w.data < m.end
      AND m.ts <= w.last_ts + 1000000000
      AND (m.gone_ts IS NULL OR m.gone_ts > w.first_ts)
    GROUP BY w.tensor_id
  ),
  looked AS MATERIALIZED (
    SELECT DISTINCT
      upid
    FROM _file_mapping
  ),
  -- Of which file it is a copy: of the only one that has such a tensor.
  originals AS MATERIALIZED (
    SELECT
      upid,
      name,
      file,
      offset,
      bytes
    FROM profinfer_model_tensor
    GROUP BY upid, name
    HAVING
      count() = 1
  )
SELECT
  row_number() OVER (ORDER BY w.upid, w.data, w.first_ts) AS weight_id,
  w.tensor_id,
  w.name,
  t.type,
  t.layer,
  w.data,
  w.bytes,
  iif(w.name GLOB '*_exps.*' AND t.ne2 > 1, t.ne2, NULL) AS experts,
  p.file,
  p.offset,
  iif(l.upid IS NULL, NULL, p.file IS NOT NULL) AS in_file,
  iif(
    p.file IS NOT NULL,
    FALSE,
    (
      SELECT
        EXISTS (
          SELECT
            1
          FROM _file_mapping AS m
          WHERE
            m.file = o.file
            AND m.offset <= o.offset
            AND m.offset + m.end - m.start >= o.offset + o.bytes
            AND m.ts <= w.last_ts + 1000000000
            AND (m.gone_ts IS NULL OR m.gone_ts > w.first_ts)
        )
      FROM originals AS o
      WHERE o.upid = w.upid AND o.name = w.name
    )
  ) AS twice,
  coalesce(
    (
      SELECT
        max(b.last_ts)
      FROM _used_weight AS b
      WHERE
        b.upid = w.upid
        AND b.data < w.data + w.bytes
        AND w.data < b.data + b.bytes
        AND b.last_ts < w.first_ts
    ),
    0
  ) AS since_ts,
  w.first_ts,
  w.last_ts,
  w.upid
FROM _used_weight AS w
JOIN profinfer_tensor AS t
  USING (tensor_id)
LEFT JOIN placed AS p
  USING (tensor_id)
LEFT JOIN looked AS l
  ON l.upid = w.upid
ORDER BY w.upid, w.data, w.first_ts;

-- Addresses at which a weight outside of files begins, or the memory behind one, and which weights
-- lie there until the next of them: several where one came after another.
CREATE PERFETTO TABLE _weight_place(
  -- Number, in order of processes and addresses.
  place_id LONG,
  -- First address.
  address LONG,
  -- Weight, NULL behind the last one.
  weight_id LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  outside AS MATERIALIZED (
    SELECT
      *
    FROM profinfer_weight
    WHERE NOT in_file
  ),
  bounds AS MATERIALIZED (
    SELECT upid, data AS address FROM outside
    UNION
    SELECT upid, data + bytes AS address FROM outside
  )
SELECT
  dense_rank() OVER (ORDER BY b.upid, b.address) AS place_id,
  b.address,
  w.weight_id,
  b.upid
FROM bounds AS b
LEFT JOIN outside AS w
  ON w.upid = b.upid AND w.data <= b.address AND b.address < w.data + w.bytes
ORDER BY b.upid, b.address;
