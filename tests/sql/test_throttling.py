"""Threads that could run on while their CPU idles: the quota of their cgroup is used up.

One graph on two threads (units of 10 us; the barrier's entry is in brackets):

    op        main            worker
    a ADD     100 (200)       100 (400): throttled from 150 to 350
    b MUL     410 (500)       410 (450): throttled from 460, when it waits, to 560
    c ADD     502 (560)       562 (600)
    d ADD     602             602
    graph     50 .. 700
"""

# ruff: noqa: S608  SQL is put together here, from words of this file
from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.captures import MAIN, WORKER, Capture, T
from tests.sql.harness import ask, opened, ready, rows

UNIT = 10_000
SPINNER = 500
FUTEX, FAULT = 202, -1
RUNS, SLEEPS, PREEMPTED = 0, 1, 0x100
CPU0, CPU1 = MAIN % 4, WORKER % 4
MODES = pytest.mark.parametrize("mode", ["system", "target"])
TENSORS = (T("x"), T("a", "ADD", ("x", "x")), T("b", "MUL", ("a", "x")), T("c", "ADD", ("b", "x")),
           T("d", "ADD", ("c", "x")))  # fmt: skip

Switch = tuple[int, int, int, int, int]
"""When, on which CPU, who leaves, who comes, and the state of who leaves."""
QUIET = ((150, CPU1, WORKER, 0, PREEMPTED), (350, CPU1, 0, WORKER, RUNS))
AGAIN = ((460, CPU1, WORKER, 0, RUNS), (560, CPU1, 0, WORKER, RUNS))


def schedule(
    mode: str, switches: Sequence[Switch] = (*QUIET, *AGAIN), throttling: str = "none"
) -> Capture:
    capture = Capture(scheduler=mode, throttling=throttling, strangers={SPINNER: "spinner"})
    shape = capture.structure(10 * UNIT, TENSORS)
    capture.ubatch(20 * UNIT, 30 * UNIT, [(0, 0, 3, 1, 1)])
    capture.ubatch(40 * UNIT, 710 * UNIT, [(0, 3, 1, 1, 1)])
    capture.ubatch(720 * UNIT, 730 * UNIT, [(0, 4, 1, 1, 1)])
    threads = {
        MAIN: [("a", 100, 200), ("b", 410, 500), ("c", 502, 560), ("d", 602)],
        WORKER: [("a", 100, 400), ("b", 410, 450), ("c", 562, 600), ("d", 602)],
    }
    capture.graph(
        shape, 50 * UNIT, 700 * UNIT,
        {tid: [(name, *(UNIT * t for t in times)) for name, *times in operators]
         for tid, operators in threads.items()},
    )  # fmt: skip
    capture.switch(5 * UNIT, CPU0, 0, MAIN, RUNS)
    capture.switch(6 * UNIT, CPU1, 0, WORKER, RUNS)
    for at, cpu, leaves, comes, state in switches:
        capture.switch(at * UNIT, cpu, leaves, comes, state, FAULT if state == RUNS else None)
    capture.switch(750 * UNIT, CPU0, MAIN, 0, SLEEPS, FUTEX)
    return capture


GAPS = "What cannot be told, and why"
STATES = (
    f"SELECT (ts + 1 - BASE) / {UNIT}, kind FROM profinfer_thread_state JOIN thread USING (utid)"
    f" WHERE tid = {{}} AND ts > BASE + 100 * {UNIT} ORDER BY ts"
)


@MODES
def test_the_wait_is_of_a_kind_of_its_own_and_nobodys_fault(mode: str) -> None:
    with opened(schedule(mode)) as session:
        assert ask(session, STATES.format(WORKER)) == [
            (150, "throttled"), (350, "running"), (460, "throttled"), (560, "running"),
        ]  # fmt: skip
        assert ask(session, "SELECT count() FROM profinfer_preemption") == [(0,)]
        total = " + ".join(
            f"p.{kind}_dur"
            for kind in ("running", "preempted", "throttled", "runnable", "futex", "io", "fault",
                         "sleep")
        )  # fmt: skip
        assert ask(
            session,
            f"SELECT o.name, p.throttled_dur / {UNIT}, {total} = o.dur, o.busy_dur / {UNIT},"
            f" o.throttled_dur / {UNIT}, p.complete FROM profinfer_operator_scheduling AS p"
            " JOIN profinfer_operator_slice AS o USING (id) JOIN thread AS t USING (utid)"
            f" WHERE t.tid = {WORKER} ORDER BY o.ts",
        ) == [("a", 200, 1, 100, 200, 1), ("b", 100, 1, 40, 0, 1), ("c", 0, 1, 38, 0, 1),
             ("d", 0, 1, 98, 0, 1)]  # fmt: skip
        said, takers, operators, tokens, threads, _ = ready(session, "interference").values()
        assert [str(row["what"]) for row in said] == [
            "its threads were throttled 2 times, 3 ms in all: their cgroup had used up its quota"
        ]
        assert takers == []
        columns = ("name", "runs", "delay_ms", "throttled_ms", "mostly_by", "incomplete")
        # b was done when main was, at 500. That the worker was throttled by then delays c: it would
        # have been done at 540, main was at 560.
        assert rows(operators, *columns) == [
            ("a", 0, 0.0, 2.0, None, 0), ("c", 0, 0.0, 0.4, None, 0),
        ]  # fmt: skip
        assert rows(tokens, "step", "delay_ms", "throttled_ms", "mostly_by") == [
            (1, 0.0, 2.4, None)
        ]
        throttled = {row["tid"]: row["throttled_ms"] for row in threads}
        assert throttled == {MAIN: 0, WORKER: 3.0}


@MODES
def test_it_is_neither_work_nor_imbalance(mode: str) -> None:
    with opened(schedule(mode)) as session:
        by_op, *_ = ready(session, "stalls").values()
        operators, threads = ready(session, "imbalance").values()
        ops = {
            row["op"]: row
            for row in ready(session, "summary")[
                "Time by op (work summed over threads; incomplete operators are not in it)"
            ]
        }
    # Waits: of a 210 and 10, of b 2 and 112, of c 42 and 2. Without it the worker would have been
    # at a's barrier at 200, as main; at b's it was before main.
    columns = ("op", "work_ms", "wait_ms", "imbalance_ms", "interference_ms", "throttled_ms",
               "release_ms", "incomplete")  # fmt: skip
    assert sorted(rows(by_op, *columns), key=str) == [
        ("ADD", 4.92, 2.64, 0.0, 0.0, 2.4, 0.24, 0),
        ("MUL", 1.3, 1.14, 0.5, 0.0, 0.6, 0.04, 0),
    ]
    assert sorted(rows(operators, "name", "slowest_mean_us", "fastest_mean_us", "idle_ms")) == [
        ("a", 1000.0, 1000.0, 0.0), ("b", 900.0, 400.0, 0.5), ("c", 580.0, 380.0, 0.0),
        ("d", 980.0, 980.0, 0.0),
    ]  # fmt: skip
    assert {row["tid"]: row["work_ms"] for row in threads} == {MAIN: 3.46, WORKER: 2.76}
    assert {op: (row["work_ms"], row["throttled_ms"]) for op, row in ops.items()} == {
        "ADD": (4.92, 2.0), "MUL": (1.3, 0.0),
    }  # fmt: skip


def test_who_else_runs_meanwhile_takes_nothing() -> None:
    """Of the system's switches: up to the last time that the CPU idles. Then somebody may be in its
    place."""
    switches = (
        (150, CPU1, WORKER, SPINNER, PREEMPTED), (160, CPU1, SPINNER, 0, SLEEPS),
        (200, CPU1, 0, SPINNER, RUNS), (210, CPU1, SPINNER, 0, SLEEPS),
        (340, CPU1, 0, SPINNER, RUNS), (350, CPU1, SPINNER, WORKER, SLEEPS),
    )  # fmt: skip
    with opened(schedule("system", (*switches, *AGAIN))) as session:
        assert ask(session, STATES.format(WORKER))[:3] == [
            (150, "throttled"), (340, "preempted"), (350, "running"),
        ]  # fmt: skip
        (taker,) = ready(session, "interference")["Who took the CPU (the first 20)"]
        assert (taker["tid"], taker["taken_ms"], taker["delay_ms"]) == (SPINNER, 0.1, 0.1)


def test_nobody_is_throttled_whose_process_leaves_no_cpu_to_idle() -> None:
    """A thread that waits may be moved to another CPU, and back: meanwhile the one that it left may
    idle."""
    switches = (
        (150, CPU1, WORKER, SPINNER, PREEMPTED), (200, CPU1, SPINNER, 0, SLEEPS),
        (350, CPU1, 0, WORKER, RUNS),
    )  # fmt: skip
    with opened(schedule("system", switches)) as session:
        assert ask(session, STATES.format(WORKER)) == [(150, "preempted"), (350, "running")]


def test_of_the_targets_switches_alone_it_lasts_until_the_thread_runs_again() -> None:
    """Whoever came after idle gave the CPU away unseen. The trace says so."""
    switches = (
        (150, CPU1, WORKER, 0, PREEMPTED), (200, CPU1, 0, SPINNER, RUNS),
        (350, CPU1, SPINNER, WORKER, SLEEPS),
    )  # fmt: skip
    with opened(schedule("target", switches)) as session:
        assert ask(session, STATES.format(WORKER)) == [(150, "throttled"), (350, "running")]
        idle = f"(ts - BASE) / {UNIT} = 150 AND dur = 50 * {UNIT}"
        assert ask(
            session,
            "SELECT count() FROM sched JOIN thread USING (utid)"
            f" WHERE ucpu = {CPU1} AND tid = 0 AND {idle}",
        ) == [(1,)]
        gaps = [str(gap["reason"]) for gap in ready(session, "interference")[GAPS]]
    assert [gap.partition(":")[0] for gap in gaps] == [
        "only the target's switches were recorded (--scheduler target)",
        "the kernel was not asked whom a quota keeps from CPUs",
    ]
    assert "throttled counts until the thread ran again" in gaps[0]


@MODES
def test_threads_that_share_a_cpu_are_throttled_once_the_last_of_them_has_left(mode: str) -> None:
    switches = (
        (120, CPU0, MAIN, WORKER, RUNS), (150, CPU0, WORKER, MAIN, RUNS),
        (180, CPU0, MAIN, 0, PREEMPTED), (350, CPU0, 0, WORKER, RUNS),
        (380, CPU0, WORKER, MAIN, RUNS),
    )  # fmt: skip
    capture = schedule(mode, switches)
    capture.scheduled = [row for row in capture.scheduled if row.cpu == CPU0]
    capture.records = [row._replace(cpu=CPU0) for row in capture.records]
    with opened(capture) as session:
        assert ask(session, STATES.format(MAIN))[:4] == [
            (120, "preempted"), (150, "running"), (180, "throttled"), (350, "preempted"),
        ]  # fmt: skip
        assert ask(session, STATES.format(WORKER))[:4] == [
            (120, "running"), (150, "preempted"), (180, "throttled"), (350, "running"),
        ]  # fmt: skip
        said = [str(row["what"]) for row in ready(session, "interference")["In short"]]
    # The worker waits once more, from 380 to the end at 750.
    assert said[0] == (
        "2 compute threads on 1 CPU: 5 ms of 5 ms of waiting were CPU taken by the engine's own"
        " threads"
    )


@MODES
def test_a_thread_that_goes_on_elsewhere_may_have_waited_there(mode: str) -> None:
    switches = ((150, CPU1, WORKER, 0, PREEMPTED), (350, 3 - CPU1, 0, WORKER, RUNS))
    with opened(schedule(mode, switches)) as session:
        assert ask(session, STATES.format(WORKER)) == [(150, "preempted"), (350, "running")]


KEPT = ((150, CPU0, MAIN, 0, PREEMPTED), (350, CPU0, 0, MAIN, RUNS))
"""Main is throttled, as the group's other threads may be."""
WOKEN: dict[str, tuple[int, tuple[Switch, ...], list[tuple[int, str]]]] = {
    # When the worker is woken, what happens on CPUs, and its states from there on.
    "before main, and goes on with it": (
        140, ((120, CPU1, WORKER, 0, SLEEPS), (352, CPU1, 0, WORKER, RUNS), *KEPT),
        [(140, "throttled"), (352, "running")],
    ),
    "after main, and goes on a little earlier": (
        200, ((120, CPU1, WORKER, 0, SLEEPS), (340, CPU1, 0, WORKER, RUNS), *KEPT),
        [(200, "throttled"), (340, "running")],
    ),
    "while somebody has its CPU for a while": (
        140, ((120, CPU1, WORKER, SPINNER, SLEEPS), (200, CPU1, SPINNER, 0, SLEEPS),
              (350, CPU1, 0, WORKER, RUNS), *KEPT),
        [(140, "throttled"), (350, "running")],
    ),
    "on main's CPU, on which it comes second": (
        200, ((120, CPU1, WORKER, 0, SLEEPS), *KEPT, (360, CPU0, MAIN, WORKER, RUNS)),
        [(200, "throttled"), (350, "runnable"), (360, "running")],
    ),
    "and goes on while main may not": (
        200, ((120, CPU1, WORKER, 0, SLEEPS), (210, CPU1, 0, WORKER, RUNS), *KEPT),
        [(200, "runnable"), (210, "running")],
    ),
    "just before main goes on, as it does": (
        348, ((120, CPU1, WORKER, 0, SLEEPS), (351, CPU1, 0, WORKER, RUNS), *KEPT),
        [(348, "runnable"), (351, "running")],
    ),
    "while somebody has its CPU": (
        140, ((120, CPU1, WORKER, SPINNER, SLEEPS), (350, CPU1, SPINNER, WORKER, SLEEPS), *KEPT),
        [(140, "runnable"), (350, "running")],
    ),
    "and nobody of its group is throttled": (
        140, ((120, CPU1, WORKER, 0, SLEEPS), (350, CPU1, 0, WORKER, RUNS)),
        [(140, "runnable"), (350, "running")],
    ),
}  # fmt: skip


@MODES
@pytest.mark.parametrize("case", WOKEN)
def test_a_thread_that_is_woken_to_an_idle_cpu_is_throttled_if_its_group_goes_on_with_it(
    mode: str, case: str
) -> None:
    woken, switches, expected = WOKEN[case]
    capture = schedule(mode, sorted(switches))
    capture.waking(woken * UNIT, CPU0, MAIN, WORKER, CPU1)
    if mode == "target" and (120, CPU1, WORKER, SPINNER, SLEEPS) in switches:
        # Who came after the spinner is not known then.
        expected = [(woken, "runnable"), *expected[1:]]
    with opened(capture) as session:
        found = ask(session, STATES.format(WORKER))
        assert found[: 1 + len(expected)] == [(120, "sleep"), *expected]
        throttled = "SELECT count() FROM profinfer_thread_state JOIN thread USING (utid)"
        assert ask(session, f"{throttled} WHERE kind = 'throttled' AND tid = {MAIN}") == [
            (int(len(switches) > 2),)
        ]


@MODES
def test_an_idle_cpu_of_a_thread_that_sleeps_is_no_throttling(mode: str) -> None:
    switches = ((150, CPU1, WORKER, 0, SLEEPS), (350, CPU1, 0, WORKER, RUNS))
    capture = schedule(mode, switches)
    capture.waking(345 * UNIT, CPU0, MAIN, WORKER, CPU1)
    with opened(capture) as session:
        assert ask(session, STATES.format(WORKER)) == [
            (150, "sleep"), (345, "runnable"), (350, "running"),
        ]  # fmt: skip
        assert ready(session, "interference")["In short"] == []


COUNTED = 1750 << 10
"""For how long the kernel says that the quota kept a queue from its CPU: 179 units, and some."""


@MODES
def test_the_kernel_says_who_is_throttled_and_for_how_long_on_a_busy_cpu(mode: str) -> None:
    capture = schedule(mode, (), "task")
    capture.switch(150 * UNIT, CPU1, WORKER, SPINNER, PREEMPTED, throttled=True, count=7 << 10)
    capture.switch(
        350 * UNIT, CPU1, SPINNER, WORKER, PREEMPTED, count=COUNTED + (7 << 10) + (1 << 60)
    )
    with opened(capture) as session:
        assert ask(session, STATES.format(WORKER)) == [
            (150, "throttled"), (329, "preempted"), (350, "running"),
        ]  # fmt: skip
        (taken,) = ask(session, "SELECT sum(dur) FROM profinfer_preemption")
        assert taken == (200 * UNIT - COUNTED,)
        gaps = [str(row["reason"]) for row in ready(session, "interference")[GAPS]]
    assert not any("throttled" in gap for gap in gaps)


@MODES
def test_an_idle_cpu_says_nothing_where_the_kernel_tells_of_each_task(mode: str) -> None:
    with opened(schedule(mode, QUIET, "task")) as session:
        assert ask(session, STATES.format(WORKER)) == [(150, "preempted"), (350, "running")]


@MODES
def test_who_waits_in_a_throttled_queue_is_throttled_until_one_of_it_runs_again(mode: str) -> None:
    """The kernel does not count for how long (before Linux 6.6). The trace says so."""
    capture = schedule(mode, (), "queue")
    capture.records = [row._replace(cpu=CPU0) for row in capture.records]
    capture.scheduled = [row for row in capture.scheduled if row.cpu == CPU0]
    capture.switch(120 * UNIT, CPU0, MAIN, WORKER)
    capture.switch(150 * UNIT, CPU0, WORKER, SPINNER, PREEMPTED, throttled=True)
    capture.switch(350 * UNIT, CPU0, SPINNER, MAIN, PREEMPTED)
    capture.switch(380 * UNIT, CPU0, MAIN, WORKER)
    with opened(capture) as session:
        assert ask(session, STATES.format(MAIN))[:3] == [
            (120, "preempted"), (150, "throttled"), (350, "running"),
        ]  # fmt: skip
        assert ask(session, STATES.format(WORKER))[1:4] == [
            (150, "throttled"), (350, "preempted"), (380, "running"),
        ]  # fmt: skip
        gaps = [str(row["reason"]) for row in ready(session, "interference")[GAPS]]
    assert any("throttled counts until the thread ran again" in gap for gap in gaps)


@MODES
@pytest.mark.parametrize(("cpu", "kind"), [(CPU1, "throttled"), (3 - CPU1, "runnable")])
def test_who_is_woken_into_a_throttled_queue_is_throttled_unless_it_is_put_elsewhere(
    mode: str, cpu: int, kind: str
) -> None:
    capture = schedule(mode, (), "queue")
    capture.switch(120 * UNIT, CPU1, WORKER, SPINNER, SLEEPS)
    capture.waking(200 * UNIT, CPU0, MAIN, WORKER, CPU1, throttled=True)
    capture.switch(350 * UNIT, cpu, SPINNER, WORKER, PREEMPTED)
    with opened(capture) as session:
        assert ask(session, STATES.format(WORKER)) == [
            (120, "sleep"), (200, kind), (350, "running"),
        ]  # fmt: skip
