"""A cgroup with a quota: the kernel's own count of how long it throttled is the truth."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from profinfer.trace_processor import open_trace
from tests.conftest import require
from tests.recording.quota import Sample, cpu_set, group, require_told, watched, within
from tests.recording.scheduling import (
    ENDLESS,
    SYSTEM,
    TARGET,
    answer,
    cpus_fixture,
    pinned,
    spinner_fixture,
)
from tests.support import (
    PLACED,
    Engine,
    Waiting,
    attached,
    boottime,
    double_fixture,
    finish,
    started,
    waiting,
)

__all__ = ["cpus_fixture", "double_fixture", "spinner_fixture"]

QUOTA, PERIOD = 5_000, 50_000
"""Microseconds: so little that its threads use it up on a busy machine, too."""
TRIES = 4

WITHOUT_END = 1_000_000
"""How many milliseconds others spin."""
ALWAYS = (0, 1 << 62)


ABOVE, BUSY = True, True


@pytest.mark.parametrize(
    ("mode", "means", "is_above", "is_busy"),
    [
        (SYSTEM, ("libbpf", "ring"), not ABOVE, not BUSY),
        (TARGET, ("libbpf", "ring"), not ABOVE, not BUSY),
        (SYSTEM, ("libbpf", "ring"), ABOVE, BUSY),
        (TARGET, ("bcc", "perf"), not ABOVE, BUSY),
    ],
)
def test_threads_are_throttled_for_as_long_as_the_kernel_counts(
    double: Engine, spinner: str, cpus: tuple[int, int], tmp_path: Path, mode: str,
    means: tuple[str, str], is_above: bool, is_busy: bool,
) -> None:  # fmt: skip
    """Whether the quota is their group's own, or its parent's, which may save some of it up; and
    whether their CPUs idle meanwhile, or others have them throughout."""
    options = ("--level", "barrier", "--scheduler", mode, "--loader", means[0], "--transport",
               means[1])  # fmt: skip
    spun = (spinner, cpus if is_busy else ())
    for attempt in range(TRIES):
        trace = tmp_path / f"{attempt}.pftrace"
        with (
            pinned(double, tmp_path / f"go-{attempt}", cpus) as (engine, _),
            group(QUOTA, PERIOD, is_above=is_above, burst=is_above * QUOTA // 2) as folder,
        ):
            (folder / "cgroup.procs").write_text(str(engine.pid))
            grown = limited(double, engine, folder, trace, options, spun)
        # On a machine that is too busy nobody gets as far as to be throttled, or to look.
        if len(grown) > 1 and grown[-1][1] - grown[0][1] > (grown[-1][0] - grown[0][0]) // 4:
            break
    else:
        assert is_busy, grown
        require("CPUs on which a busy machine lets a quota be used up", False, hardware=True)
    (first, before), (last, after) = grown[0], grown[-1]
    truth, span = after - before, (first, last)
    with open_trace(trace) as session:
        require_told(session)
        found = within(session, "throttled", span)
        short, *_, threads, _ = answer(session, "interference")
        stalls = answer(session, "stalls")[0]
        verdict = answer(session, "explain")[0]
    assert abs(found - truth) <= truth // 50, (found, truth)
    assert any("throttled" in row["what"] for row in short)
    assert sum(row["throttled_ms"] for row in threads) > 0
    assert sum(row["throttled_ms"] for row in stalls) > 0
    # Nobody else is to blame but for a turn after each period has begun.
    named = [row["sentence"].partition(":")[0] for row in verdict if row["kind"] == "bound"]
    assert named[0] == "Its CPU quota"


def limited(
    double: Engine, engine: Waiting, folder: Path, trace: Path, options: tuple[str, ...],
    spun: tuple[str, Sequence[int]],
) -> list[Sample]:  # fmt: skip
    """Records an engine that a group keeps from CPUs, others spinning on some of them; what the
    kernel counted meanwhile."""
    spinner, cpus = spun
    with (
        ExitStack() as others,
        attached(double, engine.pid, trace, *options, probes=PLACED) as recorder,
        watched(folder) as grown,
    ):
        for cpu in cpus:
            others.enter_context(started(double, spinner, cpu, WITHOUT_END, 0))
        time.sleep(1.5 if cpus else 2.5)
        begun = boottime()
        code, said = finish(recorder, signal.SIGINT)
        assert code == 0, said
    return [sample for sample in grown if sample[0] < begun]


def test_nobody_is_throttled_without_a_quota(
    double: Engine, spinner: str, cpus: tuple[int, int], tmp_path: Path
) -> None:
    """However busy the machine is."""
    trace = tmp_path / "t.pftrace"
    options = ("--level", "barrier", "--scheduler", SYSTEM)
    with (
        waiting(double, tmp_path / "go", *ENDLESS) as engine,
        attached(double, engine.pid, trace, *options, probes=PLACED) as recorder,
        started(double, spinner, cpus[0], WITHOUT_END, 0),
        started(double, spinner, cpus[1], WITHOUT_END, 0),
    ):
        engine.go()
        time.sleep(0.5)
        code, said = finish(recorder, signal.SIGINT)
        assert code == 0, said
    with open_trace(trace) as session:
        assert within(session, "throttled", ALWAYS) == 0
        assert within(session, "preempted", ALWAYS) > 0
        verdict = answer(session, "explain")[0]
    sentences = [row["sentence"] for row in verdict]
    assert any(sentence.startswith("Somebody else: ") for sentence in sentences)
    assert any("throttling 0.0 %" in sentence for sentence in sentences)


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
        assert within(session, "throttled", ALWAYS) == 0
        assert within(session, "preempted", ALWAYS) > 0
        verdict = answer(session, "explain")[0]
    causes = [row["sentence"] for row in verdict if row["kind"] == "bound"]
    if causes[0].startswith("Somebody else: "):  # a busy machine
        causes = causes[1:]
    assert causes[0].startswith("Too many threads: 2 compute threads ran on 1 CPU; ")
