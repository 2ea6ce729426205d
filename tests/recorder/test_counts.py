"""What the recorder in C records is the known schedule, and what profinfer has recorded."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from profinfer.records.capture import FrameKind, read_capture
from tests.recorder.recording import (
    SHORT,
    TIMEOUT,
    attached,
    convert,
    frame_json,
    make_plan,
    record,
)
from tests.recording import helpers
from tests.recording.helpers import PROFINFER, Rows, assert_matches, ending, rows, target
from tests.support import PLACED

LEVELS = ("token", "graph", "operator", "barrier")
SCHEDULE = ("--threads", 3, "--layers", 5, "--prompt", 17, "--decode", 7, "--ubatch", 5)
MANY = (*SCHEDULE, "--backend2", "--sequences", 3)

# Without what differs from run to run: times, thread ids, the number of structures per address.
SLICES = """
SELECT category, slice.name, count() FROM slice
WHERE category NOT IN ('recording', 'structure.tensor') AND slice.name != 'create'
GROUP BY 1, 2 ORDER BY 1, 2"""
"""One that is attached to has made its context before."""
NODES = """
SELECT structure_id, node, t.name, t.op, t.type, ne0, ne1, t.description
FROM profinfer_node JOIN profinfer_tensor AS t USING (tensor_id) ORDER BY 1, 2"""
SEQUENCES = """
SELECT sequence, phase, sum(tokens), min(position), sum(outputs)
FROM profinfer_sequence GROUP BY 1, 2 ORDER BY 1, 2"""
THREADS = "SELECT DISTINCT thread.name FROM thread_track JOIN thread USING (utid) ORDER BY 1"
BACKENDS = (
    "SELECT name FROM track WHERE parent_id IN (SELECT id FROM track WHERE name = 'Backends')"
)
MODULES = """
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
INCLUDE PERFETTO MODULE profinfer.graphs.tensors;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;"""


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_shows_each_call_on_its_thread_and_nothing_else(
    level: str, recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "t.raw"
    truth, said = record(recorder, plan, built, capture, SCHEDULE, "--level", level)
    assert f"level {level}" in said
    trace = convert(capture)
    assert_matches(trace, truth, level)
    end = ending(trace)
    assert (end["reason"], end["unattributed"]) == ("the target ended", "0")


def test_the_perf_transport_shows_the_same(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "t.raw"
    truth, _ = record(recorder, plan, built, capture, SCHEDULE, "--transport", "perf")
    assert_matches(convert(capture), truth, "barrier")
    assert frame_json(capture, FrameKind.START)["transport"] == "perf"


def test_the_static_recorder_shows_the_same(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture, static = tmp_path / "t.raw", recorder.with_name("profinfer-recorder-static")
    truth, _ = record(static, plan, built, capture, SCHEDULE)
    assert_matches(convert(capture), truth, "barrier")


def test_a_library_without_a_build_id_is_known_by_its_sum(
    recorder: Path, repo: Path, tmp_path: Path
) -> None:
    subprocess.run(
        ["sh", str(repo / "tests/double/build.sh"), str(tmp_path)], check=True, timeout=120,
        env={"PATH": "/usr/bin:/bin", "CFLAGS": "-Wl,--build-id=none"},
    )  # fmt: skip
    plan = make_plan(tmp_path / "libknown.so", tmp_path / "plan.json")
    [planned] = json.loads(plan.read_text())["objects"]
    assert planned["build_id"] == ""
    capture = tmp_path / "t.raw"
    truth, _ = record(recorder, plan, tmp_path, capture, SHORT)
    assert_matches(convert(capture), truth, "barrier")


def recorded_by_profinfer(built: Path, folder: Path) -> tuple[Path, Path]:
    """Trace and capture of the same program, by `profinfer record`."""
    trace, raw = folder / "python.pftrace", folder / "python.raw"
    options = ["--level", "barrier", "--raw", raw, "--probes", "direct"]
    helpers.record(trace, options, [built / "known", *MANY])
    return trace, raw


def asked(trace: Path) -> list[Rows]:
    """What is the same in every recording of one schedule."""
    return rows(trace, MODULES, SLICES, NODES, SEQUENCES, THREADS, BACKENDS)


def test_alone_it_records_what_profinfer_has_recorded(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "c.raw"
    record(recorder, plan, built, capture, MANY)
    trace, raw = recorded_by_profinfer(built, tmp_path)
    ours, theirs = asked(convert(capture)), asked(trace)
    assert ours == theirs
    assert all(len(found) > 0 for found in ours[1:])
    for kind, absent in (
        # Alone it makes one capture, by its own probes: there is nothing to be joined.
        (FrameKind.START, {"python", "hit_cost", "recording", "recording_stubs"}),
        (FrameKind.END, {"event_programs", "memory", "scheduler"}),
    ):
        check_keys(frame_json(capture, kind), frame_json(raw, kind), absent)


def check_keys(ours: Mapping[str, Any], theirs: Mapping[str, Any], absent: set[str]) -> None:
    """Every key that there is with profinfer, with a value of the same type, but for `absent`."""
    assert set(theirs) - set(ours) <= absent
    for key in set(theirs) & set(ours):
        if isinstance(theirs[key], dict) and key != "missing":
            check_keys(ours[key], theirs[key], {"path", "command"})
        elif None not in (theirs[key], ours[key]):
            assert type(ours[key]) is type(theirs[key]), key


def test_frames_stand_in_the_order_that_readers_rely_on(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "t.raw"
    record(recorder, plan, built, capture, SHORT)
    frames = list(read_capture(capture))
    kinds = [frame.kind for frame in frames]
    assert kinds[:2] == [FrameKind.START, FrameKind.CLOCK]
    assert kinds[-2:] == [FrameKind.CLOCK, FrameKind.END]
    # Whatever is older than a horizon has come before it, and horizons never go back.
    horizon = 0
    for frame in frames:
        if frame.kind == FrameKind.RECORDS:
            assert frame.ts >= horizon
            horizon = frame.ts
    assert capture.stat().st_mode & 0o777 == 0o600


def test_queries_say_what_was_not_measured(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    """A board's hits are not timed: what follows from that is empty, and the rest is not."""
    capture = tmp_path / "t.raw"
    truth, _ = record(recorder, plan, built, capture, SCHEDULE)
    _, handlers, *_ = rows(
        convert(capture),
        "INCLUDE PERFETTO MODULE profinfer.recording.handlers;",
        "SELECT hits, run_ns > 0, trap_ns, hit_ns, total_ns FROM profinfer_handler"
        " WHERE handler = 'on_barrier'",
    )
    assert handlers == [(truth["calls"]["ggml_barrier"], 1, None, None, None)]
    done = subprocess.run(
        [*PROFINFER, "query", "overhead", str(capture.with_suffix(".pftrace"))],
        capture_output=True, text=True, check=True, timeout=TIMEOUT,
    )  # fmt: skip
    assert "CPU load of the handlers" in done.stdout
    assert done.stderr == ""


def test_a_second_copy_of_the_library_is_probed_as_well(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    """Two files, one build id: it does not show from outside which of them the calls go to."""
    (tmp_path / "copy.so").write_bytes((built / "libknown.so").read_bytes())
    capture = tmp_path / "t.raw"
    with (
        preloaded(tmp_path / "copy.so"),
        target(built, tmp_path, *SHORT) as known,
        attached(recorder, plan, known.pid, capture) as recording,
    ):
        assert f"{2 * PLACED} probes" in recording.said
        known.release()
        truth = known.truth()
        recording.finish()
        assert recording.code == 0
    assert_matches(convert(capture), truth, "barrier")
    objects = frame_json(capture, FrameKind.START)["target"]["objects"]
    assert {item["path"] for item in objects} == {f"{tmp_path}/copy.so", f"{built}/libknown.so"}


@contextmanager
def preloaded(library: Path) -> Iterator[None]:
    """Programs started meanwhile have this library, and before any other."""
    os.environ["LD_PRELOAD"] = str(library)
    try:
        yield
    finally:
        del os.environ["LD_PRELOAD"]
