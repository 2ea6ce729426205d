-- The threads that compute graphs, as ready queries list them.

INCLUDE PERFETTO MODULE profinfer.events;

-- In which row a thread stands. In one of its own, unless its engine starts workers for each graph
-- (it has had more than four times as many as it had at once): then with those that had the same
-- number among the workers of their graph, in the order in which they were started.
CREATE PERFETTO TABLE _thread_row(
  -- Thread.
  utid JOINID(thread.id),
  -- The first thread of its row.
  row JOINID(thread.id),
  -- Number of the thread, NULL where the row is several.
  tid LONG,
  -- Its name, or what it is.
  name STRING
) AS
WITH
  numbered AS (
    SELECT
      upid,
      utid,
      row_number() OVER (PARTITION BY graph_id ORDER BY utid) AS number
    FROM _graph_event
    WHERE NOT is_main
  ),
  workers AS MATERIALIZED (
    SELECT
      upid,
      utid,
      min(number) AS number
    FROM numbered
    GROUP BY utid
  ),
  crowds AS MATERIALIZED (
    SELECT
      upid,
      number,
      min(utid) AS row,
      count() AS threads
    FROM workers
    WHERE
      upid IN (
        SELECT
          upid
        FROM workers
        GROUP BY upid
        HAVING count() > 4 * max(number)
      )
    GROUP BY upid, number
  )
SELECT
  t.utid,
  coalesce(c.row, t.utid) AS row,
  iif(c.row IS NULL, t.tid, NULL) AS tid,
  iif(c.row IS NULL, t.name, format('worker %d (%d threads)', c.number, c.threads)) AS name
FROM (SELECT DISTINCT utid FROM _graph_event) AS g
JOIN thread AS t
  USING (utid)
LEFT JOIN workers AS w
  USING (utid)
LEFT JOIN crowds AS c
  ON c.upid = w.upid AND c.number = w.number
ORDER BY t.utid;
