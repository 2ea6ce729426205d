"""The recorder in C records the known schedule under every kernel; its captures convert here."""

# ruff: noqa: S608  SQL is put together here, from numbers
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from profinfer.records.capture import FrameKind, read_capture
from profinfer.records.dtypes import RECORD, Kind, SchedulerKind
from tests.emulated.board import DISK_BYTES, Counted, Recording, captured, counted, disk
from tests.emulated.guest import build
from tests.emulated.machine import KERNELS, Result, processor
from tests.emulated.machines import Machines, Task, Work, Workshop
from tests.matrix import Matrix
from tests.recorder.recording import convert, frame_json
from tests.recording.asked import assert_asked
from tests.recording.helpers import KERNELS_OWN, assert_matches, ending, number, rows

SCHEDULE = "--threads 2 --layers 3 --prompt 13 --decode 20 --sequences 2 --backend2 --ask"
WITHOUT_RINGS = ("arm64-5.10", "x86-5.10")
WITHOUT_LINKS = (*WITHOUT_RINGS, "arm64-6.1", "x86-6.1")
RINGS = "this kernel lacks the atomic instructions or the ring buffer of the ring transport"
LINKS = "this kernel has no uprobe_multi links"
SLEEPS, PRIORITY, INTERRUPTIBLE, NAME = 20, 120, 1, b"other-name"

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(1200)]


@dataclass(frozen=True)
class Cell:
    """A recording with all that the kernel can show, by one transport and one way to attach."""

    kernel: str
    transport: str
    attach: str
    is_launched: bool

    @property
    def why_not(self) -> str:
        """What the kernel lacks, if anything."""
        if self.attach == "uprobe_multi" and self.kernel in WITHOUT_LINKS:
            return LINKS
        return RINGS if self.transport == "ring" and self.kernel in WITHOUT_RINGS else ""

    @property
    def name(self) -> str:
        way = "launched" if self.is_launched else "by-pid"
        return f"{self.transport}-{self.attach}-{way}"

    def task(self) -> Task:
        options = f"--transport {self.transport} --attach {self.attach} --level barrier {ALL}"
        schedule = f"{SCHEDULE} --read /dev/vda"
        work = RecordAll(options, schedule, self.is_launched, beside="sleeper >slept")
        return Task(self.kernel, self.name, work)


ALL = "--scheduler system --faults --block-io"


class RecordAll(Recording):
    """Of the sleeper, too."""

    def __call__(self, workshop: Workshop, task: Task) -> Work:
        work = super().__call__(workshop, task)
        source = Path(__file__).with_name("sleeper.c")
        sleeper = workshop.once(
            f"sleeper-{processor(task.kernel).machine}",
            lambda folder: build(task.kernel, source, folder / "sleeper"),
        )
        return Work(work.command, {**work.files, "/bin/sleeper": sleeper}, disk(workshop))


def cells(kernel: str) -> list[Cell]:
    """Both transports and both ways to attach; among those that can be, both ways to begin."""
    found = [
        Cell(kernel, transport, attach, (transport == "ring") == (attach == "uprobe_multi"))
        for transport in ("ring", "perf")
        for attach in ("uprobe_multi", "perf_event")
    ]
    possible = [cell for cell in found if not cell.why_not]
    if len(possible) == 1:
        found.append(Cell(kernel, "perf", "perf_event", not possible[0].is_launched))
    return found


CELLS = [cell for kernel in KERNELS for cell in cells(kernel)]


@pytest.mark.parametrize(
    ("cell", "task"),
    [pytest.param(cell, cell.task(), id=f"{cell.name}-{cell.kernel}") for cell in CELLS],
)
def test_the_known_schedule_is_recorded_there_and_converted_here(
    cell: Cell, task: Task, machines: Machines, matrix: Matrix, tmp_path: Path
) -> None:
    """With the scheduler and the faults as the kernel itself counts them."""
    machine = processor(cell.kernel).machine
    what = f"schedule, scheduler, faults; {'launched' if cell.is_launched else 'by PID'}"
    matrix(what, kernel=cell.kernel, machine=machine, loader="libbpf", transport=cell.transport,
           attach=cell.attach, why_not=cell.why_not)  # fmt: skip
    result = machines.result(task)
    if cell.why_not:
        assert result.status == 4
        assert cell.why_not in result.output
        other = "attach auto" if cell.why_not == LINKS else "transport perf"
        assert f"hint: record --{other}" in result.output
        return
    capture, truth = captured(result, tmp_path)
    start = frame_json(capture, FrameKind.START)
    assert (start["transport"], start["attach"]) == (cell.transport, cell.attach)
    assert start["uname"]["machine"] == machine
    assert start["boot_clock"] is True
    assert start["scheduler"]["mode"] == "system"
    trace = convert(capture)
    assert_matches(trace, truth, "barrier", beside=KERNELS_OWN)
    # The engine is killed before its context goes.
    assert_asked(trace, truth, ["create"] if cell.is_launched else [])
    check_threads(trace, counted(result), {thread["tid"] for thread in truth["threads"]})
    check_reads(capture, counted(result).read_bytes, start["page_size"])
    check_sleeper(capture, result)
    end = ending(trace)
    assert (end["reason"], end["lost"], end["unattributed"]) == ("the target ended", "0", "0")
    assert frame_json(capture, FrameKind.END)["scheduler"]["lost"] == 0


def check_threads(trace: Path, kernel: Counted, tids: set[int]) -> None:
    """Switches and faults of the engine's threads are as many as the kernel has counted."""
    _, turns, switches, faults, losses = rows(
        trace,
        "INCLUDE PERFETTO MODULE profinfer.memory.paging",
        *(
            f"SELECT tid, count() FROM sched AS s JOIN thread USING (utid) WHERE {at} BETWEEN"
            f" {kernel.begin} AND {kernel.end} AND s.dur >= 0 GROUP BY 1"
            for at in ("s.ts", "s.ts + s.dur")
        ),
        "SELECT f.kind, tid, count() FROM profinfer_fault AS f JOIN thread USING (utid)"
        f" WHERE f.ts BETWEEN {kernel.begin} AND {kernel.end} GROUP BY 1, 2",
        "SELECT name FROM slice WHERE category GLOB 'loss*'",
    )
    assert losses == []
    assert tids <= kernel.switches.keys()
    # They sleep at both looks: each turn has ended.
    for found in (turns, switches):
        seen = {number(tid): number(n) for tid, n in found}
        assert {tid: seen.get(tid, 0) for tid in kernel.switches} == kernel.switches
        # Since Linux 6.12 some that follow a wake-up are not among the kernel's turns.
        assert all(seen.get(tid, 0) >= turns for tid, turns in kernel.turns.items())
    assert min(kernel.switches[tid] for tid in tids) > 5
    for kind, expected in (("minor", kernel.minor), ("major", kernel.major)):
        # Of threads that ask once and are gone the kernel says nothing at the end.
        seen = {number(tid): number(n) for k, tid, n in faults if k == kind and tid in expected}
        assert seen == {tid: n for tid, n in expected.items() if n}
    assert sum(kernel.minor.values()) > 0


def check_reads(capture: Path, read_bytes: int, page_size: int) -> None:
    """The pages that have come into memory are as many as the kernel has read for the engine."""
    found = records_of(capture, FrameKind.RECORDS)
    pages = 1 << (found["b"][found["kind"] == Kind.FILE_READ] >> np.uint64(58)).astype(np.int64)
    assert pages.sum() * page_size == read_bytes == DISK_BYTES


def check_sleeper(capture: Path, result: Result) -> None:
    """What the scheduler's records say of it: how often it slept, its names, its child."""
    me, child = (int(word) for word in result.files["slept"].split())
    records = records_of(capture, FrameKind.SCHEDULER)
    records = records[np.argsort(records["ts"])]  # within a frame CPU follows CPU

    def of(kind: SchedulerKind, tid: int, field: str = "tid") -> npt.NDArray[np.void]:
        values = records["a"] & np.uint64(0xFFFFFFFF) if field == "a" else records[field]
        found: npt.NDArray[np.void] = records[(records["kind"] == kind) & (values == tid)]
        return found

    left, woken = of(SchedulerKind.SWITCH, me), of(SchedulerKind.WAKING, me, "a")
    # In its sleeps, and while it waited for its child, and at the end.
    named = of(SchedulerKind.RENAME, me)["ts"][-1]
    forked = of(SchedulerKind.NEWTASK, child, "a")
    until = forked["ts"][0]
    left, woken = (x[(x["ts"] > named) & (x["ts"] < until)] for x in (left, woken))
    states = left["a"] >> np.uint64(32) & np.uint64(0xFFFF)
    assert np.count_nonzero(states == INTERRUPTIBLE) == len(woken) == SLEEPS
    assert set((woken["a"] >> np.uint64(48)).tolist()) == {PRIORITY}
    came = of(SchedulerKind.SWITCH, me, "a")
    assert np.count_nonzero((came["ts"] > named) & (came["ts"] < until)) >= SLEEPS
    assert (
        text(of(SchedulerKind.RENAME, me)[-1]) == text(of(SchedulerKind.NEWNAME, child)[0]) == NAME
    )
    assert (forked["a"] >> np.uint64(32)).tolist() == [me]
    assert len(of(SchedulerKind.EXIT, child)) == len(of(SchedulerKind.FREE, child)) == 1


def records_of(capture: Path, kind: FrameKind) -> npt.NDArray[np.void]:
    """All records in frames of a kind."""
    frames = [frame.data for frame in read_capture(capture) if frame.kind == kind]
    return np.frombuffer(b"".join(frames), RECORD)


def text(record: np.void) -> bytes:
    """The name in a record."""
    name: bytes = record["a"].tobytes() + record["b"].tobytes()
    return name.rstrip(b"\0")


# Root may raise its limits.
CHOSEN = [
    Task(
        kernel,
        "chosen",
        Recording("--level token --scheduler target", SCHEDULE, before="ulimit -n 16"),
    )
    for kernel in ("arm64-5.10", "arm64-6.12")
]


@pytest.mark.parametrize("task", CHOSEN, ids=str)
def test_the_transport_is_chosen_by_what_the_kernel_can(
    task: Task, machines: Machines, matrix: Matrix, tmp_path: Path
) -> None:
    transport = "perf" if task.kernel in WITHOUT_RINGS else "ring"
    machine = processor(task.kernel).machine
    matrix("transport chosen", kernel=task.kernel, machine=machine, loader="libbpf",
           transport=transport)  # fmt: skip
    capture, truth = captured(machines.result(task), tmp_path)
    assert frame_json(capture, FrameKind.START)["transport"] == transport
    assert frame_json(capture, FrameKind.START)["scheduler"]["mode"] == "target"
    assert_matches(convert(capture), truth, "token", beside=KERNELS_OWN)
