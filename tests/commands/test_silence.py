"""Probes that nothing comes from are named, while a recording runs and when it has ended."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.command import (
    REPO,
    TIMEOUT,
    finish,
    profinfer,
    running,
    start,
    written,
)
from tests.conftest import require

pytestmark = pytest.mark.usefixtures("root")

_IDLE = "holds an engine and has computed nothing with it"


def _summary(folder: Path) -> str:
    ran = profinfer("query", "summary", "t.pftrace", "--trace-processor", "wasm", cwd=folder)
    assert ran.code == 0, ran.err
    return ran.err


def test_a_process_that_computes_nothing_is_named_at_the_end(engine: Path, tmp_path: Path) -> None:
    with running(engine / "known", "--wait", 0) as process:
        options = ("--duration", 0.3, "-o", "t.pftrace", "--pid", process.pid)
        ran = profinfer("record", *options, cwd=tmp_path)
        assert process.poll() is None
    assert ran.code == 0, ran.err
    [said] = [line for line in ran.err.splitlines() if _IDLE in line]
    assert f"process {process.pid} (known)" in said
    assert "ggml_graph_compute" in said
    assert f"process {process.pid} (known) {_IDLE}" in _summary(tmp_path)


def test_a_process_that_only_imports_a_real_engine_is_named(tmp_path: Path) -> None:
    require("the xllamacpp wheel", importlib.util.find_spec("xllamacpp"))
    script = "import xllamacpp; print(flush=True); input()"
    with running(sys.executable, "-c", script) as process:
        options = ("--duration", 0.3, "-o", "t.pftrace", "--pid", process.pid)
        ran = profinfer("record", *options, cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert ran.err.count(f"process {process.pid} (python) {_IDLE}") == 1
    assert f"process {process.pid} (python) {_IDLE}" in _summary(tmp_path)


def test_a_process_that_computes_is_not(engine: Path, tmp_path: Path) -> None:
    command = (engine / "known", "--decode", 2)
    ran = profinfer("record", "-o", "t.pftrace", "--", *command, cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert "computed nothing" not in ran.err
    assert "computed nothing" not in _summary(tmp_path)


def test_a_process_that_is_busy_with_something_else_is_named_meanwhile(
    engine: Path, tmp_path: Path
) -> None:
    script = f"import ctypes; ctypes.CDLL('{engine}/libknown.so'); print(1, flush=True)\nwhile 1: 7"
    with running("/usr/bin/python3", "-c", script) as process:
        recorder = start("record", "-o", "t.pftrace", "--pid", process.pid, cwd=tmp_path)
        assert recorder.stderr is not None
        # Long before it ends, which it would not do by itself.
        while _IDLE not in (line := recorder.stderr.readline()):
            assert line, "it has ended"
        assert line.startswith("profinfer: warning: process")
        process.kill()
        ran = finish(recorder)
    assert ran.code == 0, ran.err
    assert ran.err.count(_IDLE) == 1


def test_a_level_without_a_record_is_named_while_others_have_some(tmp_path: Path) -> None:
    """A function that is there, and that nobody calls."""
    source = written(tmp_path / "unused.c", "void ggml_barrier(void *pool) { (void)pool; }\n")
    double = REPO / "tests/double"
    library, known = tmp_path / "libknown.so", tmp_path / "known"
    common = ("gcc", "-std=gnu11", "-O2", "-pthread")
    sources = [double / name for name in ("ggml.c", "asked.c", "parts.c")]
    hidden: tuple[str | Path, ...] = ("-Dggml_barrier=hidden_barrier", *sources)
    commands: tuple[tuple[str | Path, ...], ...] = (
        (*common, "-fPIC", "-c", source, "-o", tmp_path / "unused.o"),
        (*common, "-fPIC", "-shared", *hidden, tmp_path / "unused.o", "-o", library),
        (*common, double / "main.c", "-o", known, library, "-Wl,-rpath,$ORIGIN"),
    )
    for command in commands:
        subprocess.run(command, check=True, timeout=TIMEOUT)
    busy = (known, "--decode", 400, "--work-us", 500, "--samples", 0)
    options = ("--level", "barrier", "--scheduler", "off", "-o", "t.pftrace")
    ran = profinfer("record", *options, "--", *busy, cwd=tmp_path)
    assert ran.code == 0, ran.err
    said = [line for line in ran.err.splitlines() if "has not called ggml_barrier once" in line]
    assert len(said) == 2, ran.err  # while it went on, and at the end
    assert ran.err.index(said[0]) < ran.err.index("exited with status")
    assert "has not called ggml_barrier once" in _summary(tmp_path)
