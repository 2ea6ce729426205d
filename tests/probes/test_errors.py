"""What cannot be planned is named, with the exit code of its kind and nothing written."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from profinfer.__main__ import main
from tests.probes.conftest import MakePlan

_USAGE, _SYSTEM, _TARGET, _PROBE, _OUTPUT = 2, 4, 5, 6, 7


class Ran:
    """`profinfer plan` in a folder, and what came of it."""

    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self._capsys = capsys
        self._folder = folder
        self.err = ""

    def fails(self, code: int, *arguments: object, named: tuple[object, ...] = ()) -> None:
        """Asserts the exit code, one message that names all of `named`, and no output."""
        output = self._folder / "plan.json"
        assert main(["plan", "-o", str(output), *map(str, arguments)]) == code
        self.err = self._capsys.readouterr().err
        message = self.err.splitlines()[0]
        assert message.startswith("profinfer: ")
        assert [str(name) for name in named if str(name) not in message] == [], message
        assert not output.exists()


@pytest.fixture
def plan(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Ran:
    return Ran(capsys, tmp_path)


def _changed(path: Path, source: Path, *changes: tuple[int, int]) -> Path:
    data = bytearray(source.read_bytes())
    for at, value in changes:
        data[at] = value
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "content", [b"", b"\x7fELF", b"#!/bin/sh\n" * 20, bytes(4096), os.urandom(4096)]
)
def test_no_elf_file(content: bytes, plan: Ran, tmp_path: Path) -> None:
    path = tmp_path / "garbage.so"
    path.write_bytes(content)
    plan.fails(_TARGET, "--target", path, named=(path, "not an ELF file"))


def test_what_is_not_there(plan: Ran, tmp_path: Path) -> None:
    absent, empty = tmp_path / "absent.so", tmp_path / "empty"
    plan.fails(_TARGET, "--target", absent, named=(absent, "No such file"))
    empty.mkdir()
    plan.fails(_TARGET, "--target", empty, named=(empty, "no ggml"))
    os.mkfifo(tmp_path / "fifo")
    plan.fails(_TARGET, "--target", tmp_path / "fifo", named=("fifo", "not a regular file"))


def test_a_foreign_class_byte_order_or_processor(arm64: Path, plan: Ran, tmp_path: Path) -> None:
    path, library = tmp_path / "odd.so", arm64 / "libknown.so"
    for change, what in (
        ((4, 1), "32-bit"),
        ((5, 2), "big-endian"),
        ((18, 243), "riscv64"),
        ((18, 8), "machine 8"),
    ):
        _changed(path, library, change)
        plan.fails(_TARGET, "--target", path, named=(path, what))


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_library(part: float, arm64: Path, plan: Ran, tmp_path: Path) -> None:
    data = (arm64 / "libknown.so").read_bytes()
    path = tmp_path / "cut.so"
    path.write_bytes(data[: int(len(data) * part)])
    plan.fails(_TARGET, "--target", path, named=(path, "lies outside the file (truncated?)"))


def test_a_damaged_library_among_others(arm64: Path, plan: Ran, tmp_path: Path) -> None:
    folder = tmp_path / "lib"
    folder.mkdir()
    whole = arm64 / "libknown.so"
    (folder / "liba.so").write_bytes(whole.read_bytes())
    data = bytearray((arm64 / "libnoggml.so").read_bytes())
    struct.pack_into("<Q", data, 40, 1 << 40)
    (folder / "libb.so").write_bytes(data)
    plan.fails(_TARGET, "--target", folder, named=(folder / "libb.so", "section headers"))


def test_no_ggml(arm64: Path, plan: Ran) -> None:
    plan.fails(_TARGET, "--target", arm64 / "libnoggml.so", named=("no ggml", "libnoggml.so"))
    assert "hint: " in plan.err


def test_two_machines(arm64: Path, native: Path, plan: Ran) -> None:
    files = (native / "libknown.so", arm64 / "libknown.so")
    plan.fails(_TARGET, "--target", *files, named=(*files, "aarch64", "x86-64"))


def test_two_engines(native: Path, plan: Ran) -> None:
    """Their structs may differ, and one plan has room for one set of offsets."""
    files = (native / "libknown.so", native / "known-static")
    plan.fails(_TARGET, "--target", *files, named=(*files, "two engines"))


def test_a_static_program_is_told_from_a_library(native: Path, plan: Ran) -> None:
    plan.fails(_PROBE, "--target", native / "known-static", named=("known-static", "program"))


def test_a_level_that_cannot_be_had(
    repo: Path, plan: Ran, make_plan: MakePlan, sysroot: Path, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    library = tmp_path / "libknown.so"
    subprocess.run(
        ["aarch64-linux-gnu-gcc", "-shared", "-fPIC", "-O2", "-Dggml_barrier=hidden_barrier", "-o",
         library, repo / "tests/double/ggml.c"],
        check=True, timeout=60,
    )  # fmt: skip
    words = ("--target", library, "--sysroot", sysroot)
    plan.fails(_PROBE, *words, "--strict", named=("barrier", "no ggml_barrier"))
    assert "without --strict" in plan.err
    made = make_plan(*words)
    assert {p["level"] for p in made["probes"]} == {"token", "graph", "operator"}
    assert "barrier" in made["start"]["plan"]["missing"]
    made = make_plan("--target", library, "--sysroot", sysroot, "--level", "operator")
    assert made["start"]["plan"]["missing"] == {}


def test_no_sysroot(arm64: Path, plan: Ran, sysroot: Path) -> None:
    del sysroot  # only that this machine needs one
    plan.fails(_USAGE, "--target", arm64 / "libknown.so", named=("root of an aarch64",))
    assert "--sysroot DIR" in plan.err
    assert "$PROFINFER_SYSROOT_AARCH64" in plan.err


def test_a_sysroot_without_loader(arm64: Path, plan: Ran, sysroot: Path, tmp_path: Path) -> None:
    del sysroot
    empty, library = tmp_path / "root", arm64 / "libknown.so"
    loader = empty / "lib/ld-linux-aarch64.so.1"
    words = ("--target", library, "--sysroot", empty)
    plan.fails(_USAGE, *words, named=(empty, "no dynamic loader", "/lib/ld-linux-aarch64.so.1"))
    loader.parent.mkdir(parents=True)
    loader.write_text("not a program")
    plan.fails(_USAGE, *words, named=(loader, "not an ELF file"))
    # One for this machine.
    shutil.copy(sys.executable, loader)
    plan.fails(_USAGE, *words, named=(loader, "for aarch64"))
    # It leads out of the root, where there may be one.
    loader.unlink()
    loader.symlink_to(sys.executable)
    plan.fails(_USAGE, *words, named=(empty, "no dynamic loader"))


def test_no_emulator(
    arm64: Path, plan: Ran, sysroot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    plan.fails(
        _SYSTEM, "--target", arm64 / "libknown.so", "--sysroot", sysroot, named=("qemu-aarch64",)
    )
    assert "qemu-user" in plan.err


def test_the_output(native: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, library = tmp_path / "plan.json", str(native / "libknown.so")
    output.write_text("mine")
    assert main(["plan", "--target", library, "-o", str(output)]) == _OUTPUT
    assert "--force" in capsys.readouterr().err
    assert output.read_text() == "mine"
    link = tmp_path / "link.json"
    link.symlink_to(output)
    assert main(["plan", "--target", library, "-o", str(link), "--force"]) == _OUTPUT
    assert output.read_text() == "mine"
    assert main(["plan", "--target", library, "-o", str(output), "--force"]) == 0
    assert output.read_text().startswith("{")
