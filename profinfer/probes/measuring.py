"""What recording a process costs it, found by recording it for a while."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from profinfer.errors import ProbeError, TargetError
from profinfer.probes.plan import Plan
from profinfer.probes.slowdown import Slowdown, measured
from profinfer.records.capture import FrameKind, read_capture

_GRACE = 60.0
"""Seconds that a recording may take to end in."""


def measure(plan: Plan, pid: int, seconds: float) -> list[Slowdown]:
    """With all of a plan's levels, and without the scheduler. TargetError when the process ends;
    ProbeError when it cannot be recorded."""
    with tempfile.TemporaryDirectory(prefix="profinfer-") as folder:
        raw = Path(folder) / "raw"
        words = [
            "record", "--pid", str(pid), "--level", plan.probes[-1].level, "--scheduler", "off",
            "--duration", str(seconds), "--raw", str(raw), "-o", str(Path(folder) / "trace"),
        ]  # fmt: skip
        spent = _record(pid, seconds, words)
        ends = [frame.json() for frame in read_capture(raw) if frame.kind == FrameKind.END]
    if not ends:
        raise ProbeError("cannot be measured: the recording has no end")
    return measured(plan, ends[0]["handlers"], spent)


def _record(pid: int, seconds: float, words: list[str]) -> float:
    """The CPU time that the process has spent while it was recorded."""
    command = [sys.executable, "-m", "profinfer", *words]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    ) as recorder:  # fmt: skip
        said = ""
        spent = 0.0
        for line in recorder.stderr or ():
            said = said or line
            if line.startswith("recording "):
                before = _cpu_s(pid)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    recorder.wait(seconds)
                spent = _cpu_s(pid) - before
                break
        try:
            rest = recorder.communicate(timeout=_GRACE)[1]
        except subprocess.TimeoutExpired:
            recorder.terminate()
            raise ProbeError("cannot be measured: the recording does not end") from None
        if recorder.returncode:
            why = next(
                (x for x in [*said.splitlines(), *rest.splitlines()] if "profinfer: " in x), ""
            )
            raise ProbeError(f"cannot be measured: {why.removeprefix('profinfer: ')}")
    return spent


def _cpu_s(pid: int) -> float:
    """That a process has spent."""
    try:
        return time.clock_gettime(~pid << 3 | 2)  # the CPU clock of another process
    except OSError:
        raise TargetError(f"process {pid} has ended") from None
