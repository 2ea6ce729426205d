-- How evenly is the work of each operator spread over the threads?
-- The idle share is the part of the threads' time in the operator during which they waited for
-- one that was still at work; not for one whose cgroup had used up its quota, nor for one that was
-- started within the graph. Needs level barrier. The recording's own
-- hits are in the means but those called net, which are NULL where hits cost nobody knows what; threads bear
-- the same, so that the difference is the engine's. Operators that may be incomplete are not in it;
-- the last column counts them and those that may be missing.

INCLUDE PERFETTO MODULE profinfer.graphs.threads;
INCLUDE PERFETTO MODULE profinfer.operators.spread;
INCLUDE PERFETTO MODULE profinfer.operators.threads;
INCLUDE PERFETTO MODULE profinfer.recording.losses;
INCLUDE PERFETTO MODULE profinfer.recording.net;
INCLUDE PERFETTO MODULE profinfer.recording.processes;
INCLUDE PERFETTO MODULE profinfer.scheduling.stalls;

-- title: Imbalance by operator (the first 30 by idle time)
-- rows: 10
WITH
  ranked AS (
    SELECT
      t.upid,
      min(t.label) AS name,
      t.op,
      max(t.thread_count) AS threads,
      sum(t.runs) AS runs,
      sum(t.slowest_dur) AS slowest_dur,
      sum(t.fastest_dur) AS fastest_dur,
      _whole!(t.slowest_net_dur) AS slowest_net_dur,
      _whole!(t.fastest_net_dur) AS fastest_net_dur,
      sum(t.imbalance_dur - coalesce(s.throttled_dur + s.start_dur, 0)) AS idle_dur,
      sum(t.busy_dur + t.wait_dur
        - coalesce(s.throttled_dur + s.late_throttled_dur + s.start_dur, 0)) AS dur,
      sum(t.incomplete) AS incomplete,
      row_number() OVER (
        PARTITION BY t.upid
        ORDER BY sum(t.imbalance_dur - coalesce(s.throttled_dur + s.start_dur, 0)) DESC
      ) AS rank
    FROM _spread_total AS t
    LEFT JOIN profinfer_operator_stall AS s
      ON s.arg_set_id = t.arg_set_id AND s.upid = t.upid
    -- Where all but one of the threads were lost it is incomplete.
    WHERE t.thread_count > 1 OR t.incomplete > 0
    GROUP BY t.upid, t.operator_id
    HAVING max(t.thread_count) > 1
  )
SELECT
  profinfer_process_label(upid) AS process,
  name,
  op,
  threads,
  runs,
  round(slowest_dur / 1e3 / nullif(runs, 0), 1) AS slowest_mean_us,
  round(fastest_dur / 1e3 / nullif(runs, 0), 1) AS fastest_mean_us,
  round(slowest_net_dur / 1e3 / nullif(runs, 0), 1) AS slowest_net_us,
  round(fastest_net_dur / 1e3 / nullif(runs, 0), 1) AS fastest_net_us,
  round(idle_dur / 1e6, 2) AS idle_ms,
  round(1.0 * idle_dur / nullif(dur, 0), 3) AS idle_share,
  incomplete
FROM ranked
WHERE rank <= 30
ORDER BY upid, rank;

-- title: Work and waiting by thread
SELECT
  profinfer_process_label(s.upid) AS process,
  s.tid,
  s.name AS thread,
  s.operators,
  round(s.busy_dur / 1e6, 2) AS work_ms,
  round(s.wait_dur / 1e6, 2) AS wait_ms,
  round(1.0 * s.wait_dur / nullif(s.busy_dur + s.wait_dur, 0), 3) AS wait_share,
  s.incomplete
FROM (
  SELECT
    w.upid,
    t.tid,
    t.name,
    sum(w.slices - w.incomplete) AS operators,
    sum(w.busy_dur) AS busy_dur,
    sum(w.wait_dur) AS wait_dur,
    -- What was lost may have been any thread's.
    sum(w.incomplete)
    + profinfer_lost(w.upid, 'operator')
    + profinfer_lost(w.upid, 'fused')
    + profinfer_lost(w.upid, 'graph_begin') AS incomplete
  FROM _thread_work AS w
  JOIN _thread_row AS t
    USING (utid)
  GROUP BY t.row
) AS s
ORDER BY s.upid, work_ms DESC;
