"""ELF files: real ones are read right and fast, damaged ones give TargetError and nothing else."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profinfer.binaries import frames, naming
from profinfer.binaries.elf import Elf
from profinfer.binaries.pointers import loaded
from profinfer.engine.returned import returned_string
from profinfer.errors import TargetError
from tests.conftest import require
from tests.hostile import Place


def _touch_everything(path: Path) -> None:
    elf = Elf(path)
    try:
        assert elf.build_id
        assert isinstance(elf.needed, list)
        assert elf.interp is None or isinstance(elf.interp, str)
        assert elf.soname is None or isinstance(elf.soname, str)
        for symbol in list(elf.symbols)[:5]:
            elf.code_at(symbol.value, 16)
        list(elf.symbols.matching("main"))
    finally:
        elf.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small real library, with .symtab, .dynsym, notes and dependencies."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "a.c").write_text(
        "#include <stdio.h>\nstatic int hidden(int x) { return x * 3; }\n"
        'int shown(int x) { return printf("%d", hidden(x)); }\nint variable = 3;\n'
    )
    subprocess.run(
        ["gcc", "-O0", "-shared", "-fPIC", "-Wl,--build-id=0x0123456789abcdef",
         "-Wl,-soname,libsmall.so.1", "-o", folder / "a.so", folder / "a.c"],
        check=True, timeout=60,
    )  # fmt: skip
    return (folder / "a.so").read_bytes()


def test_small_library(small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.so"
    path.write_bytes(small)
    elf = Elf(path)
    assert elf.build_id == "0123456789abcdef"
    assert elf.needed == ["libc.so.6"]
    assert elf.soname == "libsmall.so.1"
    assert elf.interp is None
    assert elf.symbols["shown"].exported
    assert not elf.symbols["hidden"].exported
    assert "variable" not in elf.symbols
    assert "printf" not in elf.symbols
    shown = elf.symbols["shown"]
    offset = elf.file_offset(shown.value)
    assert elf.code_at(shown.value, shown.size) == small[offset : offset + shown.size]
    with pytest.raises(TargetError, match=r"a\.so.*no segment"):
        elf.file_offset(1 << 40)


def test_code_that_shares_its_first_page_with_data(small: bytes, tmp_path: Path) -> None:
    """Some linkers go on in the file where the segment before ended, but a page later in memory."""
    path = tmp_path / "a.so"
    data = bytearray(small)
    (phoff,) = struct.unpack_from("<Q", data, 32)
    for index, (flags, offset, vaddr, size) in enumerate(
        [(4, 0, 0, 0x1340), (5, 0x1340, 0x2340, 0x800)]
    ):
        struct.pack_into("<IIQQQQ", data, phoff + 56 * index, 1, flags, offset, vaddr, 0, size)
    path.write_bytes(data)
    assert Elf(path).vaddr_of(0x1000) == 0x2000
    assert Elf(path).vaddr_of(0x1350) == 0x2350
    with pytest.raises(TargetError, match="no segment of code"):
        Elf(path).vaddr_of(0)


def test_stripped_even_of_section_headers(small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.so"
    path.write_bytes(small[:40] + bytes(8) + small[48:58] + bytes(6) + small[64:])
    elf = Elf(path)
    assert elf.symbols["shown"].exported
    assert "hidden" not in elf.symbols


def test_addresses_that_none_can_have(small: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.so"
    path.write_bytes(small)
    elf = Elf(path)
    assert elf.symbols.within(-1, 1 << 64) == list(elf.symbols)
    nowhere = elf.symbols["shown"]._replace(value=1 << 63)
    assert returned_string(elf, nowhere) is None
    (phoff,) = struct.unpack_from("<Q", small, 32)
    data = bytearray(small)
    struct.pack_into("<Q", data, phoff + 16, (1 << 64) - 4096)
    path.write_bytes(data)
    with pytest.raises(TargetError, match="implausible addresses"):
        loaded(Elf(path))


def test_tables_without_end(small: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.so"
    path.write_bytes(small)
    elf = Elf(path)
    assert len(naming.Names(elf).whole("hidden|shown")) == 2
    assert len(frames.functions(elf)[0]) > 1
    monkeypatch.setattr(naming, "_MAX_NAMED", 1)
    with pytest.raises(TargetError, match="implausibly many functions"):
        naming.Names(elf).whole("hidden|shown")
    monkeypatch.setattr(frames, "_MAX_FUNCTIONS", 2)
    with pytest.raises(TargetError, match="unwinding table"):
        frames.functions(elf)


def test_build_id_without_note(small: bytes, tmp_path: Path) -> None:
    with_id, without, other = (tmp_path / name for name in ("a.so", "b.so", "c.so"))
    with_id.write_bytes(small)
    subprocess.run(["objcopy", "--remove-section=.note.gnu.build-id", with_id, without], check=True)
    other.write_bytes(without.read_bytes() + b"\0")
    ids = {Elf(path).build_id for path in (with_id, without, other)}
    assert len(ids) == 3
    assert sorted(map(len, ids)) == [16, 64, 64]
    assert [Elf(path).note_id for path in (with_id, without)] == ["0123456789abcdef", ""]
    assert Elf(with_id).sha256() == hashlib.sha256(small).hexdigest()


def test_interpreter() -> None:
    elf = Elf(Path(sys.executable).resolve())
    assert elf.interp is not None
    assert elf.interp.startswith("/")


def test_every_function_of_the_engine_is_read(engine: Path) -> None:
    symbols = Elf(engine).symbols
    assert len(symbols) > 20_000
    assert symbols["ggml_barrier"].exported
    assert Elf(engine).symbols.matching(r"^_ZN13llama_context14process_ubatch")


def test_symbols_agree_with_nm(engine: Path) -> None:
    require("nm (binutils)", shutil.which("nm"))
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", engine], capture_output=True, text=True, check=True
    ).stdout
    expected = {
        (name, int(value, 16))
        for value, kind, name in (line.split()[:3] for line in listed.splitlines())
        if kind == "T"
    }
    symbols = Elf(engine).symbols
    found = {(s.name, s.value) for s in symbols if s.exported}
    assert len(expected) > 1000
    assert {pair for pair in expected if pair[0].startswith(("ggml_", "llama_"))} <= found


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"#!/bin/sh\n" * 20, bytes(100)])
def test_no_elf(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.so"
    path.write_bytes(content)
    with pytest.raises(TargetError, match=r"file\.so"):
        Elf(path)


def test_no_file_and_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (
        tmp_path / "absent",
        tmp_path,
        tmp_path / "fifo",
        Path("/dev/null"),
        Path("/proc/self/mem"),
        "a\0b",
    ):
        with pytest.raises(TargetError):
            Elf(path)


@pytest.mark.parametrize(("change", "what"), [((4, 1), "32-bit"), ((5, 2), "big-endian")])
def test_foreign_class_or_byte_order(
    change: tuple[int, int], what: str, small: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "file.so"
    data = bytearray(small)
    data[change[0]] = change[1]
    path.write_bytes(data)
    with pytest.raises(TargetError, match=rf"file\.so.*a {what} one, not a 64-bit little"):
        Elf(path)


def test_sizes_are_not_believed(small: bytes, tmp_path: Path) -> None:
    """A sparse file of many GiB may hold any size a header claims: nothing that big is read."""
    path = tmp_path / "sparse.so"
    (sections,) = struct.unpack_from("<Q", small, 40)
    (count,) = struct.unpack_from("<H", small, 60)
    data = bytearray(small)
    for index in range(count):
        struct.pack_into("<Q", data, sections + 64 * index + 32, 1 << 36)
    path.write_bytes(data)
    os.truncate(path, 1 << 37)
    with pytest.raises(TargetError, match=r"sparse\.so.*claims"):
        _touch_everything(path)


def _survives(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    message = str(path)
    try:
        _touch_everything(path)
    except TargetError as error:
        message = error.message
    assert str(path) in message


_FUZZ = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@_FUZZ
@given(data=st.data())
def test_truncated(data: st.DataObject, small: bytes, tmp_path: Path) -> None:
    _survives(tmp_path / "t.so", small[: data.draw(st.integers(0, len(small)))])


def _interesting(small: bytes) -> list[int]:
    """Offsets of headers, program headers, section headers and the dynamic section."""
    phoff, shoff = struct.unpack_from("<QQ", small, 32)
    phnum, shnum = (struct.unpack_from("<H", small, at)[0] for at in (56, 60))
    return [*range(64), *range(phoff, phoff + 56 * phnum), *range(shoff, shoff + 64 * shnum)]


@_FUZZ
@given(data=st.data())
def test_mutated(data: st.DataObject, small: bytes, tmp_path: Path) -> None:
    where = st.one_of(st.sampled_from(_interesting(small)), st.integers(0, len(small) - 1))
    changes = data.draw(st.lists(st.tuples(where, st.integers(0, 255)), min_size=1, max_size=12))
    mutated = bytearray(small)
    for at, value in changes:
        mutated[at] = value
    _survives(tmp_path / "m.so", bytes(mutated))


@_FUZZ
@given(tail=st.binary(max_size=2000))
def test_random_after_the_magic(tail: bytes, tmp_path: Path) -> None:
    _survives(tmp_path / "r.so", b"\x7fELF\x02\x01\x01" + bytes(9) + tail)


def test_descriptor_is_given_back(engine: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        Elf(engine)
    assert len(os.listdir("/proc/self/fd")) == before


def test_functions_from(engine: Path) -> None:
    """The quick way to a few functions finds what the slow one does."""
    elf = Elf(engine)
    wanted = {s.name: s.value for s in elf.symbols if s.name.startswith(("ggml_", "llama_"))}
    assert len(wanted) > 1000
    assert elf.functions_from(("ggml_", "llama_")) == wanted


def test_hostile_helper(here: Place) -> None:
    assert Elf(here.build("")).symbols["ggml_init"].exported
