"""Engines that do not have all levels: what is left out is said before their work begins."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from profinfer.trace_processor import Session, open_trace
from tests.commands.command import TIMEOUT, Ran, fails, profinfer, running, written

pytestmark = pytest.mark.usefixtures("root")

_KNOWN = ("--decode", 3, "--work-us", 5)


def _record(cwd: Path, *args: object) -> Ran:
    return profinfer("record", "--scheduler", "off", "-o", "t.pftrace", *args, cwd=cwd)


def _count(session: Session, what: str, module: str) -> int:
    session.query(f"INCLUDE PERFETTO MODULE profinfer.{module}")
    ((count,),) = session.query(f"SELECT count() FROM {what}")  # noqa: S608
    assert isinstance(count, int)
    return count


def _missing(session: Session) -> dict[str, str]:
    sql = (
        "INCLUDE PERFETTO MODULE profinfer.recording.metadata; "
        "SELECT substr(key, 14), value FROM profinfer_recording WHERE key GLOB 'plan.missing.*'"
    )
    return {str(level): str(reason) for level, reason in session.query(sql)}


def _left_out(ran: Ran) -> list[str]:
    return [line for line in ran.err.splitlines() if "is left out" in line]


@pytest.mark.parametrize("program", ["known", "known-dl"])
def test_a_program_with_ggml_alone_gives_graphs_and_operators_from_its_first_graph(
    program: str, engine_without_llama: Path, tmp_path: Path
) -> None:
    ran = _record(tmp_path, "--", engine_without_llama / program, *_KNOWN)
    assert ran.code == 0, ran.err
    [note] = _left_out(ran)
    assert "level token" in note
    assert "process_ubatch" in note
    assert ran.err.index(note) < ran.err.index("recording known")
    truth = json.loads(ran.out)
    calls = truth["calls"]
    operators = ("ggml_cpu_extra_compute_forward", "ggml_compute_forward_rms_norm_mul_fused")
    with open_trace(tmp_path / "t.pftrace", trace_processor="wasm") as session:
        graphs = "profinfer_graph WHERE backend = 'CPU'"
        assert _count(session, graphs, "graphs.runs") == calls["ggml_graph_compute"]
        slices = _count(session, "profinfer_operator_slice", "operators.runs")
        assert slices == sum(calls[name] for name in operators)
        assert _count(session, "profinfer_ubatch", "graphs.runs") == 0
        assert list(_missing(session)) == ["token"]
    ran = profinfer("query", "summary", "t.pftrace", "--trace-processor", "wasm", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert "level token was not recorded: no _ZN13llama_context14process_ubatch" in ran.err
    assert "MUL_MAT" in ran.out


def test_strict_is_an_error_before_the_command_works(
    engine_without_llama: Path, engine_without_barrier: Path, tmp_path: Path
) -> None:
    ran = _record(tmp_path, "--strict", "--", engine_without_llama / "known", *_KNOWN)
    fails(ran, 6, "level token", "process_ubatch")
    assert "without --strict" in ran.err
    assert ran.out == ""
    known = engine_without_barrier / "known"
    ran = _record(tmp_path, "--strict", "--level", "barrier", "--", known, *_KNOWN)
    fails(ran, 6, "level barrier", "no ggml_barrier", "hidden_barrier")
    assert ran.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "named"),
    [(("--level", "token"), ()), (("--iterations", "0-1"), ("--iterations",))],
    ids=["token", "iterations"],
)
def test_what_cannot_be_had_at_all_is_an_error_before_the_command_works(
    options: tuple[str, ...], named: tuple[str, ...], engine_without_llama: Path, tmp_path: Path
) -> None:
    ran = _record(tmp_path, *options, "--", engine_without_llama / "known", *_KNOWN)
    fails(ran, 6, "level token", "process_ubatch", *named)
    assert ran.out == ""
    with running(engine_without_llama / "known", "--wait", 0) as process:
        fails(_record(tmp_path, *options, "--pid", process.pid), 6, "level token", *named)
        assert process.poll() is None
    assert list(tmp_path.iterdir()) == []


def test_a_running_process_is_recorded_without_what_it_lacks(
    engine_without_barrier: Path, tmp_path: Path
) -> None:
    options = ("--level", "barrier", "--duration", 0.3)
    with running(engine_without_barrier / "known", "--wait", 0) as process:
        ran = _record(tmp_path, *options, "--strict", "--pid", process.pid)
        fails(ran, 6, "level barrier", "no ggml_barrier", "hidden_barrier")
        ran = _record(tmp_path, *options, "--pid", process.pid)
        assert process.poll() is None
    assert ran.code == 0, ran.err
    [note] = _left_out(ran)
    assert "level barrier" in note
    with open_trace(tmp_path / "t.pftrace", trace_processor="wasm") as session:
        assert list(_missing(session)) == ["barrier"]


def test_waits_of_an_engine_without_barriers_are_unknown(
    engine_without_barrier: Path, tmp_path: Path
) -> None:
    known = engine_without_barrier / "known"
    ran = _record(tmp_path, "--level", "barrier", "--", known, "--decode", 2)
    assert ran.code == 0, ran.err
    ubatches = sum(json.loads(ran.out)["ubatches"].values())
    with open_trace(tmp_path / "t.pftrace", trace_processor="wasm") as session:
        assert "ggml_barrier" in _missing(session)["barrier"]
        assert _count(session, "profinfer_operator", "operators.runs") > 0
        # None has begun before the probes were in place.
        assert _count(session, "profinfer_ubatch", "graphs.runs") == ubatches
        waits = session.query("SELECT count(wait_dur) FROM profinfer_operator_slice")
        # Not 0: nobody looked.
        assert list(waits) == [(0,)]


def test_a_part_that_comes_later_is_waited_for(
    engine: Path, engine_without_llama: Path, tmp_path: Path
) -> None:
    """As Python packages do it: ggml first, llama.cpp when it is asked for."""
    library = engine_without_llama / "libknown.so"
    source = written(
        tmp_path / "early.c",
        "#include <dlfcn.h>\n__attribute__((constructor)) static void load(void) {\n"
        f'  if (!dlopen("{library}", RTLD_NOW | RTLD_LOCAL))\n    __builtin_trap();\n}}\n',
    )
    early = tmp_path / "early.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", early, source], check=True, timeout=TIMEOUT)
    command = ("env", f"LD_PRELOAD={early}", engine / "known-dl", "--start-delay", 50, *_KNOWN)
    ran = _record(tmp_path, "--level", "graph", "--", *command)
    assert ran.code == 0, ran.err
    assert _left_out(ran) == []
    ubatches = sum(json.loads(ran.out)["ubatches"].values())
    with open_trace(tmp_path / "t.pftrace", trace_processor="wasm") as session:
        assert _missing(session) == {}
        assert _count(session, "profinfer_ubatch", "graphs.runs") == ubatches


def test_an_engine_that_lacks_a_level_and_computes_nothing_is_named(
    engine_without_llama: Path, tmp_path: Path
) -> None:
    library = engine_without_llama / "libknown.so"
    script = f"import ctypes; ctypes.CDLL({os.fspath(library)!r})"
    ran = _record(tmp_path, "--", "/usr/bin/python3", "-c", script)
    fails(ran, 5, "/usr/bin/python3", "status 0", "before the engine in it had anything to compute")
