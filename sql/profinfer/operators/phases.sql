-- Totals of every distinct operator in prefill and in decode.

INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.sums;
INCLUDE PERFETTO MODULE profinfer.recording.net;

-- One row per distinct tensor that is computed (another size is another), phase and process. Runs that
-- may be incomplete are counted, and are in none of the sums.
CREATE PERFETTO VIEW profinfer_operator_phase(
  -- Arguments of its slices, with the description.
  arg_set_id ARGSETID,
  -- Phase of the micro-batch around the graph, NULL outside any.
  phase STRING,
  -- Name of the tensor that is computed.
  name STRING,
  -- Complete runs.
  runs LONG,
  -- Slices of these: one per run and thread.
  slices LONG,
  -- Work, summed over threads.
  busy_dur DURATION,
  -- Of that, what the engine would have taken without the probes; NULL where their cost is not known
  -- (profinfer_operator_cost says why).
  busy_net_dur DURATION,
  -- From the first thread's start to the last thread's end.
  dur DURATION,
  -- The same without the probes' time on the thread that ended last; NULL where it is not known.
  net_dur DURATION,
  -- The longest of these.
  max_dur DURATION,
  -- Runs that may be incomplete.
  incomplete LONG,
  -- Process.
  upid JOINID(process.id)
) AS
SELECT
  s.arg_set_id,
  s.phase,
  k.name,
  s.runs,
  s.slices,
  s.busy_dur,
  iif(s.runs = 0, 0, _net!(s.busy_dur, s.slices * c.hits_ns)) AS busy_net_dur,
  s.dur,
  iif(s.runs = 0, 0, _net!(s.dur, s.runs * c.run_ns)) AS net_dur,
  s.max_dur,
  s.incomplete,
  s.upid
FROM _operator_sum AS s
JOIN _operator_kind AS k
  USING (arg_set_id)
LEFT JOIN profinfer_operator_cost AS c
  ON c.arg_set_id = s.arg_set_id AND c.upid = s.upid
WHERE s.phase_id > 0;
