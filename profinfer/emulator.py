"""Python for another processor, emulated: there that processor's libraries can be asked.

qemu-user runs single programs: it translates their instructions and hands their system calls to
this kernel. Whatever confines the emulator therefore confines the program; nothing relies on the
emulator itself, which is no protection.
"""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from profinfer.elf import Elf
from profinfer.errors import KernelError, TargetError, UsageError

_COMMANDS = {"aarch64": "qemu-aarch64", "x86-64": "qemu-x86_64"}
_MAKE = "tools/fetch_python.py MACHINE DIR makes one"
_PYTHONS = ("usr/bin/python3", "usr/local/bin/python3", "bin/python3")


@dataclass(frozen=True)
class Emulator:
    """How to run a Python of another machine."""

    command: str
    """The emulator, an absolute path."""
    root: str
    """Where that machine's files lie (its "/"), an absolute path."""
    python: str
    """Its Python, below that."""


def is_native(machine: str) -> bool:
    """Whether this machine runs code for `machine` (as elf.py calls it) itself."""
    return machine == platform.machine().replace("x86_64", "x86-64")


def sysroot_variable(machine: str) -> str:
    """The environment variable that names the root of a machine."""
    return f"PROFINFER_SYSROOT_{machine.upper().replace('-', '_')}"


def find_emulator(machine: str, sysroot: Path | None) -> Emulator | None:
    """What runs code for `machine`; None where this machine does it itself.

    `sysroot` is the root directory of a system of that machine with Python 3 in it, by default
    what the environment names. UsageError when there is none, KernelError without an emulator.
    """
    if is_native(machine):
        return None
    variable = sysroot_variable(machine)
    root = sysroot or Path(os.environ.get(variable, ""))
    if root == Path():
        raise UsageError(
            f"struct layouts of {machine} libraries are found by running them, which takes the"
            f" root of an {machine} system with Python 3",
            f"give it as --sysroot DIR or in ${variable}; {_MAKE}",
        )
    hint = f"--sysroot is the root of an {machine} system; {_MAKE}"
    python = next((path for path in _PYTHONS if (root / path).exists()), None)
    if python is None:
        raise UsageError(f"the sysroot {root} has no Python 3 ({', '.join(_PYTHONS)})", hint)
    try:
        elf = Elf(root / python)
        elf.close()
    except TargetError as error:
        raise UsageError(error.message, hint) from None
    if elf.machine != machine:
        raise UsageError(f"{root / python} is for {elf.machine}, not for {machine}", hint)
    name = _COMMANDS.get(machine, "")
    command = shutil.which(name) or shutil.which(f"{name}-static")
    if not name or command is None:
        raise KernelError(
            f"code for {machine} cannot be emulated here: there is no {name or 'emulator'}",
            "apt-get install qemu-user",
        )
    return Emulator(command, str(root.absolute()), python)
