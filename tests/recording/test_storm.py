"""A storm: an engine that does nothing but call probed functions, for seconds. Every record
arrives or is counted as lost, and what the kernel ran is what the engine called."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from profinfer.engine.adapter import HOT_HANDLERS
from profinfer.records.capture import FrameKind, read_capture
from profinfer.records.dtypes import RECORD, Kind
from tests.support import Engine, double_fixture, record

__all__ = ["double_fixture"]

DECODE = {"ring": 10_007, "perf": 3_001}
"""About 1,400 hits each with 50 layers: 14 million in all through the ring."""
STORM = ("--threads", 1, "--layers", 50, "--work-us", 0, "--samples", 0, "--prompt", 1,
         "--rebuild", 1_000_003)  # fmt: skip


class Capture:
    """What a capture holds, counted."""

    def __init__(self, raw: Path) -> None:
        self.drained: Counter[int] = Counter()
        self.end: dict[str, Any] = {}
        self.span = [1 << 63, 0]
        for frame in read_capture(raw):
            if frame.kind == FrameKind.END:
                self.end = frame.json()
            elif frame.kind == FrameKind.RECORDS and frame.data:
                rows = np.frombuffer(frame.data, RECORD)
                counts = np.bincount(rows["kind"])
                self.drained.update({kind: int(n) for kind, n in enumerate(counts) if n})
                self.span = [min(self.span[0], int(rows["ts"].min())),
                             max(self.span[1], int(rows["ts"].max()))]  # fmt: skip


@pytest.mark.parametrize("transport", DECODE)
def test_a_storm_of_records_is_recorded_or_counted(
    transport: str, double: Engine, tmp_path: Path, capfd: Any, record_property: Any
) -> None:
    raw = tmp_path / "storm.raw"
    options = ("--level", "barrier", "--probes", "stub", "--transport", transport, "--raw", raw)
    target = ("known", *STORM, "--decode", DECODE[transport])
    with record(double, tmp_path / "t", *options, target=target, timeout=120) as recording:
        truth = recording.truth
    capture = Capture(raw)
    emitted = {handler["handler"]: handler["runs"] for handler in capture.end["handlers"]}
    calls = truth["calls"]
    lost = 0
    for handler, kind, symbol in (
        ("on_operator", Kind.OPERATOR, "ggml_cpu_extra_compute_forward"),
        ("on_fused", Kind.FUSED, "ggml_compute_forward_rms_norm_mul_fused"),
        ("on_barrier", Kind.BARRIER, "ggml_barrier"),
    ):
        assert emitted[handler] == calls[symbol], f"{handler}: drained and lost"
        assert capture.drained[kind] <= calls[symbol]
        lost += calls[symbol] - capture.drained[kind]
    # Of other kinds something may have been lost as well, never less than of these.
    assert lost <= capture.end["lost"]
    assert f"{capture.end['lost']:,} lost" in recording.stderr
    assert (capture.end["lost"] == 0) == (lost == 0)
    # How many survive depends on what else the machine does; the line printed says it.
    assert sum(emitted[handler] for handler in HOT_HANDLERS) > 1_000 * DECODE[transport]
    total = sum(capture.drained.values())
    seconds = (capture.span[1] - capture.span[0]) / 1e9
    with capfd.disabled():
        print(f" {total:,} records in {seconds:.1f} s, {capture.end['lost']:,} lost", end="")
    record_property("records", total)
