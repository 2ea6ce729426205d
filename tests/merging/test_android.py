"""A recording of ours and an Android system trace of the same time become one timeline."""

# ruff: noqa: S608  SQL is put together here, from words of this file

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from profinfer.trace_processor import Session, open_trace
from tests.captures import BASE, CPUS, MAIN, PID, WORKER
from tests.merging.android import PACKAGE, SYSTEM_SERVER, UID, ZYGOTE
from tests.merging.inputs import (
    BUSY,
    FIRST,
    OPERATORS,
    STEP,
    STEPS,
    SWITCHES,
    US,
    android,
    engine,
    merged,
    write_engine,
)
from tests.merging.placement import placement
from tests.support import as_int, pairs


@pytest.fixture(scope="module", params=["plain", "gzip", "compressed packets", "android first"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("android")
    data = android().trace(compress=request.param == "compressed packets")
    theirs = folder / "device.perfetto-trace"
    theirs.write_bytes(gzip.compress(data) if request.param == "gzip" else data)
    inputs = [write_engine(folder / "engine.pftrace", engine()), theirs]
    if request.param == "android first":
        inputs.reverse()
    report = merged(folder / "both.pftrace", *inputs)
    assert not report.warnings
    assert "same boot" in report.lines[1]
    with open_trace(folder / "both.pftrace", trace_processor="wasm") as session:
        yield session


def test_nothing_is_lost_or_misplaced_on_the_way(both: Session) -> None:
    assert both.import_errors() == []
    counts = pairs(both.query("SELECT category, count() FROM slice GROUP BY 1").rows())
    assert counts["operator"] == OPERATORS
    assert counts["ubatch"] == counts["graph"] == STEPS
    [(switches, first, last)] = both.query("SELECT count(), min(ts), max(ts) FROM sched").rows()
    assert switches == SWITCHES
    assert first == BASE + (100 + MAIN) * US + 500
    assert last == BASE + FIRST + (STEPS - 1) * STEP + BUSY[1]


def test_there_is_one_tree_of_processes(both: Session) -> None:
    rows = both.query(
        "SELECT p.pid, parent.pid, p.uid, p.name FROM process AS p "
        "LEFT JOIN (SELECT upid, pid FROM process) AS parent ON parent.upid = p.parent_upid "
        "WHERE p.pid > 0 ORDER BY 1"
    ).rows()
    assert [row[:3] for row in rows] == [
        (1, 0, 0), (PID, ZYGOTE, UID), (ZYGOTE, 1, 0), (SYSTEM_SERVER, ZYGOTE, 1000)
    ]  # fmt: skip
    threads = both.query(
        "SELECT tid, pid, count(), thread.name FROM thread JOIN process USING (upid) "
        f"WHERE pid = {PID} GROUP BY 1 ORDER BY 1"
    ).rows()
    assert threads == [(MAIN, PID, 1, "compute 0"), (WORKER, PID, 1, "compute 1")]
    assert both.query("SELECT package_name, uid FROM package_list").rows() == [(PACKAGE, UID)]


def test_operators_lie_where_their_thread_runs(both: Session) -> None:
    found = placement(both)
    assert found.slices == OPERATORS
    assert found.inside >= 0.99
    assert found.edges >= 0.99
    # Were the clocks 1 ms apart, next to none would.
    assert placement(both, shift=1_000 * US).inside < 0.01


def test_standard_modules_answer(both: Session) -> None:
    rows = both.query(
        "INCLUDE PERFETTO MODULE sched.latency; "
        "SELECT count(), min(latency_dur), max(latency_dur) FROM "
        "sched_latency_for_running_interval "
        f"JOIN thread USING (utid) WHERE tid IN ({MAIN}, {WORKER})"
    ).rows()
    # Of a thread's first wakeup nobody knows what it was before.
    assert as_int(rows[0][0]) >= 2 * STEPS - 2
    assert rows[0][1:] == (20 * US, 20 * US)


def test_a_slice_that_was_preempted_is_the_only_one_outside(tmp_path: Path) -> None:
    trace = android()
    step = BASE + FIRST + 7 * STEP
    trace.preempted(WORKER, WORKER % CPUS, step + 400 * US, step + 500 * US, by=4242)
    (tmp_path / "a.pftrace").write_bytes(trace.trace())
    ours = write_engine(tmp_path / "e.pftrace", engine())
    merged(tmp_path / "both.pftrace", ours, tmp_path / "a.pftrace")
    with open_trace(tmp_path / "both.pftrace", trace_processor="wasm") as session:
        found = placement(session)
        assert round((1 - found.inside) * found.slices) == 1
        assert found.edges == 1
        rows = session.query(
            "SELECT tid, name, dur FROM sched JOIN thread USING (utid) WHERE tid = 4242"
        ).rows()
    assert rows == [(4242, "intruder", 100 * US)]


def test_the_merged_trace_says_how_inputs_were_placed(tmp_path: Path) -> None:
    (tmp_path / "a.pftrace").write_bytes(android().trace())
    ours = write_engine(tmp_path / "e.pftrace", engine())
    merged(tmp_path / "both.pftrace", ours, tmp_path / "a.pftrace")
    with open_trace(tmp_path / "both.pftrace", trace_processor="wasm") as session:
        rows = session.query(
            "SELECT name, extract_arg(arg_set_id, 'debug.shift_ns'), "
            "extract_arg(arg_set_id, 'debug.off_ns'), extract_arg(arg_set_id, 'debug.placed') "
            "FROM slice WHERE category = 'merge' ORDER BY name"
        ).rows()
    assert [row[:3] for row in rows] == [("a.pftrace", 0, 0), ("e.pftrace", 0, 0)]
    assert "REALTIME" in str(rows[0][3])
