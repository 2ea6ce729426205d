-- What do operators cost on so many threads: time, waiting, bytes?
-- While decoding, by op and the number of threads that ran it; recordings with other numbers of threads
-- are compared by `profinfer figures`. work_us is summed over threads. wait_share: the part of the
-- threads' time that they spent at the barrier after the operator; NULL below level barrier.
-- expected_kb follows from shapes and types. has_counters: whether stalls or bytes were counted, of which
-- `counters` tells (record --counters stalls, memory).
-- Operators that may be incomplete are not in the sums; the last column counts them.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.runs;
INCLUDE PERFETTO MODULE profinfer.operators.traffic;
INCLUDE PERFETTO MODULE profinfer.operators.unseen;
INCLUDE PERFETTO MODULE profinfer.recording.losses;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Decoding by op and threads
WITH
  decoding AS MATERIALIZED (
    SELECT
      g.graph_id
    FROM profinfer_graph AS g
    JOIN profinfer_ubatch AS u
      USING (ubatch_id)
    WHERE u.phase = 'decode'
  ),
  runs AS MATERIALIZED (
    SELECT
      upid,
      arg_set_id,
      thread_count,
      sum(complete) AS runs,
      sum(iif(complete, dur, 0)) AS dur,
      sum(iif(complete, busy_dur, 0)) AS busy_dur,
      sum(iif(complete, wait_dur, NULL)) AS wait_dur,
      sum(NOT complete) AS incomplete
    FROM _operator_run
    WHERE graph_id IN (SELECT graph_id FROM decoding)
    GROUP BY arg_set_id, thread_count
  ),
  ops AS (
    SELECT
      r.upid,
      k.op,
      r.thread_count,
      sum(r.runs) AS runs,
      sum(r.dur) AS dur,
      sum(r.busy_dur) AS busy_dur,
      sum(r.wait_dur) AS wait_dur,
      sum(r.runs * (t.read_bytes + t.written_bytes)) AS bytes,
      sum(r.incomplete) AS incomplete
    FROM runs AS r
    LEFT JOIN _operator_kind AS k
      ON k.arg_set_id = r.arg_set_id
    LEFT JOIN profinfer_operator_traffic AS t
      ON t.arg_set_id = r.arg_set_id
    GROUP BY r.upid, k.op, r.thread_count
  )
SELECT
  profinfer_process_label(upid) AS process,
  op,
  thread_count AS threads,
  runs,
  round(dur / 1e6, 2) AS time_ms,
  round(dur / 1e3 / nullif(runs, 0), 2) AS mean_us,
  round(busy_dur / 1e3 / nullif(runs, 0), 2) AS work_us,
  round(1.0 * wait_dur / nullif(busy_dur + wait_dur, 0), 3) AS wait_share,
  round(bytes / 1e3 / nullif(runs, 0), 2) AS expected_kb,
  round(1.0 * bytes / nullif(dur, 0), 2) AS gb_per_s,
  EXISTS (
    SELECT
      1
    FROM _recording_arg AS a
    WHERE
      a.upid = ops.upid
      AND a.key GLOB 'counters.events*.role'
      AND a.value IN ('stall_backend', 'memory_read', 'memory_write')
  ) AS has_counters,
  incomplete
  + _doubtful_operators(upid)
  + profinfer_lost(upid, 'operator')
  + profinfer_lost(upid, 'fused') AS incomplete
FROM ops
WHERE runs + incomplete > 0
ORDER BY upid, dur DESC, op, threads;
