-- How the recording was made.

INCLUDE PERFETTO MODULE profinfer.events;

-- How the trace was recorded: versions, target, layout, probe plan, configuration, machine, and
-- how the recording ended.
CREATE PERFETTO VIEW profinfer_recording(
  -- Name of the setting or fact, such as config.level or uname.release.
  key STRING,
  -- Its value as text.
  value STRING,
  -- The process that was recorded.
  upid JOINID(process.id)
) AS
SELECT
  key,
  value,
  upid
FROM _recording_arg;
