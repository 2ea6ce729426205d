"""However a recording ends, its capture is readable and its probes are gone."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from profinfer.records.capture import FrameKind, read_capture
from tests.recorder.recording import SHORT, STAYS, TIMEOUT, attached, convert, convert_cut, record
from tests.recording.helpers import (
    BAD_STATS,
    BY_THREAD,
    assert_matches,
    ending,
    number,
    rows,
    target,
    truths,
    wait_until,
)
from tests.support import ENGINE_ONLY

ENDLESS = ("--threads", 2, "--layers", 3, "--decode", 1_000_003, "--work-us", 101)


def test_a_duration_ends_it_and_leaves_the_process_alone(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "t.raw"
    with (
        target(built, tmp_path, *SHORT, *STAYS) as known,
        attached(recorder, plan, known.pid, capture, "--duration", 2) as recording,
    ):
        assert known.is_probed()
        known.release()
        truth = known.truth()
        assert "(the duration is over)" in recording.finish()
        assert recording.code == 0
        assert not known.is_probed()
        assert known.process.poll() is None
    trace = convert(capture)
    assert_matches(trace, truth, "barrier")
    assert ending(trace)["reason"] == "the duration is over"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_leaves_the_process_alone(
    signum: signal.Signals, recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "t.raw"
    with (
        target(built, tmp_path, *SHORT, *STAYS) as known,
        attached(recorder, plan, known.pid, capture) as recording,
    ):
        known.release()
        truth = known.truth()
        recording.process.send_signal(signum)
        recording.finish()
        assert recording.code == 0
        assert not known.is_probed()
        assert known.process.poll() is None
    trace = convert(capture)
    assert_matches(trace, truth, "barrier")
    assert ending(trace)["reason"] == f"{signum.name} received"


def test_a_killed_recorder_leaves_a_capture_that_converts_and_no_probes(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture, trace = tmp_path / "t.raw", tmp_path / "t.pftrace"
    engine = ("--threads", 2, "--layers", 3, "--decode", 251, "--work-us", 101)
    with (
        target(built, tmp_path, *engine) as known,
        attached(recorder, plan, known.pid, capture) as recording,
    ):
        known.release()
        wait_until("some records", lambda: capture.stat().st_size > 100_000)
        recording.process.kill()
        recording.process.wait(TIMEOUT)
        assert known.process.poll() is None
        wait_until("probes gone", lambda: not known.is_probed())
        truth = known.truth()
    assert "it has no end frame" in convert_cut(capture, trace)
    counts, stats = rows(trace, BY_THREAD, BAD_STATS)
    operators = {tid: number(n) for category, tid, n in counts if category == "operator"}
    made = {thread["tid"]: thread["extra"] + thread["fused"] for thread in truth["threads"]}
    assert operators.keys() == made.keys()
    assert all(0 < operators[tid] < made[tid] for tid in made)
    assert stats == []
    assert ending(trace) == {}


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A small file system."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_full_disk_ends_it_with_everything_up_to_there(
    recorder: Path, plan: Path, built: Path, tmp_path: Path, full: Path
) -> None:
    capture, trace = full / "t.raw", tmp_path / "t.pftrace"
    with (
        target(built, tmp_path, *ENDLESS) as known,
        attached(recorder, plan, known.pid, capture, "--poll", 0.05) as recording,
    ):
        known.release()
        said = recording.finish()
        assert recording.code == 7
        assert f"cannot write {capture}: No space left on device" in said
        assert f"can be converted ({capture.stat().st_size} bytes)" in said
        assert not known.is_probed()
        assert known.process.poll() is None
    # Cut back to whole frames, not one byte beyond.
    frames = list(read_capture(capture))
    assert 16 + sum(24 + len(frame.data) for frame in frames) == capture.stat().st_size
    assert frames[-1].kind != FrameKind.END
    assert "it has no end frame" in convert_cut(capture, trace)
    counts, stats = rows(trace, BY_THREAD, BAD_STATS)
    assert stats == []
    assert sum(number(n) for category, _, n in counts if category == "operator") > 100


def test_a_forked_child_and_a_process_with_the_same_library_are_not_recorded(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "t.raw"
    with (
        target(built, tmp_path, *SHORT, "--fork") as known,
        attached(recorder, plan, known.pid, capture) as recording,
    ):
        known.release()
        other = subprocess.run(
            [str(built / "known"), *map(str, SHORT)],
            capture_output=True, text=True, check=True, timeout=TIMEOUT,
        )  # fmt: skip
        child, parent = known.truth(), known.truth()
        recording.finish()
        assert recording.code == 0
    [stranger] = truths(other.stdout)
    assert stranger["calls"] == child["calls"] == parent["calls"]
    assert_matches(convert(capture), parent, "barrier")


def test_a_recording_may_begin_in_the_middle_of_a_graph(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "t.raw"
    with target(built, tmp_path, *ENDLESS) as known:
        known.release()
        with attached(recorder, plan, known.pid, capture, "--duration", 1) as recording:
            recording.finish()
            assert recording.code == 0
        assert not known.is_probed()
    trace = convert(capture)
    counts, stats, orphans = rows(
        trace,
        "SELECT category, count() FROM slice GROUP BY 1",
        BAD_STATS,
        "SELECT DISTINCT parent.category FROM slice JOIN slice AS parent"
        " ON parent.id = slice.parent_id WHERE slice.category = 'operator'",
    )
    assert stats == []
    assert number({category: n for category, n in counts}["operator"]) > 100
    assert set(orphans) <= {("graph",), ("graph.worker",)}


def test_an_existing_capture_is_overwritten_only_by_force(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "t.raw"
    capture.write_bytes(b"x" * 10_000_000)
    truth, _ = record(recorder, plan, built, capture, SHORT, "--force")
    assert_matches(convert(capture), truth, "barrier")


def test_without_standard_streams_nothing_is_said_into_the_capture(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "t.raw"
    script = 'exec "$@" 0<&- 1>&- 2>&-'
    with target(built, tmp_path, *SHORT, *STAYS) as known:
        words = [recorder, "--pid", known.pid, "--plan", plan, "-o", capture, "--duration", 0.3]
        done = subprocess.run(
            ["sh", "-c", script, "sh", *map(str, words), *ENGINE_ONLY], timeout=TIMEOUT, check=False
        )
    assert done.returncode == 0
    frames = list(read_capture(capture))
    assert 16 + sum(24 + len(frame.data) for frame in frames) == capture.stat().st_size
    assert frames[-1].kind == FrameKind.END
