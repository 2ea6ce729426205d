"""What two traces of one boot both have counts once, and is taken from the richer one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace

from profinfer.trace_processor import open_trace
from tests.captures import BASE, CPUS, MAIN, WORKER
from tests.merging.android import Android
from tests.merging.inputs import (
    BUSY,
    FIRST,
    STEP,
    STEPS,
    SWITCHES,
    android,
    engine,
    merged,
    write_engine,
)


def _write(
    path: Path, trace: Android, *, without_wakeups: bool = False, since: int = 0,
    until: int = 1 << 62, late: int = 0,
) -> Path:  # fmt: skip
    """A system trace; some events of it taken out, those that are left so many ns late."""
    trace.switches = {
        cpu: [dataclasses.replace(s, ts=s.ts + late) for s in found if since <= s.ts < until]
        for cpu, found in trace.switches.items()
    }
    trace.wakeups = {
        cpu: [(ts + late, tid) for ts, tid in found if since <= ts < until]
        for cpu, found in trace.wakeups.items()
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


@pytest.mark.parametrize("late", [-700, 700])
def test_the_first_and_last_switch_are_not_there_twice(tmp_path: Path, late: int) -> None:
    """Two recorders read the clock at different moments of one switch."""
    within = (BASE + FIRST + STEPS // 4 * STEP, BASE + FIRST + STEPS // 2 * STEP)
    for offset in (0, BUSY[0] + 1):  # The ends at a switch to the thread, and at one to idle.
        rich = _write(
            tmp_path / "rich.pftrace", android(), since=within[0] + offset, until=within[1] + offset
        )
        poor = _write(tmp_path / "poor.pftrace", android(), without_wakeups=True, late=late)
        report = merged(tmp_path / "all.pftrace", poor, rich)
        assert any(f"taken from {rich}" in line for line in report.lines)
        switches, _, _, doubles = _counts(tmp_path / "all.pftrace")
        assert (switches, doubles) == (SWITCHES, 0)


def test_who_was_running_already_is_not_told_twice(tmp_path: Path) -> None:
    """A recorder that begins while a thread is running says so by a switch from nobody."""
    since = BASE + FIRST + STEPS // 4 * STEP + BUSY[0] + 100_000
    rich = _write(tmp_path / "rich.pftrace", android(), since=since)
    trace = Trace.FromString(rich.read_bytes())
    for tid in (MAIN, WORKER):
        packet = next(p for p in trace.packet if p.ftrace_events.cpu == tid % CPUS
                      and p.HasField("ftrace_events"))  # fmt: skip
        event = packet.ftrace_events.event.add(timestamp=since, pid=0)
        event.sched_switch.prev_pid, event.sched_switch.prev_state = 0, 0
        event.sched_switch.next_pid, event.sched_switch.next_comm = tid, "engine"
    rich.write_bytes(trace.SerializeToString())
    poor = _write(tmp_path / "poor.pftrace", android(), without_wakeups=True)
    report = merged(tmp_path / "all.pftrace", poor, rich)
    assert any(f"taken from {rich}" in line for line in report.lines)
    switches, _, _, doubles = _counts(tmp_path / "all.pftrace")
    assert (switches, doubles) == (SWITCHES, 0)


def test_one_process_in_detail_does_not_replace_the_system(tmp_path: Path) -> None:
    """A trace of two threads' switches and much else, and one of everybody's and nothing else."""
    target = _write(tmp_path / "target.pftrace", android())
    everybody = android()
    for step in range(STEPS):
        t = BASE + FIRST + step * STEP
        for tid in (MAIN, WORKER):
            everybody.ran(4242, tid % CPUS, t + BUSY[1] + 50_000, t + BUSY[1] + 500_000)
    trace = Trace.FromString(everybody.trace())
    for packet in trace.packet:
        if packet.HasField("ftrace_events"):
            packet.ftrace_events.ClearField("event")
    system = tmp_path / "system.pftrace"
    system.write_bytes(trace.SerializeToString())
    for inputs in ((target, system), (system, target)):
        report = merged(tmp_path / "all.pftrace", *inputs)
        [line] = [line for line in report.lines if "richer" in line]
        assert f"taken from {system} while" in line
        switches, _, frequencies, doubles = _counts(tmp_path / "all.pftrace")
        assert switches == SWITCHES + 2 * 2 * STEPS
        assert frequencies  # which the system trace does not have
        assert doubles == 0


def test_three_traces_keep_everything_once(tmp_path: Path) -> None:
    """Each has what the other two lack in another third of the time."""
    whole = _counts(_write(tmp_path / "whole.pftrace", android()))
    ends = [BASE + FIRST + STEPS * third // 3 * STEP for third in range(4)]
    ends[0], ends[3] = 0, 1 << 62
    inputs = [
        _write(tmp_path / f"{i}.pftrace", android(), since=ends[i], until=ends[min(i + 2, 3)])
        for i in range(3)
    ]
    merged(tmp_path / "all.pftrace", *inputs)
    found = _counts(tmp_path / "all.pftrace")
    assert (found[0], found[3]) == (whole[0], 0)


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
