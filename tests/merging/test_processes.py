"""Several processes in one trace: what is said of each is what its own trace says."""

# ruff: noqa: S608  SQL is put together here, from words of this file

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from profinfer.__main__ import main
from profinfer.drawing.dag import layer_dot
from profinfer.errors import QueryError
from profinfer.records.capture import Frame
from profinfer.trace_processor import Session, open_trace, query
from tests.captures import BASE, MAIN, WORKER, Capture, convert, layout
from tests.drawing.pictures import read
from tests.merging.inputs import merged
from tests.merging.test_questions import READY, TABLES
from tests.sql import test_memory as memory
from tests.sql.costs import decoding, measure
from tests.sql.harness import ask, ready
from tests.sql.test_counters import counted
from tests.sql.test_experts import faulty
from tests.sql.test_kv_cache import grown
from tests.sql.test_tables import GAP, US, small

_NUMBERED = {
    "dag_id", "first_run", "form", "fused_into",
    "id", "slice_id", "utid", "upid", "track_id", "arg_set_id", "file_read_id", "operator_slice_id",
    "graph_id", "structure_id", "ubatch_id", "tensor_id", "src_tensor_id", "fused_tensor_id",
    "view_src", "description", "request_id", "reading_id", "token_id", "turn", "gap", "file",
    "model_tensor_id", "state_id", "preemption_id", "role_id", "operator_id", "weight_id",
    "first_tensor_id",
}  # fmt: skip
"""Numbers that are unique in a trace, and so other ones in each."""
_COUNTED = {"request", "token_id", "slice_id"}
"""The same in ready queries."""
_PIDS = {
    "costs": 300, "no-barriers": 400, "lossy": 500, "experts": 600, "experts-too": 700,
    "memory": 800, "memory-too": 900, "attention": 1000, "counters": 1100, "idle": 1200,
}  # fmt: skip
IDLE = {
    "cgroup": "/docker/abc", "container_id": "abc", "unit": "docker.service",
    "objects": [{"path": "/lib/libggml-base.so"}],
}  # fmt: skip


def capture_of(name: str) -> Capture:
    """A recording, as other tests have it."""
    if name == "costs":
        return measure(decoding())
    if name == "no-barriers":
        return measure(decoding("operator"))
    if name == "lossy":
        capture = small()
        capture.lose(lambda row: row.ts == BASE + GAP[1] * US and row.tid == WORKER)
        return capture
    if name.startswith("experts"):
        return faulty().capture
    if name.startswith("memory"):
        return memory.small()
    return {"attention": grown, "counters": counted, "idle": Capture}[name]()


def frames(name: str) -> list[Frame]:
    """Its frames, of a process of that name with another version of the engine."""
    capture = capture_of(name)
    pid = _PIDS[name]
    about = {"pid": pid, "name": name, "command": [name]} | (IDLE if name == "idle" else {})
    plan = {"level": "barrier", "probes": [], "missing": {"token": "no llama_decode"}}
    capture.at_start |= {"boot_id": "a", "target": about, "host": name}
    capture.at_start["layout"] = layout() | {"version": f"0.{pid}.0"}
    if name == "idle":
        capture.at_start["plan"] = plan
    if name == "lossy":
        return capture.frames([(BASE + t * US, BASE + t * US) for t in (GAP[0], GAP[1] + 5)])
    return memory.frames(capture, [memory.model()]) if "memory" in name else capture.frames()


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("processes")
    return {name: convert(frames(name), folder / f"{name}.pftrace") for name in _PIDS}


@pytest.fixture(scope="module")
def together(traces: dict[str, Path]) -> Iterator[Session]:
    output = next(iter(traces.values())).parent / "together.pftrace"
    merged(output, *traces.values())
    with open_trace(output, trace_processor="wasm") as session:
        yield session


@pytest.fixture(scope="module", params=list(_PIDS))
def alone(traces: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[tuple[str, Session]]:
    with open_trace(traces[request.param], trace_processor="wasm") as session:
        yield request.param, session


def tables(session: Session, name: str, process: str = "") -> dict[str, list[dict[str, object]]]:
    """What a ready query says of a process, or of all."""
    found: dict[str, list[dict[str, object]]] = {}
    # Of several processes the verdict shows the first lines.
    for title, rows in ready(session, name, is_all=name == "explain").items():
        found[title] = []
        for row in rows:
            first = next(iter(row))
            names = {first} & {"process", "taken_from"}
            if process in ("", row[first]):
                left_out = _COUNTED | names
                found[title].append({k: unnumbered(v) for k, v in row.items() if k not in left_out})
    return found


def unnumbered(value: object) -> object:
    """Sentences without the numbers of requests, which are unique in a trace."""
    return re.sub(r"request \d+", "request", value, flags=re.I) if isinstance(value, str) else value


def test_ready_queries_say_of_each_process_what_its_own_trace_says(
    together: Session, alone: tuple[str, Session]
) -> None:
    name, session = alone
    for each in READY:
        found = tables(together, each, f"{name} ({_PIDS[name]})")
        assert found == tables(session, each), each


def test_the_graph_of_a_process_is_what_its_own_trace_shows(
    together: Session, alone: tuple[str, Session]
) -> None:
    name, session = alone
    try:
        nodes = sorted(read(layer_dot(session)).nodes.values())
    except QueryError:
        with pytest.raises(QueryError, match=f"no process {name} with such a graph"):
            layer_dot(together, process=name)
        return
    for process in (name, str(_PIDS[name]), f"{name} ({_PIDS[name]})"):
        found = read(layer_dot(together, process=process))
        assert sorted(found.nodes.values()) == nodes
        assert found.title.startswith(f"{name} ({_PIDS[name]})\\n")


@pytest.mark.usefixtures("together")
def test_of_several_processes_it_is_said_whose_graph_is_drawn(
    traces: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    trace = str(traces["costs"].with_name("together.pftrace"))
    said = {}
    for process in (None, "costs", "nobody"):
        code = main(["dag", trace, "--dot", *(["--process", process] if process else [])])
        captured = capsys.readouterr()
        said[process] = captured.err
        assert (code, captured.out[:7]) == ((9, "") if process == "nobody" else (0, "digraph"))
    assert re.search(r"this is \S+ \(\d+\), one of \d processes; --process", said[None])
    assert "--process takes" not in said["costs"]
    assert "there are: " in said["nobody"]


def test_tables_have_of_each_process_what_its_own_trace_has(
    together: Session, alone: tuple[str, Session]
) -> None:
    name, session = alone
    [(upid,)] = ask(together, f"SELECT upid FROM profinfer_process WHERE pid = {_PIDS[name]}")
    for module, table in TABLES:
        # These say it in words.
        if table in ("profinfer_recording_warning", "profinfer_idle_process"):
            continue
        asked = f"INCLUDE PERFETTO MODULE {module}; SELECT * FROM {table}"
        results = [session.query(asked)]
        where = f"upid = {upid}"
        if "upid" not in results[0].columns:  # a part of what has one
            where = f"dag_id IN (SELECT dag_id FROM profinfer_dag WHERE {where})"
        results.append(together.query(f"{asked} WHERE {where}"))
        rows = []
        for found in results:
            keep = [i for i, column in enumerate(found.columns) if column not in _NUMBERED]
            kept = (tuple(unnumbered(row[i]) for i in keep) for row in found)
            rows.append(sorted(kept, key=repr))
        assert rows[0] == rows[1], table


def test_with_one_process_there_is_no_column_for_it(alone: tuple[str, Session]) -> None:
    for each in READY:
        for title, rows in ready(alone[1], each).items():
            if title != "Processes" and rows:
                assert next(iter(rows[0])) not in ("process", "taken_from"), title


def test_the_summary_lists_processes(together: Session) -> None:
    listed = {row["process"]: row for row in ready(together, "summary")["Processes"]}
    assert list(listed) == [f"{name} ({pid})" for name, pid in _PIDS.items()]
    assert listed["costs (300)"] == {
        "process": "costs (300)", "pid": 300, "engine": "ggml 0.300.0",
        "levels": "token, operator, barrier", "left_out": None, "graphs": 4, "incomplete": 0,
        "note": None, "cgroup": None, "container_id": None, "unit": None,
    }  # fmt: skip
    assert listed["idle (1200)"] == {
        "process": "idle (1200)", "pid": 1200, "engine": "ggml 0.1200.0, libggml-base.so",
        "levels": None, "left_out": "token: no llama_decode", "graphs": 0, "incomplete": 0,
        "note": "it holds an engine and has computed nothing",
        "cgroup": "/docker/abc", "container_id": "abc", "unit": "docker.service",
    }  # fmt: skip


def test_the_verdict_is_ten_lines_whatever_there_is(together: Session) -> None:
    """The first lines of each, in the order of the processes."""
    [rows], [every] = (ready(together, "explain", is_all=a).values() for a in (False, True))
    assert len(rows) == 10 < len(every)
    firsts = [row["process"] for row in every if row["rank"] == 1]
    assert [row["process"] for row in rows if row["rank"] == 1] == firsts
    assert {row["rank"] for row in rows} <= {1, 2}


def test_warnings_name_the_process(together: Session, alone: tuple[str, Session]) -> None:
    name, session = alone
    label = f"{name} ({_PIDS[name]}): "
    said = [message.removeprefix(label) for message, _ in query.recording_warnings(together)
            if message.startswith(label)]  # fmt: skip
    assert said == [message for message, _ in query.recording_warnings(session)]
    assert bool(said) == (name in ("lossy", "idle"))


def test_a_process_that_becomes_another_engine_is_told_apart(tmp_path: Path) -> None:
    """The same process number, one after the other; and the same program restarted."""
    paths = []
    for number, command in enumerate(("first", "second", "second")):
        capture = measure(decoding())
        later = number * 1_000_000_000_000
        capture.at_start |= {
            "boot_id": "a", "target": {"pid": MAIN, "name": "engine", "command": [command]},
        }  # fmt: skip
        capture.records = [row._replace(ts=row.ts + later) for row in capture.records]
        for i, (ts, data) in enumerate(capture.wide):
            stamp = (ts + later).to_bytes(8, "little")
            capture.wide[i] = (ts + later, stamp + data[8:])
        found = capture.frames(started=BASE + later)
        paths.append(convert(found, tmp_path / f"{number}.pftrace"))
    merged(tmp_path / "all.pftrace", *paths)
    with open_trace(tmp_path / "all.pftrace", trace_processor="wasm") as session:
        listed = ask(session, "SELECT label, recordings, graphs FROM profinfer_process")
        said = [message for message, _ in query.recording_warnings(session)]
        handlers, *_ = ready(session, "overhead").values()
    assert listed == [("engine (100) #1", 1, 4), ("engine (100) #2", 2, 8)]
    assert said == [
        "engine (100) #2: this process was recorded 2 times: what is summed is summed over all of "
        "them"
    ]
    # What a hit costs differs between two recordings.
    assert {row["process"] for row in handlers} == {"engine (100) #1"}
