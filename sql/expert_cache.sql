-- How many of the experts that are needed would a cache of a given size hold?
-- Each layer has its own cache, of so many experts; ram_mib is what they take in all layers.
-- lru_percent: of the uses, those whose expert is among the ones used last. lfu: among the ones used
-- most often so far; experts used equally often may be kept or not, so there are two numbers, and
-- every way to decide lies between them. A run needs its experts at once, so that each is used
-- once in it. Caches begin empty when recording does, and carry on from phase to phase; runs whose
-- ids are not known are passed over, and counted in the last column, with the graphs whose layers are
-- not known. Needs record --experts.

INCLUDE PERFETTO MODULE profinfer.experts.caches;
INCLUDE PERFETTO MODULE profinfer.experts.readings;
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Hits by experts cached per layer
WITH RECURSIVE
  cached(upid, n, most) AS (
    SELECT
      upid,
      1,
      max(experts)
    FROM profinfer_expert_reading
    GROUP BY upid
    HAVING max(experts) > 0
    UNION ALL
    SELECT
      upid,
      n + 1,
      most
    FROM cached
    WHERE n < most
  ),
  depths AS MATERIALIZED (
    SELECT
      depth,
      count() AS uses
    FROM _expert_lru
    GROUP BY depth
  ),
  lru AS MATERIALIZED (
    SELECT
      p.upid,
      CASE d.depth & 3
        WHEN 1
        THEN 'prefill'
        WHEN 2
        THEN 'decode'
      END AS phase,
      nullif((d.depth & 0xFFFFFFFF) >> 2, 0) AS size,
      d.uses
    FROM depths AS d
    LEFT JOIN _recorded_process AS p
      ON p.number = d.depth >> 32
  ),
  totals AS MATERIALIZED (
    SELECT
      upid,
      phase,
      sum(uses) AS uses
    FROM lru
    GROUP BY upid, phase
  ),
  sizes AS (
    SELECT
      upid,
      sum(bytes) AS bytes
    FROM profinfer_expert_size
    GROUP BY upid
  )
SELECT
  profinfer_process_label(t.upid) AS process,
  coalesce(t.phase, 'unknown') AS phase,
  c.n AS cached,
  round(100.0 * c.n / c.most, 1) AS of_experts_percent,
  round(c.n * (SELECT bytes FROM sizes WHERE upid = t.upid) / 1048576.0, 2) AS ram_mib,
  t.uses,
  round(
    100.0 * coalesce(
      (SELECT sum(uses) FROM lru WHERE upid = t.upid AND phase IS t.phase AND size <= c.n), 0
    ) / t.uses, 1
  ) AS lru_percent,
  round(
    100.0
    * coalesce(
      (
        SELECT
          sum(uses)
        FROM _expert_lfu
        WHERE upid = t.upid AND phase IS t.phase AND ties_first AND size <= c.n
      ),
      0
    )
    / t.uses,
    1
  ) AS lfu_least_percent,
  round(
    100.0
    * coalesce(
      (
        SELECT
          sum(uses)
        FROM _expert_lfu
        WHERE upid = t.upid AND phase IS t.phase AND NOT ties_first AND size <= c.n
      ),
      0
    )
    / t.uses,
    1
  ) AS lfu_most_percent,
  (
    SELECT
      sum(NOT complete)
    FROM profinfer_expert_reading
    WHERE upid = t.upid
  )
  + profinfer_unknown_graphs(t.upid) AS incomplete
FROM totals AS t
JOIN cached AS c
  ON c.upid = t.upid
ORDER BY t.upid, t.phase, c.n;
