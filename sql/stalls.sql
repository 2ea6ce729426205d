-- Where do threads wait instead of working, and why?
-- Of the wait at the barrier after an operator several causes can be told apart in a recording at
-- level barrier: imbalance (another thread was still at work) and release (all had arrived; the
-- time until they went on, which is the price of the barrier itself). Where the scheduler was
-- recorded as well, five parts of these have columns of their own and are not in the two: waiting
-- for a thread that came later because another one had taken its CPU, or whose own CPU was taken
-- when all had arrived (interference); because its cgroup had used up its quota (throttled, which is
-- not in work either); because it was started within the graph (starting: an engine without a pool);
-- because it took page faults (fault); because it slept otherwise (blocked). They are NULL where that was not recorded. Waits inside operators are known
-- from below: until the last thread arrived. The stall ratio is wait over wait and work; operators
-- that may be incomplete, or of which it is not certain when their threads ran, are not in the sums
-- that they would be wrong in.

INCLUDE PERFETTO MODULE profinfer.operators.inside_barriers;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.sums;
INCLUDE PERFETTO MODULE profinfer.recording.processes;
INCLUDE PERFETTO MODULE profinfer.scheduling.stalls;
INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;

-- title: Stalls by op (ms, summed over threads)
WITH
  waits AS MATERIALIZED (
    SELECT
      run & 0xFFFFFFFF AS arg_set_id,
      sum(wait_dur) AS wait_dur
    FROM _inside_run
    WHERE NOT run IN (SELECT run FROM _incomplete_run)
    GROUP BY 1
  ),
  inside AS MATERIALIZED (
    SELECT
      k.upid,
      k.op,
      sum(w.wait_dur) AS wait_dur
    FROM waits AS w
    CROSS JOIN _operator_kind AS k
      USING (arg_set_id)
    GROUP BY k.upid, k.op
  )
SELECT
  profinfer_process_label(t.upid) AS process,
  t.op,
  sum(t.runs) AS runs,
  round(sum(t.busy_dur) / 1e6, 2) AS work_ms,
  round(sum(t.wait_dur) / 1e6, 2) AS wait_ms,
  round(1.0 * sum(t.wait_dur) / nullif(sum(t.busy_dur + t.wait_dur), 0), 3) AS stall_ratio,
  round(
    sum(
      t.imbalance_dur - coalesce(
        s.interference_dur + s.throttled_dur + s.start_dur + coalesce(s.fault_dur, 0)
        + s.blocked_dur,
        0
      )
    ) / 1e6, 2
  ) AS imbalance_ms,
  round(
    sum(iif(t.wait_dur IS NULL, NULL, s.interference_dur + s.late_dur)) / 1e6, 2
  ) AS interference_ms,
  round(
    sum(iif(t.wait_dur IS NULL, NULL, s.throttled_dur + s.late_throttled_dur)) / 1e6, 2
  ) AS throttled_ms,
  round(sum(iif(t.wait_dur IS NULL, NULL, s.start_dur)) / 1e6, 2) AS starting_ms,
  round(sum(iif(t.wait_dur IS NULL, NULL, s.fault_dur)) / 1e6, 2) AS fault_ms,
  round(sum(iif(t.wait_dur IS NULL, NULL, s.blocked_dur)) / 1e6, 2) AS blocked_ms,
  round(
    sum(t.wait_dur - t.imbalance_dur - coalesce(s.late_dur + s.late_throttled_dur, 0)) / 1e6, 2
  ) AS release_ms,
  round(i.wait_dur / 1e6, 2) AS inside_wait_min_ms,
  sum(t.incomplete + coalesce(s.uncertain, 0)) AS incomplete
FROM _operator_total AS t
LEFT JOIN profinfer_operator_stall AS s
  ON s.arg_set_id = t.arg_set_id AND s.upid = t.upid
LEFT JOIN inside AS i
  ON i.upid = t.upid AND i.op = t.op
GROUP BY t.upid, t.op
ORDER BY t.upid, sum(t.wait_dur) DESC;

-- title: Stalls by operator (the first 30)
-- rows: 10
WITH
  ranked AS (
    SELECT
      t.upid,
      min(t.label) AS name,
      t.op,
      sum(t.runs) AS runs,
      sum(t.busy_dur) AS busy_dur,
      sum(t.wait_dur) AS wait_dur,
      sum(t.busy_dur + t.wait_dur) AS dur,
      sum(
        t.imbalance_dur - coalesce(
          s.interference_dur + s.throttled_dur + s.start_dur + coalesce(s.fault_dur, 0)
        + s.blocked_dur,
        0
        )
      ) AS imbalance_dur,
      sum(s.interference_dur + s.late_dur) AS interference_dur,
      sum(t.incomplete + coalesce(s.uncertain, 0)) AS incomplete,
      row_number() OVER (PARTITION BY t.upid ORDER BY sum(t.wait_dur) DESC) AS rank
    FROM _operator_total AS t
    LEFT JOIN profinfer_operator_stall AS s
      ON s.arg_set_id = t.arg_set_id AND s.upid = t.upid
    GROUP BY t.upid, t.operator_id
  )
SELECT
  profinfer_process_label(upid) AS process,
  name,
  op,
  runs,
  round(busy_dur / 1e3 / nullif(runs, 0), 1) AS mean_work_us,
  round(wait_dur / 1e3 / nullif(runs, 0), 1) AS mean_wait_us,
  round(1.0 * wait_dur / nullif(dur, 0), 3) AS stall_ratio,
  round(1.0 * imbalance_dur / nullif(wait_dur, 0), 3) AS imbalance_share,
  round(1.0 * interference_dur / nullif(wait_dur, 0), 3) AS interference_share,
  incomplete
FROM ranked
WHERE rank <= 30
ORDER BY upid, rank;

-- title: What cannot be told, and why
SELECT
  profinfer_process_label(upid) AS process,
  reason
FROM profinfer_scheduling_gap;
