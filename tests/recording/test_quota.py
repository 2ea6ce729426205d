"""A cgroup with a quota: the kernel's own count of how long it throttled is the truth."""

# ruff: noqa: S608  SQL is put together here, from words of this file
from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from profinfer.trace_processor import Session, open_trace
from tests.conftest import require
from tests.recording.scheduling import (
    BARRIER_PROBES,
    SYSTEM,
    TARGET,
    answer,
    cpus_fixture,
    pinned,
)
from tests.support import Engine, as_int, attached, boottime, double_fixture, finish

__all__ = ["cpus_fixture", "double_fixture"]

QUOTA, PERIOD = 5_000, 50_000
"""Microseconds: so little that its threads use it up on a busy machine, too."""


@contextmanager
def group() -> Iterator[Path]:
    """A cgroup of the first version with a quota of the CPU."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    at = [Path(where) for _, where, kind, options, *_ in mounts
          if kind == "cgroup" and "cpu" in options.split(",")]  # fmt: skip
    require("cgroups with a CPU controller (version 1)", bool(at), hardware=True)
    folder = at[0] / "profinfer-quota"
    folder.mkdir()
    try:
        (folder / "cpu.cfs_period_us").write_text(str(PERIOD))
        (folder / "cpu.cfs_quota_us").write_text(str(QUOTA))
        yield folder
    finally:
        (folder / "cpu.cfs_quota_us").write_text("-1")
        for pid in (folder / "cgroup.procs").read_text().split():
            (at[0] / "cgroup.procs").write_text(pid)
        folder.rmdir()


def throttled(folder: Path) -> int:
    """How long its threads have been throttled: of each CPU of which they used up their share, from
    then until the next period; ns. Counted when that ends."""
    rows = (line.split() for line in (folder / "cpu.stat").read_text().splitlines())
    return next(int(value) for name, value in rows if name == "throttled_time")


@contextmanager
def watched(folder: Path) -> Iterator[list[tuple[int, int]]]:
    """When the count has just grown, and the count."""
    grown: list[tuple[int, int]] = []
    over = Event()

    def watch() -> None:
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


def within(session: Session, kind: str, span: tuple[int, int]) -> int:
    """How much of the time of the threads' states of a kind lies in a span; ns."""
    common = f"min(ts + dur, {span[1]}) - max(ts, {span[0]})"
    ((found,),) = session.query(
        "INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;"
        f"SELECT coalesce(sum({common}), 0) FROM profinfer_thread_state WHERE kind = '{kind}'"
        f" AND {common} > 0"
    ).rows()
    return as_int(found)


@pytest.mark.parametrize("mode", [SYSTEM, TARGET])
def test_threads_are_throttled_for_as_long_as_the_kernel_counts(
    double: Engine, cpus: tuple[int, int], tmp_path: Path, mode: str
) -> None:
    trace = tmp_path / "t.pftrace"
    options = ("--level", "barrier", "--scheduler", mode)
    with (
        pinned(double, tmp_path / "go", cpus) as (engine, _),
        group() as folder,
    ):
        (folder / "cgroup.procs").write_text(str(engine.pid))
        with (
            attached(double, engine.pid, trace, *options, probes=BARRIER_PROBES) as recorder,
            watched(folder) as grown,
        ):
            time.sleep(2.5)
            begun = boottime()
            code, said = finish(recorder, signal.SIGINT)
            assert code == 0, said
    grown = [sample for sample in grown if sample[0] < begun]
    (first, before), (last, after) = grown[0], grown[-1]
    truth, span = after - before, (first, last)
    assert truth > (last - first) // 4
    with open_trace(trace) as session:
        found, taken = (within(session, kind, span) for kind in ("throttled", "preempted"))
        short, *_, threads, _ = answer(session, "interference")
        stalls = answer(session, "stalls")[0]
        verdict = answer(session, "explain")[0]
    # While somebody else has the CPU throughout, nobody can tell why a thread does not. How long it
    # waited for its turn after having been throttled, the target's switches alone do not tell.
    more = truth // (50 if mode == SYSTEM else 10)
    assert truth - taken - truth // 50 <= found <= truth + more, (found, taken, truth)
    if taken < truth // 2:  # the machine is not as busy as all that
        assert any("throttled" in row["what"] for row in short)
        assert sum(row["throttled_ms"] for row in threads) > 0
        assert sum(row["throttled_ms"] for row in stalls) > 0
        cause = next(row["sentence"] for row in verdict if row["kind"] == "bound")
        assert cause.startswith("Its CPU quota: ")
