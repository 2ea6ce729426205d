"""What is recorded of the scheduler is what the kernel itself says of it."""

# ruff: noqa: S608  SQL is put together here, from words of this file
from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from profinfer.records.capture import FrameKind, read_capture
from profinfer.records.dtypes import RECORD, SchedulerKind, join
from profinfer.trace_processor import Session, open_trace
from tests.recording.scheduling import (
    MEANS,
    SPINNER,
    SYSTEM,
    cpus_fixture,
    pinned,
    spinner_fixture,
    spinning,
    stop,
)
from tests.recording.tracefs import Counts, Switch, Tracefs, counts, stolen_ns
from tests.support import (
    PLACED,
    Engine,
    as_int,
    attached,
    boottime,
    double_fixture,
    finish,
)

__all__ = ["cpus_fixture", "double_fixture", "spinner_fixture"]

# A thread that has ended is X or Z: whoever reaps it may come between two looks at it.
STATES = {0: "R", 1: "S", 2: "D", 4: "T", 8: "t", 16: "X", 32: "X", 64: "P", 128: "I", 256: "R+"}
STEAL_STEP_NS = 14_000_000
"""Stolen time is counted at ticks, and told in hundredths of a second."""


@dataclass
class Compared:
    """A recording, and what the kernel says of the same time."""

    session: Session
    raw: Path
    books: Tracefs
    intruder: int
    begin: int
    end: int
    counted: dict[int, Counts]
    """Between these times, by thread of the target."""
    stolen_ns: dict[int, int]
    """What the host took from the CPU of each of these threads."""


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
               transport, "--ring-size", "8M", "--raw", raw, "--force")  # fmt: skip
    with (
        Tracefs() as books,
        pinned(double, folder / "go", cpus) as (engine, tids),
        spinning(double, spinner, cpus[1]) as intruder,
        attached(double, engine.pid, trace, *options, probes=PLACED - 1) as recorder,
    ):
        stop(engine.pid)
        before, begin = {tid: counts(engine.pid, tid) for tid in tids}, boottime()
        stolen = [stolen_ns(cpu) for cpu in cpus]
        books.start()
        os.kill(engine.pid, signal.SIGCONT)
        time.sleep(0.4)
        stop(engine.pid)
        after, end = {tid: counts(engine.pid, tid) for tid in tids}, boottime()
        steal = [stolen_ns(cpu) - old for cpu, old in zip(cpus, stolen, strict=True)]
        books.stop()
        code, said = finish(recorder, signal.SIGINT)
        assert code == 0, said
        assert ", 0 lost (" in said
        with open_trace(trace) as session:
            counted = {tid: after[tid] - before[tid] for tid in tids}
            yield Compared(
                session, raw, books, intruder, begin, end, counted,
                dict(zip(tids, steal, strict=True)),
            )  # fmt: skip


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


def test_a_threads_time_on_and_for_a_cpu_is_in_the_kernels_sums(compared: Compared) -> None:
    """And what the sums have besides is in states that are not said to be certain.

    Running and waiting together: the kernel sums up by a clock of each CPU that it sets when it
    wakes and when it switches threads, but not when the switch follows from the wake-up. Then who
    comes is said to run since the wake-up, and who goes to wait: some 20 us are moved each time,
    of the sum nothing but what passes between clock and tracepoint. Time that the host takes is in
    its waiting only, but is in our running: nobody else ran. We count waiting from the decision
    to wake a thread, as Perfetto does, and the kernel from when it stands in line on its CPU: the
    way there is long where that CPU was idle, and ftrace tells how long.
    """
    for tid, counted in compared.counted.items():
        certain, uncertain = times(compared, tid)
        mine, both = certain["running"] + certain["waiting"], counted.ran_ns + counted.waited_ns
        slack = 10_000 * counted.switches
        stolen = compared.stolen_ns[tid] + STEAL_STEP_NS
        way = 1000 * compared.books.travelled_us(tid)
        said = f"{certain}, {uncertain} uncertain, {stolen} stolen, {way} on the way, {counted}"
        assert mine - stolen - way - slack <= both <= mine + uncertain + slack, said


def test_turns_last_as_long_as_between_the_switches_that_ftrace_shows(compared: Compared) -> None:
    for tid in compared.counted:
        rows = compared.session.query(
            f"SELECT s.ts, s.dur FROM sched AS s JOIN thread USING (utid) WHERE tid = {tid}"
        ).rows()
        mine = np.array([(as_int(ts), as_int(dur)) for ts, dur in rows], np.int64)
        turns = shown_turns(compared.books.switches(), tid)
        late = []
        for begin, dur in turns:
            ts, own = mine[np.argmin(np.abs(mine[:, 0] - begin))].tolist()
            if abs(ts - begin) < 1_000_000:
                late.append(abs(own - dur))
        # The rest, if any, is where a switch was not reported to one of the two.
        assert len(late) > 10
        assert np.median(late) < 10_000
        assert np.mean(np.array(late) < 100_000) > 0.9


def shown_turns(switches: list[Switch], tid: int) -> list[tuple[int, int]]:
    """When a thread got a CPU and for how long, where two switches in a row tell; ns."""
    last: dict[int, Switch] = {}
    found = []
    for switch in switches:
        before = last.get(switch.cpu)
        if before and before.following == switch.prev == tid:
            found.append((1000 * before.us, 1000 * (switch.us - before.us)))
        last[switch.cpu] = switch
    return found


def times(compared: Compared, tid: int) -> tuple[dict[str, int], int]:
    """Certain time by kind between the two looks, and the uncertain time; ns."""
    inside = f"min(s.ts + s.dur, {compared.end}) - max(s.ts, {compared.begin})"
    rows = compared.session.query(
        "INCLUDE PERFETTO MODULE profinfer.scheduling.operators;"
        " SELECT CASE WHEN NOT complete OR kind IS NULL THEN 'uncertain'"
        " WHEN kind IN ('preempted', 'runnable') THEN 'waiting' ELSE kind END,"
        f" sum({inside}) FROM profinfer_thread_state AS s JOIN thread AS t USING (utid)"
        f" WHERE t.tid = {tid} AND {inside} > 0 GROUP BY 1"
    ).rows()
    found = {"running": 0, "waiting": 0} | {str(kind): as_int(dur) for kind, dur in rows}
    uncertain = found.pop("uncertain", 0)
    return found, uncertain


def test_every_switch_is_the_one_that_ftrace_shows(compared: Compared) -> None:
    assert compared.books.lost() == 0
    records = scheduled(compared.raw)
    mine = records[records["kind"] == SchedulerKind.SWITCH]
    expected = compared.books.switches()
    assert len(expected) > 200
    # Whether the kernel calls a preempted thread R or R+ depends on where it was; T is the target's
    # end.
    assert {"R", "S", "T"} <= {switch.state[0] for switch in expected}
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
            [(s.us, (s.prev, s.state.replace("Z", "X"), s.following, s.prio)) for s in wanted],
        )


def test_every_wake_up_is_the_one_that_ftrace_shows(compared: Compared) -> None:
    """Except where a switch is found to be missing: there the kernel has run no program at all."""
    records = scheduled(compared.raw)
    switches = records[records["kind"] == SchedulerKind.SWITCH]
    gaps = {cpu: missing(switches[switches["cpu"] == cpu]) for cpu in np.unique(switches["cpu"])}
    mine = records[records["kind"] == SchedulerKind.WAKING]
    woken = mine["a"] & np.uint64(0xFFFFFFFF)
    expected = compared.books.wakings()
    assert {tid for _, _, tid in expected} >= set(compared.counted)
    assert len(expected) > 100
    for cpu, tid in sorted({(cpu, tid) for _, cpu, tid in expected}):
        found = mine["ts"][(woken == tid) & (mine["cpu"] == cpu)] // np.uint64(1000)
        wanted = [
            (us, 0)
            for us, c, t in expected
            if (c, t) == (cpu, tid) and not any(a - 50 < us < b + 50 for a, b in gaps[cpu])
        ]
        check_order([(us, 0) for us in found.tolist()], wanted)


def missing(switches: Any) -> list[tuple[int, int]]:
    """Where a switch is missing between those of a CPU: from and to, in us."""
    times = (switches["ts"] // np.uint64(1000)).tolist()
    following = (switches["a"] & np.uint64(0xFFFFFFFF)).tolist()
    broken = np.flatnonzero(switches["tid"][1:] != np.array(following[:-1], np.uint32))
    return [(times[i], times[i + 1]) for i in broken.tolist()]


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


@pytest.mark.parametrize(
    ("module", "table"),
    [
        ("runnable", "sched_previous_runnable_on_thread"),
        ("latency", "sched_latency_for_running_interval"),
        ("time_in_state", "sched_time_in_state_for_thread"),
        ("thread_level_parallelism", "sched_active_cpu_count"),
        ("with_context", "sched_with_thread_process"),
    ],
)
def test_perfettos_modules_have_rows(compared: Compared, module: str, table: str) -> None:
    rows = compared.session.query(
        f"INCLUDE PERFETTO MODULE sched.{module}; SELECT count() FROM {table}"
    ).rows()
    assert as_int(rows[0][0]) > 100 or module == "time_in_state"
    assert as_int(rows[0][0]) > 0


def test_states_are_told_in_words(compared: Compared) -> None:
    rows = compared.session.query(
        "INCLUDE PERFETTO MODULE sched.states;"
        "SELECT DISTINCT sched_state_to_human_readable_string(s.state) FROM thread_state AS s"
        f" JOIN thread USING (utid) WHERE tid = {max(compared.counted)}"
    ).rows()
    assert {"Running", "Runnable", "Stopped"} <= {row[0] for row in rows}


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
        f" LEFT JOIN process AS p USING (upid) WHERE t.tid = {compared.intruder}"
    ).rows()
    assert [name for name, _ in names] == [SPINNER]
    assert str(names[0][1]).endswith("/spinner")
