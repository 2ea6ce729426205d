"""A capture or a trace that was cut converts, opens and answers up to the cut."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from profinfer.records.capture import MAGIC, Frame, FrameKind, pack
from profinfer.trace_processor import is_cut, open_trace
from profinfer.trace_processor.trace_file import packet_bounds
from tests.captures import BASE, MAIN, WORKER, Capture, T, convert, write_capture

REPO = Path(__file__).resolve().parents[2]
US = 1_000
HEADER = 24
UBATCHES = 4
PERIOD = 1_000 * US
NODES = [T("a-0", "ADD", ("x", "y")), T("b-0", "MUL", ("a-0", "y")), T("x"), T("y")]
SLICES = ("ubatch", "sequence", "graph", "graph.worker", "operator", "barrier")
PER_UBATCH = dict(zip(SLICES, (1, 1, 1, 1, 4, 4), strict=True))
"""Of one micro-batch: a graph on two threads, each with two operators and a barrier after each."""


def frames() -> list[Frame]:
    """A recording of four micro-batches that was drained after each of them."""
    capture = Capture()
    shape = capture.structure(10 * US, NODES)
    for number in range(UBATCHES):
        t = (number + 1) * PERIOD
        capture.ubatch(t, t + 900 * US, [(0, number, 1, 1, 1)])
        threads = {
            tid: [("a-0", t + 200 * US, t + 300 * US + late),
                  ("b-0", t + 400 * US + late, t + 500 * US + late)]
            for tid, late in ((MAIN, 0), (WORKER, 7))
        }  # fmt: skip
        capture.graph(shape, t + 100 * US, t + 800 * US, threads)
    drains = [BASE + (number + 1) * PERIOD + 950 * US for number in range(UBATCHES)]
    return capture.frames([(drain, drain) for drain in drains])


ALL = frames()
RECORDS = [i for i, frame in enumerate(ALL) if frame.kind == FrameKind.RECORDS]
STARTS = [len(MAGIC) + sum(len(pack(frame)) for frame in ALL[:i]) for i in range(len(ALL) + 1)]


def run(*args: object) -> subprocess.CompletedProcess[str]:
    """`profinfer ARGS`."""
    return subprocess.run(
        [sys.executable, "-m", "profinfer", *map(str, args)],
        cwd=REPO,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def cut(path: Path, at: int) -> Path:
    """Leaves the first `at` bytes of a file."""
    assert 0 < at < path.stat().st_size
    os.truncate(path, at)
    return path


def counts(path: Path) -> dict[str, int]:
    """Slices with an end, by category."""
    with open_trace(path) as session:
        assert session.import_errors() == []
        found = session.query("SELECT category, count() FROM slice WHERE dur >= 0 GROUP BY 1")
        return {str(c): int(str(n)) for c, n in found if c in SLICES}


def of(ubatches: int) -> dict[str, int]:
    return {category: ubatches * n for category, n in PER_UBATCH.items()} if ubatches else {}


def test_schedule_has_a_records_frame_for_each_micro_batch() -> None:
    assert len(RECORDS) == UBATCHES + 1
    assert ALL[-1].kind == FrameKind.END


def _cuts() -> Sequence[tuple[str, int, int]]:
    """(where, byte, micro-batches that are whole before it)"""
    first, second, last = RECORDS[0], RECORDS[1], RECORDS[UBATCHES - 1]
    return [
        ("after the first clock frame", STARTS[2], 0),
        ("in a header", STARTS[first] + HEADER - 1, 0),
        ("after a header", STARTS[first] + HEADER, 0),
        ("in a payload", STARTS[first] + HEADER + 100, 0),
        ("one byte before a boundary", STARTS[first + 1] - 1, 0),
        ("at a boundary", STARTS[first + 1], 1),
        ("one byte after a boundary", STARTS[first + 1] + 1, 1),
        ("at a later boundary", STARTS[second + 1], 2),
        ("before the last micro-batch is whole", STARTS[last + 1] - 1, 3),
        ("after the last micro-batch", STARTS[last + 1], 4),
        ("in the end frame", STARTS[-1] - 1, 4),
    ]


@pytest.mark.parametrize(
    ("at", "ubatches"),
    [pytest.param(at, ubatches, id=where.replace(" ", "-")) for where, at, ubatches in _cuts()],
)
def test_cut_capture_converts_up_to_the_last_whole_frame(
    at: int, ubatches: int, tmp_path: Path
) -> None:
    capture = cut(write_capture(ALL, tmp_path / "cut.raw"), at)
    trace = tmp_path / "cut.pftrace"
    ran = run("convert", capture, trace)
    assert ran.returncode == 0, ran.stderr
    assert f"warning: {capture} is truncated" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not is_cut(trace)
    assert counts(trace) == of(ubatches)


def test_whole_capture_converts_without_a_warning(tmp_path: Path) -> None:
    capture = write_capture(ALL, tmp_path / "whole.raw")
    ran = run("convert", capture, tmp_path / "whole.pftrace")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert counts(tmp_path / "whole.pftrace") == of(UBATCHES)
    direct = convert(ALL, tmp_path / "direct.pftrace")
    assert (tmp_path / "whole.pftrace").read_bytes() == direct.read_bytes()


@pytest.mark.parametrize("at", [len(MAGIC) - 1, len(MAGIC), STARTS[1] - 1])
def test_capture_without_a_whole_frame_is_refused_and_leaves_no_trace(
    at: int, tmp_path: Path
) -> None:
    capture = cut(write_capture(ALL, tmp_path / "cut.raw"), at)
    ran = run("convert", capture, tmp_path / "cut.pftrace")
    assert ran.returncode != 0
    assert "profinfer: " in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "cut.pftrace").exists()


def test_query_warns_of_the_trace_of_a_cut_capture(tmp_path: Path) -> None:
    capture = cut(write_capture(ALL, tmp_path / "cut.raw"), STARTS[RECORDS[1] + 1] + 3)
    assert run("convert", capture, tmp_path / "cut.pftrace").returncode == 0
    ran = run("query", "summary", tmp_path / "cut.pftrace")
    assert ran.returncode == 0, ran.stderr
    assert "warning: this trace is truncated: the end of the recording is missing" in ran.stderr
    assert "Requests" in ran.stdout


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_query_of_a_cut_trace_answers_and_warns(part: float, tmp_path: Path) -> None:
    whole = convert(ALL, tmp_path / "cut.pftrace").read_bytes()
    at = int(len(whole) * part)
    at += packet_bounds(whole[:at])[0][-1] == at  # within a packet
    trace = cut(tmp_path / "cut.pftrace", at)
    assert is_cut(trace)
    ran = run("query", "summary", trace)
    assert ran.returncode == 0, ran.stderr
    assert "warning: this trace is truncated: it ends in the middle of a packet" in ran.stderr
    assert "Time by phase" in ran.stdout
    assert "Traceback" not in ran.stderr


def test_trace_cut_between_packets_lacks_its_end(tmp_path: Path) -> None:
    whole = convert(ALL, tmp_path / "cut.pftrace").read_bytes()
    trace = cut(tmp_path / "cut.pftrace", packet_bounds(whole[:-1])[0][-1])
    assert not is_cut(trace)
    ran = run("query", "summary", trace)
    assert ran.returncode == 0, ran.stderr
    assert "warning: this trace is truncated: the end of the recording is missing" in ran.stderr
