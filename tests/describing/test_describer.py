"""The describer by itself: what it asks of a libc, and that an engine's own loader can start it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from profinfer.binaries.elf import Elf
from tests.conftest import require

_NATIVE = platform.machine()
_GLIBC = {"x86_64": "/lib64/ld-linux-x86-64.so.2", "aarch64": "/lib/ld-linux-aarch64.so.1"}
_MUSL = f"/lib/ld-musl-{_NATIVE}.so.1"
# musl-gcc leaves out the kernel's headers along with glibc's.
_KERNEL = f"-idirafter /usr/include -idirafter /usr/include/{_NATIVE}-linux-gnu"
_UBATCH = {"arg": 1, "pos": 0, "n_seqs": 8, "n_seq_tokens": 12, "output": 16, "token": 24,
           "n_tokens": 44, "seq_id": 48, "n_seq_id": 56, "n_seqs_unq": 64}  # fmt: skip

Answer = dict[str, Any]


@pytest.fixture(scope="module")
def program(repo: Path) -> Path:
    path = repo / f"build/{_NATIVE}/profinfer-describer"
    require(f"{path.relative_to(repo)}", path.exists())
    return path


def _build(repo: Path, folder: Path, compiler: str, flags: str = "", more: str = "") -> Path:
    """The engine double's library, with more C beside it."""
    require(compiler, shutil.which(compiler))
    source, library = folder / "more.c", folder / "libknown.so"
    folder.mkdir()
    source.write_text(more)
    subprocess.run(
        [compiler, "-std=gnu11", "-O2", "-pthread", "-fPIC", "-shared", *flags.split(),
         "-o", library, repo / "tests/double/ggml.c", source],
        check=True, timeout=120,
    )  # fmt: skip
    return library


def _answers(
    repo: Path, program: Path, library: Path, scratch: Path, loader: Sequence[str | Path],
    *more: str,
) -> list[Answer]:  # fmt: skip
    elf = Elf(library)
    arguments: list[str] = []
    for symbol in elf.symbols.matching(r"^(_ZN13llama_context14process_ubatch|ggml_|llama_)"):
        name = "process_ubatch" if symbol.name.startswith("_Z") else symbol.name
        arguments += ["--symbol", name, "0", f"{symbol.value:x}"]
    elf.close()
    readable, writable = os.pipe()
    with open(readable, "rb") as channel:
        result = subprocess.run(
            [*loader, "--library-path", library.parent, program, "--channel", str(writable),
             "--model", repo / "build/describer/tiny.gguf", "--scratch", scratch,
             "--object", library, *arguments, *more],
            pass_fds=[writable], stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
            check=False, env={"LC_ALL": "C"},
        )  # fmt: skip
        os.close(writable)
        lines = channel.read().splitlines()
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in lines]


def _is_known(answer: Answer) -> bool:
    """Whether these are the double's own structs (tests/double/ggml.c)."""
    tensor = answer["tensor"]
    return (tensor["data"], tensor["name"], answer["version"], answer["ubatch"]) == (
        0, 8, "0.0.7-known", _UBATCH,
    )  # fmt: skip


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_any_libc_will_do(machine: str, repo: Path) -> None:
    """It asks for no version of anything, and for no library but the two."""
    path = repo / f"build/{machine}/profinfer-describer"
    require(str(path.relative_to(repo)), path.exists())
    with path.open("rb") as stream:
        file: Any = ELFFile(stream)
        tags = list(file.get_section_by_name(".dynamic").iter_tags())
        needed = {tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"}
        assert needed == {"libc.so.6", "libdl.so.2"}
        assert not {"DT_VERNEED", "DT_VERSYM", "DT_RELR"} & {tag.entry.d_tag for tag in tags}
        symbols = file.get_section_by_name(".dynsym").iter_symbols()
        assert {s.name for s in symbols if s["st_shndx"] == "SHN_UNDEF"} >= {"dlopen", "fork"}


def test_double(repo: Path, program: Path, tmp_path: Path) -> None:
    """Every line has all of the one before, and what goes to standard output is not in them."""
    noise = '#include <stdio.h>\n__attribute__((constructor)) static void say(void) { puts("{}"); }'
    library = _build(repo, tmp_path / "engine", "gcc", more=noise)
    lines = _answers(repo, program, library, tmp_path, [_GLIBC[_NATIVE]], "--note", 'a "note"\n')
    assert len(lines) == 3
    assert _is_known(lines[-1])
    assert lines[-1]["notes"][0] == 'a "note"?'
    for before, after in pairwise(lines):
        assert set(before) < set(after)
        assert all(after[key] == before[key] for key in ("ops", "types", "tensor"))
    assert "backend" in lines[1]


def test_other_sentinels(repo: Path, tmp_path: Path) -> None:
    """Another set of batches, lengths and sequences leads to the same offsets."""
    subprocess.run(
        [repo / "tools/build_describer.sh", "--out", tmp_path, "-DOTHER_TRIALS"],
        check=True, timeout=120,
    )  # fmt: skip
    library = _build(repo, tmp_path / "engine", "gcc")
    program = tmp_path / "profinfer-describer"
    assert _is_known(_answers(repo, program, library, tmp_path, [_GLIBC[_NATIVE]])[-1])


_PROGRAMS = """
extern int program_data, program_call(int);
int *where = &program_data, (*what)(int) = program_call;
"""


@pytest.mark.parametrize("loader", [_GLIBC[_NATIVE], _MUSL], ids=["glibc", "musl"])
def test_symbols_of_a_program(loader: str, repo: Path, program: Path, tmp_path: Path) -> None:
    """A library that was made for one program, such as an interpreter's module, is loaded too."""
    compiler, flags = ("musl-gcc", _KERNEL) if loader == _MUSL else ("gcc", "")
    library = _build(repo, tmp_path / "engine", compiler, flags, _PROGRAMS)
    answer = _answers(repo, program, library, tmp_path, [loader])[-1]
    assert _is_known(answer)
    assert [path.name for path in tmp_path.glob("*.so")] == ["profinfer-symbols-0.so"]


def test_nothing_stands_in_for_what_a_library_has(
    repo: Path, program: Path, tmp_path: Path
) -> None:
    """Of two libraries, the first leaves a symbol to the second without saying so."""
    first = "extern const int of_the_second; const int *where = &of_the_second;"
    library = _build(repo, tmp_path / "engine", "gcc", more=first)
    source, second = tmp_path / "second.c", tmp_path / "folder/libsecond.so"
    source.write_text("const int of_the_second = 1;")
    second.parent.mkdir()
    subprocess.run(["gcc", "-fPIC", "-shared", "-o", second, source], check=True, timeout=120)
    more = ["--object", str(second)]
    answer = _answers(repo, program, library, tmp_path, [_GLIBC[_NATIVE]], *more)[-1]
    assert _is_known(answer)
    assert not list(tmp_path.glob("*.so"))


@pytest.mark.parametrize(
    ("crash", "missing", "note"),
    [
        ("void ggml_backend_guid(void) { __builtin_trap(); }", "backend", "backend: "),
        ("void llama_backend_init(void) { __builtin_trap(); }", "ubatch", "ubatch: "),
    ],
)  # fmt: skip
def test_a_crash_costs_one_part(
    crash: str, missing: str, note: str, repo: Path, program: Path, tmp_path: Path
) -> None:
    name = crash.split("(")[0].removeprefix("void ")
    crash = f"#undef {name}\n{crash}"
    library = _build(repo, tmp_path / "engine", "gcc", f"-D{name}=its_{name}", crash)
    answer = _answers(repo, program, library, tmp_path, [_GLIBC[_NATIVE]])[-1]
    parts = {"tensor", "cgraph", "backend", "ubatch"}
    assert {part for part in parts if answer[part] is None} == {missing}
    assert [text for text in answer["notes"] if "the engine ended with -" in text] == [
        text for text in answer["notes"] if text.startswith(note)
    ]


def test_what_is_not_there(repo: Path, program: Path, tmp_path: Path) -> None:
    answers = _answers(repo, program, _build(repo, tmp_path / "engine", "gcc"), tmp_path,
                       [_GLIBC[_NATIVE]], "--object", "/no/such.so")  # fmt: skip
    assert any("such.so could not be loaded: " in note for note in answers[-1]["notes"])
    readable, writable = os.pipe()
    subprocess.run(
        [_GLIBC[_NATIVE], program, "--channel", str(writable), "--what"], pass_fds=[writable],
        timeout=60, check=True,
    )  # fmt: skip
    os.close(writable)
    with open(readable, "rb") as channel:
        assert json.load(channel) == {"error": "no such option: --what", "notes": []}
