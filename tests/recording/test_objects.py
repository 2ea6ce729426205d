"""BPF objects as they are built: what they ask of a kernel, and that they are built once."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from tests.conftest import REPO, require

ADD = 0
"""The only atomic operation of kernels before 5.12: an addition that returns nothing."""


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("name", ["profinfer-perf.bpf.o", "launch.bpf.o"])
def test_without_the_ring_no_newer_atomic_instruction_is_used(machine: str, name: str) -> None:
    path = REPO / "build" / machine / name
    require(f"{machine}/{name}", path.is_file())
    assert atomics(path) <= {ADD}


def test_the_ring_needs_one_atomic_instruction_a_record() -> None:
    """The test above could see others."""
    path = REPO / "build" / platform.machine() / "profinfer.bpf.o"
    require(path.name, path.is_file())
    assert len(atomics(path)) > 1


def atomics(path: Path) -> set[int]:
    """The atomic operations in an object's programs, by their number in bpf(2)'s instructions."""
    found = set()
    with path.open("rb") as file:
        for section in ELFFile(file).iter_sections():
            if section.name in ("uprobe", "tracepoint"):
                code = section.data()
                for at in range(0, len(code), 8):
                    if code[at] in (0xC3, 0xDB):  # BPF_STX | BPF_ATOMIC, 4 or 8 bytes
                        found.add(int.from_bytes(code[at + 4 : at + 8], "little"))
    return found


def test_building_again_changes_nothing() -> None:
    for tool in ("clang", "llvm-strip"):
        require(tool, shutil.which(tool))
    path = REPO / "build" / platform.machine() / "launch.bpf.o"
    require(path.name, path.is_file())
    before = (path.stat().st_mtime_ns, path.read_bytes())
    subprocess.run([REPO / "tools/build_bpf.sh"], check=True, timeout=120)
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before
