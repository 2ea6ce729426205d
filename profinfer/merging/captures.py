"""The captures of one recording, one for each process, as one trace."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from profinfer.converting.converter import Converter
from profinfer.errors import OutputError, TraceError
from profinfer.merging.merge import merge
from profinfer.output import Output
from profinfer.records.capture import Frame, FrameKind, read_capture
from profinfer.trace.writer import TraceWriter


def whole(captures: Sequence[Path]) -> list[Path]:
    """Those that hold anything: of a process that ended as its recording began nothing is there.
    TraceError when one is no capture, none holds anything, or they are not one recording's."""
    firsts = {capture: next(read_capture(capture), None) for capture in captures}
    found = {capture: first for capture, first in firsts.items() if first}
    if not found:
        raise TraceError(f"{captures[0]} holds no whole frame")
    if len(found) > 1:
        known = {capture: _recording(first) for capture, first in found.items()}
        first, *others = known
        for other in others:
            if known[other] != known[first]:
                raise TraceError(
                    f"{first} and {other} are captures of different recordings",
                    "convert each by itself; profinfer merge joins traces",
                )
    return list(found)


def _recording(first: Frame) -> object:
    start = first.json() if first.kind == FrameKind.START else {}
    return start.get("recording") if isinstance(start, dict) else None


def write_trace(
    captures: Sequence[Path], trace: Output, show: Callable[[float], object] = lambda _: None
) -> list[Path]:
    """Writes them as a trace; which of them are cut: they have no end. `show` is told how far it
    is, from 0 to 1. They must be `whole`. TraceError when one is damaged."""
    total = sum(capture.stat().st_size for capture in captures)
    done = 0
    cut = []

    def convert(capture: Path, output: Output) -> None:
        nonlocal done
        converter = Converter(TraceWriter(output))
        last = None
        for frame in read_capture(capture):
            converter.feed(frame)
            last = frame.kind
            done += len(frame.data)
            show(done / total)
        if last != FrameKind.END:
            converter.cut()
            cut.append(capture)

    if len(captures) == 1:
        convert(captures[0], trace)
        return cut
    # Beside the trace: there is room, and nobody else may look into it.
    try:
        folder_of_parts = tempfile.TemporaryDirectory(dir=trace.path.parent, prefix=".profinfer.")
    except OSError as error:
        raise OutputError(f"cannot write {trace.path}: {error.strerror}") from None
    with folder_of_parts as folder:
        parts = [Path(folder) / f"{number}.pftrace" for number in range(len(captures))]
        for capture, path in zip(captures, parts, strict=True):
            part = Output(path, force=False)
            try:
                convert(capture, part)
            finally:
                part.close()
        merge(parts, trace, None, same_boot=True, is_one=True)
    return cut
