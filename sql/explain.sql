-- How fast was it, bound by what, what to try first, and what is not known?
-- At most ten lines. Rules stand in sql/profinfer/verdict/rules.sql, each with what it takes to be said;
-- query is the ready query that has the sentence's number (value). ruled_out is what would have been said had
-- it taken more. incomplete counts what was lost, or is not certain, in all of the recording. Of several
-- processes each has its first lines; --all shows all of them.

INCLUDE PERFETTO MODULE profinfer.events;
INCLUDE PERFETTO MODULE profinfer.recording.processes;
INCLUDE PERFETTO MODULE profinfer.verdict.lines;

-- title: The verdict
WITH
  lines AS (
    SELECT
      v.*,
      p.number,
      row_number() OVER (ORDER BY v.rank, p.number) AS line
    FROM profinfer_verdict AS v
    JOIN _recorded_process AS p
      USING (upid)
  )
SELECT
  profinfer_process_label(upid) AS process,
  rank,
  kind,
  sentence,
  value,
  query,
  incomplete
FROM lines
WHERE line <= 10 -- unless --all
ORDER BY number, rank;
