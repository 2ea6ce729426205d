-- How fast was it, where did the time go, and can the recording be believed?
-- Times in milliseconds. `complete` is 0 where records may have been lost; `incomplete` counts
-- what may be in a row only in part, or be missing from it.

INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.operators.sums;
INCLUDE PERFETTO MODULE profinfer.operators.unrecorded;
INCLUDE PERFETTO MODULE profinfer.recording.losses;
INCLUDE PERFETTO MODULE profinfer.recording.net;
INCLUDE PERFETTO MODULE profinfer.recording.processes;
INCLUDE PERFETTO MODULE profinfer.tokens.gaps;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;
INCLUDE PERFETTO MODULE profinfer.tokens.steps;

-- prompt_tokens were computed, cached_tokens need not be; tokens are what the user gets, and
-- decode_tokens_per_s counts them (llama-server: predicted_n, predicted_per_second); steps computed
-- verified_tokens to get them. ttft: to the first token. tpot: from step to step. docs/requests.md
-- has the definitions. outside: mean time per token in no micro-batch, as for sampling, grammar and
-- copies. certain is 0 where what was recorded can be read in another way.

-- title: Requests
-- rows: 20
SELECT
  profinfer_process_label(r.upid) AS process,
  r.request_id AS request,
  r.kind,
  r.sequence,
  r.prompt_tokens,
  r.cached_tokens,
  r.tokens,
  r.steps,
  r.verified_tokens,
  round(r.ttft / 1e6, 2) AS ttft_ms,
  round(t.median / 1e6, 2) AS tpot_median_ms,
  round(t.p95 / 1e6, 2) AS tpot_p95_ms,
  round(o.dur / 1e6 / nullif(t.tokens, 0), 2) AS outside_ms,
  round(r.prompt_tokens * 1e9 / nullif(r.encode_dur + r.prefill_dur, 0), 1) AS prefill_tokens_per_s,
  round(t.tokens * 1e9 / t.total, 1) AS decode_tokens_per_s,
  r.certain,
  r.complete,
  r.reason
FROM profinfer_request AS r
LEFT JOIN (
  SELECT
    request_id,
    percentile(tpot, 50) AS median,
    percentile(tpot, 95) AS p95,
    sum(tokens) AS tokens,
    sum(tpot) AS total
  FROM profinfer_token
  GROUP BY request_id
) AS t
  USING (request_id)
LEFT JOIN (
  SELECT
    request_id,
    sum(outside_dur) AS dur
  FROM profinfer_request_step
  WHERE step > 0
  GROUP BY request_id
) AS o
  USING (request_id)
WHERE r.kind = 'request' -- unless --all
ORDER BY r.upid, request;

-- outside: graphs in no micro-batch, and the time in which requests waited while there was none. Both are
-- nobody's tokens.

-- title: Time by phase
WITH
  graphs AS MATERIALIZED (
    SELECT
      upid,
      ubatch_id,
      sum(dur) AS dur,
      count() AS graphs,
      sum(NOT complete) AS incomplete
    FROM profinfer_graph
    GROUP BY upid, ubatch_id
  ),
  phases AS (
    SELECT
      u.upid,
      u.phase,
      count() AS ubatches,
      sum(u.tokens) AS tokens,
      sum(u.dur) AS dur,
      sum(g.dur) AS graphs_dur,
      sum(g.graphs) AS graphs,
      sum(NOT u.complete)
      + profinfer_lost(u.upid, 'ubatch_begin')
      + profinfer_lost(u.upid, 'tokens') AS incomplete
    FROM profinfer_ubatch AS u
    LEFT JOIN graphs AS g
      USING (ubatch_id)
    GROUP BY u.upid, u.phase
    UNION ALL
    SELECT
      p.upid,
      'outside' AS phase,
      NULL AS ubatches,
      NULL AS tokens,
      o.dur,
      g.dur AS graphs_dur,
      g.graphs,
      coalesce(g.incomplete, 0)
      + profinfer_lost(p.upid, 'graph_begin')
      + _lost_steps(p.upid) AS incomplete
    FROM _recorded_process AS p
    LEFT JOIN profinfer_outside AS o
      USING (upid)
    LEFT JOIN graphs AS g
      ON g.upid = p.upid AND g.ubatch_id IS NULL
    WHERE o.dur > 0 OR g.graphs > 0
  )
SELECT
  profinfer_process_label(upid) AS process,
  phase,
  ubatches,
  tokens,
  round(dur / 1e6, 2) AS time_ms,
  round(graphs_dur / 1e6, 2) AS graphs_ms,
  graphs,
  incomplete
FROM phases
ORDER BY upid, time_ms DESC;

-- net_ms is without the recording's own hits, which are probes_percent of work_ms; NULL where their cost is not
-- known. percent is of net work, where all of it is known.

-- title: Time by op (work summed over threads; incomplete operators are not in it)
-- rows: 3
WITH
  ops AS (
    SELECT
      upid,
      op,
      sum(runs) AS runs,
      sum(busy_dur) AS busy_dur,
      _whole!(busy_net_dur) AS net_dur,
      sum(throttled_dur) AS throttled_dur,
      sum(wait_dur) AS wait_dur,
      sum(incomplete) AS incomplete
    FROM _operator_total
    GROUP BY upid, op
  ),
  told AS (
    SELECT
      *,
      _told!(net_dur, busy_dur) AS told_dur
    FROM ops
  )
SELECT
  profinfer_process_label(upid) AS process,
  op,
  runs,
  round(busy_dur / 1e6, 2) AS work_ms,
  round(net_dur / 1e6, 2) AS net_ms,
  _probes_percent!(busy_dur, net_dur) AS probes_percent,
  round(100.0 * told_dur / nullif(sum(told_dur) OVER (PARTITION BY upid), 0), 1) AS percent,
  round(throttled_dur / 1e6, 2) AS throttled_ms,
  round(wait_dur / 1e6, 2) AS barrier_wait_ms,
  incomplete
FROM told
ORDER BY upid, told_dur DESC;

-- Operators' time holds nothing of graphs of which no operator was recorded: these are told here, by the
-- backend that was asked to compute them. percent is of all graphs' time in the process.

-- title: Graphs by backend (unrecorded: without a record of any operator)
WITH
  sums AS (
    SELECT
      *,
      sum(dur) OVER (PARTITION BY upid) AS all_dur
    FROM profinfer_unrecorded
  )
SELECT
  profinfer_process_label(upid) AS process,
  backend,
  graphs,
  round(dur / 1e6, 2) AS graphs_ms,
  unrecorded_graphs AS unrecorded,
  round(unrecorded_dur / 1e6, 2) AS unrecorded_ms,
  round(100.0 * unrecorded_dur / nullif(all_dur, 0), 1) AS percent,
  reason,
  incomplete + profinfer_unknown_graphs(upid) AS incomplete
FROM sums
ORDER BY upid, graphs_ms DESC, backend;

-- title: Losses (none when empty)
SELECT
  profinfer_process_label(upid) AS process,
  kind,
  cpu,
  sum(lost) AS lost,
  count() AS gaps,
  round(sum(ts - first_ts) / 1e6, 2) AS gaps_ms
FROM profinfer_loss
GROUP BY upid, kind, cpu
ORDER BY upid, lost DESC;

-- title: Processes
SELECT
  label AS process,
  pid,
  engine,
  levels,
  left_out,
  graphs,
  profinfer_lost(upid, 'graph_begin') AS incomplete,
  note,
  cgroup,
  container_id,
  unit
FROM profinfer_process
UNION ALL
SELECT
  label AS process,
  pid,
  NULL AS engine,
  NULL AS levels,
  NULL AS left_out,
  0 AS graphs,
  0 AS incomplete,
  note,
  NULL AS cgroup,
  NULL AS container_id,
  NULL AS unit
FROM profinfer_idle_process;
