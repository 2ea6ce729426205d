"""Ready queries and modules answer on a merged trace as on ours alone; of several recordings in one
trace each has its rows (test_processes.py has what they say)."""

# ruff: noqa: S608  SQL is put together here, from words of this file

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from profinfer.errors import TraceError
from profinfer.trace_processor import SQL_DIR, Session, open_trace, query
from profinfer.trace_processor.session import sql_modules
from profinfer.ui.links import without_slices
from tests.captures import BASE, MAIN, WORKER, Capture, T, convert
from tests.converting.recordings import frames
from tests.merging.android import BOOTED
from tests.merging.inputs import STEPS, android, engine, merged, write_engine
from tests.sql.test_scheduling import (
    CPU0,
    CPU1,
    FAULT,
    FUTEX,
    RUNS,
    SLEEPS,
    SPINNER,
    UNIT,
    schedule,
)

READY = [path.stem for path in query.ready_queries()]
MODULES = sql_modules(SQL_DIR)
_TABLE = re.compile(r"CREATE PERFETTO (?:TABLE|VIEW) (profinfer_\w+)")
TABLES = sorted(
    {(module, name) for module, text in MODULES.items() for name in _TABLE.findall(text)}
)
LATER = 100_000
"""A second: the first recording has ended by then."""
_OF_TRACE_PROCESSOR = {"id", "slice_id", "utid", "upid", "track_id", "arg_set_id", "parent_id"}
"""Numbers that Trace Processor gives: other ones in every trace."""


def answers(session: Session, name: str) -> str:
    """The tables of a ready query, as JSON."""
    tables = without_slices(query.run(session, query.read(query.resolve(name))))
    return json.dumps([[table.title, table.columns, table.rows] for table in tables], indent=0)


def contents(session: Session, module: str, table: str) -> list[tuple[object, ...]]:
    """The rows of a module's table, without what Trace Processor numbers."""
    found = session.query(f"INCLUDE PERFETTO MODULE {module}; SELECT * FROM {table}")
    keep = [i for i, name in enumerate(found.columns) if name not in _OF_TRACE_PROCESSOR]
    return sorted((tuple(row[i] for i in keep) for row in found), key=repr)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A real recording of the known engine (tests/converting)."""
    folder = tmp_path_factory.mktemp("alone")
    with open_trace(
        convert(frames(folder), folder / "known.pftrace"), trace_processor="wasm"
    ) as session:
        yield session


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """The same, merged with a system trace."""
    folder = tmp_path_factory.mktemp("together")
    ours = convert(frames(folder), folder / "known.pftrace")
    (folder / "system.pftrace").write_bytes(android().trace())
    merged(folder / "both.pftrace", ours, folder / "system.pftrace", same_boot=True)
    with open_trace(folder / "both.pftrace", trace_processor="wasm") as session:
        assert session.import_errors() == []
        yield session


@pytest.mark.parametrize("name", READY)
def test_ready_queries_answer_alike(alone: Session, together: Session, name: str) -> None:
    assert answers(together, name) == answers(alone, name)


@pytest.mark.parametrize(("module", "table"), TABLES)
def test_tables_are_alike(alone: Session, together: Session, module: str, table: str) -> None:
    assert contents(together, module, table) == contents(alone, module, table)


def test_there_is_something_to_compare(alone: Session) -> None:
    beside = {
        "profinfer.counters.readings",
        "profinfer.counters.metrics",
        "profinfer.scheduling.thread_states",
        "profinfer.scheduling.operators",
        "profinfer.scheduling.preemptions",
        "profinfer.scheduling.delays",
        "profinfer.scheduling.interference",
        "profinfer.scheduling.stalls",
        "profinfer.tokens.disturbances",
        "profinfer.memory.files",
        "profinfer.memory.paging",
        "profinfer.memory.weights",
        "profinfer.operators.traffic",
        "profinfer.memory.kv_cache",
        "profinfer.experts.caches",
        "profinfer.experts.readings",
        "profinfer.experts.shares",
        "profinfer.experts.uses",
        "profinfer.experts.activations",
    }
    of_the_engine = [(module, table) for module, table in TABLES if module not in beside]
    empty = {table for module, table in of_the_engine if not contents(alone, module, table)}
    # This recording lost nothing, has nothing to be warned of, its costs were not counted, and all
    # was computed in one place.
    assert empty <= {
        "profinfer_loss", "profinfer_recording_warning", "profinfer_handler",
        "profinfer_operator_cost", "profinfer_event_program", "profinfer_idle_process",
        "profinfer_copy",
    }  # fmt: skip


# ---- Two recordings of ours


def test_each_of_two_recordings_has_its_rows(tmp_path: Path) -> None:
    one = write_engine(tmp_path / "one.pftrace", engine(boot="a"))
    two = write_engine(tmp_path / "two.pftrace", engine(boot="a", pid=200))
    merged(tmp_path / "both.pftrace", one, two)
    with (
        open_trace(one, trace_processor="wasm") as first,
        open_trace(tmp_path / "both.pftrace", trace_processor="wasm") as both,
    ):
        assert both.import_errors() == []
        for module, table in TABLES:
            if table in ("profinfer_recording_warning", "profinfer_handler", "profinfer_loss",
                         "profinfer_operator_cost", "profinfer_operator_total",
                         "profinfer_scheduling_gap"):  # fmt: skip
                continue
            count = len(contents(first, module, table))
            assert len(contents(both, module, table)) == 2 * count, table
        graphs = "INCLUDE PERFETTO MODULE profinfer.graphs.runs; SELECT {} FROM profinfer_graph"
        assert both.query(graphs.format("count(DISTINCT graph_id)")).rows() == [(2 * STEPS,)]
        # Every operator lies in the graph of its own process.
        strangers = both.query(
            "INCLUDE PERFETTO MODULE profinfer.operators.runs; "
            "INCLUDE PERFETTO MODULE profinfer.graphs.runs;"
            "SELECT count() FROM profinfer_operator_slice AS o JOIN profinfer_graph AS g "
            "USING (graph_id) JOIN thread AS a ON a.utid = o.utid JOIN thread AS b "
            "ON b.utid = g.utid WHERE a.upid IS NOT b.upid "
            "OR o.ts NOT BETWEEN g.ts AND g.ts + g.dur"
        ).rows()
        assert strangers == [(0,)]
        tensors = both.query(
            "INCLUDE PERFETTO MODULE profinfer.operators.runs; "
            "INCLUDE PERFETTO MODULE profinfer.graphs.tensors; "
            "SELECT count() FROM profinfer_operator AS o JOIN profinfer_tensor AS t "
            "USING (tensor_id) WHERE o.name != t.name"
        ).rows()
        assert tensors == [(0,)]


@pytest.mark.parametrize("modes", [("system", "system"), ("system", "target")], ids="-".join)
def test_nothing_is_claimed_of_the_time_between_recordings(
    modes: tuple[str, str], tmp_path: Path
) -> None:
    """The worker's CPU was taken at the end of the first, and it runs in the second."""
    captures = [schedule(mode, later=number * LATER) for number, mode in enumerate(modes)]
    captures[0].switch(1045 * UNIT, CPU1, WORKER, SPINNER, RUNS, FAULT)
    parts = []
    for number, capture in enumerate(captures):
        capture.at_start = {"boot_id": "a"}
        found = capture.frames(started=BASE + number * LATER * UNIT)
        parts.append(convert(found, tmp_path / f"{number}.pftrace"))
    merged(tmp_path / "both.pftrace", *parts)
    with open_trace(tmp_path / "both.pftrace", trace_processor="wasm") as session:
        (_, takers, *_) = query.run(session, query.read(query.resolve("interference")))
        # In each of them once as long as in `schedule`, and what was seen of the last one.
        found_takers = [dict(zip(takers.columns, row, strict=True)) for row in takers.rows]
        assert [(row["thread"], row["times"], row["taken_ms"]) for row in found_takers] == [
            ("spinner", 2, 4.0)
        ]
        spans = session.query(
            "INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;"
            "SELECT count(), sum(kind IS NULL AND NOT complete) FROM profinfer_thread_state"
            f" WHERE ts <= {BASE + 1050 * UNIT} AND ts + dur >= {BASE + LATER * UNIT}"
        ).rows()
        assert spans == [(2, 2)]


def test_who_took_a_cpu_counts_once(tmp_path: Path) -> None:
    """A recording of the target's switches knows who took its CPU at first, that of the system who
    ran there all the time: the one is a part of the other."""
    other = SPINNER + 1
    parts = []
    for mode in ("target", "system"):
        capture = Capture(scheduler=mode, strangers={SPINNER: "spinner", other: "other"})
        capture.at_start = {"boot_id": "a"}
        if mode == "target":
            shape = capture.structure(10 * UNIT, [T("a", "ADD")])
            capture.graph(shape, 50 * UNIT, 500 * UNIT, {MAIN: [("a", 60 * UNIT, 400 * UNIT)]})
        else:
            capture.at_start |= {"target": {"pid": 300, "name": "idle", "command": ["idle"]}}
            capture.switch(900 * UNIT, CPU0, 0, other)
        for at, leaves, comes in (
            (5, 0, MAIN), (100, MAIN, SPINNER), (140, SPINNER, other), (210, other, MAIN),
        ):  # fmt: skip
            capture.switch(at * UNIT, CPU0, leaves, comes, RUNS, FAULT)
        capture.switch(540 * UNIT, CPU0, MAIN, 0, SLEEPS, FUTEX)
        parts.append(convert(capture.frames(), tmp_path / f"{mode}.pftrace"))
    merged(tmp_path / "both.pftrace", *parts)
    with open_trace(tmp_path / "both.pftrace", trace_processor="wasm") as session:
        takers = session.query(
            "INCLUDE PERFETTO MODULE profinfer.scheduling.preemptions;"
            "SELECT taker_tid, sum(dur) FROM profinfer_preemption GROUP BY 1 ORDER BY 1"
        ).rows()
    assert takers == [(SPINNER, 40 * UNIT), (other, 70 * UNIT)]


def test_a_merged_trace_can_be_merged_again(tmp_path: Path) -> None:
    """Processes of one machine, and one of the same number on another."""
    one = write_engine(tmp_path / "one.pftrace", engine(boot="a"))
    two = write_engine(tmp_path / "two.pftrace", engine(boot="a", pid=200))
    other = write_engine(tmp_path / "other.pftrace", engine(boot="b"), booted=BOOTED + 10**12)
    merged(tmp_path / "two+one.pftrace", two, one)
    merged(tmp_path / "three.pftrace", tmp_path / "two+one.pftrace", other)
    for name, labels in (
        ("two+one", {"engine (100)", "engine (200)"}),
        ("three", {"engine (100) #1", "engine (100) #2", "engine (200)"}),
    ):
        with open_trace(tmp_path / f"{name}.pftrace", trace_processor="wasm") as session:
            assert session.import_errors() == []
            assert query.recording_warnings(session) == []
            (*_, processes) = query.run(session, query.read(query.resolve("summary")))
            assert {row[0] for row in processes.rows} == labels
            assert {row[processes.columns.index("graphs")] for row in processes.rows} == {STEPS}
            for each in READY:
                assert answers(session, each)


def test_two_recordings_of_one_thread_at_one_time_are_refused(tmp_path: Path) -> None:
    one = write_engine(tmp_path / "one.pftrace", engine(boot="a"))
    two = write_engine(tmp_path / "two.pftrace", engine(boot="a"))
    with pytest.raises(TraceError, match="recorded process 100 at the same time"):
        merged(tmp_path / "both.pftrace", one, two)
    assert not (tmp_path / "both.pftrace").exists()
