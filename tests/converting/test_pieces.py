"""A drain of the scheduler's rings may come in pieces: the trace is the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from profinfer.records.capture import Frame, FrameKind
from profinfer.records.dtypes import RECORD
from tests.captures import BASE, convert
from tests.sql.test_scheduling import UNIT, schedule

DRAINS = [(BASE + at * UNIT, BASE + (at + 60) * UNIT) for at in range(5, 1000, 90)]
"""Each takes records that are younger than what is complete."""


def in_pieces(frames: list[Frame], size: int) -> Iterator[Frame]:
    """Records as they come, so many at once, and then that the drain is over: bpf/recorder/
    writes it so. Until then the time is complete up to where the last drain has said."""
    horizon = 0
    for frame in frames:
        if frame.kind != FrameKind.SCHEDULER:
            yield frame
            continue
        for at in range(0, len(frame.data), size * RECORD.itemsize):
            piece = frame.data[at : at + size * RECORD.itemsize]
            yield Frame(FrameKind.SCHEDULER, horizon, piece)
        horizon = frame.ts
        yield Frame(FrameKind.SCHEDULER, horizon, b"")


@pytest.mark.parametrize("mode", ["system", "target"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_pieces(mode: str, size: int, tmp_path: Path) -> None:
    frames = schedule(mode).frames(DRAINS)
    records = sum(len(f.data) for f in frames if f.kind == FrameKind.SCHEDULER) // RECORD.itemsize
    assert records > 10
    whole = convert(frames, tmp_path / "whole.pftrace").read_bytes()
    assert convert(list(in_pieces(frames, size)), tmp_path / "pieces.pftrace").read_bytes() == whole
