-- How much of all operators' work is the recording's own.

INCLUDE PERFETTO MODULE profinfer.operators.sums;
INCLUDE PERFETTO MODULE profinfer.recording.net;

-- One row per process of which operators were recorded.
CREATE PERFETTO TABLE profinfer_probes_share(
  -- Process.
  upid JOINID(process.id),
  -- Work of the complete runs, summed over threads.
  busy_dur DURATION,
  -- The same net of probes, NULL where what they cost is not known of some operator.
  busy_net_dur DURATION,
  -- Of the work, from 0 to 1: the part that is the probes'.
  share DOUBLE,
  -- Why it is not known.
  reason STRING
) AS
WITH
  sums AS (
    SELECT
      s.upid,
      sum(s.busy_dur) AS busy_dur,
      _whole!(_net!(s.busy_dur, s.slices * c.hits_ns)) AS busy_net_dur,
      min(c.reason) AS reason
    FROM _operator_sum AS s
    LEFT JOIN profinfer_operator_cost AS c
      ON c.arg_set_id = s.arg_set_id AND c.upid = s.upid
    WHERE s.runs > 0
    GROUP BY s.upid
  )
SELECT
  upid,
  busy_dur,
  busy_net_dur,
  1.0 * (busy_dur - busy_net_dur) / nullif(busy_dur, 0) AS share,
  reason
FROM sums
ORDER BY upid;
