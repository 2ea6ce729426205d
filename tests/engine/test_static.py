"""Functions of static and stripped engines are those of the whole file's symbols."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from profinfer.binaries.code import Code
from profinfer.binaries.elf import Elf
from profinfer.binaries.inference import INFERRED, Absent, Search
from profinfer.engine.description import Description, Function, _examine, is_engine, may_be_engine
from tests.conftest import REPO, require
from tests.recording.own_probes import counters
from tests.support import require_recording

ALWAYS = "gcc-static-pie"
"""The build that every set-up makes."""
LTO = "gcc-static-lto"
_BUILT = (path.parent.name for path in (REPO / "build/static").glob("*/stripped"))
BUILDS = sorted({ALWAYS, *_BUILT} - {LTO})
"""With what `make test-engines` has made."""
FOUND = {  # what steps do beside graphs needs a symbol
    "ggml_backend_graph_compute_async", "ggml_graph_compute", "ggml_backend_sched_alloc_graph",
    "ggml_cpu_extra_compute_forward", "ggml_compute_forward_rms_norm_mul_fused", "ggml_barrier",
}  # fmt: skip
LAYERS, THREADS, GRAPHS = 3, 2, 20


def _build(name: str) -> Path:
    folder = REPO / "build/static" / name
    require(f"tools/build_static_engine.sh {name}", (folder / "stripped").exists())
    return folder


@pytest.fixture(scope="module", params=BUILDS)
def build(request: pytest.FixtureRequest) -> Path:
    """A build's folder."""
    return _build(request.param)


@pytest.fixture(scope="module")
def stripped(build: Path) -> Description:
    return _examine(Elf(build / "stripped"))


def _bare(functions: tuple[Function, ...]) -> list[Function]:
    return [replace(function, found_by="", problem="") for function in functions
            if function.name in FOUND]  # fmt: skip


def test_a_stripped_engine_is_known_by_its_texts(build: Path) -> None:
    elf = Elf(build / "stripped")
    assert not len(elf.symbols)
    assert may_be_engine(elf)
    assert is_engine(elf)


def test_its_functions_are_those_of_the_whole_file(build: Path, stripped: Description) -> None:
    whole = _examine(Elf(build / "engine"))
    assert {f.name for f in stripped.functions} == FOUND
    assert _bare(stripped.functions) == _bare(whole.functions)
    assert {f.found_by.partition(":")[0] for f in stripped.functions} == {"inferred"}
    assert {f.found_by for f in whole.functions if not f.is_copy} == {"symbol"}
    assert stripped.backends.items() <= whole.backends.items()
    assert list(stripped.backends.values()) == ["CPU"]
    symbols = Elf(build / "engine").symbols
    assert all(symbols[f.name].value == f.value for f in stripped.functions if not f.is_copy)


def test_what_link_time_optimization_has_merged_is_not_found() -> None:
    built = (REPO / "build/static" / LTO).exists()
    require("build with LTO (make test-engines makes it)", built, hardware=True)
    found, whole = (_examine(Elf(REPO / "build/static" / LTO / x)) for x in ("stripped", "engine"))
    assert _bare(found.functions) == _bare(whole.functions)
    assert "ggml_barrier" in {function.name for function in found.functions}
    assert "0 functions ask" in found.unfound["ggml_cpu_extra_compute_forward"]


def test_clang_puts_copies_of_the_barrier_into_its_callers(
    build: Path, stripped: Description
) -> None:
    copies = [function for function in stripped.functions if function.is_copy]
    assert len(copies) == (4 if build.name.startswith("clang") else 0)
    assert all(function.sites[0].kind == "jcc" for function in copies)


@pytest.mark.parametrize("kind", ["engine", "stripped"])
def test_its_probes_see_each_call_once(build: Path, kind: str, tmp_path: Path) -> None:
    require_recording()
    path, gate = build / kind, tmp_path / "go"
    command = [str(path), str(THREADS), str(GRAPHS), str(gate)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
        counters() as counted,
    ):
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        for function in _examine(Elf(path)).functions:
            for site in function.sites[:1] + function.sites[-1:]:
                place = (function.name, function.value, site is function.sites[0])
                if place not in counted.runs():
                    counted.attach(place, path, function.offset + site.offset, pid)
        gate.touch()
        process.communicate(timeout=60)
        runs = counted.runs()
    assert {place: runs[place] for place in runs} == {
        place: runs[(*place[:2], True)] for place in runs
    }
    seen = Counter[str]()
    for (name, _, is_first), count in runs.items():
        if name in FOUND:
            seen[name] += count if is_first else 0
    # A layer: the norm with its product, two products of matrices with a barrier inside, three
    # more; a barrier after each.
    each = LAYERS * THREADS * GRAPHS
    assert seen == {
        "ggml_compute_forward_rms_norm_mul_fused": each,
        "ggml_cpu_extra_compute_forward": 5 * each,
        "ggml_barrier": (1 + 5 + 2) * each,
        "ggml_graph_compute": GRAPHS,
        "ggml_backend_sched_alloc_graph": 1,
        "ggml_backend_graph_compute_async": 0,  # it has become part of the scheduler
    }


@pytest.mark.parametrize("place", ["debuginfod", "beside"])
def test_a_debug_file_has_the_symbols(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    source = _build(ALWAYS) / "engine"
    bare, debug = tmp_path / "bare", tmp_path / "bare.debug"
    subprocess.run(["objcopy", "--only-keep-debug", source, debug], check=True)
    subprocess.run(["strip", "--strip-all", "-o", bare, source], check=True)
    monkeypatch.setenv("DEBUGINFOD_CACHE_PATH", str(tmp_path / "cache"))
    if place == "debuginfod":
        folder = tmp_path / "cache" / Elf(bare).note_id
        folder.mkdir(parents=True)
        debug.rename(folder / "debuginfo")
    else:
        link = ["objcopy", f"--add-gnu-debuglink={debug}", str(bare)]
        subprocess.run(link, check=True, cwd=tmp_path)
    found = _examine(Elf(bare))
    assert {f.found_by for f in found.functions} == {"debug file"}
    assert _bare(found.functions) == _bare(_examine(Elf(source)).functions)


def test_a_debug_file_of_another_build_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = _build(ALWAYS)
    monkeypatch.setenv("DEBUGINFOD_CACHE_PATH", str(tmp_path))
    folder = tmp_path / Elf(build / "stripped").note_id
    folder.mkdir()
    subprocess.run(
        ["gcc", "-shared", "-x", "c", "-", "-o", folder / "debuginfo"],
        input="void ggml_barrier(void) {}", text=True, check=True,
    )  # fmt: skip
    assert "debug file" not in {f.found_by for f in _examine(Elf(build / "stripped")).functions}


@pytest.mark.parametrize("how", ["--strip-unneeded", "--strip-all"])
@pytest.mark.parametrize(
    "pattern",
    [".venv/lib/python3*/site-packages/xllamacpp/xllamacpp*.so",
     "build/engines/x86_64/pywhispercpp-*/libggml-base.so.0",
     "build/engines/x86_64/pywhispercpp-*/libggml-cpu.so.0"],
)  # fmt: skip
def test_stripping_takes_nothing_from_a_shared_library(
    tmp_path: Path, how: str, pattern: str
) -> None:
    libraries = sorted(REPO.glob(pattern))
    require("the engines' wheels", libraries)
    bare = tmp_path / libraries[0].name
    subprocess.run(["strip", how, "-o", bare, libraries[0]], check=True, timeout=60)
    expected = {(f.name, f.value) for f in _examine(Elf(libraries[0])).functions}
    assert {(f.name, f.value) for f in _examine(Elf(bare)).functions} == expected
    assert expected


@pytest.mark.parametrize(
    "pattern",
    [".venv/lib/python3*/site-packages/xllamacpp/xllamacpp*.so",
     "build/engines/aarch64/xllamacpp-*/xllamacpp/xllamacpp*.so",
     "build/engines/x86_64/llama-cpp-py-sync-*/llama_cpp_py_sync/libllama.so.0"],
)  # fmt: skip
def test_what_is_inferred_without_any_symbol_is_right(pattern: str) -> None:
    libraries = sorted(REPO.glob(pattern))
    require("the engines' wheels", libraries)
    elf = Elf(libraries[0])
    search, found = Search(Code(elf), lambda _: None), set()
    for name in INFERRED:
        try:
            symbol, _ = search.find(name)
        except Absent:
            continue
        found.add(name)
        known = elf.symbols.whole(name.replace("Ez", r"E\w+"))
        assert [(each.value, each.size) for each in known] == [(symbol.value, symbol.size)]
    # Those of ggml's own that lead to each other call each other by the linkage table here.
    assert {"llama_decode", "llama_encode"} < found


def test_two_that_use_its_text_are_not_found(tmp_path: Path) -> None:
    require("gcc", shutil.which("gcc"))
    path = tmp_path / "two.so"
    source = """
        #define USE(name) void name(void) { puts("GGML_ASSERT"); puts("!sched->is_alloc"); }
        int puts(const char *); USE(first) USE(second)"""
    command = ["gcc", "-O2", "-shared", "-fPIC", "-s", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=source, text=True, check=True)
    found = _examine(Elf(path))
    assert found.is_engine
    assert found.functions == ()
    said = '2 functions use the text "!sched->is_alloc", not one'
    assert found.unfound == {"ggml_backend_sched_alloc_graph": said}
