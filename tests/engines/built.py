"""Engines that are built here (tools/build_engines.sh, tools/build_static_engine.sh)."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from profinfer.binaries.elf import Elf
from tests.conftest import REPO, require
from tests.engines.engine import (
    BARRIERS,
    FUNCTIONS,
    OPERATORS,
    PREDICT,
    PROMPT,
    Engine,
    Own,
    functions,
    last_line,
)
from tests.engines.packages import GLIBC
from tests.recording.counter import Place

_HERE = Path(__file__).parent
_STATIC_THREADS, _STATIC_GRAPHS = 2, 20
_STATIC_BARRIERS = (6 + 2) * 3 * _STATIC_THREADS * _STATIC_GRAPHS
"""In each of three layers six nodes with one after each, two of them products with one inside."""
STATIC = tuple(
    f"{compiler}-{kind}" for compiler in ("gcc", "clang") for kind in ("static", "static-pie")
)


def static(name: str, program: str, _model: Path) -> Engine:
    """A statically linked program of ggml; `program`: engine (whole) or stripped. Its functions are
    where the whole one's symbols say. clang puts copies of the barrier into other functions."""
    whole = REPO / "build/static" / name / "engine"
    path = whole.with_name(program)
    require(str(path.relative_to(REPO)), path.exists())
    known = {BARRIERS: _STATIC_BARRIERS} if name.startswith("clang") else {}
    elf = Elf(whole)
    try:
        places = tuple(
            Place(what, path, elf.file_offset(elf.symbols[symbol].value))
            for symbol, what in FUNCTIONS.items()
            if what not in known
        )
    finally:
        elf.close()
    kind = f"a program of ours, {name}, {'stripped' if program == 'stripped' else 'whole'}"
    command = (str(path), str(_STATIC_THREADS), str(_STATIC_GRAPHS))
    return Engine("ggml", "0.13.1", kind, "static", command, places, None, known)


def llama_cpp_python_folder(which: str) -> Path:
    """Where one of them is."""
    pinned = (_HERE / f"llama_cpp_python/{which}.txt").read_text()
    [version] = re.findall(r"^llama-cpp-python==(\S+)", pinned, re.MULTILINE)
    folder = REPO / f"build/engines/x86_64/llama-cpp-python-{version}"
    require(str(folder.relative_to(REPO)), folder.is_dir())
    return folder


def llama_cpp_python(which: str, model: Path) -> Engine:
    """llama.cpp in Python, built from its sources; `which`: older or newer."""
    folder = llama_cpp_python_folder(which)
    version = folder.name.rpartition("-")[2]
    words = (
        sys.executable,
        _HERE / "llama_cpp_python/infer.py",
        folder,
        model,
        PROMPT,
        PREDICT + 1,
    )
    # Where an operator's only function is the one that all pass, it must not be counted twice.
    libraries = sorted(folder.glob("llama_cpp/lib/libggml*.so"))
    names = FUNCTIONS if which == "newer" else {**FUNCTIONS, "ggml_compute_forward": OPERATORS}
    return Engine(
        "llama-cpp-python", version, "built from the sdist, gcc, OpenMP", GLIBC,
        tuple(map(str, words)), functions(libraries, names),
        lambda stdout: Own(**last_line(stdout), with_gaps=False),
    )  # fmt: skip


BUILT: tuple[Callable[[Path], Engine], ...] = (
    *(partial(static, name, program) for name in STATIC for program in ("engine", "stripped")),
    partial(llama_cpp_python, "older"),
    partial(llama_cpp_python, "newer"),
)
