"""Cgroups of the first version that limit what threads get of the CPUs, and for how long a quota
has kept threads from them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread, get_native_id

from profinfer.trace_processor import Session
from profinfer.trace_processor.result import Value
from tests.conftest import require
from tests.support import as_int, boottime

MOST_SHARES = 1 << 18
Sample = tuple[int, int]
"""When, and how long threads had been throttled by then; ns."""


@contextmanager
def _made(controller: str, *names: str) -> Iterator[Path]:
    """A cgroup within the other; at its end threads go back to where all begin."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    at = [Path(where) for _, where, kind, options, *_ in mounts
          if kind == "cgroup" and controller in options.split(",")]  # fmt: skip
    require(f"cgroups with a controller {controller} (version 1)", bool(at), hardware=True)
    folder = at[0]
    made: list[Path] = []
    try:
        for name in names:
            folder /= name
            folder.mkdir()
            made.append(folder)
        yield folder
    finally:
        for folder in reversed(made):
            for pid in (folder / "cgroup.procs").read_text().split():
                (at[0] / "cgroup.procs").write_text(pid)
            folder.rmdir()


@contextmanager
def group(quota: int, period: int, *, is_above: bool = False, burst: int = 0) -> Iterator[Path]:
    """A group that gets `quota` us in each `period`; with `is_above`, its parent does."""
    names = (f"profinfer-quota-{os.getpid()}", "inside")
    with _made("cpu", *names[: 1 + is_above]) as folder:
        limited = folder.parent if is_above else folder
        # However busy the machine is, it is the quota that keeps threads from CPUs.
        for each in (limited, folder):
            (each / "cpu.shares").write_text(str(MOST_SHARES))
        (limited / "cpu.cfs_period_us").write_text(str(period))
        (limited / "cpu.cfs_quota_us").write_text(str(quota))
        if burst:
            (limited / "cpu.cfs_burst_us").write_text(str(burst))
        try:
            yield folder
        finally:
            (limited / "cpu.cfs_quota_us").write_text("-1")


@contextmanager
def cpu_set(cpu: int) -> Iterator[Path]:
    """A group that has one CPU."""
    with _made("cpuset", f"profinfer-set-{os.getpid()}") as folder:
        memory = (folder.parent / "cpuset.effective_mems").read_text()
        (folder / "cpuset.cpus").write_text(str(cpu))
        (folder / "cpuset.mems").write_text(memory)
        yield folder


def throttled(folder: Path) -> int:
    """How long its threads have been throttled: of each CPU of which they used up their share, from
    then until the next period; ns. Counted when that ends, where the quota is."""
    counts = {}
    for each in (folder, folder.parent):
        if (each / "cpu.cfs_quota_us").is_file():
            rows = (line.split() for line in (each / "cpu.stat").read_text().splitlines())
            counts[each] = {name: int(value) for name, value in rows}["throttled_time"]
    return max(counts.values())


@contextmanager
def watched(folder: Path) -> Iterator[list[Sample]]:
    """When the count has just grown, and the count."""
    grown: list[Sample] = []
    over = Event()

    def watch() -> None:
        os.setpriority(os.PRIO_PROCESS, get_native_id(), -20)
        last = throttled(folder)
        while not over.wait(0.002):
            if (now := throttled(folder)) != last:
                grown.append((boottime(), now))
                last = now

    thread = Thread(target=watch)
    thread.start()
    try:
        yield grown
    finally:
        over.set()
        thread.join()


def require_told(session: Session) -> None:
    """That the kernel says who is throttled, and for how long, on busy CPUs, too."""
    session.query("INCLUDE PERFETTO MODULE profinfer.scheduling.kernel_states")
    told = session.query("SELECT throttling, has_throttled_time FROM _scheduler_mode").rows()
    is_told = all(how in ("task", "queue") and has_time for how, has_time in told)
    require("a kernel that tells of throttling (Linux 6.6)", is_told, hardware=True)


def within(session: Session, kind: str, span: tuple[int, int]) -> int:
    """For how much of a span a CPU was waited for in states of a kind, all CPUs together; ns. As
    the kernel counts: two threads that wait for one CPU at the same time wait once."""
    states = session.query(
        "INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;"
        "SELECT kind, ucpu, ts, ts + dur FROM profinfer_thread_state ORDER BY ts"
    )
    total, (first, last) = 0, span
    ends: dict[Value, int] = {}
    for found, cpu, ts, end_ts in states:
        if found == kind:
            begin = max(as_int(ts), ends.get(cpu, first))
            end = min(as_int(end_ts), last)
            total += max(end - begin, 0)
            ends[cpu] = max(end, begin)
    return total
