"""profinfer.counters.readings and counters.sql, with readings chosen by hand."""

from __future__ import annotations

from typing import Any

import pytest

from profinfer.records.dtypes import Kind
from tests.captures import BASE, MAIN, WORKER, Capture, T
from tests.sql.harness import ask, opened, ready, rows

FROM = 1_000_000
"""Values begin anywhere."""


def event(name: str, leader: str, role: str = "", unit: str = "", scale: int = 1) -> dict[str, Any]:
    return {
        "name": name, "leader": leader, "role": role, "unit": unit, "scale": scale, "source": "a",
    }  # fmt: skip


EVENTS = (
    event("cycles:u", "cycles:u", "cycles", "cycles"),
    event("instructions:u", "cycles:u", "instructions", "instructions"),
    event("stall_backend", "cycles:u", "stall_backend", "cycles"),
    event("refills", "refills", "memory_read", "bytes", 64),
    event("page-faults", ""),
)
NAMES = [e["name"] for e in EVENTS]
"""A reading: CPU time, the five, ns without the group of cycles, ns without that of refills."""


def reading(*values: int | None) -> list[int | None]:
    return [None if value is None else FROM + value for value in values]


def counted() -> Capture:
    """Two operators of two threads, 10..40 us and 50..80 us of work, each followed by a wait."""
    capture = Capture()
    tensors = [T("x"), T("a-0", "ADD", ("x",)), T("b-0", "MUL_MAT", ("a-0",))]
    shape = capture.structure(0, tensors)
    operators = [("a-0", 10_000, 40_000), ("b-0", 50_000, 80_000)]
    capture.graph(shape, 9_000, 90_000, {MAIN: operators, WORKER: operators})
    main = {
        10_000: reading(0, 0, 0, 0, 0, 0, 0, 0),
        40_000: reading(30_000, 90_000, 180_000, 9_000, 50, 2, 0, 0),
        50_000: reading(35_000, 95_000, 185_000, 9_500, 51, 2, 0, 0),
        # Half of it without the group of cycles, and all of it without that of refills.
        80_000: reading(55_000, 125_000, 215_000, 24_500, 51, 3, 10_000, 20_000),
        90_000: reading(65_000, 135_000, 225_000, 24_500, 51, 3, 10_000, 30_000),
    }
    capture.count(MAIN, main, [dict(each) for each in EVENTS])  # tests change them
    worker = {
        10_000: reading(7, 0, 0, 0, 0, 0, 0, 0),
        40_000: reading(30_007, 60_000, 60_000, 1_000, 10, None, 0, 0),
        50_000: reading(40_007, 60_000, 60_000, 1_000, 10, 0, 0, 0),
        80_000: reading(70_007, 90_000, 90_000, 1_000, 20, 0, 0, 0),
    }
    capture.count(WORKER, worker)
    return capture


COUNTED = (
    "SELECT s.name, tid, n.name, c.value, c.wait_value, c.cpu_dur, c.counted_dur, c.estimate,"
    " c.complete FROM profinfer_operator_counter AS c JOIN profinfer_counter AS n"
    " USING (counter_id) JOIN profinfer_operator_slice AS s USING (id)"
    " JOIN thread ON thread.utid = c.utid ORDER BY s.name, tid, counter_id"
)


@pytest.mark.parametrize("drains", [[], [(45_000, 45_000)], [(60_000, 70_000)]])
def test_values_per_operator_and_thread(drains: list[tuple[int, int]]) -> None:
    with opened(counted(), drains=[(BASE + a, BASE + b) for a, b in drains]) as session:
        assert ask(session, COUNTED) == [
            ("a-0", MAIN, "cycles:u", 90_000, 5_000, 30_000, 30_000, 90_000, 1),
            ("a-0", MAIN, "instructions:u", 180_000, 5_000, 30_000, 30_000, 180_000, 1),
            ("a-0", MAIN, "stall_backend", 9_000, 500, 30_000, 30_000, 9_000, 1),
            ("a-0", MAIN, "refills", 3_200, 64, 30_000, 30_000, 3_200, 1),
            ("a-0", MAIN, "page-faults", 2, 0, 30_000, 30_000, 2, 1),
            ("a-0", WORKER, "cycles:u", 60_000, 0, 30_000, 30_000, 60_000, 1),
            ("a-0", WORKER, "instructions:u", 60_000, 0, 30_000, 30_000, 60_000, 1),
            ("a-0", WORKER, "stall_backend", 1_000, 0, 30_000, 30_000, 1_000, 1),
            ("a-0", WORKER, "refills", 640, 0, 30_000, 30_000, 640, 1),
            ("a-0", WORKER, "page-faults", None, None, 30_000, 30_000, None, 0),
            ("b-0", MAIN, "cycles:u", 30_000, 10_000, 20_000, 10_000, 60_000, 1),
            ("b-0", MAIN, "instructions:u", 30_000, 10_000, 20_000, 10_000, 60_000, 1),
            ("b-0", MAIN, "stall_backend", 15_000, 0, 20_000, 10_000, 30_000, 1),
            ("b-0", MAIN, "refills", 0, 0, 20_000, 0, None, 1),
            ("b-0", MAIN, "page-faults", 1, 0, 20_000, 20_000, 1, 1),
            ("b-0", WORKER, "cycles:u", 30_000, None, 30_000, 30_000, 30_000, 1),
            ("b-0", WORKER, "instructions:u", 30_000, None, 30_000, 30_000, 30_000, 1),
            ("b-0", WORKER, "stall_backend", 0, None, 30_000, 30_000, 0, 1),
            ("b-0", WORKER, "refills", 640, None, 30_000, 30_000, 640, 1),
            ("b-0", WORKER, "page-faults", 0, None, 30_000, 30_000, 0, 1),
        ]


GENERATION = 1 << 58


@pytest.mark.parametrize("drains", [[], [62_000], [75_000], [81_000], [62_000, 75_000, 81_000]])
@pytest.mark.parametrize(("at", "unread"), [
    # Within an operator, seen at a barrier inside it, or at that after it; and in the wait for it.
    (60_000, {"b-0", "c-0"}), (80_000, {"b-0", "c-0"}), (90_000, {"c-0"}), (50_000, {"b-0"}),
])  # fmt: skip
def test_nothing_is_computed_across_a_missed_switch(
    at: int, unread: set[str], drains: list[int]
) -> None:
    """Main's readings: b-0 has a barrier inside it, at 60 us, and one after it; then comes c-0."""
    capture = Capture()
    tensors = [T("x"), T("a-0", "ADD", ("x",)), T("b-0", "MUL_MAT", ("a-0",)),
               T("c-0", "ADD", ("b-0",))]  # fmt: skip
    shape = capture.structure(0, tensors)
    operators = [("a-0", 10_000, 40_000), ("b-0", 50_000, 60_000, 80_000), ("c-0", 90_000, 95_000)]
    capture.graph(shape, 9_000, 99_000, {MAIN: operators})
    times = (10_000, 40_000, 50_000, 60_000, 80_000, 90_000, 95_000, 99_000)
    generation = {t: (3 if t >= at else 2) * GENERATION for t in times}
    capture.count(
        MAIN, {t: [generation[t] + FROM + t, t // 1000 + (500 if t >= at else 0)] for t in times},
        [event("page-faults", "")],
    )  # fmt: skip
    with opened(capture, drains=[(BASE + t, BASE + t) for t in drains]) as session:
        found = ask(
            session,
            "SELECT s.name, c.value FROM profinfer_operator_counter AS c JOIN"
            " profinfer_operator_slice AS s USING (id)",
        )
        whole = {"a-0": 30, "b-0": 30, "c-0": 5}
        assert dict(found) == {  # type: ignore[arg-type]
            name: None if name in unread else value for name, value in whole.items()
        }


@pytest.mark.parametrize("drains", [[], [45_000], [62_000], [81_000, 85_000]])
@pytest.mark.parametrize(("at", "unread"), [
    (10_000, {"a-0"}), (60_000, set()), (80_000, {"b-0"}), (90_000, {"c-0"}),
])  # fmt: skip
def test_what_was_not_read_is_no_number(at: int, unread: set[str], drains: list[int]) -> None:
    """As above, of one generation, but no value can be read at one of the times."""
    capture = Capture()
    tensors = [T("x"), T("a-0", "ADD", ("x",)), T("b-0", "MUL_MAT", ("a-0",)),
               T("c-0", "ADD", ("b-0",))]  # fmt: skip
    shape = capture.structure(0, tensors)
    operators = [("a-0", 10_000, 40_000), ("b-0", 50_000, 60_000, 80_000), ("c-0", 90_000, 95_000)]
    capture.graph(shape, 9_000, 99_000, {MAIN: operators})
    times = (10_000, 40_000, 50_000, 60_000, 80_000, 90_000, 95_000, 99_000)
    readings: dict[int, list[int | None]] = {
        t: [None, None] if t == at else [2 * GENERATION + FROM + t, t // 1000] for t in times
    }
    capture.count(MAIN, readings, [event("page-faults", "")])
    with opened(capture, drains=[(BASE + t, BASE + t) for t in drains]) as session:
        found = ask(
            session,
            "SELECT s.name, c.value, c.cpu_dur FROM profinfer_operator_counter AS c JOIN"
            " profinfer_operator_slice AS s USING (id)",
        )
        last = ask(session, "SELECT max(value) < 1e6 FROM counter WHERE value IS NOT NULL")
    whole = {"a-0": 30, "b-0": 30, "c-0": 5}
    assert sorted(found) == [
        (name, None, None) if name in unread else (name, value, 1000 * value)
        for name, value in whole.items()
    ]
    assert last == [(1,)]


def test_metrics_of_an_operator_run() -> None:
    with opened(counted()) as session:
        assert ask(
            session,
            "SELECT work_dur, cycles, instructions, round(ipc, 3), round(backend_stall_ratio, 4),"
            " read_bytes, written_bytes, bandwidth / 1e6, complete, multiplexed"
            " FROM profinfer_operator_metric ORDER BY arg_set_id",
        ) == [
            # The worker's page faults are not known.
            (30_000, 150_000, 240_000, 1.6, 0.0667, 3_840, None, 128, 0, 0),
            # Refills were not counted on the main thread.
            (30_000, 90_000, 90_000, 1.0, 0.3333, None, None, None, 0, 1),
        ]


def test_what_is_counted_twice_is_taken_once() -> None:
    """As with --counters cycles,cpu-cycles."""
    capture = counted()
    capture.at_start["counters"]["events"][3]["role"] = "cycles"
    with opened(capture) as session:
        assert ask(session, "SELECT cycles FROM profinfer_operator_metric ORDER BY arg_set_id") == [
            (150_000,), (90_000,)
        ]  # fmt: skip


def test_the_ready_query_says_what_is_missing() -> None:
    capture = counted()
    capture.lose(lambda row: row.kind == Kind.COUNTERS and row.ts == BASE + 80_000)
    with opened(capture) as session:
        tables = ready(session, "counters")
        assert rows(
            tables["Counters by op"],
            "op", "counter", "unit", "runs", "total", "counted_percent", "unread", "lost_records",
        ) == [
            ("ADD", "cycles:u", "cycles", 1, 150_000, 100, 0, 8),
            ("MUL_MAT", "cycles:u", "cycles", 1, None, None, 2, 8),
            ("ADD", "instructions:u", "instructions", 1, 240_000, 100, 0, 8),
            ("MUL_MAT", "instructions:u", "instructions", 1, None, None, 2, 8),
            ("ADD", "stall_backend", "cycles", 1, 10_000, 100, 0, 8),
            ("MUL_MAT", "stall_backend", "cycles", 1, None, None, 2, 8),
            ("ADD", "refills", "bytes", 1, 3_840, 100, 0, 8),
            ("MUL_MAT", "refills", "bytes", 1, None, None, 2, 8),
            ("ADD", "page-faults", None, 1, 2, 100, 1, 8),
            ("MUL_MAT", "page-faults", None, 1, None, None, 2, 8),
        ]  # fmt: skip
        # A reading that is lost takes no slice with it.
        assert ask(session, "SELECT sum(complete), count() FROM profinfer_operator_slice") == [
            (4, 4)
        ]


def test_the_ready_query_estimates_what_was_multiplexed() -> None:
    with opened(counted()) as session:
        tables = ready(session, "counters")
        assert rows(
            tables["Counters by op"], "op", "counter", "total", "counted_percent", "multiplexed"
        )[:2] == [("ADD", "cycles:u", 150_000, 100, 0), ("MUL_MAT", "cycles:u", 75_000, 80, 1)]
        assert rows(tables["What was counted"], "name", "group_of") == [
            (e["name"], e["leader"] or None) for e in EVENTS
        ]


def test_tracks_of_a_thread_are_its_own() -> None:
    with opened(counted()) as session:
        assert ask(
            session,
            "SELECT tid, t.name, unit FROM thread_counter_track AS t JOIN thread USING (utid)"
            " ORDER BY tid, t.id",
        ) == [
            (tid, name, unit)
            for tid in (MAIN, WORKER)
            for name, unit in (
                *((e["name"], e["unit"]) for e in EVENTS),
                ("CPU time", "ns"),
                ("not counted: cycles:u", "ns"),
                ("not counted: refills", "ns"),
            )
        ]


def test_what_is_counted_of_all_threads_has_one_scale() -> None:
    with opened(counted()) as session:
        scales = ask(
            session,
            "SELECT name, count(DISTINCT utid), group_concat(DISTINCT"
            " extract_arg(source_arg_set_id, 'y_axis_share_key')) FROM thread_counter_track"
            " GROUP BY name ORDER BY name",
        )
    assert scales == [
        ("CPU time", 2, "ns"), ("cycles:u", 2, "cycles:u"), ("instructions:u", 2, "instructions:u"),
        ("not counted: cycles:u", 2, "ns"), ("not counted: refills", 2, "ns"),
        ("page-faults", 2, "page-faults"), ("refills", 2, "refills"),
        ("stall_backend", 2, "stall_backend"),
    ]  # fmt: skip
