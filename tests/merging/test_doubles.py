"""What two traces of one boot both have counts once, and is taken from the richer one."""

from __future__ import annotations

from pathlib import Path

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace

from profinfer.trace_processor import open_trace
from tests.captures import BASE
from tests.merging.android import Android
from tests.merging.inputs import FIRST, STEP, STEPS, SWITCHES, android, engine, merged, write_engine


def _write(path: Path, trace: Android, *, without_wakeups: bool = False, until: int = 0) -> Path:
    """A system trace; some events of it taken out."""
    if until:
        trace.switches = {
            cpu: [each for each in found if each.ts < until]
            for cpu, found in trace.switches.items()
        }
        trace.wakeups = {
            cpu: [each for each in found if each[0] < until] for cpu, found in trace.wakeups.items()
        }
    if without_wakeups:
        trace.wakeups = {}
    path.write_bytes(trace.trace())
    return path


def _counts(path: Path) -> tuple[object, ...]:
    """Switches, wakeups, frequencies, errors."""
    with open_trace(path, trace_processor="wasm") as session:
        assert session.import_errors() == []
        sql = (
            "SELECT (SELECT count() FROM sched), "
            "(SELECT count() FROM thread_state WHERE state = 'R'), "
            "(SELECT count() FROM counter JOIN cpu_counter_track AS t ON track_id = t.id "
            "WHERE t.name = 'cpufreq'), "
            "(SELECT count() FROM (SELECT 1 FROM sched GROUP BY cpu, ts HAVING count() > 1))"
        )
        return session.query(sql).rows()[0]


def test_the_same_events_count_once(tmp_path: Path) -> None:
    one = _write(tmp_path / "one.pftrace", android())
    other = _write(tmp_path / "other.pftrace", android(), without_wakeups=True)
    whole = _counts(one)
    assert whole[0] == SWITCHES
    assert whole[1] in range(2 * STEPS - 2, 2 * STEPS + 3)
    assert whole[3] == 0
    for inputs in ((one, other), (other, one)):
        ours = write_engine(tmp_path / "engine.pftrace", engine())
        report = merged(tmp_path / "all.pftrace", ours, *inputs)
        assert _counts(tmp_path / "all.pftrace") == whole
        said = [line for line in report.lines if "richer" in line]
        assert len(said) == 1
        assert f"taken from {one}" in said[0]
        assert "sched_switch" in said[0]
        # Its switches, frequencies and prints: all there is in it.
        [left_out] = [line for line in report.lines if "left out" in line]
        assert str(other) in left_out
        assert f"{_events(other):,} events" in left_out


def test_a_trace_that_has_the_rest_is_kept_where_the_richer_one_was_not_recording(
    tmp_path: Path,
) -> None:
    until = BASE + FIRST + STEPS // 2 * STEP
    rich = _write(tmp_path / "rich.pftrace", android(), until=until)
    poor = _write(tmp_path / "poor.pftrace", android(), without_wakeups=True)
    merged(tmp_path / "all.pftrace", rich, poor)
    switches, runnable, _, doubles = _counts(tmp_path / "all.pftrace")
    assert switches == SWITCHES
    # Woken threads of the first half only: the second half's trace has no wakeups.
    whole = _counts(_write(tmp_path / "whole.pftrace", android()))[1]
    assert isinstance(whole, int)
    assert runnable == whole - STEPS
    assert doubles == 0


def test_different_events_are_all_there(tmp_path: Path) -> None:
    """Nothing is left out when two traces have no kind of event in common."""
    switches = tmp_path / "switches.pftrace"
    trace = Trace.FromString(android().trace())
    for packet in trace.packet:
        if packet.HasField("ftrace_events"):
            packet.ftrace_events.ClearField("event")
    switches.write_bytes(trace.SerializeToString())
    events = tmp_path / "events.pftrace"
    trace = Trace.FromString(android().trace())
    for packet in trace.packet:
        if packet.HasField("ftrace_events"):
            packet.ftrace_events.ClearField("compact_sched")
    events.write_bytes(trace.SerializeToString())
    report = merged(tmp_path / "all.pftrace", switches, events)
    assert not [line for line in report.lines if "richer" in line]
    whole = _write(tmp_path / "whole.pftrace", android())
    assert _counts(tmp_path / "all.pftrace") == _counts(whole)


def _events(path: Path) -> int:
    trace = Trace.FromString(path.read_bytes())
    bundles = [p.ftrace_events for p in trace.packet if p.HasField("ftrace_events")]
    return sum(
        len(b.event) + len(b.compact_sched.switch_timestamp) + len(b.compact_sched.waking_timestamp)
        for b in bundles
    )
