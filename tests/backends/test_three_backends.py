"""A real engine on three backends: the CPU, BLAS for large batches, and another process by RPC.
Counts are those of a second tracer, splits and copies those that ggml's scheduler prints."""

from __future__ import annotations

import importlib.util
import platform
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from profinfer.trace_processor import Session, open_trace
from tests.conftest import require
from tests.recording.counter import Place, counting
from tests.recording.helpers import record
from tests.sql.harness import ask, ready

FUNCTIONS = {
    "graphs": ("ggml_backend_graph_compute_async",),
    "split": ("ggml_backend_sched_split_graph",),
    "allocate": ("ggml_backend_sched_alloc_graph",),
    "set": ("ggml_backend_tensor_set", "ggml_backend_tensor_set_async"),
    "get": ("ggml_backend_tensor_get", "ggml_backend_tensor_get_async"),
    "wait": ("ggml_backend_synchronize", "ggml_backend_event_synchronize"),
}
STARTED = 60
_SPLIT = re.compile(r"## SPLIT #(\d+): (.+?) # (\d+) inputs(.*)")
_INPUT = re.compile(r"\[([^\]]+?) \(\s*\d+[KM]\)\]")

Split = tuple[str, list[str]]
"""A backend, and what is copied for it."""


def said(output: str) -> list[list[Split]]:
    """What the scheduler printed, each time that it split a graph."""
    blocks: list[list[Split]] = []
    for number, backend, inputs, rest in _SPLIT.findall(output):
        if number == "0":
            blocks.append([])
        names = _INPUT.findall(rest)
        assert len(names) == int(inputs)
        blocks[-1].append((backend, names))
    return blocks


class Recorded:
    """A trace, and what is known of the engine without it."""

    def __init__(self, session: Session, output: str, counts: dict[str, int]) -> None:
        self.session = session
        self.splits = said(output)
        self.counts = counts


@pytest.fixture(scope="module", name="folder")
def folder_fixture(repo: Path) -> Path:
    """With the two backends."""
    require("the xllamacpp wheel", importlib.util.find_spec("xllamacpp"))
    found = sorted(repo.glob(f"build/backends/{platform.machine()}/xllamacpp-*"))
    require("RPC and BLAS of the engine's build", found)
    return found[-1]


@pytest.fixture(scope="module", name="server")
def server_fixture(repo: Path, folder: Path) -> Iterator[str]:
    """Where another process computes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = (sys.executable, repo / "tests/backends/engine.py", folder, "--serve", str(port))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + STARTED
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()


@pytest.fixture(scope="module", name="recorded")
def recorded_fixture(
    repo: Path, folder: Path, gemma: Path, server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Recorded]:
    trace = tmp_path_factory.mktemp("backends") / "three.pftrace"
    spec = importlib.util.find_spec("xllamacpp")
    assert spec
    assert spec.origin
    [library] = Path(spec.origin).parent.glob("xllamacpp*.so")
    places = [Place(what, library, name) for what, names in FUNCTIONS.items() for name in names]
    with counting(places) as counter:
        done = record(
            trace,
            ["--level", "graph", "--scheduler", "off"],
            ["env", "GGML_SCHED_DEBUG=1", "OPENBLAS_NUM_THREADS=1", sys.executable,
             repo / "tests/backends/engine.py", folder, gemma, "--rpc", server],
            timeout=200,
        )  # fmt: skip
        with open_trace(trace, trace_processor="wasm") as session:
            [(pid,)] = ask(
                session, "SELECT value FROM profinfer_recording WHERE key = 'target.pid'"
            )
            counts = counter.counts(int(str(pid)))
            yield Recorded(
                session, done.stdout + done.stderr,
                {what: sum(counts[what].values()) for what in FUNCTIONS},
            )  # fmt: skip


def test_counts_are_those_of_a_second_tracer(recorded: Recorded) -> None:
    seen = ask(
        recorded.session,
        "SELECT iif(category = 'graph', 'graphs', name) AS what, count() FROM slice"
        " WHERE category IN ('graph', 'part') GROUP BY what ORDER BY what",
    )
    assert seen == sorted(recorded.counts.items())


def test_backends_bear_the_engines_own_names(recorded: Recorded, server: str) -> None:
    names = ask(recorded.session, "SELECT name, kind FROM profinfer_backend ORDER BY name")
    rpc = f"RPC0[{server}]"
    assert names == [("BLAS", "BLAS"), ("CPU", "CPU"), (rpc, "RPC")]
    tracks = ask(
        recorded.session,
        "SELECT t.name, count() FROM slice AS s JOIN track AS t ON t.id = s.track_id"
        " WHERE s.category = 'backend' GROUP BY 1 ORDER BY 1",
    )
    graphs = ask(
        recorded.session, "SELECT backend, count() FROM profinfer_graph GROUP BY 1 ORDER BY 1"
    )
    assert tracks == graphs
    assert [name for name, _ in tracks] == ["BLAS", "CPU", rpc]


def test_splits_and_copies_are_the_schedulers_own(recorded: Recorded) -> None:
    """Of each micro-batch: by what was printed last before its graphs."""
    session = recorded.session
    times = ask(
        session, "SELECT ts FROM slice WHERE category = 'part' AND name = 'split' ORDER BY ts"
    )
    assert len(times) == len(recorded.splits)
    seen: dict[object, list[Split]] = {}
    begun: dict[object, int] = {}
    for ubatch, ts, backend in ask(
        session, "SELECT ubatch_id, ts, backend FROM profinfer_split ORDER BY ubatch_id, split"
    ):
        begun.setdefault(ubatch, int(str(ts)))
        seen.setdefault(ubatch, []).append((str(backend), []))
    for ubatch, split, tensor in ask(
        session, "SELECT ubatch_id, split, tensor FROM profinfer_copy ORDER BY ts"
    ):
        seen[ubatch][int(str(split))][1].append(str(tensor))
    assert len(seen) >= 8
    assert max(len(splits) for splits in seen.values()) > 2
    for ubatch, splits in seen.items():
        printed = recorded.splits[sum(int(str(ts)) < begun[ubatch] for (ts,) in times) - 1]
        # What lies in memory that the other backend reads as it is, as BLAS does, is not copied.
        assert splits == [
            (backend, names if backend.startswith("RPC") else []) for backend, names in printed
        ]


def test_what_is_submitted_is_waited_for(recorded: Recorded) -> None:
    """RPC returns at once; the others have computed by then."""
    found = ask(
        recorded.session,
        "SELECT backend, sum(submit_dur), sum(seen_dur), count() - count(seen_dur)"
        " FROM profinfer_execution WHERE ubatch_id IS NOT NULL GROUP BY 1 ORDER BY 1",
    )
    by_name = {str(name)[:3]: (int(str(a)), int(str(b)), rest) for name, a, b, rest in found}
    assert by_name["RPC"][1] > 2 * by_name["RPC"][0]
    assert by_name["CPU"][1] < 1.5 * by_name["CPU"][0]
    assert {rest for *_, rest in by_name.values()} == {0}


def test_queries_tell_of_it(recorded: Recorded, server: str) -> None:
    session = recorded.session
    title = "Graphs by backend (unrecorded: without a record of any operator)"
    said = ready(session, "summary")[title]
    assert {str(row["backend"]) for row in said} == {"BLAS", "CPU", f"RPC0[{server}]"}
    splits, why, fallbacks = ready(session, "splits").values()
    assert {row["splits_max"] for row in splits if row["phase"] == "decode"} == {2}
    moved = Counter(str(row["moved_op"]) for row in why if row["backend"] == "BLAS")
    assert set(moved) == {"MUL_MAT"}
    assert fallbacks
    copies, step, unseen = ready(session, "copies").values()
    assert {row["to_backend"] for row in copies} == {f"RPC0[{server}]"}
    assert unseen == []
    assert len(step) == len(recorded.splits[-1][1][1])


def test_steps_add_up_and_little_is_left(recorded: Recorded) -> None:
    """3 % at most are in nothing that bears a name of the engine's."""
    *_, means, unknown = ready(recorded.session, "tokens").values()
    assert unknown == []
    percent = {str(row["part"]): float(str(row["percent"])) for row in means}
    assert sum(percent.values()) == pytest.approx(100, abs=0.1)
    assert percent["wait"] > 0
    assert percent["rest"] + percent["ubatch"] <= 3
