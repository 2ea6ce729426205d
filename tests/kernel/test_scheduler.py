"""What is recorded of the scheduler is what the kernel itself says of it."""

# ruff: noqa: S608  SQL is put together here, from words of this file
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from profinfer import kernel, loader, query
from profinfer.capture import Frame, FrameKind, read_capture
from profinfer.config import Config
from profinfer.errors import KernelError
from profinfer.kernel_types import scheduler_types
from profinfer.loaded import TRANSPORTS
from profinfer.recorder import Recorder
from profinfer.records import FIRST_SCHEDULER_KIND, RECORD, SchedulerKind, join
from profinfer.scheduler import SYSTEM, TARGET, Scheduler
from profinfer.scheduler_drain import SchedulerDrain
from profinfer.trace_processor import Session, open_trace
from tests.conftest import require
from tests.kernel.tracefs import Counts, Tracefs, counts
from tests.support import (
    Engine,
    Waiting,
    as_int,
    attached,
    boottime,
    double_fixture,
    finish,
    started,
    wait_for,
    waiting,
)

__all__ = ["double_fixture"]

ENDLESS = ("--threads", 2, "--layers", 2, "--decode", 1_000_000, "--work-us", 40)
BARRIER_PROBES = 10
MEANS = [(name, transport) for name in ("libbpf", "bcc") for transport in TRANSPORTS]
STATES = {0: "R", 1: "S", 2: "D", 4: "T", 8: "t", 16: "X", 32: "Z", 64: "P", 128: "I", 256: "R+"}
SPINNER = "the-spinner"


@pytest.fixture(scope="module")
def spinner(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program that takes a CPU."""
    program = tmp_path_factory.mktemp("spinner") / "spinner"
    source = repo / "tests/kernel/spinner.c"
    subprocess.run(["gcc", "-O2", "-o", program, source], check=True, timeout=60)
    return str(program)


@pytest.fixture(scope="module")
def cpus() -> tuple[int, int]:
    """Two CPUs to pin threads to."""
    found = sorted(os.sched_getaffinity(0))
    require("two CPUs", len(found) >= 2, hardware=True)
    return found[0], found[1]


@contextmanager
def pinned(double: Engine, gate: Path, cpus: Sequence[int]) -> Iterator[tuple[Waiting, list[int]]]:
    """The engine at work without an end, each of its two threads on a CPU of its own; their ids."""
    with waiting(double, gate, *ENDLESS) as engine:
        engine.go()
        wait_for("its threads", lambda: len(threads(engine.pid)) == 2)
        tids = threads(engine.pid)
        for tid, cpu in zip(tids, cpus, strict=True):
            os.sched_setaffinity(tid, {cpu})
        yield engine, tids


def threads(pid: int) -> list[int]:
    return sorted(map(int, os.listdir(f"/proc/{pid}/task")))


@contextmanager
def spinning(double: Engine, spinner: str, cpu: int) -> Iterator[int]:
    """Another process takes a CPU again and again; its id."""
    with started(double, spinner, cpu, 3, 2) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process.pid


# ---- The paper's experiment


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
    assert SPINNER in {row["mostly_by"] for row in operators}
    assert {str(row["name"])[-2:] for row in operators} & {"-0", "-1"}
    assert SPINNER in {row["mostly_by"] for row in tokens}
    states = {row["tid"]: row for row in by_thread}
    assert set(states) == set(tids)
    assert states[tids[1]]["preempted_ms"] + states[tids[1]]["runnable_ms"] > 0
    assert sum(row["interference_ms"] for row in stalls) > 0


def answer(session: Session, name: str) -> list[list[dict[str, Any]]]:
    """The tables of a ready query, row by row."""
    tables = query.run(session, query.read(query.resolve(name)))
    return [[dict(zip(t.columns, row, strict=True)) for row in t.rows] for t in tables]


# ---- Against the kernel's own books


@dataclass
class Compared:
    """A recording, and what the kernel says of the same time."""

    session: Session
    raw: Path
    books: Tracefs
    pid: int
    begin: int
    end: int
    counted: dict[int, Counts]
    """Between these times, by thread of the target."""


@pytest.fixture(scope="module", params=MEANS, ids="-".join)
def compared(
    request: pytest.FixtureRequest, double: Engine, spinner: str, cpus: tuple[int, int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Compared]:  # fmt: skip
    """The target stands still at both ends: then its counts do, too."""
    folder = tmp_path_factory.mktemp("compared")
    trace, raw = folder / "t.pftrace", folder / "t.raw"
    name, transport = request.param
    options = ("--level", "operator", "--scheduler", SYSTEM, "--loader", name, "--transport",
               transport, "--raw", raw, "--force")  # fmt: skip
    with (
        Tracefs() as books,
        pinned(double, folder / "go", cpus) as (engine, tids),
        spinning(double, spinner, cpus[1]),
        attached(double, engine.pid, trace, *options, probes=BARRIER_PROBES - 1) as recorder,
    ):
        stop(engine.pid)
        before, begin = {tid: counts(engine.pid, tid) for tid in tids}, boottime()
        books.start()
        os.kill(engine.pid, signal.SIGCONT)
        time.sleep(0.4)
        stop(engine.pid)
        after, end = {tid: counts(engine.pid, tid) for tid in tids}, boottime()
        books.stop()
        code, said = finish(recorder, signal.SIGINT)
        assert code == 0, said
        assert ", 0 lost (" in said
        with open_trace(trace) as session:
            counted = {tid: after[tid] - before[tid] for tid in tids}
            yield Compared(session, raw, books, engine.pid, begin, end, counted)


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)

    def stands() -> bool:
        stats = [Path(f"/proc/{pid}/task/{tid}/stat").read_text() for tid in threads(pid)]
        return {text.rpartition(")")[2].split()[0] for text in stats} == {"T"}

    wait_for("the target to stop", stands)
    time.sleep(0.01)  # until the last of them has left its CPU


def test_a_thread_leaves_and_gets_cpus_as_often_as_the_kernel_counts(compared: Compared) -> None:
    for tid, counted in compared.counted.items():
        rows = compared.session.query(
            "SELECT count(), sum(s.ts > B), sum(end_state IN ('R', 'R+')) FROM"
            f" (SELECT *, {compared.begin} AS B, {compared.end} AS E FROM sched) AS s"
            f" JOIN thread USING (utid) WHERE tid = {tid} AND s.dur >= 0"
            " AND s.ts + s.dur BETWEEN B AND E"
        ).rows()
        assert rows[0][:2] == (counted.switches, counted.turns)
        # Whoever is kept from going to sleep by a signal is said to run, and to leave willingly.
        assert 0 <= as_int(rows[0][2]) - counted.preempted <= 3
        assert counted.switches > 10


def test_every_switch_is_the_one_that_ftrace_shows(compared: Compared) -> None:
    assert compared.books.lost() == 0
    records = scheduled(compared.raw)
    mine = records[records["kind"] == SchedulerKind.SWITCH]
    expected = compared.books.switches()
    assert len(expected) > 200
    assert {"R", "R+", "S", "T"} <= {switch.state for switch in expected}
    for cpu in {switch.cpu for switch in expected}:
        rows = mine[mine["cpu"] == cpu]
        a = rows["a"]
        found = list(
            zip(
                rows["tid"].tolist(),
                [STATES[state] for state in (a >> np.uint64(32) & np.uint64(0xFFFF)).tolist()],
                (a & np.uint64(0xFFFFFFFF)).tolist(),
                (a >> np.uint64(48)).tolist(),
                strict=True,
            )
        )
        wanted = [s for s in expected if s.cpu == cpu]
        times = (rows["ts"] // np.uint64(1000)).tolist()
        check_order(
            list(zip(times, found, strict=True)),
            [(s.us, (s.prev, s.state, s.following, s.prio)) for s in wanted],
        )


def test_every_wake_up_of_the_target_is_the_one_that_ftrace_shows(compared: Compared) -> None:
    records = scheduled(compared.raw)
    mine = records[records["kind"] == SchedulerKind.WAKING]
    woken = mine["a"] & np.uint64(0xFFFFFFFF)
    expected = compared.books.wakings()
    for tid in compared.counted:
        rows = mine[woken == tid]
        times = (rows["ts"] // np.uint64(1000)).tolist()
        wanted = [(us, cpu) for us, cpu, t in expected if t == tid]
        assert len(wanted) > 10
        check_order(list(zip(times, rows["cpu"].tolist(), strict=True)), wanted)


def check_order(found: list[tuple[int, Any]], wanted: list[tuple[int, Any]]) -> None:
    """Each event that is wanted is found, within a millisecond, and in the same order. Others may
    stand between: ftrace does not show all here."""
    rest = iter(found)
    for us, what in wanted:
        for at, event in rest:
            if event == what and abs(at - us) < 1000:
                break
        else:
            near = [(at - us, event) for at, event in found if abs(at - us) < 20_000]
            raise AssertionError(f"{what} at {us} us is missing; near it: {near}")


def scheduled(raw: Path) -> Any:
    """The scheduler's records in a capture, each CPU's in order of time."""
    frames = [f for f in read_capture(raw) if f.kind == FrameKind.SCHEDULER]
    records = join([np.frombuffer(f.data, RECORD) for f in frames])
    return records[np.argsort(records["ts"], kind="stable")]


def test_perfettos_modules_answer_as_on_any_system_trace(compared: Compared) -> None:
    session = compared.session
    (row,) = session.query(
        "INCLUDE PERFETTO MODULE sched.latency; INCLUDE PERFETTO MODULE sched.runnable;"
        "SELECT count(), sum(l.latency_dur), sum(r.dur) FROM"
        " sched_latency_for_running_interval AS l"
        " JOIN thread_state AS r ON r.id = l.runnable_latency_id"
        " JOIN thread_state AS s ON s.id = l.thread_state_id JOIN thread AS t ON t.utid = s.utid"
        f" WHERE t.tid = {max(compared.counted)} AND s.ts BETWEEN {compared.begin}"
        f" AND {compared.end}"
    ).rows()
    assert as_int(row[0]) > 10
    assert row[1] == row[2]
    names = session.query(
        "SELECT DISTINCT t.name, p.name FROM sched JOIN thread AS t USING (utid)"
        f" LEFT JOIN process AS p USING (upid) WHERE t.name = '{SPINNER}'"
    ).rows()
    assert [name for name, _ in names] == [SPINNER]
    assert str(names[0][1]).endswith("/spinner")


# ---- Threads that come and go


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


# ---- Losses


@pytest.mark.parametrize(("name", "transport"), MEANS)
@pytest.mark.parametrize("size", [4096, 1 << 20])
def test_what_was_recorded_and_what_was_lost_is_how_often_the_programs_ran(
    name: str, transport: str, size: int
) -> None:
    stats = kernel.enable_stats()
    scheduler = Scheduler(
        loader.choose(name).load, transport, size, os.getpid(), SYSTEM, scheduler_types()
    )
    try:
        kinds = {
            "on_switch": (SchedulerKind.SWITCH,),
            "on_waking": (SchedulerKind.WAKING,),
            "on_newtask": (SchedulerKind.NEWNAME, SchedulerKind.NEWTASK),
            "on_rename": (SchedulerKind.RENAME,),
            "on_exit": (SchedulerKind.EXIT,),
            "on_free": (SchedulerKind.FREE,),
        }
        before = {name: runs(scheduler, name) for name in kinds}
        lost_before = scheduler.losses()["lost"].sum(axis=0)
        scheduler.attach()
        drain = SchedulerDrain(scheduler)
        for _ in range(60):
            subprocess.run(["/bin/true"], check=True, timeout=20)
        scheduler.detach()
        time.sleep(0.05)
        kept = join([np.frombuffer(f.data, RECORD) for f in drain.take()
                     if f.kind == FrameKind.SCHEDULER])  # fmt: skip
        lost = scheduler.losses()["lost"].sum(axis=0) - lost_before
        for program, of in kinds.items():
            ran = runs(scheduler, program) - before[program]
            assert ran >= (0 if program == "on_waking" else 10)
            for kind in of:
                seen = int((kept["kind"] == kind).sum())
                assert seen + int(lost[kind - FIRST_SCHEDULER_KIND]) == ran, kind.name
        assert (drain.lost > 0) is (size == 4096)
    finally:
        scheduler.close()
        os.close(stats)


def runs(scheduler: Scheduler, program: str) -> int:
    return kernel.program_stats(scheduler.program(program)).runs


def test_small_rings_say_what_they_lost_and_claim_nothing_around_it(
    double: Engine, spinner: str, cpus: tuple[int, int], tmp_path: Path
) -> None:
    trace = tmp_path / "t.pftrace"
    options = ("--level", "operator", "--scheduler", SYSTEM, "--ring-size", "16K", "--poll", 0.5,
               "--duration", 1)  # fmt: skip
    with (
        pinned(double, tmp_path / "go", cpus) as (engine, _),
        spinning(double, spinner, cpus[1]),
        attached(double, engine.pid, trace, *options, probes=BARRIER_PROBES - 1) as recorder,
    ):
        for _ in range(200):
            subprocess.run(["/bin/true"], check=True, timeout=20)
        code, said = finish(recorder)
        assert code == 0, said
    assert "warning: records were lost" in said
    with open_trace(trace) as session:
        (lost,) = session.query(
            "INCLUDE PERFETTO MODULE profinfer.recording;"
            "SELECT sum(lost), min(ts - first_ts) >= 0 FROM profinfer_loss WHERE kind = 'switch'"
        ).rows()
        assert lost[0]
        assert lost[1]
        (spans,) = session.query(
            "INCLUDE PERFETTO MODULE profinfer.scheduling;"
            "SELECT count() FROM profinfer_thread_state AS s JOIN _scheduler_loss AS l"
            " ON l.kind = 'switch' AND l.left_tid IS NULL AND l.cpu = s.ucpu"
            " AND l.first_ts <= s.ts + s.dur AND l.ts >= s.ts"
            " WHERE s.complete AND s.kind = 'running'"
        ).rows()
        assert spans == (0,)
        takers = answer(session, "interference")[0]
        assert all(row["incomplete"] for row in takers)


# ---- Switched off, or not to be had


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
