"""Functions written in assembly, in a shared object of either processor."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from profinfer.elf import Elf
from tests.conftest import require

Assemble = Callable[[str, str], Elf]


def function(name: str, code: str) -> str:
    """One exported function, whose code may say its .size itself; `here_NAME` is its address.

    By that name the linker does not send it through the linkage table.
    """
    size = "" if ".size" in code else f".size {name}, . - {name}"
    head = f".globl {name}\n.type {name}, %function\n.p2align 6\n{name}:\nhere_{name}:"
    return f"{head} {code}\n{size}\n"


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
