-- How many bytes do operators have to move, how fast do they, and what do page faults add?
-- expected_mb is what follows from shapes, strides and types (profinfer_operator_traffic). gb_per_s is
-- what it comes to per second from the first thread's start to the last one's end: above what the
-- memory can deliver, it came from a cache. measured_read_mb and measured_written_mb are what counters
-- of bytes say (--counters memory) of those runs of which they were read on every thread, which
-- measured_runs counts; measured_percent is what was read in percent of what these runs were expected
-- to read: below 100 the rest came from a cache. Estimates where counters shared their hardware.
-- NULL is what was not recorded: counters, faults (--faults), bytes read from storage (--block-io).

INCLUDE PERFETTO MODULE profinfer.counters.readings;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.memory.paging;
INCLUDE PERFETTO MODULE profinfer.operators.runs;
INCLUDE PERFETTO MODULE profinfer.operators.traffic;
INCLUDE PERFETTO MODULE profinfer.recording.losses;

-- title: Memory by operator (the first 40 by expected bytes)
WITH
  runs AS MATERIALIZED (
    SELECT
      arg_set_id,
      name,
      sum(complete) AS runs,
      sum(iif(complete, dur, 0)) AS dur,
      sum(NOT complete) AS incomplete
    FROM _operator_run
    GROUP BY arg_set_id
  ),
  faults AS MATERIALIZED (
    SELECT
      arg_set_id,
      sum(kind = 'major') AS major,
      sum(kind = 'minor') AS minor
    FROM profinfer_fault
    WHERE arg_set_id IS NOT NULL
    GROUP BY arg_set_id
  ),
  counted AS (
    SELECT
      c.arg_set_id,
      sum(iif(k.role = 'memory_read', c.estimate, NULL)) AS read,
      sum(iif(k.role = 'memory_write', c.estimate, NULL)) AS written
    FROM profinfer_operator_counter AS c
    JOIN profinfer_counter AS k
      USING (counter_id)
    JOIN _operator_run AS o
      ON o.graph_id = c.graph_id AND o.arg_set_id = c.arg_set_id
    WHERE o.complete AND k.role IN ('memory_read', 'memory_write')
    GROUP BY c.graph_id, c.arg_set_id
    HAVING
      min(c.complete AND c.estimate IS NOT NULL)
  ),
  measured AS MATERIALIZED (
    SELECT
      arg_set_id,
      count() AS runs,
      sum(read) AS read,
      sum(written) AS written
    FROM counted
    GROUP BY arg_set_id
  ),
  reads AS MATERIALIZED (
    SELECT
      arg_set_id,
      sum(bytes) AS bytes
    FROM profinfer_file_read
    WHERE arg_set_id IS NOT NULL
    GROUP BY arg_set_id
  )
SELECT
  r.name,
  k.op,
  k.layer,
  sum(r.runs) AS runs,
  round(sum(r.runs * t.weight_bytes) / 1e6, 2) AS weights_mb,
  round(sum(r.runs * (t.read_bytes + t.written_bytes)) / 1e6, 2) AS expected_mb,
  round(
    1.0 * sum(r.runs * (t.read_bytes + t.written_bytes)) / nullif(sum(r.dur), 0), 2
  ) AS gb_per_s,
  sum(m.runs) AS measured_runs,
  round(sum(m.read) / 1e6, 2) AS measured_read_mb,
  round(sum(m.written) / 1e6, 2) AS measured_written_mb,
  round(100.0 * sum(m.read) / nullif(sum(m.runs * t.read_bytes), 0), 1) AS measured_percent,
  iif(profinfer_was_asked('faults'), coalesce(sum(f.major), 0), NULL) AS major_faults,
  iif(profinfer_was_asked('faults'), coalesce(sum(f.minor), 0), NULL) AS minor_faults,
  iif(
    profinfer_was_asked('block_io'), round(coalesce(sum(d.bytes), 0) / 1e6, 2), NULL
  ) AS storage_mb,
  sum(r.incomplete)
  + profinfer_unknown_graphs()
  + profinfer_lost('tensor')
  + profinfer_lost('node')
  + profinfer_lost('structure')
  + profinfer_lost('fault')
  + profinfer_lost('file_read') AS incomplete
FROM runs AS r
LEFT JOIN _operator_kind AS k
  USING (arg_set_id)
LEFT JOIN profinfer_operator_traffic AS t
  USING (arg_set_id)
LEFT JOIN measured AS m
  USING (arg_set_id)
LEFT JOIN faults AS f
  USING (arg_set_id)
LEFT JOIN reads AS d
  USING (arg_set_id)
GROUP BY r.name, k.op
ORDER BY expected_mb DESC, r.name
LIMIT 40;
