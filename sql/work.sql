-- Where does the work go: by op, and layer by layer?
-- Work is summed over threads, without the wait at the barrier; net_ms is without the
-- recording's own hits, which are probes_percent of it; NULL where their cost is not known. per_token_us is that of a
-- token of the phase, and percent is of the phase: of net work, where all of it is known. Operators that may be incomplete are not in the sums; the last column
-- counts them. Layers and modules are NULL where names and graph do not tell.

INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.phases;
INCLUDE PERFETTO MODULE profinfer.operators.unseen;
INCLUDE PERFETTO MODULE profinfer.recording.net;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Work by op
WITH
  ops AS (
    SELECT
      s.upid,
      s.phase,
      k.op,
      sum(s.runs) AS runs,
      sum(s.busy_dur) AS busy_dur,
      _whole!(s.busy_net_dur) AS net_dur,
      sum(s.incomplete)
      + _unseen_operators(s.upid)
      + _doubtful_micro_batches(s.upid) AS incomplete
    FROM profinfer_operator_phase AS s
    LEFT JOIN _operator_kind AS k
      USING (arg_set_id)
    GROUP BY s.upid, s.phase, k.op
  ),
  told AS (
    SELECT
      *,
      _told!(net_dur, busy_dur) AS told_dur
    FROM ops
  )
SELECT
  profinfer_process_label(o.upid) AS process,
  coalesce(o.phase, 'outside') AS phase,
  o.op,
  o.runs,
  round(o.busy_dur / 1e6, 2) AS work_ms,
  round(o.net_dur / 1e6, 2) AS net_ms,
  _probes_percent!(o.busy_dur, o.net_dur) AS probes_percent,
  round(o.told_dur / 1e3 / nullif(t.tokens, 0), 1) AS per_token_us,
  round(100.0 * o.told_dur / nullif(sum(o.told_dur) OVER (PARTITION BY o.upid, o.phase), 0), 1) AS percent,
  o.incomplete
FROM told AS o
LEFT JOIN _phase_tokens AS t
  ON t.upid = o.upid AND t.phase = o.phase
ORDER BY o.upid, o.phase, o.told_dur DESC;

-- title: Work by layer and module
WITH
  layers AS (
    SELECT
      s.upid,
      s.phase,
      k.layer,
      k.module,
      sum(s.runs) AS runs,
      sum(s.busy_dur) AS busy_dur,
      _whole!(s.busy_net_dur) AS net_dur,
      sum(s.incomplete)
      + _unseen_operators(s.upid)
      + _doubtful_micro_batches(s.upid) AS incomplete
    FROM profinfer_operator_phase AS s
    LEFT JOIN _operator_kind AS k
      USING (arg_set_id)
    GROUP BY s.upid, s.phase, k.layer, k.module
  ),
  told AS (
    SELECT
      *,
      _told!(net_dur, busy_dur) AS told_dur
    FROM layers
  )
SELECT
  profinfer_process_label(l.upid) AS process,
  coalesce(l.phase, 'outside') AS phase,
  l.layer,
  l.module,
  l.runs,
  round(l.busy_dur / 1e6, 2) AS work_ms,
  round(l.net_dur / 1e6, 2) AS net_ms,
  _probes_percent!(l.busy_dur, l.net_dur) AS probes_percent,
  round(l.told_dur / 1e3 / nullif(t.tokens, 0), 1) AS per_token_us,
  round(100.0 * l.told_dur / nullif(sum(l.told_dur) OVER (PARTITION BY l.upid, l.phase), 0), 1) AS percent,
  l.incomplete
FROM told AS l
LEFT JOIN _phase_tokens AS t
  ON t.upid = l.upid AND t.phase = l.phase
ORDER BY l.upid, l.phase, l.layer IS NULL, l.layer, l.told_dur DESC;
