-- Splits of micro-batches: their graphs, one after the other, on one backend each, and what is copied
-- for them.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;

-- Backends, as the graphs that they were given tell of them.
CREATE PERFETTO TABLE profinfer_backend(
  -- Address of its ggml_backend.
  backend LONG,
  -- What it is called: by the engine, where its graphs take inputs of other backends; else its kind.
  name STRING,
  -- What of backends it is, such as CPU; of one that nobody knows, the same in any recording.
  kind STRING,
  -- GUID of its kind, in hexadecimal digits.
  guid STRING,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  max(iif(key = 'backend', int_value, NULL)) AS backend,
  name,
  max(iif(key = 'kind', string_value, NULL)) AS kind,
  max(iif(key = 'guid', string_value, NULL)) AS guid,
  upid
FROM _structure_arg
WHERE category = 'structure.backend'
GROUP BY id
ORDER BY upid, backend;

-- The first operator of each structure.
CREATE PERFETTO TABLE _first_operator(
  -- Structure.
  structure_id LONG,
  -- Tensor.
  tensor_id LONG,
  -- Operators, views not among them.
  operators LONG
) AS
WITH
  numbered AS (
    SELECT
      n.structure_id,
      n.tensor_id,
      row_number() OVER (PARTITION BY n.structure_id ORDER BY n.node) AS number,
      count() OVER (PARTITION BY n.structure_id) AS operators
    FROM profinfer_node AS n
    JOIN profinfer_tensor AS t
      USING (tensor_id)
    WHERE t.kind = 'operator'
  )
SELECT
  structure_id,
  tensor_id,
  operators
FROM numbered
WHERE number = 1
ORDER BY structure_id;

-- Graphs of micro-batches in their order.
CREATE PERFETTO TABLE profinfer_split(
  -- Micro-batch.
  ubatch_id LONG,
  -- Number within it, from 0.
  split LONG,
  -- Graph run.
  graph_id LONG,
  -- Start.
  ts TIMESTAMP,
  -- Duration, NULL when the end was not recorded; on a backend that works asynchronously it is the
  -- submission.
  dur DURATION,
  -- Backend.
  backend STRING,
  -- The backend of the split before it, NULL for the first.
  from_backend STRING,
  -- Operators, views not among them; NULL where the structure is unknown.
  operators LONG,
  -- Its first operator: the node that moved to this backend. NULL where the structure is unknown.
  first_tensor_id LONG,
  -- A weight or cache that the first operator takes, NULL for none.
  held STRING,
  -- Structure.
  structure_id LONG,
  -- False when records may have been lost within it.
  complete BOOL,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  g.ubatch_id,
  row_number() OVER of_ubatch - 1 AS split,
  g.graph_id,
  g.ts,
  g.dur,
  g.backend,
  lag(g.backend) OVER of_ubatch AS from_backend,
  f.operators,
  f.tensor_id AS first_tensor_id,
  (
    SELECT
      min(t.name)
    FROM profinfer_edge AS e
    JOIN profinfer_tensor AS t
      ON t.tensor_id = e.src_tensor_id
    WHERE e.tensor_id = f.tensor_id AND t.kind IN ('weight', 'cache')
  ) AS held,
  g.structure_id,
  g.complete,
  g.upid
FROM profinfer_graph AS g
LEFT JOIN _first_operator AS f
  USING (structure_id)
WHERE g.ubatch_id IS NOT NULL
WINDOW
  of_ubatch AS (PARTITION BY g.ubatch_id ORDER BY g.ts)
ORDER BY g.ubatch_id, split;

-- Inputs of structures that a scheduler of ggml has copied from another backend's memory: it calls
-- them "backend#tensor#number".
CREATE PERFETTO TABLE _split_input(
  -- Structure.
  structure_id LONG,
  -- The copy.
  tensor_id LONG,
  -- Its address.
  address LONG,
  -- The tensor that it is a copy of.
  name STRING,
  -- Bytes.
  bytes LONG
) AS
WITH
  inputs AS (
    SELECT DISTINCT
      n.structure_id,
      t.tensor_id,
      t.address,
      rtrim(substr(t.name, instr(t.name, '#') + 1), '0123456789') AS name,
      t.bytes
    FROM profinfer_tensor AS t
    JOIN profinfer_edge AS e
      ON e.src_tensor_id = t.tensor_id
    JOIN profinfer_node AS n
      ON n.tensor_id = e.tensor_id
    WHERE t.op = 'NONE' AND t.name GLOB '?*#*#[0-9]*'
  )
SELECT
  structure_id,
  tensor_id,
  address,
  rtrim(name, '#') AS name,
  bytes
FROM inputs
WHERE name GLOB '?*#'
ORDER BY structure_id, address;

-- What lies between the graphs of micro-batches, with the split that follows.
CREATE PERFETTO TABLE _split_part(
  -- Slice id.
  id JOINID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- As in _part_event.
  name STRING,
  -- As in _part_event.
  tensor LONG,
  -- As in _part_event.
  from_tensor LONG,
  -- As in _part_event.
  bytes LONG,
  -- Micro-batch.
  ubatch_id LONG,
  -- Place of the graph run that follows among those of its process; NULL for none.
  graph_id LONG
) AS
WITH
  marks AS (
    SELECT
      p.id,
      p.ts,
      p.dur,
      p.name,
      p.tensor,
      p.from_tensor,
      p.bytes,
      u.ubatch_id,
      NULL AS graph_id
    FROM _part_event AS p
    JOIN _ubatch_event AS u
      ON u.id = p.parent_id
    WHERE p.dur >= 0
    UNION ALL
    SELECT
      NULL AS id,
      ts,
      NULL AS dur,
      NULL AS name,
      NULL AS tensor,
      NULL AS from_tensor,
      NULL AS bytes,
      ubatch_id,
      graph_id
    FROM profinfer_split
  ),
  followed AS (
    SELECT
      id,
      ts,
      dur,
      name,
      tensor,
      from_tensor,
      bytes,
      ubatch_id,
      min(graph_id) OVER (
        PARTITION BY ubatch_id ORDER BY ts, id ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
      ) AS graph_id
    FROM marks
  )
SELECT
  *
FROM followed
WHERE id IS NOT NULL
ORDER BY id;

-- Copies between backends within micro-batches. The host's own writing of inputs is none, nor its reading
-- of results. Where ggml copies by a function of its own it is a copy; where it writes to a copy, or
-- reads from another backend's memory, for the split that follows, it is one, too.
CREATE PERFETTO TABLE profinfer_copy(
  -- Slice id.
  slice_id JOINID(slice.id),
  -- Start.
  ts TIMESTAMP,
  -- Duration.
  dur DURATION,
  -- The tensor that is copied, NULL where it is in no graph that was seen.
  tensor STRING,
  -- Bytes, NULL where they are not known.
  bytes LONG,
  -- The backend that computed it; host: none did in the micro-batch, as of inputs.
  from_backend STRING,
  -- The backend for whose split it is.
  to_backend STRING,
  -- Micro-batch.
  ubatch_id LONG,
  -- The split.
  split LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  found AS (
    SELECT
      p.id,
      p.ts,
      p.dur,
      p.name AS part,
      coalesce(i.name, (SELECT max(t.name) FROM profinfer_tensor AS t WHERE t.tensor_id = r.tensor_id)) AS tensor,
      coalesce(p.bytes, i.bytes) AS bytes,
      s.backend AS to_backend,
      p.ubatch_id,
      s.split,
      s.upid,
      r.backend AS read_backend
    FROM _split_part AS p
    JOIN profinfer_split AS s
      USING (graph_id)
    LEFT JOIN _split_input AS i
      ON i.structure_id = s.structure_id AND i.address = p.tensor
    LEFT JOIN (
      SELECT
        b.ubatch_id,
        b.split,
        b.backend,
        n.tensor_id,
        t.address
      FROM profinfer_split AS b
      JOIN profinfer_node AS n
        USING (structure_id)
      JOIN profinfer_tensor AS t
        USING (tensor_id)
      WHERE b.ubatch_id IN (SELECT ubatch_id FROM _split_part WHERE name IN ('get', 'copy'))
    ) AS r
      ON r.ubatch_id = p.ubatch_id
      AND r.split < s.split
      AND r.address = coalesce(p.from_tensor, iif(p.name = 'get', p.tensor, NULL))
    WHERE
      p.name = 'copy'
      OR (p.name = 'set' AND i.name IS NOT NULL)
      OR (p.name = 'get' AND r.backend IS NOT NULL)
  )
SELECT
  f.id AS slice_id,
  f.ts,
  f.dur,
  f.tensor,
  f.bytes,
  coalesce(
    f.read_backend,
    (
      SELECT
        max(b.backend)
      FROM profinfer_split AS b
      JOIN profinfer_node AS n
        USING (structure_id)
      JOIN profinfer_tensor AS t
        USING (tensor_id)
      WHERE b.ubatch_id = f.ubatch_id AND b.split < f.split AND t.name = f.tensor
    ),
    iif(f.tensor IS NULL, NULL, 'host')
  ) AS from_backend,
  f.to_backend,
  f.ubatch_id,
  f.split,
  f.upid
FROM found AS f
GROUP BY f.id
ORDER BY f.id;

-- Graphs of backends, and when the host knew that they had been computed: some return at once.
CREATE PERFETTO TABLE profinfer_execution(
  -- Graph run.
  graph_id LONG,
  -- Backend.
  backend STRING,
  -- Submission: how long the call lasted by which it was given to the backend. One that works
  -- synchronously has computed it by then.
  submit_dur DURATION,
  -- Execution, as seen from the host: from the begin of the submission to the end of the first wait for
  -- the backend; it took at most so long, and at least the submission where that is synchronous. NULL
  -- where nobody waited for the backend before it was given its next graph.
  seen_dur DURATION,
  -- Of that, the wait.
  wait_dur DURATION,
  -- Micro-batch around it, NULL outside any.
  ubatch_id LONG,
  -- Process.
  upid JOINID(process.id)
) AS
WITH
  marks AS (
    SELECT
      g.upid,
      g.backend,
      g.ts,
      g.graph_id,
      NULL AS dur
    FROM profinfer_graph AS g
    UNION ALL
    SELECT
      w.upid,
      b.name AS backend,
      w.ts,
      NULL AS graph_id,
      w.dur
    FROM _part_event AS w
    JOIN profinfer_backend AS b
      ON b.upid = w.upid AND b.backend = w.backend
    WHERE w.name = 'wait' AND w.dur >= 0
  ),
  followed AS (
    SELECT
      graph_id,
      lead(graph_id) OVER of_backend AS next_graph_id,
      lead(ts) OVER of_backend AS wait_ts,
      lead(dur) OVER of_backend AS wait_dur
    FROM marks
    WINDOW
      of_backend AS (PARTITION BY upid, backend ORDER BY ts)
  )
SELECT
  g.graph_id,
  g.backend,
  g.dur AS submit_dur,
  iif(f.next_graph_id IS NULL, f.wait_ts + f.wait_dur - g.ts, NULL) AS seen_dur,
  iif(f.next_graph_id IS NULL, f.wait_dur, NULL) AS wait_dur,
  g.ubatch_id,
  g.upid
FROM followed AS f
JOIN profinfer_graph AS g
  USING (graph_id)
ORDER BY g.graph_id;
