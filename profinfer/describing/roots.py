"""Roots: the system in whose files an engine is loaded, and what loads it there.

That is this system, that of a process in a container or another root, a folder that holds a
system's libraries, or one for another processor, emulated. qemu-user translates instructions and
hands system calls to this kernel, so that whatever confines the emulator confines the program;
nothing relies on the emulator itself, which is no protection.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from profinfer.binaries.elf import Elf
from profinfer.errors import KernelError, TargetError, UsageError

_EMULATORS = {"aarch64": "qemu-aarch64", "x86-64": "qemu-x86_64"}
_LOADERS = {
    "aarch64": ("/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-aarch64.so.1"),
    "x86-64": ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1"),
}
_MAKE = "tools/fetch_root.py MACHINE RELEASE DIR makes one"
_MAX_LINKS = 40


@dataclass(frozen=True)
class Root:
    """Where an engine is loaded, by what."""

    machine: str
    """As elf.py calls it."""
    loader: str
    """The dynamic loader, a path in the root or, with an emulator, in the sysroot."""
    folder: Path | None = None
    """The root directory, if it is another one than ours."""
    mounts: Path | None = None
    """The mount namespace in which it is, if it is another one than ours."""
    prefixes: tuple[str, ...] = ()
    """How paths begin here that lead into the root."""
    emulator: str | None = None
    """What runs code of that machine, an absolute path."""
    sysroot: Path | None = None
    """With an emulator: where that machine's files lie."""

    @property
    def identity(self) -> str:
        """Tells it from others; "" for ours. TargetError when it is gone, as with its process."""
        if self.folder is None:
            return ""
        try:
            status = self.folder.stat()
        except OSError as error:
            raise TargetError(f"cannot see {self.folder}: {error.strerror}") from None
        return f"{status.st_dev}:{status.st_ino}"

    def inside(self, path: Path) -> str:
        """What a path of ours is in the root; one that leads elsewhere stays as it is."""
        text = str(path.absolute())
        for prefix in self.prefixes:
            if text.startswith(f"{prefix}/"):
                return text.removeprefix(prefix)
        return text


def is_native(machine: str) -> bool:
    """Whether this machine runs code for `machine` (as elf.py calls it) itself."""
    return machine == _own_machine()


def _own_machine() -> str:
    return platform.machine().replace("x86_64", "x86-64")


def sysroot_variable(machine: str) -> str:
    """The environment variable that names the root of a machine."""
    return f"PROFINFER_SYSROOT_{machine.upper().replace('-', '_')}"


def own_root() -> Root:
    """This system's. KernelError when nothing is known that loads libraries here."""
    machine = _own_machine()
    for path in _LOADERS.get(machine, ()):
        if os.path.exists(path):
            return Root(machine, path)
    with contextlib.suppress(TargetError), contextlib.closing(Elf(sys.executable)) as elf:
        if elf.interp:
            return Root(machine, elf.interp)
    raise KernelError(f"this system has no dynamic loader for {machine}", "install its libc")


def find_root(machine: str, sysroot: Path | None) -> Root:
    """Where files for `machine` are loaded: in `sysroot`, the root directory of a system of that
    machine; by default in ours or, for another machine, in what the environment names.

    UsageError when there is none, KernelError without an emulator.
    """
    if is_native(machine):
        if sysroot is None:
            return own_root()
        folder = sysroot.absolute()
        names = dict.fromkeys((str(folder), str(folder.resolve())))
        return Root(machine, _find_loader(machine, folder)[0], folder, prefixes=tuple(names))
    variable = sysroot_variable(machine)
    root = sysroot or Path(os.environ.get(variable, ""))
    if root == Path():
        raise UsageError(
            f"struct layouts of {machine} libraries are found by running them, which takes the"
            f" root of an {machine} system",
            f"give it as --sysroot DIR or in ${variable}; {_MAKE}",
        )
    _, loader = _find_loader(machine, root)
    name = _EMULATORS.get(machine, "")
    command = shutil.which(name) or shutil.which(f"{name}-static")
    if not name or command is None:
        raise KernelError(
            f"code for {machine} cannot be emulated here: there is no {name or 'emulator'}",
            "apt-get install qemu-user",
        )
    return Root(machine, loader, emulator=os.path.abspath(command), sysroot=root.absolute())


def _find_loader(machine: str, root: Path) -> tuple[str, str]:
    """(the loader of a root as programs there name it, where that leads to below the root)."""
    hint = f"--sysroot is the root of an {machine} system; {_MAKE}"
    paths = _LOADERS.get(machine, ())
    for path in paths:
        found = _follow(root, path)
        if not (root / found).exists():
            continue
        try:
            elf = Elf(root / found)
            elf.close()
        except TargetError as error:
            raise UsageError(error.message, hint) from None
        if elf.machine != machine:
            raise UsageError(f"{root / found} is for {elf.machine}, not for {machine}", hint)
        return path, found
    raise UsageError(f"the sysroot {root} has no dynamic loader ({', '.join(paths)})", hint)


def _follow(root: Path, path: str) -> str:
    """Where a path leads in a root, links followed as there; relative to the root."""
    todo = path.split("/")[::-1]
    done: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            done = done[:-1]
        elif part not in ("", "."):
            done.append(part)
            place = root.joinpath(*done)
            if place.is_symlink() and links < _MAX_LINKS:
                links += 1
                target = os.readlink(place)
                done = [] if target.startswith("/") else done[:-1]
                todo += target.split("/")[::-1]
    return "/".join(done)


def root_of(pid: int) -> Root:
    """The root of a process, with the loader that has loaded its program. TargetError when it has
    ended, or runs no program of a known kind."""
    process = Path(f"/proc/{pid}")
    try:
        folder = process / "root"
        name = os.readlink(folder)
        is_ours = os.path.samestat(folder.stat(), os.stat("/"))
        mounts = process / "ns/mnt"
        is_here = os.path.samestat(mounts.stat(), os.stat("/proc/self/ns/mnt"))
        program = os.readlink(process / "exe").removesuffix(" (deleted)")
    except OSError as error:
        raise TargetError(f"cannot see the root of process {pid}: {error.strerror}") from None
    elf = Elf(process / "exe")
    machine, loader = elf.machine, elf.interp
    elf.close()
    if is_ours and is_here:
        return Root(machine, loader or program)
    prefixes = (str(folder), *([] if name == "/" else [name]))
    found = Root(machine, "", folder, None if is_here else mounts, prefixes)
    # Where it has none it was started by its loader, which is the program then.
    return Root(machine, loader or found.inside(Path(program)), folder, found.mounts, prefixes)
