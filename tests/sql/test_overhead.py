"""profinfer.recording.handlers, profinfer.recording.overhead and the overhead query: what recording
cost, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from profinfer.records.dtypes import Kind
from profinfer.trace_processor import open_trace
from tests.captures import BASE, MAIN, WORKER, Capture, convert
from tests.sql.costs import HANDLERS, PROBES, decoding, measure
from tests.sql.harness import Rows, ask, opened, ready, rows

HANDLER_TITLE = "Hits of each handler (ns per hit; hits are exact, even where records were lost)"
SLOWDOWN = "Predicted slowdown of decoding (per token and thread)"
BY_THREAD = "Overhead by thread while decoding (ms in all)"
BY_OPERATOR = "Overhead in the work of operators while decoding (the first 30 by share)"
LOAD = "CPU load of the handlers"
EVENTS = "Programs at the kernel's own events (all processes and CPUs)"
FUSED_OP = "RMS_NORM+MUL"


def answer(capture: Capture, title: str, *columns: str) -> Rows:
    """Columns of one table of the query `overhead`; all of them by default."""
    with opened(capture) as session:
        table = ready(session, "overhead")[title]
    return rows(table, *(columns or table[0]))


def test_a_hit_is_the_trap_and_what_the_handler_takes_over_an_empty_one() -> None:
    with opened(measure(decoding())) as session:
        sql = (
            "SELECT handler, symbol, via, site, hits, run_ns, handler_ns, trap_ns, hit_ns, "
            "total_ns FROM profinfer_handler"
        )
        assert ask(session, sql) == [
            ("on_barrier", "ggml_barrier", "stub", "nop5", 32_000_000, 310.0, 250.0, 450.0, 700.0,
             22_400_000_000),
            ("on_fused", "rms_norm_mul_fused", "direct", "stepped", 8_000_000, 240.0, 180.0,
             9800.0, 9980.0, 79_840_000_000),
            ("on_operator", "extra_compute_forward", "direct", "push", 24_000_000, 260.0, 200.0,
             700.0, 900.0, 21_600_000_000),
            ("on_ubatch", "process_ubatch", "direct", "push", 4, None, None, 700.5, None, None),
        ]  # fmt: skip
    assert answer(measure(decoding()), HANDLER_TITLE) == [
        ("on_fused", "rms_norm_mul_fused", "direct", "stepped", 8_000_000, 9800.0, 180.0, 9980.0,
         79840.0),
        ("on_barrier", "ggml_barrier", "stub", "nop5", 32_000_000, 450.0, 250.0, 700.0, 22400.0),
        ("on_operator", "extra_compute_forward", "direct", "push", 24_000_000, 700.0, 200.0,
         900.0, 21600.0),
        ("on_ubatch", "process_ubatch", "direct", "push", 4, 700.5, None, None, None),
    ]  # fmt: skip


def test_hits_and_their_time_by_graph_and_thread() -> None:
    """Traps: 3 x 700 + 9800 + 4 x 450; handlers: 3 x 200 + 180 + 4 x 250."""
    cost = (3, 1, 4, 13_700, 1_780, 15_480, 1)
    with opened(measure(decoding())) as session:
        assert ask(
            session,
            "SELECT graph_id, tid, ubatch_id, operators, fused, barriers, trap_dur, handler_dur,"
            " o.dur, complete FROM profinfer_overhead AS o JOIN thread USING (utid)"
            " ORDER BY 1, 2",
        ) == [(graph, tid, graph, *cost) for graph in (1, 2, 3, 4) for tid in (MAIN, WORKER)]


def test_the_predicted_slowdown_is_one_threads_cost_over_the_time_per_token() -> None:
    """Two steps have a next one: 15.48 us of 1000, and 0.5 for each hit of both threads."""
    assert answer(measure(decoding()), SLOWDOWN) == [
        (2, 2, 8.0, 13.7, 1.8, 8.0, 23.5, 1000.0, 2.35, 0)
    ]


def test_the_recorder_takes_the_place_of_a_thread_only_while_one_stands_in_line() -> None:
    capture = measure(decoding())
    for waited, displaced in ((0.256, 32.0), (0.128, 32.0), (0.064, 16.0), (0.0, 0.0)):
        capture.at_end["threads_waited_s"] = waited
        assert answer(capture, SLOWDOWN, "displaced_us") == [(displaced,)]
    capture.at_end["threads_waited_s"] = None  # a kernel that does not tell
    columns = ("trap_us", "displaced_us", "overhead_us", "slowdown_percent")
    assert answer(capture, SLOWDOWN, *columns) == [(13.7, None, None, None)]


def test_threads_with_different_hits_give_their_mean() -> None:
    capture = measure(decoding())
    # The worker began no fused operator: half of (9980 + 700 for the barrier after it) less.
    capture.records = [r for r in capture.records if r.kind != Kind.FUSED or r.tid != WORKER]
    [(hits, overhead)] = answer(capture, SLOWDOWN, "hits", "overhead_us")
    # What was its barrier is before the thread's first operator, and on no slice.
    assert (hits, overhead) == (7.0, 17.1)


def test_overhead_by_thread() -> None:
    """Three decoding graphs each."""
    assert answer(measure(decoding()), BY_THREAD) == [
        (MAIN, "compute 0", 3, 24, 0.041, 0.005, 0.046, 0),
        (WORKER, "compute 1", 3, 24, 0.041, 0.005, 0.046, 0),
    ]


def test_overhead_in_the_work_of_each_operator() -> None:
    """Two threads, three runs: 9980 for the fused one, 900 for the others and 700 inside one."""
    assert answer(measure(decoding()), BY_OPERATOR) == [
        ("attn_norm-0", FUSED_OP, 3, 1.0, 0.06, 0.135, 44.4, 0),
        ("ffn_silu-1", "SILU", 3, 1.0, 0.005, 0.195, 2.8, 0),
        ("Qcur-0", "MUL_MAT", 3, 2.0, 0.01, 1.134, 0.8, 0),
        ("result", "ADD", 3, 1.0, 0.005, 1.77, 0.3, 0),
    ]


def test_hotspots_say_how_much_of_the_work_is_the_recordings() -> None:
    with opened(measure(decoding())) as session:
        table, *_ = ready(session, "hotspots").values()
    found = rows(table, "phase", "name", "work_ms", "net_ms", "probes_percent")
    assert [row for row in found if row[0] == "decode"] == [
        ("decode", "result", 1.77, 1.76, 0.3),
        ("decode", "Qcur-0", 1.13, 1.12, 0.8),
        ("decode", "ffn_silu-1", 0.2, 0.19, 2.8),
        ("decode", "attn_norm-0", 0.14, 0.08, 44.4),
    ]


def test_cpu_load_is_run_time_over_the_recordings_time_on_its_threads() -> None:
    """24 x 0.26 + 8 x 0.24 + 32 x 0.31 = 18.08 s, of which 14.24 over the empty handler, in 20 s
    on two threads. The handler that was never timed is left out; the recorder ran 0.128 of 20 s."""
    capture = measure(decoding())
    assert answer(capture, LOAD) == [(20.0, 2, 18080.0, 45.2, 35.6, 1, 0.64, 0)]
    del capture.at_end["recorder_cpu_s"]
    assert answer(capture, LOAD, "recorder_percent") == [(None,)]


def test_programs_at_the_kernels_events_cost_their_runs() -> None:
    """11,003 runs of 201 ns in 20 s; how often a program ran that makes no record each time, and
    how long one takes that was never timed, is unknown."""
    capture = measure(decoding())
    assert answer(capture, EVENTS, "program") == []  # an older recording, or one without any
    columns = ("program", "event", "runs", "timed_runs", "timed_ns")
    capture.at_end["event_programs"] = [
        dict(zip(columns, row, strict=True))
        for row in (
            ("on_switch", "sched_switch", 11_003, 100, 20_100),
            ("on_minor_fault", "minor-faults", None, 10, 3_000),
            ("on_exit", "sched_process_exit", 7, 0, 0),
            ("on_rename", "task_rename", 0, 0, 0),
        )
    ]
    assert answer(capture, EVENTS) == [
        ("on_switch", "sched_switch", 11_003, 201.0, 2.21, 0.011),
        ("on_rename", "task_rename", 0, None, 0.0, 0.0),
        ("on_exit", "sched_process_exit", 7, None, None, None),
        ("on_minor_fault", "minor-faults", None, 300.0, None, None),
    ]


def test_without_barriers_hits_are_those_at_operators() -> None:
    capture = measure(decoding("operator"))
    assert answer(capture, SLOWDOWN) == [(2, 2, 4.0, 11.9, 0.8, 4.0, 16.7, 1000.0, 1.67, 0)]
    names = answer(capture, BY_OPERATOR, "name", "hits_per_run", "overhead_ms")
    assert ("Qcur-0", 1.0, 0.005) in names


def test_an_old_recording_counts_hits_and_knows_no_cost() -> None:
    with opened(decoding()) as session:
        tables = ready(session, "overhead")
        assert rows(tables[HANDLER_TITLE], "handler", "via", "hits", "hit_ns", "total_ms") == [
            ("on_barrier", None, None, None, None), ("on_operator", None, None, None, None),
        ]  # fmt: skip
        assert rows(tables[SLOWDOWN], *tables[SLOWDOWN][0]) == [
            (2, 2, 8.0, None, None, None, None, 1000.0, None, 0)
        ]
        assert rows(tables[BY_THREAD], "hits", "trap_ms", "overhead_ms") == [(24, None, None)] * 2
        assert {row["overhead_ms"] for row in tables[BY_OPERATOR]} == {None}
        assert rows(tables[LOAD], "seconds", "threads", "cpu_load_percent") == [(None, 2, None)]
        hotspots, *_ = ready(session, "hotspots").values()
        assert {row["net_ms"] for row in hotspots} == {None}


def test_without_the_end_traps_are_known_and_handlers_are_not(tmp_path: Path) -> None:
    path = convert(measure(decoding()).frames(ended=False), tmp_path / "cut.pftrace")
    with open_trace(path, trace_processor="wasm") as session:
        tables = ready(session, "overhead")
    assert rows(tables[HANDLER_TITLE], "handler", "hits", "trap_ns", "handler_ns", "total_ms") == [
        (name, None, trap, None, None)
        for name, trap in (
            ("on_barrier", 450.0), ("on_fused", 9800.0), ("on_operator", 700.0),
            ("on_ubatch", 700.5),
        )
    ]  # fmt: skip
    assert rows(tables[SLOWDOWN], "hits", "trap_us", "handler_us", "overhead_us") == [
        (8.0, 13.7, None, None)
    ]


def test_null_in_what_the_recorder_says_is_null() -> None:
    """The trace writer has no null of its own: it writes a word."""
    capture = measure(decoding())
    capture.at_start["plan"]["probes"] = [p | {"hit_ns": None, "site": ""} for p in PROBES]
    capture.at_end["handlers"] = [h | {"runs": None} for h in HANDLERS]
    with opened(capture) as session:
        sql = "SELECT DISTINCT via, site, hits, trap_ns, hit_ns, total_ns FROM profinfer_handler"
        assert set(ask(session, sql)) == {
            ("direct", None, None, None, None, None),
            ("stub", None, None, None, None, None),
        }
        assert rows(ready(session, "overhead")[LOAD], "run_ms", "left_out") == [(None, 4)]


def test_the_cost_of_the_way_to_a_handler_has_an_interval() -> None:
    sql = "SELECT handler, trap_low_ns, trap_high_ns FROM profinfer_handler"
    with opened(measure(decoding())) as session:
        assert ask(session, sql) == [
            ("on_barrier", 445.0, 455.0), ("on_fused", 9700.0, 9900.0),
            ("on_operator", 690.0, 710.0), ("on_ubatch", 690.0, 710.0),
        ]  # fmt: skip


def test_what_a_hit_costs_is_the_mean_of_the_beginning_and_the_end() -> None:
    capture = measure(decoding())
    sites = {"push": 720.0, "nop5": None}
    capture.at_end["hit_cost"] = {"sites": sites, "intervals": {"push": [705.0, 735.0]}}
    sql = "SELECT handler, trap_ns, trap_low_ns, trap_high_ns, trap_drift_ns FROM profinfer_handler"
    with opened(capture) as session:
        assert ask(session, sql) == [
            ("on_barrier", 450.0, 445.0, 455.0, None), ("on_fused", 9800.0, 9700.0, 9900.0, None),
            ("on_operator", 710.0, 690.0, 735.0, 20.0), ("on_ubatch", 710.25, 690.0, 735.0, 19.5),
        ]  # fmt: skip


@pytest.mark.parametrize(("second", "trap"), [(1250.0, 850.0), (None, None)])
def test_several_probes_of_one_handler(second: float | None, trap: float | None) -> None:
    capture = measure(decoding())
    probe = PROBES[3] | {"via": "direct", "site": "jcc", "hit_ns": second}
    capture.at_start["plan"]["probes"] = [*PROBES, probe]
    with opened(capture) as session:
        sql = "SELECT via, site, trap_ns FROM profinfer_handler WHERE handler = 'on_barrier'"
        assert ask(session, sql) == [("stub,direct", "nop5,jcc", trap)]


def test_a_handler_without_hits_costs_nothing() -> None:
    capture = measure(decoding())
    capture.at_end["handlers"] = [h | {"runs": 0, "timed_runs": 0} for h in HANDLERS]
    assert answer(capture, HANDLER_TITLE, "hits", "total_ms") == [(0, 0.0)] * 4
    assert answer(capture, LOAD, "left_out") == [(0,)]


def test_steps_with_losses_are_counted_and_in_no_sum() -> None:
    capture = measure(decoding())
    lost = BASE + 1_200_000 + 60_000  # in the first decoding step
    capture.lose(lambda row: row.ts == lost)
    assert capture.lost
    drains = [(BASE + t, BASE + t) for t in (1_150_000, 1_950_000)]
    with opened(capture, drains=drains) as session:
        tables = ready(session, "overhead")
    columns = ("steps", "hits", "overhead_us", "incomplete")
    assert rows(tables[SLOWDOWN], *columns) == [(1, 8.0, 23.5, 1)]
    assert rows(tables[BY_THREAD], "graphs", "hits", "incomplete") == [(2, 16, 1)] * 2
    assert rows(tables[HANDLER_TITLE], "hits")[0] == (8_000_000,)


def test_a_filtered_recording_has_too_few_slices_to_say() -> None:
    capture = measure(decoding())
    capture.names = ["Qcur*"]
    columns = ("steps", "hits", "overhead_us", "slowdown_percent", "incomplete")
    assert answer(capture, SLOWDOWN, *columns) == [(0, None, None, None, 2)]
    assert answer(capture, LOAD, "cpu_load_percent") == [(45.2,)]
