"""Where operators' time went when their threads did not run, against numbers worked out by hand.

One graph on two threads (units of 10 us; the barrier's entry is in brackets):

    op        main                      worker
    a ADD     100 (200)                 100 (400): spinner has its CPU from 150 to 350
    b MUL     410 (500)                 412 (700): a page fault puts it to sleep from 500 to 600
    c MUL_MAT 705 (800): in a futex     707 (860)
              from 820, woken at 868,
              runs at 870
    d ADD     872                       862
    graph     50 .. 1000
"""

# ruff: noqa: S608  SQL is put together here, from words of this file
from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from profinfer.records.dtypes import Kind
from profinfer.trace_processor import Session
from tests.captures import BASE, MAIN, PID, WORKER, Capture, T
from tests.sql.harness import ask, opened, ready, rows

UNIT = 10_000
SPINNER = 500
FUTEX, YIELD, FAULT = 202, 24, -1
RUNS, SLEEPS, WAITS, STOPPED, PREEMPTED = 0, 1, 2, 4, 0x100
CPU0, CPU1 = MAIN % 4, WORKER % 4
TENSORS = (
    T("x"),
    T("a", "ADD", ("x", "x")),
    T("b", "MUL", ("a", "x")),
    T("c", "MUL_MAT", ("x", "b")),
    T("d", "ADD", ("c", "x")),
)


def schedule(mode: str = "system", *, calls: bool = True, later: int = 0) -> Capture:
    """The recording; `mode` "" for one without the scheduler. All of it so many units `later`."""

    def at(units: int) -> int:
        return (units + later) * UNIT

    capture = Capture(scheduler=mode, calls=calls, strangers={SPINNER: "spinner"})
    shape = capture.structure(at(10), TENSORS)
    capture.ubatch(at(20), at(30), [(0, 0, 3, 1, 1)])
    capture.ubatch(at(40), at(1010), [(0, 3, 1, 1, 1)])
    capture.ubatch(at(1020), at(1030), [(0, 4, 1, 1, 1)])
    threads = {
        MAIN: [("a", 100, 200), ("b", 410, 500), ("c", 705, 800), ("d", 872)],
        WORKER: [("a", 100, 400), ("b", 412, 700), ("c", 707, 860), ("d", 862)],
    }
    capture.graph(
        shape, at(50), at(1000),
        {tid: [(str(name), *(at(int(t)) for t in times)) for name, *times in operators]
         for tid, operators in threads.items()},
    )  # fmt: skip
    if not mode:
        return capture

    def switch(
        when: int, cpu: int, prev: int, following: int, state: int, call: int | None = None
    ) -> None:
        capture.switch(at(when), cpu, prev, following, state, call if calls else None)

    switch(5, CPU0, 0, MAIN, RUNS)
    switch(6, CPU1, 0, WORKER, RUNS)
    switch(150, CPU1, WORKER, SPINNER, PREEMPTED)
    if mode == "system":
        switch(160, 2, 0, SPINNER + 1, RUNS)  # what has nothing to do with it
        switch(170, 2, SPINNER + 1, 0, SLEEPS)
    switch(350, CPU1, SPINNER, WORKER, PREEMPTED)
    switch(500, CPU1, WORKER, 0, WAITS, FAULT)
    # A nanosecond before, since no switch comes at the very time of its wake-up.
    capture.waking(at(600) - 1, CPU0, MAIN, WORKER, CPU1)
    switch(600, CPU1, 0, WORKER, RUNS)
    switch(820, CPU0, MAIN, 0, SLEEPS, FUTEX)
    capture.waking(at(868), CPU1, WORKER, MAIN, CPU0)
    switch(870, CPU0, 0, MAIN, RUNS)
    switch(1050, CPU0, MAIN, 0, SLEEPS, FUTEX)
    return capture


@pytest.fixture(scope="module")
def system() -> Iterator[Session]:
    with opened(schedule()) as session:
        yield session


@pytest.fixture(scope="module", params=["system", "target"])
def either(request: pytest.FixtureRequest) -> Iterator[Session]:
    with opened(schedule(request.param)) as session:
        yield session


@pytest.fixture(scope="module")
def without() -> Iterator[Session]:
    with opened(schedule("")) as session:
        yield session


SPLIT = (
    "running_dur", "preempted_dur", "runnable_dur", "futex_dur", "io_dur", "fault_dur", "sleep_dur",
)  # fmt: skip


def split(session: Session) -> dict[tuple[object, object], tuple[object, ...]]:
    """By operator and thread: the split of its slice in units, and whether that is certain."""
    columns = ", ".join(f"(p.{name} + {UNIT // 2}) / {UNIT}" for name in SPLIT)
    found = ask(
        session,
        f"SELECT s.name, t.tid, {columns}, p.complete FROM profinfer_operator_scheduling AS p"
        " JOIN slice AS s USING (id) JOIN profinfer_operator_slice AS o USING (id)"
        " JOIN thread AS t ON t.utid = o.utid",
    )
    return {(name, tid): tuple(row) for name, tid, *row in found}


def test_each_operators_time_is_split_into_running_and_the_ways_of_not_running(
    either: Session,
) -> None:
    assert split(either) == {
        ("a", MAIN): (310, 0, 0, 0, 0, 0, 0, 1),
        ("a", WORKER): (112, 200, 0, 0, 0, 0, 0, 1),
        ("b", MAIN): (295, 0, 0, 0, 0, 0, 0, 1),
        ("b", WORKER): (195, 0, 0, 0, 0, 100, 0, 1),
        ("c", MAIN): (117, 0, 2, 48, 0, 0, 0, 1),
        ("c", WORKER): (155, 0, 0, 0, 0, 0, 0, 1),
        ("d", MAIN): (128, 0, 0, 0, 0, 0, 0, 1),
        ("d", WORKER): (138, 0, 0, 0, 0, 0, 0, 1),
    }


def test_the_parts_add_up_to_the_slice(either: Session) -> None:
    total = " + ".join(f"p.{name}" for name in SPLIT)
    assert ask(
        either,
        f"SELECT count(), sum({total} = o.dur) FROM profinfer_operator_scheduling AS p"
        " JOIN profinfer_operator_slice AS o USING (id)",
    ) == [(8, 8)]


def test_a_threads_states_follow_each_other_without_a_gap(either: Session) -> None:
    found = ask(
        either,
        f"SELECT (ts + 1 - BASE) / {UNIT}, kind, blocked_in FROM profinfer_thread_state"
        f" JOIN thread USING (utid) WHERE tid = {WORKER} AND ts >= BASE + 6 * {UNIT} ORDER BY ts",
    )
    assert found == [
        (6, "running", None),
        (150, "preempted", None),
        (350, "running", None),
        (500, "fault", "page fault"),
        (600, "runnable", None),
        (600, "running", None),
    ]
    assert ask(
        either,
        "SELECT count() FROM (SELECT ts + dur AS till, lead(ts) OVER (PARTITION BY utid"
        " ORDER BY ts) AS following FROM profinfer_thread_state) WHERE following != till",
    ) == [(0,)]


LEAVES = {
    # In the kernel, where it can be preempted; in its own code, which a signal or tick ends.
    (PREEMPTED, None): ("preempted", None),
    (RUNS, FAULT): ("preempted", None),
    (RUNS, FUTEX): ("preempted", None),
    (RUNS, YIELD): ("runnable", "sched_yield"),
    (SLEEPS, YIELD + 1): ("sleep", "mremap"),
    # No page fault, though it is in no system call.
    (STOPPED, FAULT): ("sleep", None),
    (SLEEPS, FAULT): ("fault", "page fault"),
}


@pytest.mark.parametrize("mode", ["system", "target"])
@pytest.mark.parametrize("leaves", LEAVES, ids=str)
def test_how_a_thread_leaves_its_cpu_tells_what_it_waits_for(
    leaves: tuple[int, int | None], mode: str
) -> None:
    capture = schedule(mode)
    state, call = leaves
    scheduled, capture.scheduled = capture.scheduled, []
    for row in scheduled:
        if row.ts == BASE + 150 * UNIT:
            capture.switch(150 * UNIT, CPU1, WORKER, SPINNER, state, call)
        else:
            capture.scheduled.append(row)
    if state in (SLEEPS, STOPPED):
        capture.waking(350 * UNIT - 1, CPU0, MAIN, WORKER, CPU1)
    with opened(capture) as session:
        found = ask(
            session,
            "SELECT kind, blocked_in FROM profinfer_thread_state JOIN thread USING (utid)"
            f" WHERE tid = {WORKER} AND ts = BASE + 150 * {UNIT}",
        )
        assert found == [LEAVES[leaves]]
        by_kind = dict(zip(SPLIT, split(session)["a", WORKER], strict=False))
        assert by_kind == dict.fromkeys(SPLIT, 0) | {
            "running_dur": 112, f"{LEAVES[leaves][0]}_dur": 200
        }  # fmt: skip


@pytest.mark.parametrize("mode", ["system", "target"])
def test_another_thread_of_the_target_is_named_as_its_own(mode: str) -> None:
    """More threads than CPUs: they take turns."""
    capture = Capture(scheduler=mode, strangers={SPINNER: "spinner"})
    shape = capture.structure(10 * UNIT, TENSORS)
    capture.graph(shape, 50 * UNIT, 500 * UNIT,
                  {tid: [("a", 60 * UNIT, 400 * UNIT)] for tid in (MAIN, WORKER)})  # fmt: skip
    capture.switch(5 * UNIT, CPU0, 0, MAIN, RUNS)
    for at, leaves, comes in (
        (100, MAIN, WORKER), (150, WORKER, MAIN), (200, MAIN, SPINNER), (210, SPINNER, WORKER),
        (280, WORKER, MAIN),
    ):  # fmt: skip
        capture.switch(at * UNIT, CPU0, leaves, comes, RUNS, FAULT)
    capture.switch(540 * UNIT, CPU0, MAIN, WORKER, SLEEPS, FUTEX)
    with opened(capture) as session:
        takers = ready(session, "interference")["Who took the CPU (the first 20)"]
    # The worker waits from 150 on, and once more from 280 to 540.
    found = {row["tid"]: [row[n] for n in ("own", "times", "taken_ms")] for row in takers}
    # Of the spinner is known in either mode from whom it took the CPU; who else waited then, not:
    # the worker waited for somebody.
    strangers: dict[int | None, list[float]] = {SPINNER: [0, 2, 0.2]}
    if mode == "target":
        strangers = {SPINNER: [0, 1, 0.1], None: [0, 1, 0.1]}
    assert found == {MAIN: [1, 2, 3.1], WORKER: [1, 2, 1.2], **strangers}


@pytest.mark.parametrize("mode", ["system", "target"])
def test_it_is_preempted_for_as_long_as_others_take_turns_in_its_place(mode: str) -> None:
    """Of the target's switches alone it is not seen who came after the first."""
    other = SPINNER + 1
    capture = Capture(scheduler=mode, strangers={SPINNER: "spinner", other: "other"})
    shape = capture.structure(10 * UNIT, TENSORS)
    capture.graph(shape, 50 * UNIT, 500 * UNIT, {MAIN: [("a", 60 * UNIT, 400 * UNIT)]})
    for at, leaves, comes in (
        (5, 0, MAIN), (100, MAIN, SPINNER), (140, SPINNER, other), (200, other, SPINNER),
        (210, SPINNER, MAIN),
    ):  # fmt: skip
        capture.switch(at * UNIT, CPU0, leaves, comes, RUNS, FAULT)
    capture.switch(540 * UNIT, CPU0, MAIN, 0, SLEEPS, FUTEX)
    with opened(capture) as session:
        takers = "SELECT taker_tid, sum(dur) FROM profinfer_preemption GROUP BY 1 ORDER BY 1"
        expected = [(SPINNER, 50), (other, 60)] if mode == "system" else [(None, 70), (SPINNER, 40)]
        assert ask(session, takers) == [(tid, units * UNIT) for tid, units in expected]


def late(mode: str) -> Capture:
    """The worker's CPU is taken while it waits itself; it is late for what follows.

    op        main        worker
    graph     50 .. 500
    a ADD     60 (200)    100 (190): spinner has its CPU from 40 to 98, and from 195 to 350
    b MUL     202 (300)   352 (450)
    d ADD     452         452
    """
    capture = Capture(scheduler=mode, strangers={SPINNER: "spinner"})
    shape = capture.structure(10 * UNIT, TENSORS)
    capture.ubatch(20 * UNIT, 30 * UNIT, [(0, 0, 3, 1, 1)])
    capture.ubatch(45 * UNIT, 510 * UNIT, [(0, 3, 1, 1, 1)])
    capture.ubatch(520 * UNIT, 530 * UNIT, [(0, 4, 1, 1, 1)])
    threads = {
        MAIN: [("a", 60, 200), ("b", 202, 300), ("d", 452)],
        WORKER: [("a", 100, 190), ("b", 352, 450), ("d", 452)],
    }
    capture.graph(
        shape, 50 * UNIT, 500 * UNIT,
        {tid: [(name, *(UNIT * t for t in times)) for name, *times in operators]
         for tid, operators in threads.items()},
    )  # fmt: skip
    capture.switch(5 * UNIT, CPU0, 0, MAIN, RUNS)
    capture.switch(6 * UNIT, CPU1, 0, WORKER, RUNS)
    for begin, end in ((40, 98), (195, 350)):
        capture.switch(begin * UNIT, CPU1, WORKER, SPINNER, RUNS, FAULT)
        capture.switch(end * UNIT, CPU1, SPINNER, WORKER, RUNS)
    capture.switch(540 * UNIT, CPU0, MAIN, 0, SLEEPS, FUTEX)
    capture.switch(541 * UNIT, CPU1, WORKER, 0, SLEEPS, FUTEX)
    return capture


@pytest.mark.parametrize("mode", ["system", "target"])
def test_who_begins_late_since_its_cpu_was_taken_delays_what_it_begins(mode: str) -> None:
    with opened(late(mode)) as session:
        _, takers, operators, tokens, *_ = ready(session, "interference").values()
        by_op, *_ = ready(session, "stalls").values()
    # Of a: it could have begun with the graph, 48 before it had its CPU back, and been done at 142,
    # when main was still at work: nothing was late. Of b: all had met at 200, 150 before it had its
    # CPU back; without that both threads would have been done at 300.
    assert rows(operators, "name", "op", "runs", "delay_ms", "mostly_by", "incomplete") == [
        ("b", "MUL", 1, 1.5, "spinner", 0),
    ]
    (taker,) = takers
    assert (taker["times"], taker["taken_ms"], taker["in_work_ms"]) == (2, 2.13, 1.98)
    assert (taker["delay_ms"], taker["operators"], taker["tokens"]) == (1.5, 1, 1)
    assert rows(tokens, "step", "delay_ms", "outside_ms", "mostly_by", "complete") == [
        (1, 1.5, 0.0, "spinner", 1),
    ]
    columns = ("op", "wait_ms", "imbalance_ms", "interference_ms", "release_ms")
    # Main waits 2 after a and 152 after b, the worker 162 and 2.
    assert sorted(rows(by_op, *columns), key=str) == [
        ("ADD", 1.64, 0.1, 1.5, 0.04),
        ("MUL", 1.54, 0.0, 1.5, 0.04),
    ]


def test_what_follows_an_uncertain_wait_is_not_certain() -> None:
    capture = late("system")
    capture.unschedule(lambda row: (row.ts - BASE) // UNIT == 350)
    drains = [(BASE + t * UNIT, BASE + t * UNIT) for t in (192, 351)]
    with opened(capture, drains=drains) as session:
        operators = ready(session, "interference")["Operators that came later (the first 30)"]
        assert all(row["incomplete"] for row in operators)
        assert ask(session, "SELECT sum(interference_dur) FROM profinfer_operator_stall") == [(0,)]
        late_ones = ask(
            session,
            "SELECT name FROM _late_start AS l JOIN profinfer_operator_slice AS o"
            " ON o.id = l.slice_id WHERE kind = 'unknown'",
        )
        assert ("b",) in late_ones


def test_stalls_tell_imbalance_from_interference_from_faults(either: Session) -> None:
    # Wait: of a 210 + 12 units, of b 205 + 7, of c 72 + 2. Without the spinner the worker would
    # have arrived at a's barrier when main did, without the fault 100 later than it at b's; at c's
    # it was 60 late. Nobody waits after d.
    by_op, by_operator, _ = ready(either, "stalls").values()
    columns = ("op", "wait_ms", "imbalance_ms", "interference_ms", "fault_ms", "blocked_ms",
               "release_ms", "incomplete")  # fmt: skip
    assert sorted(rows(by_op, *columns), key=str) == [
        ("ADD", 2.22, 0.0, 2.0, 0.0, 0.0, 0.22, 0),
        ("MUL", 2.12, 1.0, 0.0, 1.0, 0.0, 0.12, 0),
        ("MUL_MAT", 0.74, 0.6, 0.0, 0.0, 0.0, 0.14, 0),
    ]
    shares = {row["name"]: row["interference_share"] for row in by_operator}
    assert shares["a"] == 0.901
    assert shares["b"] == shares["c"] == 0


def test_interference_names_who_took_the_cpu_and_what_came_later(either: Session) -> None:
    _, takers, operators, tokens, threads, gaps = ready(either, "interference").values()
    columns = ("thread", "tid", "own", "times", "taken_ms", "longest_ms", "in_work_ms", "delay_ms",
               "operators", "tokens", "incomplete")  # fmt: skip
    assert rows(takers, *columns) == [
        ("spinner", SPINNER, 0, 1, 2.0, 2.0, 2.0, 2.0, 1, 1, 0),
    ]
    assert rows(operators, "name", "op", "runs", "delay_ms", "mostly_by", "incomplete") == [
        ("a", "ADD", 1, 2.0, "spinner", 0),
    ]
    assert rows(tokens, "step", "delay_ms", "outside_ms", "mostly_by", "complete") == [
        (1, 2.0, 0.0, "spinner", 1),
    ]
    by_thread = ("tid", "graphs_ms", "running_ms", "preempted_ms", "runnable_ms", "futex_ms",
               "fault_ms", "incomplete")  # fmt: skip
    assert sorted(rows(threads, *by_thread), key=str) == [
        (MAIN, 9.5, 9.0, 0.0, 0.02, 0.48, 0.0, 0),
        (WORKER, 9.0, 6.0, 2.0, 0.0, 0.0, 1.0, 0),
    ]
    assert [str(row["reason"])[:30] for row in gaps] in ([], ["only the target's switches wer"])


def test_the_takers_process_is_named_where_everything_is_recorded(system: Session) -> None:
    (taker,) = ready(system, "interference")["Who took the CPU (the first 20)"]
    assert taker["process"] == "/bin/spinner"


def test_perfettos_own_tables_are_filled(system: Session) -> None:
    found = ask(
        system,
        f"SELECT t.tid, s.cpu, (s.ts - BASE) / {UNIT}, s.end_state, p.pid FROM sched AS s"
        " JOIN thread AS t USING (utid) LEFT JOIN process AS p USING (upid)"
        f" WHERE t.tid IN ({MAIN}, {SPINNER}) AND s.ts >= BASE + 5 * {UNIT} ORDER BY s.ts",
    )
    assert found == [
        (MAIN, CPU0, 5, "S", PID),
        (SPINNER, CPU1, 150, "R+", SPINNER),
        (MAIN, CPU0, 870, "S", PID),
    ]
    assert ask(
        system,
        "INCLUDE PERFETTO MODULE sched.latency;"
        f"SELECT latency_dur / {UNIT} FROM sched_latency_for_running_interval AS l"
        f" JOIN thread AS t USING (utid) WHERE t.tid = {MAIN}",
    ) == [(2,)]


# ---- What is not known is not claimed


def test_without_the_scheduler_everything_is_answered_as_before(without: Session) -> None:
    assert set(split(without).values()) == {(None,) * 8}
    by_op, *_ = ready(without, "stalls").values()
    columns = ("op", "wait_ms", "imbalance_ms", "interference_ms", "fault_ms", "blocked_ms",
               "release_ms", "incomplete")  # fmt: skip
    assert sorted(rows(by_op, *columns), key=str) == [
        ("ADD", 2.22, 2.0, None, None, None, 0.22, 0),
        ("MUL", 2.12, 2.0, None, None, None, 0.12, 0),
        ("MUL_MAT", 0.74, 0.6, None, None, None, 0.14, 0),
    ]
    _, takers, operators, tokens, threads, gaps = ready(without, "interference").values()
    assert takers == operators == tokens == []
    for row in threads:
        assert [row[name] for name in ("running_ms", "preempted_ms", "futex_ms")] == [None] * 3
    said = (
        "the scheduler was not recorded (record --scheduler): when threads ran, and who took their"
    )
    assert [row["reason"] for row in gaps] == [f"{said} CPUs, is not known"]
    assert list(ready(without, "stalls").values())[-1] == gaps


def test_why_the_scheduler_was_not_recorded_is_said() -> None:
    capture = schedule("")
    note = "the scheduler was not recorded: this kernel does not describe its types"
    capture.at_end = {"notes": ["something else", note]}
    with opened(capture) as session:
        (gap,) = ready(session, "interference")["What cannot be told, and why"]
        assert str(gap["reason"]).startswith(note + ": when threads ran")


@pytest.mark.parametrize("mode", ["system", "target"])
def test_without_barriers_no_delay_is_claimed(mode: str) -> None:
    """What the spinner took is known; whether anybody had to wait for it is not."""
    capture = schedule(mode)
    capture.level = "operator"
    capture.records = [row for row in capture.records if row.kind != Kind.BARRIER]
    with opened(capture) as session:
        _, takers, operators, tokens, threads, gaps = ready(session, "interference").values()
        columns = ("thread", "times", "taken_ms", "in_work_ms", "delay_ms", "operators", "tokens")
        assert rows(takers, *columns) == [("spinner", 1, 2.0, None, None, None, None)]
        assert operators == tokens == []
        assert {row["tid"]: row["preempted_ms"] for row in threads} == {MAIN: 0, WORKER: 2}
        assert [row for row in gaps if "barriers were not recorded" in str(row["reason"])]


def test_without_system_calls_sleep_has_no_names() -> None:
    with opened(schedule(calls=False)) as session:
        found = split(session)
        assert found["b", WORKER] == (195, 0, 0, None, 100, None, 0, 1)
        assert found["c", MAIN] == (117, 0, 2, None, 0, None, 48, 1)
        by_op, *_ = ready(session, "stalls").values()
        (mul,) = [row for row in by_op if row["op"] == "MUL"]
        assert (mul["fault_ms"], mul["blocked_ms"], mul["imbalance_ms"]) == (None, 1.0, 1.0)


LOST: dict[str, Callable[[int], bool]] = {
    "the worker's preemption": lambda at: at == 150,
    "its return": lambda at: at == 350,
    "both": lambda at: at in (150, 350),
}


@pytest.mark.parametrize("mode", ["system", "target"])
@pytest.mark.parametrize("what", LOST)
def test_nothing_certain_spans_a_lost_switch(what: str, mode: str) -> None:
    capture = schedule(mode)
    capture.unschedule(lambda row: LOST[what]((row.ts - BASE) // UNIT))
    drains = [(BASE + t * UNIT, BASE + t * UNIT) for t in (90, 405)]
    with opened(capture, drains=drains) as session:
        found = split(session)
        assert found["a", WORKER][-1] == 0
        assert {key for key, row in found.items() if row[-1] == 0} <= {
            ("a", WORKER), ("a", MAIN), ("b", WORKER), ("b", MAIN),
        }  # fmt: skip
        assert found["c", MAIN] == (117, 0, 2, 48, 0, 0, 0, 1)
        by_op, *_ = ready(session, "stalls").values()
        for row in by_op:
            if row["op"] == "ADD":
                assert row["interference_ms"] == 0
                assert int(str(row["incomplete"])) > 0
        for table in list(ready(session, "interference").values())[1:3]:
            assert all(row["incomplete"] for row in table)
        lost = ask(session, "SELECT kind, sum(lost) FROM profinfer_loss GROUP BY 1")
        assert lost == [("switch", len(capture.unscheduled))]


def test_a_missing_switch_that_nobody_counted_is_found_by_the_chain() -> None:
    """The kernel may skip a program and not say so: then who runs is not who was switched to."""
    capture = schedule()
    capture.scheduled = [row for row in capture.scheduled if row.ts != BASE + 150 * UNIT]
    with opened(capture) as session:
        assert split(session)["a", WORKER][-1] == 0
        assert ask(session, "SELECT kind, cpu, lost, left_tid, found_tid FROM _scheduler_loss") == [
            ("switch", CPU1, 1, WORKER, SPINNER)
        ]


@pytest.mark.parametrize("mode", ["system", "target"])
def test_nothing_is_claimed_of_a_thread_whose_leaving_is_missing(mode: str) -> None:
    """Perfetto's table has every state at once where ours has none; nobody but a stand-in, which
    says so, seems to have run."""
    capture = schedule(mode)
    left = BASE + 820 * UNIT
    capture.scheduled = [row for row in capture.scheduled if row.ts != left]
    with opened(capture) as session:
        asked = "SELECT ts, {} FROM {} WHERE ts BETWEEN {} AND {} AND utid = ({}) ORDER BY ts"
        mine = f"SELECT utid FROM thread WHERE tid = {MAIN}"
        span = (left - 800 * UNIT, left + 49 * UNIT - 1)
        states = ask(session, asked.format("state", "thread_state", *span, mine))
        kinds = ask(session, asked.format("kind", "profinfer_thread_state", *span, mine))
        assert [state for _, state in states] == ["SDT", "R"]
        assert [kind for _, kind in kinds] == [None, "runnable"]
        assert [ts for ts, _ in states] == [ts for ts, _ in kinds]
        assert ask(
            session,
            "SELECT DISTINCT t.name, t.tid FROM sched AS s JOIN thread AS t USING (utid)"
            f" WHERE s.ucpu = {CPU0} AND t.tid > {1 << 22}",
        ) == [(f"(not recorded, CPU {CPU0})", 5_000_000 + CPU0)]
        assert ask(session, "SELECT DISTINCT taker_tid FROM profinfer_preemption") == [(SPINNER,)]


def test_a_sleep_whose_wake_up_is_missing_is_not_certain() -> None:
    """How much of it was waiting for a CPU nobody knows."""
    capture = schedule()
    capture.scheduled = [row for row in capture.scheduled if row.ts != BASE + 868 * UNIT]
    with opened(capture) as session:
        found = split(session)
        assert found["c", MAIN] == (117, 0, 0, 50, 0, 0, 0, 0)
        assert {key for key, row in found.items() if row[-1] == 0} == {("c", MAIN)}


def test_who_ran_before_its_first_switch_is_not_claimed() -> None:
    """Until the first record of its CPU a thread's states are unknown, and the split is NULL."""
    capture = schedule()
    capture.scheduled = [row for row in capture.scheduled if row.ts >= BASE + 150 * UNIT]
    with opened(capture) as session:
        found = split(session)
    # Whoever is switched from has run since recording began.
    assert found["a", WORKER] == (112, 200, 0, 0, 0, 0, 0, 1)


@pytest.mark.parametrize("every", [7, 100, 333])
def test_how_the_recording_was_drained_makes_no_difference(every: int, system: Session) -> None:
    drains = [(BASE + (t - 3) * UNIT, BASE + t * UNIT) for t in range(40, 1000, every)]
    with opened(schedule(), drains=drains) as session:
        assert split(session) == split(system)
        for name in ("stalls", "interference"):
            assert ready(session, name) == ready(system, name)
