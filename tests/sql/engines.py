"""An engine of two threads that decodes tokens: both threads multiply, then add, and meet at a
barrier after each; what happens to the worker meanwhile is the caller's choice.

A token (units of 10 us): its micro-batch begins at 0, the graph at 5; MUL_MAT from 10 to 110, ADD
from 112 to 212; the graph ends at 213, the micro-batch at 215, and the next one begins at 220.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from profinfer.records.dtypes import SchedulerKind
from tests.captures import BASE, MAIN, PID, WORKER, Capture, Row, Shape, T

UNIT = 10_000
SPINNER, SAMPLER = 500, 102
FUTEX, READ, FAULT = 202, 0, -1
RUNS, SLEEPS, WAITS, DEAD, PREEMPTED = 0, 1, 2, 0x20, 0x100
CLONE_THREAD = 0x10000
CPU0, CPU1 = MAIN % 4, WORKER % 4
WEIGHT = "blk.0.ffn_up.weight"
PROMPT = 8
"""Tokens of it."""


def tensors(tokens: int, *, has_head: bool = False) -> list[T]:
    """A product with 4 MB of weights, and a sum; or, for the latter, an output layer's product, of
    one row whatever the batch."""
    second = (
        [
            T("output.weight", type="f16", ne=(2048, 4096, 1, 1)),
            T("row", ne=(2048, 1, 1, 1)),
            T("out-0", "MUL_MAT", ("output.weight", "row"), ne=(4096, 1, 1, 1)),
        ]
        if has_head
        else [T("out-0", "ADD", ("up-0", "up-0"), ne=(2048, tokens, 1, 1))]
    )
    return [
        T("x", ne=(1024, tokens, 1, 1)),
        T(WEIGHT, type="f16", ne=(1024, 2048, 1, 1)),
        T("up-0", "MUL_MAT", (WEIGHT, "x"), ne=(2048, tokens, 1, 1)),
        *second,
    ]


@dataclass(frozen=True)
class Engine:
    """Ten tokens behind a prompt."""

    why: str = ""
    """Why the worker comes later at the first barrier of each token: another thread has its CPU
    (other, own), throttled (another has it, too), fault, sleep, woken (and has no CPU); "" for more
    work."""
    later: int = 0
    """By how much."""
    prompt: int = 100
    """How long a prompt's product takes."""
    prompts: int = 1
    """Micro-batches of that many tokens."""
    gap: int = 5
    """Between a micro-batch and the next."""
    release: int = 2
    """From the last thread's arrival at a barrier until they go on."""
    offloaded: int = 0
    """How long another backend's graph takes, in each micro-batch."""
    head: int = 0
    """How long an output layer's product takes, which has one row in every batch; 0: there is a sum
    in its place."""
    steps: int = 10
    scheduler: str = "system"
    level: str = "barrier"
    spinner: str = "spinner"

    def capture(self) -> Capture:
        """The recording."""
        capture = Capture(
            self.level,
            scheduler=self.scheduler,
            strangers={SPINNER: self.spinner},
            threads={MAIN: "engine", WORKER: "worker", SAMPLER: "sampler"},
            backends={0xA: "CPU", 0xB: "GPU"} if self.offloaded else {},
        )
        if self.scheduler:
            capture.switch(1 * UNIT, CPU0, 0, MAIN, RUNS)
            capture.switch(2 * UNIT, CPU1, 0, WORKER, RUNS)
        at, shape = 100, None
        other = None
        if self.offloaded:
            gpu = [T("y"), T("gpu-0", "ADD", ("y", "y"))]
            other = capture.structure(20 * UNIT, gpu, cgraph=0x9900, backend=0xB)
        for step in range(self.prompts + 1 + self.steps):
            count = 1 if step >= self.prompts else PROMPT
            if step in (0, self.prompts):
                shape = capture.structure(
                    (at - 50) * UNIT,
                    tensors(count, has_head=self.head > 0),
                    backend=0xA if self.offloaded else 0,
                )
            assert shape
            at = self._token(capture, (shape, other), at, step, count)
        if self.scheduler:
            capture.switch(at * UNIT, CPU0, MAIN, 0, SLEEPS, FUTEX)
        if self.level != "barrier":
            capture.records = [row for row in capture.records if row.kind != 3]
        return capture

    def _token(
        self, capture: Capture, shapes: tuple[Shape, Shape | None], at: int, step: int, count: int
    ) -> int:
        """One micro-batch from `at` on; when the next one begins."""
        first = 100 if count == 1 else self.prompt
        begin = at + 10
        met = begin + first + self.later
        second = met + self.release
        end = second + (self.head or 100)
        main = [("up-0", begin, begin + first), ("out-0", second, end)]
        worker = [("up-0", begin, met), ("out-0", second, end)]
        if self.scheduler and self.later:
            self._hinder(capture, begin + first // 2, begin + first // 2 + self.later)
        stop = end + self.release - 1
        position = PROMPT * min(step, self.prompts) + max(step - self.prompts, 0)
        outputs = int(step >= self.prompts - 1)
        capture.ubatch(
            at * UNIT, (stop + self.offloaded + 2) * UNIT, [(0, position, count, outputs, 1)]
        )
        threads = {
            tid: [(name, *(UNIT * time for time in times)) for name, *times in operators]
            for tid, operators in ((MAIN, main), (WORKER, worker))
        }
        capture.graph(
            shapes[0], (at + 5) * UNIT, stop * UNIT, threads, backend=0xA if self.offloaded else 0
        )
        if self.offloaded:
            capture.graph(
                shapes[1], stop * UNIT + 1, (stop + self.offloaded) * UNIT, {}, backend=0xB
            )
        return stop + self.offloaded + 2 + self.gap

    def _hinder(self, capture: Capture, since: int, until: int) -> None:
        """What keeps the worker from running."""
        leave: Mapping[str, tuple[int, int, int]] = {
            "other": (SPINNER, PREEMPTED, FAULT), "own": (SAMPLER, PREEMPTED, FAULT),
            "throttled": (SPINNER, PREEMPTED, FAULT), "fault": (0, WAITS, FAULT),
            "sleep": (0, WAITS, READ), "woken": (0, SLEEPS, FUTEX),
        }  # fmt: skip
        if self.why not in leave:
            return
        follower, state, call = leave[self.why]
        is_throttled = self.why == "throttled"
        capture.switch(since * UNIT, CPU1, WORKER, follower, state, call, throttled=is_throttled)
        if self.why == "woken":
            capture.waking(since * UNIT + 1, CPU0, MAIN, WORKER, CPU1)
        elif state == WAITS:
            # A nanosecond before, since no switch comes at the very time of its wake-up.
            capture.waking(until * UNIT - 1, CPU0, MAIN, WORKER, CPU1)
        back = PREEMPTED if follower else RUNS
        call_back = FAULT if follower in capture.threads else None
        capture.switch(until * UNIT, CPU1, follower, WORKER, back, call_back)


def crowded(steps: int = 10) -> Capture:
    """Two threads that take turns on one CPU: a token of 400 units, half of which each waits.

    op        main        worker
    MUL_MAT   10 (110)    110 (210)
    ADD       312 (412)   212 (312)
    """
    capture = Capture(scheduler="system", cpu=lambda _tid, _ts: CPU0)
    shape = capture.structure(50 * UNIT, tensors(1))
    capture.switch(1 * UNIT, CPU0, 0, MAIN, RUNS)
    for step in range(steps):
        at = 100 + 420 * step
        capture.ubatch(at * UNIT, (at + 415) * UNIT, [(0, step, 1, 1, 1)])
        threads = {
            MAIN: [("up-0", 10, 110), ("out-0", 312, 412)],
            WORKER: [("up-0", 110, 210), ("out-0", 212, 312)],
        }
        capture.graph(
            shape, (at + 5) * UNIT, (at + 413) * UNIT,
            {tid: [(name, *(UNIT * (at + time) for time in times)) for name, *times in operators]
             for tid, operators in threads.items()},
        )  # fmt: skip
        capture.switch((at + 110) * UNIT, CPU0, MAIN, WORKER, PREEMPTED, FAULT)
        capture.switch((at + 312) * UNIT, CPU0, WORKER, MAIN, PREEMPTED, FAULT)
    capture.switch((100 + 420 * steps) * UNIT, CPU0, MAIN, 0, SLEEPS, FUTEX)
    return capture


def without_pool(later: int, steps: int = 10) -> Capture:
    """Each token's graph starts a worker of its own, which begins so much later than it."""
    capture = Capture(scheduler="system", cpu=lambda tid, _ts: CPU0 if tid == MAIN else CPU1)
    shape = capture.structure(50 * UNIT, tensors(1))
    capture.switch(1 * UNIT, CPU0, 0, MAIN, RUNS)
    for step in range(steps):
        at, tid, end = 100 + 420 * step, 200 + step, 110 + later
        capture.threads[tid] = f"worker {step}"
        capture.ubatch(at * UNIT, (at + 415) * UNIT, [(0, step, 1, 1, 1)])
        threads = {
            MAIN: [("up-0", 10, 110), ("out-0", end + 2, end + 102)],
            tid: [("up-0", 10 + later, end), ("out-0", end + 2, end + 102)],
        }
        capture.graph(
            shape, (at + 5) * UNIT, (at + end + 103) * UNIT,
            {its: [(name, *(UNIT * (at + time) for time in times)) for name, *times in operators]
             for its, operators in threads.items()},
        )  # fmt: skip
        capture.scheduled.append(
            Row(BASE + (at + 6) * UNIT, tid | PID << 32, CLONE_THREAD, MAIN, CPU0,
                SchedulerKind.NEWTASK)
        )  # fmt: skip
        capture.switch((at + 10 + later) * UNIT, CPU1, 0, tid, RUNS)
        capture.switch((at + end + 104) * UNIT, CPU1, tid, 0, DEAD, FAULT)
    capture.switch((100 + 420 * steps) * UNIT, CPU0, MAIN, 0, SLEEPS, FUTEX)
    return capture


def since(row: Row) -> int:
    """When a record was made, in units."""
    return (row.ts - BASE) // UNIT
