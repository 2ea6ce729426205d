"""What an engine's files say of themselves, without being executed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from profinfer.binaries.elf import Elf
from profinfer.engine.identity import identify
from profinfer.engine.returned import returned_string
from profinfer.engine.target import file_object
from profinfer.errors import TargetError
from tests.conftest import require

_SOURCE = """
const char *ggml_version(void) { return "1.2.3"; }
const char *ggml_commit(void) { return "abc123-dirty"; }
const char *(*indirect)(void) = ggml_version;
const char *not_constant(const char *text) { return text; }
const char *calls(void) { return indirect(); }
void llama_decode(void) {}
int main(void) { return 0; }
"""


def _built(folder: Path, *flags: str, compiler: str = "gcc", name: str = "built") -> Path:
    require(compiler, shutil.which(compiler))
    source = folder / "source.c"
    source.write_text(_SOURCE)
    command = [compiler, *flags, "-o", str(folder / name), str(source)]
    subprocess.run(command, check=True, timeout=60)
    return folder / name


@pytest.mark.parametrize("compiler", ["gcc", "clang", "aarch64-linux-gnu-gcc"])
@pytest.mark.parametrize("flags", [("-O2", "-fPIC"), ("-O2", "-fno-pic"), ("-O0", "-fPIC")])
def test_a_string_that_is_returned_is_read(
    tmp_path: Path, compiler: str, flags: tuple[str, ...]
) -> None:
    # Of arm64 unoptimized code is the same; not linked, addresses are not there.
    how = ("-shared", "-nostdlib") if "-fPIC" in flags else ("-no-pie", "-nostdlib", "-Wl,-emain")
    elf = Elf(_built(tmp_path, *flags, *how, compiler=compiler))
    assert returned_string(elf, elf.symbols["ggml_version"]) == "1.2.3"
    assert returned_string(elf, elf.symbols["ggml_commit"]) == "abc123-dirty"
    for name in ("not_constant", "calls", "llama_decode"):
        assert returned_string(elf, elf.symbols[name]) is None


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        (("-shared", "-fPIC"), "shared library"),
        (("-no-pie",), "executable"),
        (("-pie",), "position-independent executable"),
        (("-static", "-no-pie"), "static executable"),
        (("-static-pie",), "static position-independent executable"),
    ],
)
@pytest.mark.parametrize("is_stripped", [False, True])
def test_a_file_says_what_it_is(
    tmp_path: Path, flags: tuple[str, ...], kind: str, is_stripped: bool
) -> None:
    more = ("-s",) if is_stripped else ("-g",)
    built = _built(tmp_path, "-O2", *flags, *more, name="libggml-cpu-haswell.so")
    found = identify([file_object(built)])
    [file] = found.files
    assert (file.kind, file.is_stripped, file.has_debug) == (kind, is_stripped, not is_stripped)
    assert file.variant == "haswell"
    assert any(re.match(r"GCC: ", text) for text in file.compilers)
    is_nameless = is_stripped and "-shared" not in flags
    assert found.versions == (
        {} if is_nameless else {"ggml_version": "1.2.3", "ggml_commit": "abc123-dirty"}
    )
    assert (found.why_no_version is not None) == is_nameless
    assert found.family == ("another program with ggml" if is_nameless else "llama.cpp")


def test_the_package_is_the_one_that_lists_the_file(tmp_path: Path) -> None:
    library = tmp_path / "engine/lib.so"
    library.parent.mkdir()
    shutil.copy(_built(tmp_path, "-O2", "-shared", "-fPIC"), library)
    for name, line in (("other-1.0", "other/lib.so,,"), ("engine-2.5", "engine/lib.so,sha256=x,9")):
        info = tmp_path / f"{name}.dist-info"
        info.mkdir()
        (info / "RECORD").write_text(line + "\n")
    assert identify([file_object(library)]).package == "engine 2.5 (Python)"
    (tmp_path / "engine-2.5.dist-info/RECORD").unlink()
    os.mkfifo(tmp_path / "engine-2.5.dist-info/RECORD")  # nobody waits for who does not write
    assert identify([file_object(library)]).package is None
    (library.parent / "package.json").write_text('{"name": "@x/y\\u001b", "version": "3"}')
    assert identify([file_object(library)]).package == "@x/y? 3 (npm)"
    (library.parent / "package.json").write_text("[" * 100000)
    assert identify([file_object(library)]).package is None


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    data = bytearray(_built(tmp_path, "-O2", "-shared", "-fPIC").read_bytes())
    sections_at = int.from_bytes(data[40:48], "little")
    for at in range(sections_at, len(data), 8):
        damaged = data.copy()
        damaged[at : at + 8] = b"\xff" * 8
        path = tmp_path / "damaged.so"
        path.write_bytes(damaged)
        with suppress(TargetError):
            assert identify([file_object(path)]).files
