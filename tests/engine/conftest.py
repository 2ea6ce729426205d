"""Functions written in assembly, in a shared object of either processor; a recorder to ask."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from profinfer.binaries.elf import Elf
from profinfer.probes.hitcost import Ask
from profinfer.recording.recorder import Server
from tests.conftest import require
from tests.support import require_recording

Assemble = Callable[[str, str], Elf]


def function(name: str, code: str) -> str:
    """One exported function, whose code may say its .size itself; `here_NAME` is its address.

    By that name the linker does not send it through the linkage table.
    """
    size = "" if ".size" in code else f".size {name}, . - {name}"
    head = f".globl {name}\n.type {name}, %function\n.p2align 6\n{name}:\nhere_{name}:"
    return f"{head} {code}\n{size}\n"


@pytest.fixture(scope="session")
def ask() -> Iterator[Ask]:
    """A recorder's answers."""
    require_recording()
    with Server() as server:
        yield server.ask


@pytest.fixture(scope="session")
def best_way(ask: Ask) -> str:
    """How recordings attach on this kernel."""
    way: str = ask("means", transport="auto", attach="auto", loader="auto")["attach"]
    return way


@pytest.fixture
def assemble(tmp_path: Path) -> Assemble:
    """assemble(machine, source): the shared object."""

    def build(machine: str, source: str) -> Elf:
        compiler = "gcc" if machine == platform.machine() else f"{machine}-linux-gnu-gcc"
        require(compiler, shutil.which(compiler))
        path = tmp_path / f"{machine}.s"
        path.write_text(f".text\n{source}\n")
        library = path.with_suffix(".so")
        command = [compiler, "-shared", "-nostdlib", "-o", str(library), str(path)]
        subprocess.run(command, check=True, timeout=60)
        return Elf(library)

    return build
