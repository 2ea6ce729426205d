"""Trace Processor's own statistics of what was recorded: no error, and no loss that was none.

A row with severity error or data_loss makes the Perfetto UI warn of the whole trace.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from profinfer.records.capture import Frame, FrameKind, read_capture
from profinfer.records.dtypes import RECORD, SchedulerKind
from profinfer.trace_processor import Session, open_trace
from tests.captures import convert
from tests.recording.helpers import ending
from tests.support import Engine, double_fixture, record

__all__ = ["double_fixture"]

TARGET = ("known", "--threads", 2, "--layers", 3, "--decode", 200, "--work-us", 53,
          "--samples", 1009)  # fmt: skip
LOSSES = {
    "ftrace_cpu_has_data_loss", "traced_buf_sequence_packet_loss",
    "traced_buf_trace_writer_packet_loss",
}  # fmt: skip
KINDS: dict[str, tuple[object, ...]] = {
    "system": ("--scheduler", "system"),
    "target": ("--scheduler", "target"),
    "all": ("--scheduler", "system", "--faults", "--block-io", "--counters", "faults", "--experts"),
    "a few iterations": ("--scheduler", "system", "--iterations", "50-100"),
    "small rings": ("--scheduler", "system", "--ring-size", "16K", "--structure-ring-size", "16K",
                    "--poll", 0.4, "--probes", "stub"),
}  # fmt: skip


def errors(session: Session) -> set[str]:
    return {name.partition("[")[0] for name, _ in session.import_errors()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_recording_has_no_error_and_no_loss_but_its_own(
    double: Engine, tmp_path: Path, kind: str
) -> None:
    trace = tmp_path / "t.pftrace"
    with record(double, trace, "--level", "barrier", *KINDS[kind], target=TARGET) as recording:
        lost = ending(trace)["lost"]
        assert errors(recording.session) <= (LOSSES if lost else set())
        assert lost or kind != "small rings"
        assert recording.count("operator") > 0


@pytest.mark.parametrize("mode", ["system", "target"])
def test_switches_that_nobody_reported_are_no_error(
    double: Engine, tmp_path: Path, mode: str
) -> None:
    """A kernel may switch and not say so; every seventh switch of a CPU is taken out."""
    raw, trace = tmp_path / "t.raw", tmp_path / "t.pftrace"
    options = ("--level", "barrier", "--scheduler", mode, "--raw", raw)
    with record(double, trace, *options, target=TARGET):
        pass
    frames = list(read_capture(raw))
    with open_trace(convert(map(_without, frames), tmp_path / "gaps.pftrace")) as session:
        lost = any(frame.kind == FrameKind.LOSS for frame in frames)
        assert errors(session) <= (LOSSES if lost else set())
        ((gaps, unknown),) = session.query(
            "INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;"
            "SELECT (SELECT count() FROM _scheduler_loss WHERE left_tid IS NOT NULL),"
            " (SELECT count() FROM thread_state WHERE state GLOB 'SDT*')"
        ).rows()
    assert gaps
    assert unknown


def _without(frame: Frame) -> Frame:
    if frame.kind != FrameKind.SCHEDULER:
        return frame
    rows = np.frombuffer(frame.data, RECORD)
    gone = np.zeros(len(rows), np.bool_)
    gone[np.flatnonzero(rows["kind"] == SchedulerKind.SWITCH)[::7]] = True
    return Frame(frame.kind, frame.ts, rows[~gone].tobytes())
