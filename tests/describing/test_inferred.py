"""Layouts of engines that cannot be loaded: tables in files, known layouts, live tensors."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from profinfer.binaries.elf import Elf
from profinfer.describing import known as known_module
from profinfer.describing.describe import Layout, describe
from profinfer.describing.inferred import infer
from profinfer.describing.known import Known, known_layouts, known_of
from profinfer.describing.tables import read_tables
from profinfer.errors import GraphNeeded, ProbeError, TargetError
from tests.conftest import require

REPO = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("graph_program.py")
SIZES = {"size", "op_params_size", "name_size", "max_src"}


@pytest.fixture(scope="module")
def engines(engine: Path) -> list[list[Path]]:
    """The files of each engine that can be loaded here, the one with ggml's tables first."""
    [speech] = REPO.glob("build/engines/x86_64/pywhispercpp-*") or [None]
    require("pywhispercpp", speech)
    assert speech
    return [[engine], [speech / "libggml-base.so.0", speech / "libggml-cpu.so.0"]]


@pytest.fixture(scope="module")
def described(
    engines: list[list[Path]], tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Path, Layout]]:
    """Of each engine the file with the tables, and what it says of itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return [(f[0], describe(f, uid=os.geteuid(), gid=os.getegid())) for f in engines]


@contextmanager
def _graph(library: Path, *, is_empty: bool = True) -> Iterator[tuple[int, int]]:
    """(PID, address) of a graph in a process that waits."""
    command = [sys.executable, str(PROGRAM), str(library), str(int(is_empty))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        yield process.pid, int(process.stdout.readline())
        process.communicate()


def _tables(layout: Layout) -> dict[str, Any]:
    names = ("ops", "unary_ops", "glu_ops")
    types = [dataclasses.asdict(t) if t else None for t in layout.types]
    return {**{name: list(getattr(layout, name)) for name in names}, "types": types}


# ---- Tables


def test_tables_are_what_engines_say(described: list[tuple[Path, Layout]]) -> None:
    for library, layout in described:
        assert read_tables(Elf(library)) == _tables(layout), library


def test_tables_of_another_processor(described: list[tuple[Path, Layout]]) -> None:
    """The arm64 wheel is of the same sources."""
    found = list(REPO.glob("build/engines/aarch64/xllamacpp-*/xllamacpp/*.so"))
    require("the arm64 wheel of xllamacpp", found)
    assert read_tables(Elf(found[0])) == _tables(described[0][1])


_TABLES = """
typedef unsigned long word;
const char *ops[] = {"NONE", "DUP", "ADD", "MUL_MAT"};
const char *unary[] = {"ABS", "SGN", "NEG", "SILU"}; // right behind: no part of the first one
#ifdef OLD
struct { const char *name; int block; word size, rest; }
#define TYPE(name, block, size) {name, block, size, 1}
#else
struct { const char *name; word block, interleave, size, rest; }
#define TYPE(name, block, size) {name, block, 0, size, 1}
#endif
types[] = {
  TYPE("f32", 1, 4), TYPE("f16", 1, 2), TYPE("q4_0", 32, 18), TYPE("gone REMOVED", 0, 0), {0},
  TYPE("i8", 1, 1), TYPE("\x01", 1, 1),
};
void *_start(int i) { return i ? ops + i : unary + i; }
"""
_X86 = "gcc"
_ARM = "aarch64-linux-gnu-gcc"


@pytest.mark.parametrize(
    ("compiler", "flags"),
    [
        (_X86, "-shared -fPIC"),
        (_X86, "-shared -fPIC -Wl,-z,pack-relative-relocs"),
        (_X86, "-static -no-pie -fno-pie"),
        (_X86, "-static-pie -fPIE"),
        (_X86, "-static -no-pie -fno-pie -Wl,-z,noseparate-code -s -DOLD"),
        (_ARM, "-shared -fPIC -fuse-ld=bfd"),
        (_ARM, "-static -no-pie -fno-pie -fuse-ld=bfd"),
    ],
)  # fmt: skip
def test_tables_however_linked(tmp_path: Path, compiler: str, flags: str) -> None:
    source, out = tmp_path / "tables.c", tmp_path / "tables"
    source.write_text(_TABLES)
    command = [compiler, *flags.split(), "-O2", "-nostdlib", str(source), "-o", str(out)]
    subprocess.run(command, check=True)
    relr = "pack" in flags
    assert (36 in Elf(out).dynamic) == relr  # DT_RELR
    assert read_tables(Elf(out)) == {
        "ops": ["NONE", "DUP", "ADD", "MUL_MAT"],
        "unary_ops": ["ABS", "SGN", "NEG", "SILU"],
        "glu_ops": [],
        "types": [
            {"name": "f32", "block_size": 1, "type_size": 4},
            {"name": "f16", "block_size": 1, "type_size": 2},
            {"name": "q4_0", "block_size": 32, "type_size": 18},
            None,
            None,
            {"name": "i8", "block_size": 1, "type_size": 1},
        ],
    }
    # Damaged anywhere, it ends in an answer or in TargetError.
    raw = out.read_bytes()
    for cut in range(64, len(raw), max(1, len(raw) // 50)):
        out.write_bytes(raw[:cut])
        with pytest.raises(TargetError):
            read_tables(Elf(out))


def test_no_tables() -> None:
    assert not any(read_tables(Elf(Path(sys.executable).resolve())).values())


# ---- Layouts


def test_inferred_as_described(described: list[tuple[Path, Layout]]) -> None:
    for library, layout in described:
        for is_empty in (True, False):
            with _graph(library, is_empty=is_empty) as (pid, graph):
                found = infer(pid, read_tables(Elf(library)), (1, graph))
            assert found.source.startswith("inferred: as in ggml of "), library
            assert layout.source == "described"
            assert (found.tensor, found.cgraph) == (layout.tensor, layout.cgraph), library
            assert Layout.from_json(found.to_json()) == found
            assert found.backend is None  # 1 is none


def _shifted(by: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every known layout with one field elsewhere; and with all of a struct."""
    for item in json.loads(Path(known_module.__file__).with_name("known_layouts.json").read_text()):
        for struct in ("tensor", "cgraph", "backend"):
            fields = [field for field in item[struct] or {} if field not in {"rest", *SIZES}]
            for moved in [*([f] for f in fields), *([fields] if struct != "backend" else [])]:
                other = json.loads(json.dumps(item))
                for field in moved:
                    other[struct][field] += by
                if len(moved) > 1:
                    other[struct]["rest"] = []
                    other[struct]["size"] += by
                yield f"{item['since']}: {struct} {moved}", other


@pytest.mark.parametrize("by", [8, -8])
def test_corrupted_is_never_believed(described: list[tuple[Path, Layout]], by: int) -> None:
    """A field that stands 8 bytes off is no layout, or live tensors refute it."""
    library, _ = described[0]
    tables = read_tables(Elf(library))
    refuted = []
    with _graph(library) as (pid, graph):
        for what, item in _shifted(by):
            try:
                known = known_of(item)
            except ValueError:
                continue
            with pytest.raises(GraphNeeded):
                print(infer(pid, tables, (0, graph), [known]), what)
            refuted.append(what)
    # Whole structs that are moved have no contradiction in themselves.
    assert len(refuted) > 2 * len(known_layouts()) if by > 0 else not refuted


@pytest.mark.parametrize("by", [8, -8])
def test_live_tensors_refute(described: list[tuple[Path, Layout]], by: int) -> None:
    """Also what contradicts itself, where it is not looked for."""
    library, _ = described[0]
    tables = read_tables(Elf(library))
    newest = known_layouts()[-1]
    believed = []
    with _graph(library, is_empty=False) as (pid, graph):
        for struct in ("tensor", "cgraph"):
            whole = getattr(newest, struct)
            for field, value in dataclasses.asdict(whole).items():
                if field in SIZES or field == "uid":  # no offset; 0 in most graphs
                    continue
                moved = dataclasses.replace(whole, **{field: (value or 0) + by})
                try:
                    infer(pid, tables, (0, graph), [dataclasses.replace(newest, **{struct: moved})])
                except (GraphNeeded, ProbeError):
                    continue
                believed.append(field)
    assert believed == []


def test_only_what_agrees_is_believed(described: list[tuple[Path, Layout]]) -> None:
    library, _ = described[0]
    tables = read_tables(Elf(library))
    newest = known_layouts()[-1]
    with _graph(library) as (pid, graph):
        for item in known_layouts():
            if item.tensor == newest.tensor:
                continue
            with pytest.raises(GraphNeeded, match="no known layout of ggml agrees"):
                infer(pid, tables, (0, graph), [item])
        # What cannot be told apart is not taken where it matters...
        other = dataclasses.replace(newest.tensor, flags=None, view_offs=None)
        with pytest.raises(GraphNeeded, match="several layouts"):
            infer(pid, tables, (0, graph), [newest, dataclasses.replace(newest, tensor=other)])
        # ... and left out where there is another way.
        without = dataclasses.replace(newest.cgraph, uid=None)
        both: list[Known] = [newest, dataclasses.replace(newest, cgraph=without)]
        found = infer(pid, tables, (0, graph), both)
        assert found.cgraph == without
        assert any("uid" in note for note in found.notes)
        # Neither are other addresses.
        for address in (0, 1, graph + 8, graph - 8, 1 << 60, found.tensor.size):
            with pytest.raises(GraphNeeded):
                infer(pid, tables, (0, address))
    with pytest.raises(TargetError):
        infer(pid, tables, (0, graph))
