-- How long do matrix products take for their size, and what holds them up: arithmetic or memory?
-- m x k with k x n (profinfer_product): m*n*k multiplications and as many additions. mean_us is from the
-- first thread's start to the last one's end. gflop_per_s and gb_per_s are of the same time; bytes are
-- what a product has to read and write (profinfer_operator_traffic). flop_per_byte says how often a byte
-- is used: where many products of few flop_per_byte come to the same gb_per_s, memory holds them up.
-- probes_percent of it is the recording's own hits: net_us and the speeds, in all three tables, are without, where
-- what hits cost is known. Products that may be incomplete are not in the sums; the last column counts them.

INCLUDE PERFETTO MODULE profinfer.operators.kinds;
INCLUDE PERFETTO MODULE profinfer.operators.phases;
INCLUDE PERFETTO MODULE profinfer.operators.products;
INCLUDE PERFETTO MODULE profinfer.operators.traffic;
INCLUDE PERFETTO MODULE profinfer.operators.unseen;
INCLUDE PERFETTO MODULE profinfer.recording.net;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Products by size (the first 300 by time)
WITH
  ranked AS (
    SELECT
      s.upid,
      s.phase,
      k.op,
      p.type,
      p.m,
      p.n,
      p.k,
      sum(s.runs) AS runs,
      sum(s.dur) AS dur,
      _whole!(s.net_dur) AS net_dur,
      coalesce(_whole!(s.net_dur), sum(s.dur)) AS told_dur,
      sum(s.runs * (t.read_bytes + t.written_bytes)) AS bytes,
      1.0 * p.m * p.n * p.k AS mnk,
      sum(s.incomplete)
      + _doubtful_operators(s.upid) AS incomplete,
      row_number() OVER (PARTITION BY s.upid ORDER BY sum(s.dur) DESC) AS rank
    FROM profinfer_operator_phase AS s
    JOIN profinfer_product AS p
      ON p.arg_set_id = s.arg_set_id
    JOIN _operator_kind AS k
      ON k.arg_set_id = s.arg_set_id
    LEFT JOIN profinfer_operator_traffic AS t
      ON t.arg_set_id = s.arg_set_id
    GROUP BY s.upid, s.phase, k.op, p.type, p.m, p.n, p.k
  )
SELECT
  profinfer_process_label(upid) AS process,
  coalesce(phase, 'outside') AS phase,
  op,
  type,
  m,
  n,
  k,
  round(mnk / 1e6, 4) AS mnk_millions,
  runs,
  round(dur / 1e3 / nullif(runs, 0), 2) AS mean_us,
  round(net_dur / 1e3 / nullif(runs, 0), 2) AS net_us,
  _probes_percent!(dur, net_dur) AS probes_percent,
  round(2.0 * mnk * runs / nullif(told_dur, 0), 2) AS gflop_per_s,
  round(1.0 * bytes / nullif(told_dur, 0), 2) AS gb_per_s,
  round(2.0 * mnk * runs / nullif(bytes, 0), 2) AS flop_per_byte,
  round(dur / 1e6, 2) AS time_ms,
  incomplete
FROM ranked
WHERE rank <= 300
ORDER BY upid, rank;

-- A line through the logarithms of mean time and m*n*k, where there are three sizes or more: with
-- exponent 1 time grows as the size does. r2 says how much of the variance it explains.

-- title: Time against size
WITH
  sizes AS (
    SELECT
      s.upid,
      s.phase,
      k.op,
      p.type,
      sum(s.runs) AS runs,
      coalesce(_whole!(s.net_dur), sum(s.dur)) AS dur,
      sum(s.runs) * 1.0 * p.m * p.n * p.k AS mnk,
      iif(coalesce(_whole!(s.net_dur), sum(s.dur)) > 0, ln(1.0 * p.m * p.n * p.k), NULL) AS x,
      iif(coalesce(_whole!(s.net_dur), sum(s.dur)) > 0, ln(1.0 * coalesce(_whole!(s.net_dur), sum(s.dur)) / sum(s.runs)), NULL) AS y,
      sum(s.incomplete)
      + _doubtful_operators(s.upid) AS incomplete
    FROM profinfer_operator_phase AS s
    JOIN profinfer_product AS p
      ON p.arg_set_id = s.arg_set_id
    JOIN _operator_kind AS k
      ON k.arg_set_id = s.arg_set_id
    GROUP BY s.upid, s.phase, k.op, p.type, p.m, p.n, p.k
  ),
  centered AS (
    SELECT
      *,
      x - avg(x) OVER line AS dx,
      y - avg(y) OVER line AS dy
    FROM sizes
    WINDOW
      line AS (PARTITION BY upid, phase, op, type)
  )
SELECT
  profinfer_process_label(upid) AS process,
  coalesce(phase, 'outside') AS phase,
  op,
  type,
  count(x) AS sizes,
  sum(runs) AS runs,
  round(sum(dur) / 1e6, 2) AS time_ms,
  round(2.0 * sum(mnk) / nullif(sum(dur), 0), 2) AS gflop_per_s,
  iif(count(x) > 2, round(sum(dx * dy) / nullif(sum(dx * dx), 0), 3), NULL) AS exponent,
  iif(
    count(x) > 2,
    round(sum(dx * dy) * sum(dx * dy) / nullif(sum(dx * dx) * sum(dy * dy), 0), 3),
    NULL
  ) AS r2,
  round(exp(min(x)) / 1e6, 6) AS from_mnk_millions,
  round(exp(max(x)) / 1e6, 6) AS to_mnk_millions,
  iif(
    count(x) > 2, round(exp(avg(y) + sum(dx * dy) / nullif(sum(dx * dx), 0) * min(dx)) / 1e3, 2), NULL
  ) AS from_us,
  iif(
    count(x) > 2, round(exp(avg(y) + sum(dx * dy) / nullif(sum(dx * dx), 0) * max(dx)) / 1e3, 2), NULL
  ) AS to_us,
  sum(incomplete) AS incomplete
FROM centered
GROUP BY upid, phase, op, type
ORDER BY upid, sum(dur) DESC;

-- The most that was reached here by sizes with a hundredth of their phase's time or more: so many bytes per second,
-- as far as that many operations per byte keep arithmetic below the most that was reached of it. Not what the
-- machine could do.

-- title: Roof that was reached
WITH
  sizes AS (
    SELECT
      s.upid,
      2.0 * p.m * p.n * p.k * sum(s.runs) AS flop,
      1.0 * sum(s.runs * (t.read_bytes + t.written_bytes)) AS bytes,
      coalesce(_whole!(s.net_dur), sum(s.dur)) AS dur,
      sum(coalesce(_whole!(s.net_dur), sum(s.dur))) OVER (PARTITION BY s.upid, s.phase) AS all_dur,
      sum(s.incomplete)
      + _doubtful_operators(s.upid) AS incomplete
    FROM profinfer_operator_phase AS s
    JOIN profinfer_product AS p
      ON p.arg_set_id = s.arg_set_id
    JOIN profinfer_operator_traffic AS t
      ON t.arg_set_id = s.arg_set_id
    GROUP BY s.upid, s.phase, p.type, p.m, p.n, p.k
  ),
  roofs AS (
    SELECT
      upid,
      max(iif(dur * 100 >= all_dur, bytes / nullif(dur, 0), NULL)) AS bandwidth,
      max(iif(dur * 100 >= all_dur, flop / nullif(dur, 0), NULL)) AS speed,
      min(iif(dur > 0, flop / bytes, NULL)) AS least,
      max(iif(dur > 0, flop / bytes, NULL)) AS most,
      sum(incomplete) AS incomplete
    FROM sizes
    GROUP BY upid
  ),
  points AS (
    SELECT upid, min(least, speed / bandwidth) AS x, bandwidth, speed, incomplete FROM roofs
    UNION ALL
    SELECT upid, speed / bandwidth AS x, bandwidth, speed, incomplete FROM roofs
    UNION ALL
    SELECT upid, max(most, speed / bandwidth) AS x, bandwidth, speed, incomplete FROM roofs
  )
SELECT
  profinfer_process_label(upid) AS process,
  round(x, 3) AS flop_per_byte,
  round(min(speed, bandwidth * x), 2) AS gflop_per_s,
  round(bandwidth, 2) AS gb_per_s,
  incomplete
FROM points
WHERE x IS NOT NULL
ORDER BY upid, x;
