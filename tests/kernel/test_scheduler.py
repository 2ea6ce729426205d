"""Who takes a CPU from the target, and what is said where that is not recorded."""

# ruff: noqa: S608  SQL is put together here, from words of this file
from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from profinfer.capture import Frame, FrameKind
from profinfer.config import Config
from profinfer.errors import KernelError
from profinfer.kernel_types import scheduler_types
from profinfer.recorder import Recorder
from profinfer.scheduler import SYSTEM, TARGET
from profinfer.trace_processor import open_trace
from tests.kernel.scheduling import (
    BARRIER_PROBES,
    ENDLESS,
    MEANS,
    SPINNER,
    answer,
    cpus_fixture,
    pinned,
    spinner_fixture,
    spinning,
)
from tests.support import (
    Engine,
    attached,
    double_fixture,
    finish,
    waiting,
)

__all__ = ["cpus_fixture", "double_fixture", "spinner_fixture"]


@pytest.mark.parametrize("mode", [SYSTEM, TARGET])
@pytest.mark.parametrize(("name", "transport"), MEANS)
def test_the_spinner_and_the_operators_that_it_delays_are_named(
    double: Engine, spinner: str, cpus: tuple[int, int], tmp_path: Path,
    name: str, transport: str, mode: str,
) -> None:  # fmt: skip
    trace = tmp_path / "t.pftrace"
    options = ("--level", "barrier", "--scheduler", mode, "--loader", name, "--transport",
               transport, "--duration", 1)  # fmt: skip
    with (
        pinned(double, tmp_path / "go", cpus) as (engine, tids),
        spinning(double, spinner, cpus[1]) as intruder,
        attached(double, engine.pid, trace, *options, probes=BARRIER_PROBES) as recorder,
    ):
        code, said = finish(recorder)
        assert code == 0, said
    with open_trace(trace) as session:
        takers, operators, tokens, by_thread = answer(session, "interference")
        stalls = answer(session, "stalls")[0]
        whom = session.query(
            "SELECT DISTINCT t.tid FROM profinfer_preemption AS p JOIN thread AS t USING (utid)"
            f" WHERE p.taker_tid = {intruder}"
        ).rows()
    # Whatever else goes on at the time on this machine has rows of its own.
    (row,) = [row for row in takers if row["tid"] == intruder]
    assert (row["thread"], row["own"]) == (SPINNER, 0)
    assert row["times"] > 0
    assert 0 < row["delay_ms"] <= row["in_work_ms"] <= row["taken_ms"]
    assert row["operators"] > 0
    assert row["tokens"] > 0
    assert whom == [(tids[1],)], "the thread on its CPU, and no other"
    assert {str(row["name"])[-2:] for row in operators} & {"-0", "-1"}
    if row["delay_ms"] > sum(taker["delay_ms"] for taker in takers) / 2:  # a quiet machine
        assert SPINNER in {row["mostly_by"] for row in operators}
        assert SPINNER in {row["mostly_by"] for row in tokens}
    states = {row["tid"]: row for row in by_thread}
    assert set(states) == set(tids)
    assert states[tids[1]]["preempted_ms"] + states[tids[1]]["runnable_ms"] > 0
    assert sum(row["interference_ms"] for row in stalls) > 0


def test_a_short_lived_process_has_its_name_its_states_and_its_end(
    double: Engine, tmp_path: Path
) -> None:
    """It is gone before anybody could look into /proc."""
    program = tmp_path / "short-lived"
    shutil.copy("/bin/true", program)
    trace = tmp_path / "t.pftrace"
    options = ("--scheduler", SYSTEM, "--poll", 5)
    with (
        waiting(double, tmp_path / "go", *ENDLESS) as engine,
        attached(double, engine.pid, trace, *options, probes=BARRIER_PROBES - 1) as recorder,
    ):
        done = subprocess.Popen([program])
        assert done.wait(20) == 0
        time.sleep(0.1)  # until the kernel has let go of it
        code, said = finish(recorder, signal.SIGINT)
        assert code == 0, said
    with open_trace(trace) as session:
        rows = session.query(
            "SELECT name, end_ts IS NOT NULL, (SELECT count() > 0 FROM thread_state AS s"
            " WHERE s.utid = thread.utid AND state = 'Running')"
            f" FROM thread WHERE tid = {done.pid}"
        ).rows()
    assert rows == [("short-lived", 1, 1)]


def test_off_records_nothing_of_it_and_the_trace_says_so(double: Engine, tmp_path: Path) -> None:
    trace = tmp_path / "t.pftrace"
    options = ("--scheduler", "off")
    with (
        waiting(double, tmp_path / "go") as engine,
        attached(double, engine.pid, trace, *options, probes=BARRIER_PROBES - 1) as recorder,
    ):
        engine.go()
        engine.truth()
        code, said = finish(recorder)
        assert code == 0, said
    with open_trace(trace) as session:
        rows = session.query(
            "SELECT (SELECT count() FROM sched), (SELECT count() FROM args"
            " WHERE key = 'debug.config.scheduler' AND string_value = 'off')"
        ).rows()
    assert rows == [(0, 1)]


@pytest.fixture
def signals() -> Iterator[None]:
    """A recorder in this process takes them over."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
def test_a_kernel_that_does_not_describe_its_types_is_recorded_without_it(
    double: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "profinfer.recorder.scheduler_types", lambda: scheduler_types(tmp_path / "no")
    )
    with waiting(double, tmp_path / "go", *ENDLESS) as engine:
        frames: list[Frame] = []
        with Recorder(Config(pid=engine.pid, level="graph", duration=0.1)) as recorder:
            frames.append(recorder.prepare())
            result = recorder.run(frames.append, lambda _: None)
        assert "the scheduler was not recorded: this kernel does not describe" in result.notes[0]
        assert "scheduler" not in frames[0].json()
        assert not {FrameKind.SCHEDULER, FrameKind.TASKS} & {frame.kind for frame in frames}
        with (
            Recorder(Config(pid=engine.pid, level="graph", scheduler=SYSTEM)) as recorder,
            pytest.raises(KernelError, match="does not describe its types"),
        ):
            recorder.prepare()
