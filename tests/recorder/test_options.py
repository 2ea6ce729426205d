"""What can be recorded besides the engine's calls, and less than all of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from profinfer.records.capture import FrameKind, read_capture
from profinfer.records.dtypes import RECORD, SchedulerKind
from tests.recorder.recording import SHORT, convert, drained, frame_json, record
from tests.recording.helpers import KERNELS_OWN, Truth, assert_matches, ending, number, rows

SCHEDULE = ("--threads", 2, "--layers", 3, "--prompt", 13, "--decode", 11)


def switched(capture: Path) -> set[int]:
    """Threads of which a switch is recorded in which they left a CPU."""
    found: set[int] = set()
    for frame in read_capture(capture):
        if frame.kind == FrameKind.SCHEDULER:
            records = np.frombuffer(frame.data, RECORD)
            found |= set(records["tid"][records["kind"] == SchedulerKind.SWITCH].tolist())
    return found


@pytest.mark.parametrize("transport", ["ring", "perf"])
@pytest.mark.parametrize("mode", ["auto", "system", "target", "off"])
def test_the_scheduler_is_recorded_as_asked(
    mode: str, transport: str, recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "t.raw"
    options = ("--scheduler", mode, "--transport", transport, "--level", "graph")
    truth, _ = record(recorder, plan, built, capture, SCHEDULE, *options)
    start, end = (frame_json(capture, kind) for kind in (FrameKind.START, FrameKind.END))
    assert start["config"]["scheduler"] == mode
    tids = {thread["tid"] for thread in truth["threads"]}
    found = switched(capture)
    if mode == "off":
        assert "scheduler" not in start
        assert found == set()
    else:
        assert start["scheduler"]["mode"] == ("target" if mode == "target" else "system")
        assert found >= tids
        assert end["scheduler"]["drained"] > len(tids)
    if mode in ("auto", "system"):
        assert os.getpid() in found  # it waits for the engine and the recorder
    trace = convert(capture)
    assert_matches(trace, truth, "graph", beside=KERNELS_OWN)
    _, turns = rows(
        trace,
        "INCLUDE PERFETTO MODULE profinfer.scheduling.operators",
        "SELECT DISTINCT tid FROM sched JOIN thread USING (utid)",
    )
    assert {tid for (tid,) in turns} >= (tids if mode != "off" else set())


@pytest.mark.parametrize(
    ("given", "first", "last"), [("2", 2, 3), ("1-4", 1, 5), ("3-", 3, None)], ids=str
)
def test_only_some_iterations_are_recorded(
    given: str, first: int, last: int | None, recorder: Path, plan: Path, built: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    capture = tmp_path / "t.raw"
    truth, _ = record(
        recorder, plan, built, capture, (*SCHEDULE, "--hold", 1500), "--iterations", given
    )
    total = sum(truth["ubatches"].values())
    count = (last or total) - first
    seen = drained(capture)
    assert (seen["ubatch_begin"], seen["ubatch_end"]) == (count, count)
    assert seen["graph_begin"] == count
    trace = convert(capture)
    reason = "the iterations are complete" if last else "the target ended"
    assert ending(trace)["reason"] == reason
    assert seen["operator"] + seen["fused"] > 0
    assert frame_json(capture, FrameKind.START)["config"]["iterations"] == given


def test_empty_handlers_record_no_operator_but_everything_above(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "t.raw"
    truth, _ = record(recorder, plan, built, capture, SCHEDULE, "--empty-handlers")
    assert_matches(convert(capture), truth, "graph")
    handlers = frame_json(capture, FrameKind.END)["handlers"]
    ran = {handler["handler"]: handler["timed_runs"] for handler in handlers}
    # One program stands in for all three.
    assert ran["on_barrier"] == ran["on_operator"] == ran["on_fused"] == emitted(truth)


def emitted(truth: Truth) -> int:
    """Calls of the functions that are probed at level operator and barrier."""
    names = ("ggml_cpu_extra_compute_forward", "ggml_compute_forward_rms_norm_mul_fused")
    return sum(truth["calls"][name] for name in (*names, "ggml_barrier"))


def test_experts_are_read(recorder: Path, plan: Path, built: Path, tmp_path: Path) -> None:
    capture = tmp_path / "t.raw"
    engine = (*SHORT, "--experts", 8)
    record(recorder, plan, built, capture, engine, "--experts")
    seen = drained(capture)
    assert seen["operator"] > 0
    _, [(readings, complete)], [(least, most)] = rows(
        convert(capture),
        "INCLUDE PERFETTO MODULE profinfer.experts.activations",
        "SELECT count(), min(complete) FROM profinfer_expert_reading",
        "SELECT min(expert), max(expert) FROM profinfer_expert_activation",
    )
    assert number(readings) > 0
    assert complete == 1
    assert 0 <= number(least) < number(most) < 8
