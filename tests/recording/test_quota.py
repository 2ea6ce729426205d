"""A cgroup with a quota: the kernel's own count of how long it throttled is the truth."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from profinfer.trace_processor import open_trace
from tests.recording.quota import cpu_set, group, watched, within
from tests.recording.scheduling import (
    ENDLESS,
    SYSTEM,
    TARGET,
    answer,
    cpus_fixture,
    pinned,
)
from tests.support import PLACED, Engine, attached, boottime, double_fixture, finish, waiting

__all__ = ["cpus_fixture", "double_fixture"]

QUOTA, PERIOD = 5_000, 50_000
"""Microseconds: so little that its threads use it up on a busy machine, too."""


@pytest.mark.parametrize(("mode", "is_above"), [(SYSTEM, False), (TARGET, False), (SYSTEM, True)])
def test_threads_are_throttled_for_as_long_as_the_kernel_counts(
    double: Engine, cpus: tuple[int, int], tmp_path: Path, mode: str, is_above: bool
) -> None:
    """Whether the quota is their group's own, or its parent's, which may save some of it up."""
    trace = tmp_path / "t.pftrace"
    options = ("--level", "barrier", "--scheduler", mode)
    with (
        pinned(double, tmp_path / "go", cpus) as (engine, _),
        group(QUOTA, PERIOD, is_above=is_above, burst=is_above * QUOTA // 2) as folder,
    ):
        (folder / "cgroup.procs").write_text(str(engine.pid))
        with (
            attached(double, engine.pid, trace, *options, probes=PLACED) as recorder,
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
        found, taken, waited = (
            within(session, kind, span) for kind in ("throttled", "preempted", "runnable")
        )
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
        named = [row["sentence"].partition(":")[0] for row in verdict if row["kind"] == "bound"]
        assert "Its CPU quota" in named
        if taken + waited < truth // 10:
            assert named[0] == "Its CPU quota"


def test_threads_that_have_one_cpu_between_them_are_not_throttled(
    double: Engine, cpus: tuple[int, int], tmp_path: Path
) -> None:
    """A CPU set keeps them from the others, and no quota from this one."""
    trace = tmp_path / "t.pftrace"
    options = ("--level", "barrier", "--scheduler", SYSTEM)
    with waiting(double, tmp_path / "go", *ENDLESS) as engine, cpu_set(cpus[0]) as folder:
        (folder / "cgroup.procs").write_text(str(engine.pid))
        with attached(double, engine.pid, trace, *options, probes=PLACED) as recorder:
            engine.go()
            time.sleep(0.5)
            code, said = finish(recorder, signal.SIGINT)
            assert code == 0, said
    with open_trace(trace) as session:
        assert within(session, "throttled", (0, boottime())) == 0
        assert within(session, "preempted", (0, boottime())) > 0
        verdict = answer(session, "explain")[0]
    causes = [row["sentence"] for row in verdict if row["kind"] == "bound"]
    if causes[0].startswith("Somebody else: "):  # a busy machine
        causes = causes[1:]
    assert causes[0].startswith("Too many threads: 2 compute threads ran on 1 CPU; ")
