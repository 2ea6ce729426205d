"""Recordings of ours to merge, on the same device as tests/merging/android.py's system trace."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from profinfer.merging.merge import Report, merge
from profinfer.output import Replacement
from profinfer.records.capture import Frame, FrameKind
from tests.captures import BASE, CPUS, MAIN, PID, WORKER, Capture, T, convert
from tests.merging.android import ASLEEP, BOOTED, WAKER, Android

US = 1_000
STEP, BUSY, STEPS = 2_000 * US, (40 * US, 940 * US), 100
"""A token takes so long, of which the threads run so much: then they sleep."""
FIRST = 1_000 * US
SWITCHES = 2 * (2 * STEPS + 1)
"""In the system trace. Of a CPU's first one compact_sched does not say who was there before: Trace
Processor leaves it out."""
OPERATORS = STEPS * 2 * 3
SLICES_PER_STEP = ("ffn_gate-0", "ffn_up-0", "ffn_out-0")

NODES = [
    T("ffn_gate-0", "MUL_MAT", ("blk.0.ffn_gate.weight", "inp")),
    T("ffn_up-0", "MUL", ("ffn_gate-0", "inp")),
    T("ffn_out-0", "ADD", ("ffn_up-0", "inp")),
    T("inp"),
    T("blk.0.ffn_gate.weight", type="q4_K", ne=(256, 4, 1, 1)),
]


def engine(*, pid: int = PID, boot: str = "", uname: str = Android.system) -> Capture:
    """The recording of an engine that makes a token every 2 ms with two threads."""
    names = {"sysname": "Linux", "release": uname, "version": "#1 SMP PREEMPT"}
    capture = Capture(
        threads={MAIN: "engine", WORKER: "worker"},
        at_start={
            "uname": names | {"machine": "aarch64"},
            "target": {"pid": pid, "name": "engine", "command": ["engine", "-m", str(pid)]},
        }
        | ({"boot_id": boot} if boot else {}),
    )
    shape = capture.structure(10 * US, NODES)
    for step in range(STEPS):
        t = FIRST + step * STEP
        capture.ubatch(t + 60 * US, t + 920 * US, [(0, step, 1, 1, 1)])
        operators = [
            (name, t + (100 + 250 * i) * US, t + (300 + 250 * i) * US)
            for i, name in enumerate(SLICES_PER_STEP)
        ]
        capture.graph(shape, t + 80 * US, t + 900 * US, {MAIN: operators, WORKER: operators})
    return capture


def android() -> Android:
    """The system trace beside it: both threads run on the CPUs that the recording names."""
    trace = Android(PID, {MAIN: "engine", WORKER: "worker"}, start=BASE - 5_000_000)
    for tid in (MAIN, WORKER):
        trace.ran(WAKER, tid % CPUS, BASE + (100 + tid) * US, BASE + (100 + tid) * US + 500)
    for step in range(STEPS):
        t = BASE + FIRST + step * STEP
        for tid in (MAIN, WORKER):
            trace.ran(tid, tid % CPUS, t + BUSY[0], t + BUSY[1])
    return trace


def write_engine(path: Path, capture: Capture, *, booted: int = BOOTED, gain: int = 0) -> Path:
    """The trace, with clock snapshots of a device that was booted at this REALTIME, and whose
    REALTIME has gained so many ns by the end."""
    return convert(_clocked(capture.frames(), booted, gain), path)


def _clocked(frames: Iterable[Frame], booted: int, gain: int) -> Iterable[Frame]:
    for frame in frames:
        if frame.kind != FrameKind.CLOCK:
            yield frame
            continue
        real = frame.ts + booted + (gain if frame.ts > BASE else 0)
        data = np.array([frame.ts, frame.ts - ASLEEP, real], "<u8").tobytes()
        yield Frame(frame.kind, frame.ts, data)


def merged(
    output: Path, *inputs: Path, offset_ns: int | None = None, same_boot: bool = False
) -> Report:
    """Merges as the command does."""
    file = Replacement(output, force=True)
    try:
        report = merge(inputs, file, offset_ns, same_boot=same_boot)
        file.finish()
    finally:
        file.close()
    return report
