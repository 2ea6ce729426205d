-- What is copied between backends, how much, and how long does that take?
-- Copies of micro-batches, for the split that follows. tensor: by the engine's name for it, of which there may
-- be one in each layer. from host: no backend computed it in the micro-batch, as of inputs. Copies by a
-- backend's own function, which no exported one calls, are seen only by the names of what they
-- write: the last table has those that were not met by any call.

INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.splits;
INCLUDE PERFETTO MODULE profinfer.recording.losses;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Copies between backends
-- rows: 20
SELECT
  profinfer_process_label(c.upid) AS process,
  u.phase,
  c.from_backend,
  c.to_backend,
  c.tensor,
  count() AS copies,
  sum(c.bytes) AS sum_bytes,
  round(sum(c.dur) / 1e6, 3) AS time_ms,
  round(sum(c.dur) / 1e3 / count(), 1) AS mean_us,
  round(1.0 * sum(c.bytes) / nullif(sum(iif(c.bytes IS NULL, 0, c.dur)), 0), 4) AS gb_per_s,
  profinfer_lost(c.upid, 'call') + _doubtful_micro_batches(c.upid) AS incomplete
FROM profinfer_copy AS c
JOIN profinfer_ubatch AS u
  USING (ubatch_id)
GROUP BY c.upid, u.phase, c.from_backend, c.to_backend, c.tensor
ORDER BY c.upid, u.phase, time_ms DESC, c.tensor;

-- The step of median length, of those in which nothing was lost.

-- title: Copies of one decoding step (the first 100)
-- rows: 30
WITH
  steps AS (
    SELECT
      upid,
      ubatch_id,
      ts,
      row_number() OVER (PARTITION BY upid ORDER BY dur, ts) AS number,
      count() OVER (PARTITION BY upid) AS steps
    FROM profinfer_ubatch
    WHERE phase = 'decode' AND complete
  ),
  ranked AS (
    SELECT
      c.*,
      s.ts AS step_ts,
      row_number() OVER (PARTITION BY c.upid ORDER BY c.ts) AS rank
    FROM steps AS s
    JOIN profinfer_copy AS c
      USING (ubatch_id)
    WHERE s.number = (s.steps + 1) / 2
  )
SELECT
  profinfer_process_label(upid) AS process,
  split,
  from_backend,
  to_backend,
  tensor,
  bytes,
  round((ts - step_ts) / 1e6, 4) AS at_ms,
  round(dur / 1e3, 1) AS dur_us,
  profinfer_lost(upid, 'call') + _doubtful_micro_batches(upid) AS incomplete,
  slice_id
FROM ranked
WHERE rank <= 100
ORDER BY upid, rank;

-- title: Copies of which no call was seen (none when empty)
WITH
  expected AS (
    SELECT
      s.upid,
      s.backend,
      count() AS copies,
      sum(i.bytes) AS bytes
    FROM profinfer_split AS s
    JOIN _split_input AS i
      USING (structure_id)
    WHERE
      NOT EXISTS (
        SELECT
          1
        FROM profinfer_copy AS c
        WHERE c.ubatch_id = s.ubatch_id AND c.split = s.split AND (c.tensor = i.name OR c.tensor IS NULL)
      )
    GROUP BY s.upid, s.backend
  )
SELECT
  profinfer_process_label(upid) AS process,
  backend AS to_backend,
  copies,
  bytes AS sum_bytes,
  NULL AS time_ms,
  iif(
    upid IN (SELECT upid FROM _part_known WHERE name IN ('copy', 'set') AND is_probed),
    'the backend copies by a function of its own, or by one that is compiled into its caller',
    'the functions that copy were not recorded'
  ) AS reason,
  profinfer_lost(upid, 'call') + _doubtful_micro_batches(upid) AS incomplete
FROM expected
ORDER BY upid, copies DESC;
