"""Steps that stand for all others, and what is drawn of them, by hand."""

from __future__ import annotations

from pathlib import Path

from profinfer.trace_processor import open_trace
from tests.captures import MAIN, WORKER, Capture, T
from tests.sql.harness import opened, ready, rows
from tests.sql.test_scheduling import schedule
from tests.sql.test_tables import FUSED, MATRIX, SUM, write_small

MS = 1_000_000


def test_the_median_and_the_slowest_step_are_shown_by_thread_and_layer(tmp_path: Path) -> None:
    with open_trace(write_small(tmp_path / "small.pftrace")) as session:
        found = ready(session, "proftime")
    # Of two steps the lower is the median.
    assert [tuple(row.values()) for row in found["Steps"]] == [
        ("median", 1, 1, 2, 2.0, 0.8, 6, 0),
        ("slowest", 1, 2, 2, 2.4, 0.8, 6, 0),
    ]
    threads = found["Threads in them (ms)"]
    assert rows(threads, "which", "thread", "tid", "operators", "work_ms", "wait_ms") == [
        (which, *row) for which in ("median", "slowest")
        for row in ((1, MAIN, 3, 0.45, 0.35), (2, WORKER, 3, 0.43, 0.37))
    ]  # fmt: skip
    assert rows(threads, "preempted_ms", "incomplete") == [(None, 0)] * 4
    assert rows(found["Layers (us)"], "which", "layer", "start_us", "time_us") == [
        ("median", 0, 100.0, 800.0),
        ("slowest", 0, 100.0, 800.0),
    ]
    assert rows(found["What is shown (us)"], "which", "of_layer", "start_us", "time_us") == [
        ("median", None, 0.0, 2000.0),
        ("median", 0, 100.0, 800.0),
        ("slowest", None, 0.0, 2400.0),
        ("slowest", 0, 100.0, 800.0),
    ]
    drawn = [
        row for row in found["Operators (us, the shortest together)"]
        if (row["which"], row["of_layer"]) == ("median", 0)
    ]  # fmt: skip
    assert rows(
        drawn, "thread", "start_us", "work_us", "wait_us", "operators", "name", "layer"
    ) == [
        (1, 0.0, 50.0, 50.0, 1, FUSED, 0),
        (1, 100.0, 200.0, 100.0, 1, MATRIX, 0),
        (1, 400.0, 200.0, 200.0, 1, SUM, 0),
        (2, 0.0, 90.0, 10.0, 1, FUSED, 0),
        (2, 100.0, 250.0, 60.0, 1, MATRIX, 0),
        (2, 410.0, 90.0, 300.0, 1, SUM, 0),
    ]
    assert found["When threads did not run (us)"] == []


def test_what_kept_threads_from_running_has_a_cause() -> None:
    with opened(schedule()) as session:
        found = ready(session, "proftime")
    assert rows(found["Steps"], "which", "step", "of_steps", "time_ms") == [("median", 1, 1, 9.8)]
    states = [row for row in found["When threads did not run (us)"] if row["of_layer"] is None]
    assert rows(states, "thread", "start_us", "time_us", "state", "cause", "complete") == [
        (1, 7800.0, 480.0, "futex", "futex", 1),
        (1, 8280.0, 20.0, "runnable", None, 1),
        (2, 1100.0, 2000.0, "preempted", "spinner", 1),
        (2, 4600.0, 1000.0, "fault", "page fault", 1),
        (2, 5600.0, 0.0, "runnable", None, 1),
    ]
    assert rows(found["Threads in them (ms)"], "thread", "preempted_ms", "fault_ms") == [
        (1, 0.0, 0.0),
        (2, 2.0, 1.0),
    ]


def test_operators_too_short_to_be_seen_are_one_with_their_neighbours() -> None:
    """Ten of 1 us, one of a millisecond, and three far from each other, in 10 ms."""
    capture = Capture()
    names = [f"n-{i}" for i in range(14)]
    tensors = [T("x"), *(T(name, "ADD", ("x", "x")) for name in names)]
    shape = capture.structure(10, tensors)
    capture.ubatch(1_000, 2_000, [(0, 0, 3, 1, 1)])
    for position, begin in ((3, 1), (4, 11), (5, 21)):
        capture.ubatch(begin * MS, begin * MS + 9 * MS, [(0, position, 1, 1, 1)])
        at = [begin * MS + 100_000 + 1_000 * i for i in range(11)]
        at += [begin * MS + 1_110_000, begin * MS + 4_000_000, begin * MS + 8_000_000]
        after = [*(t + 600 for t in at[:10]), *(t + 900_000 for t in at[10:13]), at[13] + 9_000]
        capture.graph(
            shape, begin * MS + 50_000, begin * MS + 8_500_000,
            {MAIN: [(n, t, e) for n, t, e in zip(names, at, after, strict=True)]},
        )  # fmt: skip
    with opened(capture) as session:
        found = ready(session, "proftime")
    drawn = [
        row for row in found["Operators (us, the shortest together)"]
        if (row["which"], row["of_layer"]) == ("median", None)
    ]  # fmt: skip
    assert rows(drawn, "operators", "start_us", "work_us", "name")[:2] == [
        (10, 100.0, 6.0, "n-0"),
        (1, 110.0, 900.0, "n-10"),
    ]
    assert sum(int(str(row["operators"])) for row in drawn) == 14
