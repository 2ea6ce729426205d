"""Recordings by the recorder in C, and the traces made of them."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from profinfer.records.capture import FrameKind, read_capture
from profinfer.records.dtypes import RECORD, Kind
from tests.recording.helpers import PROFINFER, Truth, target
from tests.support import ENGINE_ONLY

TIMEOUT = 60.0
SHORT = ("--threads", 2, "--layers", 3, "--prompt", 7, "--decode", 5)
STAYS = ("--hold", 60_000)


def make_plan(library: Path, output: Path, *options: object) -> Path:
    """`profinfer plan` for one library."""
    command = [*PROFINFER, "plan", "--target", str(library), "-o", str(output), "--force"]
    done = subprocess.run(
        [*command, *map(str, options)], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stderr
    return output


def convert(capture: Path) -> Path:
    """The trace of a whole capture, beside it."""
    trace = capture.with_suffix(".pftrace")
    assert convert_cut(capture, trace) == ""
    return trace


def convert_cut(capture: Path, trace: Path) -> str:
    """Makes the trace of a capture, which may be cut; what was said about that."""
    done = subprocess.run(
        [*PROFINFER, "convert", "--force", str(capture), str(trace)],
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


@dataclass
class Attached:
    """A recorder whose probes are all in place."""

    process: subprocess.Popen[str]
    said: str
    code: int | None = field(default=None)

    def finish(self) -> str:
        """Waits for its end, whatever that is; everything that it said."""
        _, rest = self.process.communicate(timeout=TIMEOUT)
        self.code = self.process.returncode
        self.said += rest
        return self.said


@contextmanager
def attached(
    recorder: Path, plan: Path, pid: int, capture: Path, *options: object
) -> Iterator[Attached]:
    """A recorder of a process, all its probes in place; of what the engine does alone, unless
    `options` ask for the scheduler."""
    command = [recorder, "--pid", pid, "--plan", plan, "-o", capture, *ENGINE_ONLY, *options]
    process = subprocess.Popen(
        [*map(str, command)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert first.startswith("recording "), first + process.stderr.read()
        yield Attached(process, first)
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT)


def record(
    recorder: Path, plan: Path, built: Path, capture: Path, engine: tuple[object, ...],
    *options: object,
) -> tuple[Truth, str]:  # fmt: skip
    """Records an engine from its first decode to its end: its truth, and what the recorder said."""
    with (
        target(built, capture.parent, *engine) as known,
        attached(recorder, plan, known.pid, capture, *options) as recording,
    ):
        known.release()
        truth = known.truth()
        said = recording.finish()
        assert recording.code == 0, said
    return truth, said


def frame_json(capture: Path, kind: FrameKind) -> Any:
    """The JSON of the capture's only frame of a kind."""
    [frame] = [frame for frame in read_capture(capture) if frame.kind == kind]
    return frame.json()


def drained(capture: Path) -> Counter[str]:
    """The records of a capture by kind."""
    found: Counter[str] = Counter()
    for frame in read_capture(capture):
        if frame.kind == FrameKind.RECORDS:
            kinds, counts = np.unique(np.frombuffer(frame.data, RECORD)["kind"], return_counts=True)
            for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True):
                found[Kind(kind).name.lower()] += count
    return found
