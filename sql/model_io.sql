-- What was read from storage, of which tensors and experts, and how much of it for nothing?
-- Needs a recording with --block-io. Reads are what came into the page cache because of the target's
-- threads, the kernel's reading ahead included; what another process had read before is not in it.
-- What passes the page cache by, swap and direct I/O, the kernel counts for the whole process only
-- (kernel_bytes; of a process that has ended it is not known to the last): past_cache_bytes is its count
-- without what came into the page cache, and is of no file, tensor or operator here.
-- untouched_bytes (with --faults) are those read during operators in whose neighbourhood of 64 KiB
-- no fault followed: wasted, as far as faults show it.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.memory.files;
INCLUDE PERFETTO MODULE profinfer.memory.paging;
INCLUDE PERFETTO MODULE profinfer.recording.losses;
INCLUDE PERFETTO MODULE profinfer.recording.processes;

-- title: Bytes read (no numbers: not recorded, see --block-io)
WITH
  asked AS (
    SELECT
      upid,
      profinfer_was_asked(upid, 'block_io') AS reads,
      profinfer_was_asked(upid, 'faults') AS faults
    FROM _recorded_process
  )
SELECT
  profinfer_process_label(p.upid) AS process,
  iif(p.reads, coalesce(sum(r.bytes), 0), NULL) AS read_bytes,
  iif(p.reads, coalesce(sum(iif(m.file IS NULL, 0, r.bytes)), 0), NULL) AS of_models_bytes,
  iif(p.reads, coalesce(sum(iif(r.operator_slice_id IS NULL, 0, r.bytes)), 0), NULL) AS in_operators_bytes,
  iif(
    p.reads AND p.faults,
    (
      SELECT
        coalesce(sum(u.bytes), 0)
      FROM _untouched_part AS u
      JOIN profinfer_file_read AS f
        ON f.id = u.file_read_id
      WHERE f.upid = p.upid
    ),
    NULL
  ) AS untouched_bytes,
  profinfer_kernel_count(p.upid, 'read_bytes') AS kernel_bytes,
  iif(
    p.reads,
    max(profinfer_kernel_at_least(p.upid, 'read_bytes') - coalesce(sum(r.bytes), 0), 0),
    NULL
  ) AS past_cache_bytes,
  profinfer_doubtful_memory(p.upid)
  + profinfer_lost(p.upid, 'file_read')
  + profinfer_lost(p.upid, 'fault') AS incomplete
FROM asked AS p
LEFT JOIN profinfer_file_read AS r
  USING (upid)
LEFT JOIN profinfer_model AS m
  ON m.file = r.file
GROUP BY p.upid
ORDER BY p.upid;

-- title: Bytes read by tensor (the first 60)
-- rows: 8
WITH
  ranked AS (
    SELECT
      r.upid,
      t.name,
      t.layer,
      t.type,
      t.bytes,
      sum(r.bytes) AS read_bytes,
      sum(iif(r.arg_set_id IS NULL, 0, r.bytes)) AS in_operators,
      sum(r.untouched_bytes) AS untouched_bytes,
      row_number() OVER (PARTITION BY r.upid ORDER BY sum(r.bytes) DESC, t.name) AS rank
    FROM profinfer_model_read AS r
    JOIN profinfer_model_tensor AS t
      USING (model_tensor_id)
    GROUP BY r.upid, r.model_tensor_id
  )
SELECT
  profinfer_process_label(upid) AS process,
  name AS tensor,
  layer,
  type,
  bytes,
  read_bytes,
  round(1.0 * read_bytes / bytes, 2) AS times_read,
  in_operators AS in_operators_bytes,
  untouched_bytes,
  profinfer_doubtful_memory(upid)
  + profinfer_lost(upid, 'file_read')
  + profinfer_lost(upid, 'fault') AS incomplete
FROM ranked
WHERE rank <= 60
ORDER BY upid, rank;

-- title: Bytes read by expert, during operators (the first 60)
-- rows: 8
WITH
  ranked AS (
    SELECT
      r.upid,
      t.layer,
      r.expert,
      sum(r.bytes) AS read_bytes,
      min(e.bytes) AS bytes,
      count(DISTINCT r.graph_id) AS graphs,
      sum(r.untouched_bytes) AS untouched_bytes,
      row_number() OVER (
        PARTITION BY r.upid ORDER BY sum(r.bytes) DESC, t.layer, r.expert
      ) AS rank
    FROM profinfer_model_read AS r
    JOIN profinfer_model_tensor AS t
      USING (model_tensor_id)
    JOIN (
      SELECT
        file,
        layer,
        sum(expert_bytes) AS bytes
      FROM profinfer_model_tensor
      WHERE experts IS NOT NULL
      GROUP BY file, layer
    ) AS e
      ON e.file = t.file AND e.layer IS t.layer
    WHERE r.expert IS NOT NULL AND r.arg_set_id IS NOT NULL
    GROUP BY r.upid, t.file, t.layer, r.expert
  )
SELECT
  profinfer_process_label(upid) AS process,
  layer,
  expert,
  read_bytes,
  round(1.0 * read_bytes / bytes, 2) AS times_read,
  graphs,
  untouched_bytes,
  profinfer_doubtful_memory(upid)
  + profinfer_lost(upid, 'file_read')
  + profinfer_lost(upid, 'fault') AS incomplete
FROM ranked
WHERE rank <= 60
ORDER BY upid, rank;

-- title: Bytes read by file (the first 20)
-- rows: 8
WITH
  ranked AS (
    SELECT
      upid,
      name,
      sum(bytes) AS read_bytes,
      sum(iif(operator_slice_id IS NULL, 0, bytes)) AS in_operators,
      row_number() OVER (PARTITION BY upid ORDER BY sum(bytes) DESC, name) AS rank
    FROM (
      SELECT
        r.*,
        coalesce(
          f.path,
          printf(
            'inode %d of device %d:%d, never seen mapped or open', f.inode, f.device >> 20, f.device & 1048575
          )
        ) AS name
      FROM profinfer_file_read AS r
      JOIN profinfer_file AS f
        USING (file)
    )
    GROUP BY upid, file
  )
SELECT
  profinfer_process_label(upid) AS process,
  name AS file,
  read_bytes,
  in_operators AS in_operators_bytes,
  profinfer_doubtful_memory(upid) + profinfer_lost(upid, 'file_read') AS incomplete
FROM ranked
WHERE rank <= 20
ORDER BY upid, rank;

-- title: Read past the page cache (none when empty)
WITH
  sums AS (
    SELECT
      p.upid,
      profinfer_kernel_at_least(p.upid, 'read_bytes')
      - (
        SELECT
          coalesce(sum(r.bytes), 0)
        FROM profinfer_file_read AS r
        WHERE r.upid = p.upid
      ) AS past_cache,
      (
        SELECT
          sum(f.of_no_file)
        FROM profinfer_fault AS f
        WHERE f.upid = p.upid AND f.kind = 'major'
      ) * _page_size(p.upid) AS swapped
    FROM _recorded_process AS p
    WHERE profinfer_was_asked(p.upid, 'block_io')
  )
SELECT
  profinfer_process_label(upid) AS process,
  'from swap or direct I/O, by the kernel''s count' AS what,
  past_cache AS bytes,
  NULL AS path
FROM sums
WHERE past_cache > 65536
UNION ALL
SELECT
  profinfer_process_label(upid) AS process,
  'from swap, by major faults in memory of no file' AS what,
  swapped AS bytes,
  NULL AS path
FROM sums
WHERE swapped > 0
UNION ALL
SELECT
  profinfer_process_label(upid) AS process,
  'open for direct I/O' AS what,
  NULL AS bytes,
  path
FROM profinfer_model
WHERE direct;

-- title: Models whose reads cannot be told (none when empty)
SELECT
  profinfer_process_label(upid) AS process,
  path,
  iif(
    overlaid,
    'on an overlay file system: what is read of it stands under a file without a path',
    error
  ) AS reason
FROM profinfer_model
WHERE overlaid OR error IS NOT NULL;
