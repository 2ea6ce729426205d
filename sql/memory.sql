-- How many bytes do operators have to move, how fast do they, and what do page faults add?
-- expected_mb is what follows from shapes, strides and types (profinfer_operator_traffic). gb_per_s is
-- what it comes to per second from the first thread's start to the last one's end: above what the
-- memory can deliver, it came from a cache. measured_read_mb and measured_written_mb are what counters
-- of bytes say (--counters memory) of those runs of which they were read on every thread, which
-- measured_runs counts; measured_percent is what was read in percent of what these runs were expected
-- to read: below 100 the rest came from a cache. Estimates where counters shared their hardware.
-- NULL is what was not recorded: counters, faults (--faults), bytes read from storage (--block-io).
-- also_mapped_mb is what lies twice in the process: weights outside files (repacked for the CPU, say)
-- whose original is mapped beside them.

INCLUDE PERFETTO MODULE profinfer.counters.readings;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.memory.files;
INCLUDE PERFETTO MODULE profinfer.memory.paging;
INCLUDE PERFETTO MODULE profinfer.memory.weights;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.phases;
INCLUDE PERFETTO MODULE profinfer.operators.runs;
INCLUDE PERFETTO MODULE profinfer.operators.traffic;
INCLUDE PERFETTO MODULE profinfer.recording.losses;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Memory by operator (the first 40 by expected bytes)
-- rows: 8
WITH
  runs AS MATERIALIZED (
    SELECT
      upid,
      arg_set_id,
      sum(runs) AS runs,
      sum(dur) AS dur,
      sum(incomplete) AS incomplete
    FROM _operator_extent
    GROUP BY arg_set_id
  ),
  faults AS MATERIALIZED (
    SELECT
      upid,
      arg_set_id,
      sum(kind = 'major') AS major,
      sum(kind = 'minor') AS minor
    FROM profinfer_fault
    WHERE arg_set_id IS NOT NULL
    GROUP BY upid, arg_set_id
  ),
  counted AS (
    SELECT
      c.upid,
      c.arg_set_id,
      sum(iif(k.role = 'memory_read', c.estimate, NULL)) AS read,
      sum(iif(k.role = 'memory_write', c.estimate, NULL)) AS written
    FROM profinfer_counter AS k
    CROSS JOIN profinfer_operator_counter AS c
      USING (upid, counter_id)
    JOIN _operator_seen AS o
      ON o.graph_id = c.graph_id AND o.arg_set_id = c.arg_set_id
    WHERE o.complete AND k.role IN ('memory_read', 'memory_write')
    GROUP BY c.graph_id, c.arg_set_id
    HAVING
      min(c.complete AND c.estimate IS NOT NULL)
  ),
  measured AS MATERIALIZED (
    SELECT
      upid,
      arg_set_id,
      count() AS runs,
      sum(read) AS read,
      sum(written) AS written
    FROM counted
    GROUP BY upid, arg_set_id
  ),
  reads AS MATERIALIZED (
    SELECT
      upid,
      arg_set_id,
      sum(bytes) AS bytes
    FROM profinfer_file_read
    WHERE arg_set_id IS NOT NULL
    GROUP BY upid, arg_set_id
  ),
  ranked AS (
    SELECT
      r.upid,
      min(coalesce(k.label, k.name)) AS name,
      k.op,
      k.layer,
      sum(r.runs) AS runs,
      sum(r.dur) AS dur,
      sum(r.incomplete) AS incomplete,
      sum(r.runs * t.weight_bytes) AS weights,
      sum(r.runs * (t.read_bytes + t.written_bytes)) AS expected,
      sum(m.runs) AS measured_runs,
      sum(m.read) AS measured_read,
      sum(m.written) AS measured_written,
      sum(m.runs * t.read_bytes) AS to_read,
      sum(f.major) AS major,
      sum(f.minor) AS minor,
      sum(d.bytes) AS storage,
      row_number() OVER (
        PARTITION BY r.upid
        ORDER BY round(sum(r.runs * (t.read_bytes + t.written_bytes)) / 1e6, 2) DESC, min(coalesce(k.label, k.name))
      ) AS rank
    FROM runs AS r
    LEFT JOIN _operator_kind AS k
      ON k.arg_set_id = r.arg_set_id
    LEFT JOIN profinfer_operator_traffic AS t
      ON t.arg_set_id = r.arg_set_id
    LEFT JOIN measured AS m
      ON m.arg_set_id = r.arg_set_id AND m.upid = r.upid
    LEFT JOIN faults AS f
      ON f.arg_set_id = r.arg_set_id AND f.upid = r.upid
    LEFT JOIN reads AS d
      ON d.arg_set_id = r.arg_set_id AND d.upid = r.upid
    GROUP BY r.upid, k.operator_id
  )
SELECT
  profinfer_process_label(upid) AS process,
  name,
  op,
  layer,
  runs,
  round(weights / 1e6, 2) AS weights_mb,
  round(expected / 1e6, 2) AS expected_mb,
  round(1.0 * expected / nullif(dur, 0), 2) AS gb_per_s,
  measured_runs,
  round(measured_read / 1e6, 2) AS measured_read_mb,
  round(measured_written / 1e6, 2) AS measured_written_mb,
  round(100.0 * measured_read / nullif(to_read, 0), 1) AS measured_percent,
  iif(profinfer_was_asked(upid, 'faults'), coalesce(major, 0), NULL) AS major_faults,
  iif(profinfer_was_asked(upid, 'faults'), coalesce(minor, 0), NULL) AS minor_faults,
  iif(
    profinfer_was_asked(upid, 'block_io'), round(coalesce(storage, 0) / 1e6, 2), NULL
  ) AS storage_mb,
  incomplete
  + profinfer_unknown_graphs(upid)
  + profinfer_lost(upid, 'tensor')
  + profinfer_lost(upid, 'node')
  + profinfer_lost(upid, 'structure')
  + profinfer_lost(upid, 'fault')
  + profinfer_lost(upid, 'file_read') AS incomplete
FROM ranked
WHERE rank <= 40
ORDER BY upid, rank;

-- title: Where weights lie (no mb: mappings are recorded with --faults or --block-io)
SELECT
  profinfer_process_label(w.upid) AS process,
  CASE
    WHEN w.in_file
    THEN coalesce(f.path, 'a file')
    WHEN w.in_file IS NULL
    THEN 'not recorded'
    ELSE 'outside files: read, repacked or on a device'
  END AS place,
  count() AS weights,
  iif(w.in_file IS NULL, NULL, round(sum(w.bytes) / 1e6, 2)) AS mb,
  iif(w.in_file OR sum(w.twice IS NULL), NULL, round(sum(w.twice * w.bytes) / 1e6, 2)) AS also_mapped_mb,
  profinfer_lost(w.upid, 'tensor')
  + profinfer_lost(w.upid, 'node')
  + profinfer_lost(w.upid, 'structure') AS incomplete
FROM profinfer_weight AS w
LEFT JOIN profinfer_file AS f
  ON f.file = w.file
GROUP BY w.upid, w.in_file, w.file
ORDER BY w.upid, sum(w.bytes) DESC;
