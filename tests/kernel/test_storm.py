"""A storm: an engine that does nothing but call probed functions, for seconds. Every record
arrives or is counted as lost, and what the kernel ran is what the engine called."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from profinfer.capture import Frame, FrameKind
from profinfer.config import Config
from profinfer.converter import Converter
from profinfer.output import Output
from profinfer.plan import HOT_HANDLERS
from profinfer.recorder import Recorder
from profinfer.records import RECORD, Kind
from profinfer.trace_writer import TraceWriter
from tests.support import Engine, double_fixture

__all__ = ["double_fixture"]

DECODE = {"ring": 10_007, "perf": 3_001}
"""About 1,400 hits each with 50 layers: 14 million in all through the ring."""
STORM = ("--threads", 1, "--layers", 50, "--work-us", 0, "--samples", 0, "--prompt", 1,
         "--rebuild", 1_000_003)  # fmt: skip


class Sink:
    """Converts what comes and counts it."""

    def __init__(self, trace: Path) -> None:
        self._output = Output(trace, force=True)
        self._converter = Converter(TraceWriter(self._output))
        self.drained: Counter[int] = Counter()
        self.end: dict[str, Any] = {}
        self.span = [1 << 63, 0]

    def feed(self, frame: Frame) -> None:
        self._converter.feed(frame)
        if frame.kind == FrameKind.END:
            self.end = frame.json()
        elif frame.kind == FrameKind.RECORDS and frame.data:
            rows = np.frombuffer(frame.data, RECORD)
            counts = np.bincount(rows["kind"])
            self.drained.update({kind: int(n) for kind, n in enumerate(counts) if n})
            self.span = [min(self.span[0], int(rows["ts"].min())),
                         max(self.span[1], int(rows["ts"].max()))]  # fmt: skip

    def close(self) -> None:
        self._output.close()


@pytest.mark.parametrize("transport", DECODE)
def test_a_storm_of_records_is_recorded_or_counted(
    transport: str, double: Engine, tmp_path: Path, capfd: Any, record_property: Any
) -> None:
    sink = Sink(tmp_path / "storm.pftrace")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    cache = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(double.folder / "cache")
    try:
        command = [double.program(), *map(str, STORM), "--decode", str(DECODE[transport])]
        config = Config(command=command, level="barrier", transport=transport, scheduler="off")
        with Recorder(config) as recorder:
            sink.feed(recorder.prepare())
            result = recorder.run(sink.feed, lambda _: None)
    finally:
        sink.close()
        for number, previous in handlers.items():
            signal.signal(number, previous)
        os.environ.pop("XDG_CACHE_HOME")
        if cache is not None:
            os.environ["XDG_CACHE_HOME"] = cache
    [truth] = [json.loads(line) for line in capfd.readouterr().out.splitlines() if line[:1] == "{"]
    emitted = {handler["handler"]: handler["runs"] for handler in sink.end["handlers"]}
    calls = truth["calls"]
    lost = 0
    for handler, kind, symbol in (
        ("on_operator", Kind.OPERATOR, "ggml_cpu_extra_compute_forward"),
        ("on_fused", Kind.FUSED, "ggml_compute_forward_rms_norm_mul_fused"),
        ("on_barrier", Kind.BARRIER, "ggml_barrier"),
    ):
        assert emitted[handler] == calls[symbol], f"{handler}: drained and lost"
        assert sink.drained[kind] <= calls[symbol]
        lost += calls[symbol] - sink.drained[kind]
    # Of other kinds something may have been lost as well, never less than of these.
    assert lost <= result.lost == sink.end["lost"]
    assert (result.lost == 0) == (lost == 0)
    # How many survive depends on what else the machine does; the line printed says it.
    assert sum(emitted[handler] for handler in HOT_HANDLERS) > 1_000 * DECODE[transport]
    total = sum(sink.drained.values())
    seconds = (sink.span[1] - sink.span[0]) / 1e9
    with capfd.disabled():
        print(f" {total:,} records in {seconds:.1f} s, {result.lost:,} lost", end="")
    record_property("records", total)
