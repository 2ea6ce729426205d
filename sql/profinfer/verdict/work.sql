-- What there was to compute, and on what: batches, backends, weights, counters.

INCLUDE PERFETTO MODULE profinfer.counters.readings;
INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.memory.kv_cache;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.phases;
INCLUDE PERFETTO MODULE profinfer.operators.runs;
INCLUDE PERFETTO MODULE profinfer.operators.sums;
INCLUDE PERFETTO MODULE profinfer.operators.traffic;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;

-- Matrix products with weights that were computed for one token and for several, by equally many threads.
-- Of several batch sizes the one of which most products were seen.
CREATE PERFETTO TABLE _verdict_product(
  -- Process.
  upid JOINID(process.id),
  -- Tokens of the larger batch.
  tokens LONG,
  -- Mean time of all of these products for one token.
  one_dur DURATION,
  -- For that many.
  many_dur DURATION,
  -- Runs for that many, at least.
  runs LONG,
  -- Their weights.
  weight_bytes LONG,
  -- Which share of the time for one token does not grow with more of them; 0 where it grows faster than they do.
  fixed DOUBLE,
  -- Which share of the time of all products for one token these take: the output layer, say, may have had
  -- one row in every batch.
  covered DOUBLE
) AS
WITH
  sized AS MATERIALIZED (
    SELECT
      t.upid,
      t.operator_id,
      x.ne1 AS tokens,
      t.thread_count,
      sum(t.runs) AS runs,
      1.0 * sum(e.dur) / sum(t.runs) AS dur,
      max(f.weight_bytes) AS weight_bytes
    FROM _operator_total AS t
    JOIN _extent_total AS e
      USING (arg_set_id)
    JOIN _operator_kind AS k
      USING (arg_set_id)
    JOIN profinfer_tensor AS x
      USING (tensor_id)
    JOIN profinfer_operator_traffic AS f
      USING (arg_set_id)
    WHERE x.op = 'MUL_MAT' AND f.weight_bytes > 0 AND t.runs > 0
    GROUP BY t.upid, t.operator_id, x.ne1, t.thread_count
  ),
  pairs AS (
    SELECT
      a.upid,
      b.tokens,
      count() AS products,
      sum(a.dur) AS one_dur,
      sum(b.dur) AS many_dur,
      min(b.runs) AS runs,
      sum(a.weight_bytes) AS weight_bytes
    FROM sized AS a
    JOIN sized AS b
      ON b.upid = a.upid AND b.operator_id = a.operator_id AND b.thread_count = a.thread_count
    -- A few runs of one token, so that one that was disturbed does not bend the mean.
    WHERE a.tokens = 1 AND a.runs >= 3 AND b.tokens >= 4
    GROUP BY a.upid, b.tokens
  ),
  ranked AS (
    SELECT
      *,
      row_number() OVER (PARTITION BY upid ORDER BY products DESC, tokens DESC) AS rank
    FROM pairs
  ),
  singles AS (
    SELECT
      upid,
      sum(dur) AS dur
    FROM sized
    WHERE tokens = 1 AND runs >= 3
    GROUP BY upid
  )
SELECT
  r.upid,
  r.tokens,
  cast_int!(round(r.one_dur)) AS one_dur,
  cast_int!(round(r.many_dur)) AS many_dur,
  r.runs,
  r.weight_bytes,
  max(0.0, min(1.0, 1.0 - (r.many_dur - r.one_dur) / ((r.tokens - 1) * r.one_dur))) AS fixed,
  r.one_dur / s.dur AS covered
FROM ranked AS r
JOIN singles AS s
  USING (upid)
-- Something was the matter where several took less time than one.
WHERE r.rank = 1 AND r.one_dur > 0 AND r.many_dur >= 0.9 * r.one_dur
ORDER BY r.upid;

-- Bytes per second that operators have to move, by their shapes.
CREATE PERFETTO TABLE _verdict_traffic(
  -- Process.
  upid JOINID(process.id),
  -- Bytes per ns.
  rate DOUBLE
) AS
SELECT
  t.upid,
  1.0 * sum(t.runs * (f.read_bytes + f.written_bytes)) / sum(e.dur) AS rate
FROM _operator_total AS t
JOIN _extent_total AS e
  USING (arg_set_id)
JOIN profinfer_operator_traffic AS f
  USING (arg_set_id)
GROUP BY t.upid
HAVING sum(e.dur) > 0
ORDER BY t.upid;

-- Counters of cycles that are of one group, so that they have counted at the same times.
CREATE PERFETTO TABLE _cycle_counter(
  -- Process.
  upid JOINID(process.id),
  -- Either cycles, instructions or stall_backend.
  role STRING,
  -- As in profinfer_counter.
  name STRING
) AS
WITH
  said AS MATERIALIZED (
    SELECT
      upid,
      max(iif(key GLOB '*.role', value, NULL)) AS role,
      max(iif(key GLOB '*.name', value, NULL)) AS name,
      max(iif(key GLOB '*.leader', value, NULL)) AS leader
    FROM _recording_arg
    WHERE key GLOB 'counters.events*' AND event = 'recording started'
    GROUP BY upid, substr(key, 1, instr(key, ']'))
  )
SELECT
  c.upid,
  c.role,
  min(c.name) AS name
FROM said AS s
JOIN said AS c
  ON c.upid = s.upid AND c.leader = s.leader
WHERE s.role = 'stall_backend' AND c.role IN ('cycles', 'instructions', 'stall_backend')
GROUP BY c.upid, c.role
ORDER BY c.upid;

-- What they say of the work of all operators; where none of these was counted, this takes no time.
CREATE PERFETTO TABLE _verdict_counter(
  -- Process.
  upid JOINID(process.id),
  -- Cycles in which the back end stalled, of all.
  stalled DOUBLE,
  -- Instructions per cycle; NULL where these were not counted.
  ipc DOUBLE,
  -- Share of operator slices that may be incomplete, or were not read at both ends.
  incomplete DOUBLE
) AS
WITH
  sums AS (
    SELECT
      c.upid,
      1.0 * sum(iif(c.role = 'stall_backend', o.value, 0)) AS stalled,
      1.0 * sum(iif(c.role = 'cycles', o.value, 0)) AS cycles,
      1.0 * sum(iif(c.role = 'instructions', o.value, NULL)) AS instructions,
      sum(c.role = 'cycles') AS slices
    FROM _cycle_counter AS c
    CROSS JOIN profinfer_counter AS k
      USING (upid, name)
    CROSS JOIN profinfer_operator_counter AS o
      USING (upid, counter_id)
    WHERE o.complete
    GROUP BY c.upid
  )
SELECT
  s.upid,
  s.stalled / s.cycles AS stalled,
  s.instructions / s.cycles AS ipc,
  1.0 - 1.0 * s.slices / (SELECT count() FROM profinfer_operator_slice AS o WHERE o.upid = s.upid) AS incomplete
FROM sums AS s
WHERE s.cycles > 0
ORDER BY s.upid;

-- Micro-batches whose graphs ran on several backends.
CREATE PERFETTO TABLE _verdict_backend(
  -- Process.
  upid JOINID(process.id),
  -- Backends.
  backends LONG,
  -- Their names.
  names STRING,
  -- Micro-batches.
  ubatches LONG,
  -- Graphs in them.
  graphs LONG,
  -- Time of these micro-batches.
  dur DURATION,
  -- Time of the CPU's graphs in them.
  cpu_dur DURATION
) AS
WITH
  graphs AS MATERIALIZED (
    SELECT
      g.ubatch_id,
      count() AS graphs,
      sum(iif(g.backend = 'CPU', g.dur, 0)) AS cpu_dur
    FROM profinfer_graph AS g
    WHERE g.ubatch_id IS NOT NULL
    GROUP BY g.ubatch_id
    HAVING count(DISTINCT g.backend) > 1
  ),
  names AS (
    SELECT
      upid,
      count() AS backends,
      group_concat(backend, ', ') AS names
    FROM (
      SELECT DISTINCT
        g.upid,
        g.backend
      FROM profinfer_graph AS g
      JOIN graphs AS s
        USING (ubatch_id)
      ORDER BY g.upid, g.backend
    )
    GROUP BY upid
  )
SELECT
  u.upid,
  n.backends,
  n.names,
  count() AS ubatches,
  sum(g.graphs) AS graphs,
  sum(u.dur) AS dur,
  sum(g.cpu_dur) AS cpu_dur
FROM graphs AS g
JOIN profinfer_ubatch AS u
  USING (ubatch_id)
JOIN names AS n
  USING (upid)
WHERE u.complete AND u.dur > 0
GROUP BY u.upid
ORDER BY u.upid;

-- Prompts that were computed in several micro-batches.
CREATE PERFETTO TABLE _verdict_prompt(
  -- Process.
  upid JOINID(process.id),
  -- Micro-batches of prompts, the last one of each left out: it has what is left.
  ubatches LONG,
  -- Tokens in them.
  tokens LONG,
  -- Their time.
  dur DURATION,
  -- Time of all micro-batches.
  all_dur DURATION
) AS
WITH
  prefills AS (
    SELECT
      ubatch_id,
      lead(ubatch_id) OVER (PARTITION BY request_id ORDER BY ts) IS NOT NULL AS goes_on
    FROM profinfer_sequence
    WHERE phase = 'prefill'
  ),
  parts AS MATERIALIZED (
    SELECT ubatch_id, max(goes_on) AS goes_on FROM prefills GROUP BY ubatch_id
  )
SELECT
  u.upid,
  sum(coalesce(p.goes_on, FALSE)) AS ubatches,
  sum(iif(p.goes_on, u.tokens, 0)) AS tokens,
  sum(iif(p.goes_on, u.dur, 0)) AS dur,
  sum(u.dur) AS all_dur
FROM profinfer_ubatch AS u
LEFT JOIN parts AS p
  USING (ubatch_id)
WHERE u.complete
GROUP BY u.upid
HAVING sum(coalesce(p.goes_on, FALSE)) > 0
ORDER BY u.upid;

-- How much longer a token's attention takes at the end of the context than at its beginning, all layers
-- together, by lines that explain at least half of what their medians differ by.
CREATE PERFETTO TABLE _verdict_growth(
  -- Process.
  upid JOINID(process.id),
  -- Shortest context.
  context_from LONG,
  -- Longest context.
  context_to LONG,
  -- Growth of the work, summed over threads.
  work_dur DOUBLE,
  -- Whether it is flash attention.
  is_flash BOOL,
  -- Share of tokens that are not complete, at most.
  incomplete DOUBLE
) AS
SELECT
  upid,
  min(context_from) AS context_from,
  max(context_to) AS context_to,
  sum(ns_per_token * (context_to - context_from)) AS work_dur,
  max(part = 'FLASH_ATTN_EXT') AS is_flash,
  max(1.0 * incomplete / (tokens + incomplete)) AS incomplete
FROM profinfer_attention_fit
WHERE of_all_layers AND r2 >= 0.5 AND tokens > 0
GROUP BY upid
ORDER BY upid;

-- Major page faults of operators (record --faults). profinfer.memory.paging tells them tensor by tensor, and
-- takes long.
CREATE PERFETTO TABLE _verdict_fault(
  -- Process.
  upid JOINID(process.id),
  -- Major faults in operators.
  faults LONG,
  -- How long the operator runs took in which there were some.
  dur DURATION,
  -- How long all runs took.
  all_dur DURATION,
  -- Bytes of files that were read during operators; NULL where that was not recorded.
  bytes LONG
) AS
WITH
  asked AS MATERIALIZED (
    SELECT
      upid,
      max(key = 'config.faults') AS faults,
      max(key = 'config.block_io') AS block_io
    FROM _recording_arg
    WHERE key IN ('config.faults', 'config.block_io') AND value IN ('1', 'true')
    GROUP BY upid
    HAVING max(key = 'config.faults')
  ),
  faulted AS MATERIALIZED (
    SELECT
      o.graph_id * 16777216 + o.arg_set_id AS run,
      o.upid,
      count() AS faults
    FROM _fault_event AS f
    JOIN profinfer_operator_slice AS o
      ON o.id = f.operator_slice_id
    WHERE f.is_major AND EXISTS(SELECT 1 FROM asked)
    GROUP BY 1
  ),
  faults AS (
    SELECT upid, sum(faults) AS faults FROM faulted GROUP BY upid
  ),
  reads AS (
    SELECT
      upid,
      sum(bytes) AS bytes
    FROM _file_read_event
    WHERE operator_slice_id IS NOT NULL AND EXISTS(SELECT 1 FROM asked WHERE block_io)
    GROUP BY upid
  ),
  runs AS (
    SELECT
      upid,
      sum(dur) AS all_dur,
      sum(
        iif(
          graph_id * 16777216 + arg_set_id IN (
            SELECT
              run
            FROM faulted
          ),
          dur,
          0
        )
      ) AS dur
    FROM _operator_seen
    WHERE complete AND EXISTS(SELECT 1 FROM asked)
    GROUP BY upid
  )
SELECT
  a.upid,
  coalesce(f.faults, 0) AS faults,
  r.dur,
  r.all_dur,
  iif(a.block_io, coalesce(d.bytes, 0), NULL) AS bytes
FROM asked AS a
JOIN runs AS r
  USING (upid)
LEFT JOIN faults AS f
  USING (upid)
LEFT JOIN reads AS d
  USING (upid)
WHERE r.all_dur > 0
ORDER BY a.upid;
