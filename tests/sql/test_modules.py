"""Every module and ready query by itself, on traces that give it nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from profinfer.records.capture import FrameKind, json_frame
from profinfer.records.dtypes import Kind
from profinfer.trace_processor import Session, open_trace, query
from tests.captures import BASE, CONTEXT, Capture, T
from tests.sql.costs import decoding, measure
from tests.sql.harness import MODULES, READY, ask, foreign_trace, opened, ready, rows
from tests.sql.schedules import offloaded, small, split
from tests.sql.test_counters import counted
from tests.sql.test_kv_cache import attention, grown
from tests.sql.test_memory import INODE, MAPPED, OTHER, fault, look, mapping, model, read
from tests.sql.test_request_queries import parallel
from tests.sql.test_scheduling import schedule
from tests.sql.test_weights import weights

_TABLE = re.compile(r"^CREATE PERFETTO (?:TABLE|VIEW) (profinfer_\w+)\((.*?)^\) AS", re.M | re.S)
_COLUMN = re.compile(r"^  (\w+) ([A-Z]+)(?:\([\w.]+\))?,?$", re.M)
_TYPES = {
    "LONG": int, "DOUBLE": float, "STRING": str, "BOOL": int, "TIMESTAMP": int, "DURATION": int,
    "ID": int, "JOINID": int, "ARGSETID": int,
}  # fmt: skip


def public_tables() -> dict[str, dict[str, str]]:
    """Name to columns to types."""
    return {
        name: dict(_COLUMN.findall(body))
        for text in MODULES.values()
        for name, body in _TABLE.findall(text)
    }


TABLES = public_tables()


def test_the_tables_of_the_issue_are_there() -> None:
    assert set(TABLES) >= {
        "profinfer_ubatch", "profinfer_graph", "profinfer_tensor", "profinfer_edge",
        "profinfer_operator_slice", "profinfer_operator", "profinfer_loss",
    }  # fmt: skip
    assert set(TABLES["profinfer_operator_slice"]) >= {"ts", "dur", "utid", "wait_dur"}
    assert set(TABLES["profinfer_operator"]) >= {
        "ts", "dur", "name", "op", "layer", "graph_id", "thread_count", "busy_dur", "wait_dur",
    }  # fmt: skip
    assert set(TABLES["profinfer_loss"]) >= {"ts", "cpu", "kind", "lost"}
    assert set(READY) >= {"summary", "tokens", "hotspots", "stalls", "imbalance", "dag"}


@pytest.fixture(scope="module", params=["empty", "foreign"])
def barren(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Session]:
    path: Path | None = None
    if request.param == "foreign":
        path = foreign_trace(tmp_path_factory.mktemp("trace") / "foreign.pftrace")
    with open_trace(path, trace_processor="wasm") as session:
        yield session


@pytest.mark.parametrize("module", MODULES)
def test_includes_alone(module: str) -> None:
    with open_trace(None, trace_processor="wasm") as session:
        assert session.query(f"INCLUDE PERFETTO MODULE {module}").rows() == []


@pytest.mark.parametrize("table", sorted(TABLES))
def test_tables_are_empty_on_traces_that_are_not_ours(barren: Session, table: str) -> None:
    found = ask(barren, f"SELECT count() FROM {table}")  # noqa: S608
    assert found == [(1 if table == "profinfer_recording_warning" else 0,)]


@pytest.mark.parametrize("name", READY)
def test_ready_queries_answer_nothing_on_traces_that_are_not_ours(
    barren: Session, name: str
) -> None:
    tables = query.run(barren, query.read(query.resolve(name)))
    assert tables
    assert all(table.title and table.columns for table in tables)
    assert [table.rows for table in tables] == [[]] * len(tables)


def add_experts(capture: Capture) -> None:
    """Two runs of a layer with experts, and one of which nothing was read."""
    capture.with_experts = True
    nodes = [
        T("ids-3", "VIEW", ne=(2, 1, 1, 1)), T("blk.3.ffn_up_exps.weight", ne=(4, 4, 8, 1)),
        T("ffn_moe_up-3", "MUL_MAT_ID", ("blk.3.ffn_up_exps.weight", "x", "ids-3")), T("x"),
        T("ffn_moe_weighted-3", "MUL", ("ffn_moe_up-3", "x")),
    ]  # fmt: skip
    shape = capture.structure(7_000_000, nodes, cgraph=0x9900)
    for position in (5, 6, 7):
        at = 1_000_000 * (3 + position)
        capture.ubatch(at, at + 900_000, [(0, position, 1, 1, 1)])
        operators = [("ffn_moe_up-3", at + 200), ("ffn_moe_weighted-3", at + 300_000)]
        capture.graph(shape, at + 100, at + 800_000, {100: operators})
        if position < 7:
            capture.experts(shape, "ffn_moe_up-3", at + 300, [[7, 2]])
            capture.experts(shape, "ffn_moe_weighted-3", at + 300_100, [[0.75, 0.25]],
                            kind=Kind.EXPERT_WEIGHTS)  # fmt: skip


@pytest.fixture(scope="module")
def full() -> Iterator[Session]:
    """A trace that has something to say in every column."""
    capture = measure(small())
    lost = BASE + 2_790_000
    capture.add(Kind.BARRIER, lost - BASE, 100)
    capture.lose(lambda row: row.ts == lost)
    capture.call("memory", 2_810_000, 2_811_000, {"context": CONTEXT}, result=7, kind="address")
    capture.call("copy", 2_820_000, 2_821_000,
                 {"memory": 7, "source": 0, "sequence": 1, "begin": -1, "end": -1})  # fmt: skip
    capture.at_start["plan"]["calls"] = capture.start()["plan"]["calls"]
    capture.ubatch(3_000_000, 4_000_000, [(1, 4, 1, 1, 1)])
    capture.ubatch(4_100_000, 4_200_000, [(2, 7, 1, 1, 1)])
    capture.ubatch(5_000_000, 6_000_000, [(0, 4, 1, 1, 1)])
    add_experts(capture)
    shape = attention(capture, 5_010_000, 32)
    capture.graph(
        shape, 5_020_000, 5_900_000,
        {100: [("q-0", 5_030_000), ("kq-0", 5_100_000), ("kqv-0", 5_500_000)]},
    )  # fmt: skip
    asked = {"faults": True, "block_io": True}
    capture.at_start["config"] = {**capture.start()["config"], **asked}
    counted_by = {"runs": 1009, "timed_runs": 11, "timed_ns": 2002}
    capture.at_end["event_programs"] = [
        {"program": "on_switch", "event": "sched_switch", **counted_by}
    ]
    fault(capture, 5_200_000, 100, MAPPED + 0x1_2345, major=True)
    read(capture, 5_210_000, 0x1_0000, 5)
    bad = model(inode=OTHER, path="/other", error="no", tensors=[])
    capture.extra = [
        look(5_910_000, [mapping(MAPPED, INODE)], []),
        json_frame(FrameKind.MODELS, BASE + 5_920_000,
                   [model(expert_count=4, expert_used_count=2), bad]),
    ]  # fmt: skip
    with opened(capture, drains=[(lost, lost)]) as session:
        yield session


@pytest.fixture(scope="module")
def scheduled() -> Iterator[Session]:
    """A trace that has something to say of how threads were scheduled."""
    with opened(schedule()) as session:
        yield session


@pytest.fixture(scope="module")
def of_counters() -> Iterator[Session]:
    """A trace that has something to say of every counter."""
    capture = counted()
    capture.at_start["counters"]["events"][-1]["role"] = "memory_write"
    with opened(capture) as session:
        yield session


@pytest.fixture(scope="module")
def growing() -> Iterator[Session]:
    """A trace in which attention takes longer and longer."""
    with opened(grown()) as session:
        yield session


@pytest.fixture(scope="module")
def waiting() -> Iterator[Session]:
    """A trace in which requests wait for each other, and for the sampler."""
    with opened(parallel()) as session:
        yield session


@pytest.fixture(scope="module", name="weighed")
def weighed_fixture() -> Iterator[Session]:
    """A trace that has something to say of weights in files, and outside."""
    with opened(weights()) as session:
        yield session


def tables_of(*modules: str) -> set[str]:
    """The tables of modules."""
    return {name for module in modules for name, _ in _TABLE.findall(MODULES[module])}


@pytest.fixture(scope="module", name="idle")
def idle_fixture() -> Iterator[Session]:
    """A process in a container that computed nothing."""
    capture = Capture()
    target = capture.start()["target"]
    probe = {"handler": "on_operator", "level": "operator", "object": "/lib/libggml-cpu.so"}
    capture.at_start = {
        "target": target | {"cgroup": "/a/b", "container_id": "b", "unit": "a.service"},
        "plan": {"level": "barrier", "probes": [probe], "missing": {"barrier": "no ggml_barrier"}},
    }
    capture.at_end["notes"] = [
        "the weather is fine", "a (b) (17) holds an engine and has computed nothing: so it goes",
    ]  # fmt: skip
    with opened(capture) as session:
        yield session


@pytest.fixture(scope="module", name="several")
def several_fixture() -> Iterator[Session]:
    """Several backends."""
    with opened(offloaded()) as session:
        yield session


def test_a_process_is_described(idle: Session) -> None:
    assert ask(
        idle,
        "SELECT pid, name, label, recordings, engine, levels, left_out, graphs, note, cgroup, "
        "container_id, unit FROM profinfer_process",
    ) == [
        (100, "engine", "engine (100)", 1, "ggml 1.2.3, libggml-cpu.so", "operator",
         "barrier: no ggml_barrier", 0, "it holds an engine and has computed nothing", "/a/b", "b",
         "a.service"),
    ]  # fmt: skip
    assert ask(idle, "SELECT * FROM profinfer_idle_process") == [
        ("a (b) (17)", 17, "it holds an engine and has computed nothing: so it goes")
    ]
    *_, processes = ready(idle, "summary").values()
    assert rows(processes, "process", "graphs") == [("engine (100)", 0), ("a (b) (17)", 0)]


@pytest.mark.parametrize("table", sorted(TABLES))
def test_columns_have_the_declared_types(
    full: Session, scheduled: Session, of_counters: Session, growing: Session, idle: Session,
    waiting: Session, weighed: Session, several: Session, table: str,
) -> None:  # fmt: skip
    columns = TABLES[table]
    assert columns
    session = full
    if table in tables_of(
        "profinfer.scheduling.thread_states",
        "profinfer.scheduling.operators",
        "profinfer.scheduling.preemptions",
        "profinfer.scheduling.hindrances",
        "profinfer.scheduling.delays",
        "profinfer.scheduling.interference",
        "profinfer.scheduling.stalls",
        "profinfer.tokens.disturbances",
    ) - {"profinfer_scheduling_gap"}:
        session = scheduled
    elif table in tables_of("profinfer.counters.readings", "profinfer.counters.metrics"):
        session = of_counters
    elif table in tables_of("profinfer.memory.kv_cache"):
        session = growing
    elif table in tables_of("profinfer.recording.processes"):
        session = idle
    elif table in tables_of("profinfer.tokens.gaps", "profinfer.tokens.parts"):
        session = waiting
    elif table in tables_of("profinfer.graphs.splits"):
        session = several
    elif table in {"profinfer_fault", "profinfer_weight"}:
        session = weighed
    query = f"SELECT {', '.join(columns)} FROM {table}"  # noqa: S608
    found = ask(session, query)
    assert found
    if table in tables_of(
        "profinfer.operators.slices", "profinfer.operators.runs", "profinfer.operators.totals"
    ):
        found += ask(scheduled, query)  # throttled_dur
    if table in tables_of("profinfer.recording.share"):
        with opened(measure(decoding())) as known:
            found += ask(known, query)  # net of all operators
    if table == "profinfer_handler":
        capture = measure(decoding())
        capture.at_end["hit_cost"] = {"sites": {"push": 720.0}}
        with opened(capture) as long:
            found += ask(long, query)  # trap_drift_ns
    if table == "profinfer_unrecorded":
        with opened(split()) as offloaded:
            found += ask(offloaded, query)  # reason
    for values, (name, kind) in zip(zip(*found, strict=True), columns.items(), strict=True):
        present = [value for value in values if value is not None]
        assert present, f"{table}.{name} is always NULL"
        assert {type(value) for value in present} == {_TYPES[kind]}, f"{table}.{name}"
        if kind == "BOOL":
            assert set(present) <= {0, 1}
