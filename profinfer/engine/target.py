"""The target: a process, the files it has mapped, and which of them hold ggml or llama code."""

from __future__ import annotations

import contextlib
import os
import platform
import select
from dataclasses import dataclass, replace
from pathlib import Path

from profinfer.binaries.elf import Elf
from profinfer.engine.description import describe, is_engine, may_be_engine, recall
from profinfer.errors import TargetError

_TRIES = 16


@dataclass(frozen=True)
class Mapping:
    """One executable mapping of a file."""

    start: int
    end: int
    offset: int
    identity: tuple[str, int]
    """Device and inode: what a uprobe belongs to."""
    path: str
    """As the target sees it; display only."""


@dataclass(frozen=True)
class EngineObject:
    """A mapped file with ggml or llama code."""

    path: str
    """As the target sees it; display only."""
    access: Path
    """The very inode, reachable by root: /proc/PID/map_files/... or the file itself."""
    library: Path
    """The file where its neighbours lie, reachable by its owner."""
    elf: Elf
    bases: tuple[int, ...]
    """Load addresses of virtual address 0: one, or several when the file is loaded several times;
    0 for a file that is not mapped."""
    identity: tuple[str, int] = ("", 0)
    """Device and inode, as in /proc/PID/maps; of a file that is not mapped nothing."""

    @property
    def base(self) -> int:
        """The first of these."""
        return self.bases[0]

    @property
    def on_disk(self) -> str | None:
        """What has become of its path since it was mapped: "deleted", "replaced" by another file,
        or None where it still leads there."""
        if not self.identity[1] or self.library != self.access:
            return None
        root = self.access.parents[1] / "root"
        return "replaced" if os.path.lexists(f"{root}{self.path}") else "deleted"


def executable_mappings(pid: int) -> list[Mapping]:
    """Executable file mappings of a process; TargetError when it does not exist."""
    try:
        # The kernel escapes line feeds in paths, and nothing else that would end a line for Python.
        lines = os.fsdecode(Path(f"/proc/{pid}/maps").read_bytes()).split("\n")
    except FileNotFoundError:
        raise TargetError(
            f"process {pid} does not exist", "give the PID of a running engine"
        ) from None
    except ProcessLookupError:
        raise TargetError(f"process {pid} has ended") from None
    except PermissionError:
        raise TargetError(f"not allowed to read /proc/{pid}/maps", "run as root") from None
    result = []
    for line in lines:
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and "x" in fields[1] and fields[4] != "0":
            start, end = (int(x, 16) for x in fields[0].split("-"))
            path = fields[5].removesuffix(" (deleted)")
            result.append(
                Mapping(start, end, int(fields[2], 16), (fields[3], int(fields[4])), path)
            )
    return result


def owned_mappings(pid: int) -> tuple[tuple[int, int], list[Mapping]]:
    """Whose process it is, and what it has mapped as such: one that runs a program of root's, or
    leaves root's service, has nothing of the one user that would be taken for another's."""
    before: tuple[int, int] | None = None
    with contextlib.suppress(TargetError):
        before = owner(pid)
    for _ in range(_TRIES):
        mappings = executable_mappings(pid)
        now = owner(pid)
        if now == before:
            return now, mappings
        before = now
    raise TargetError(f"process {pid} becomes another user's all the time")


class ObjectFinder:
    """Finds engine objects among mappings; each file is read once, however often it is asked."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], Elf | None] = {}

    def find(self, pid: int) -> list[EngineObject]:
        """The engine's objects as mapped now, in order of address; empty when there are none."""
        (uid, _), mappings = owned_mappings(pid)
        fresh: dict[tuple[str, int], Elf | None] = {}
        for mapping in mappings:
            if mapping.identity not in self._known and mapping.identity not in fresh:
                fresh[mapping.identity] = _candidate(_access(pid, mapping))
        recall([elf for elf in fresh.values() if elf], uid)
        for key, elf in fresh.items():
            self._known[key] = elf if elf and _holds_engine(elf) else None
        found: dict[tuple[str, int], EngineObject] = {}
        for mapping in mappings:
            elf = self._known[mapping.identity]
            if elf is None:
                continue
            base = mapping.start - elf.vaddr_of(mapping.offset)
            known = found.get(mapping.identity)
            if known is None:
                access = _access(pid, mapping)
                library = _library_path(pid, mapping, access)
                found[mapping.identity] = EngineObject(
                    mapping.path, access, library, elf, (base,), mapping.identity
                )
            elif base not in known.bases:
                found[mapping.identity] = replace(known, bases=(*known.bases, base))
        return list(found.values())


def _access(pid: int, mapping: Mapping) -> Path:
    return Path(f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}")


def _candidate(path: Path) -> Elf | None:
    """The file, if there may be an engine in it."""
    try:
        elf = Elf(path)
        return elf if may_be_engine(elf) else None
    except TargetError:
        return None  # not ELF: a file that somebody mapped executable


def _holds_engine(elf: Elf) -> bool:
    try:
        return describe(elf).is_engine
    except TargetError:
        pass
    try:
        return is_engine(elf)  # a damaged one: whoever plans probes will hear
    except TargetError:
        return False


def _library_path(pid: int, mapping: Mapping, access: Path) -> Path:
    """The path by which others can open the mapped file: ours, the target's root, or the link."""
    for path in (Path(mapping.path), Path(f"/proc/{pid}/root{mapping.path}")):
        try:
            if path.samefile(access):
                return path
        except OSError:
            continue
    return access  # deleted or replaced: only the link still leads to it


def engine_objects(pid: int) -> list[EngineObject]:
    """The engine's objects of a running process; TargetError when it holds no ggml."""
    found = ObjectFinder().find(pid)
    if not found:
        raise TargetError(
            f"process {pid} ({process_name(pid)}) holds no ggml or llama.cpp code",
            "give the process that loads the model; profinfer doctor --pid shows what it maps",
        )
    return found


def file_object(path: Path) -> EngineObject:
    """A library or executable on disk as an engine object."""
    elf = Elf(path)
    return EngineObject(str(path), path, path.absolute(), elf, (0,))


def printable(text: str) -> str:
    """A stranger's text, without what a terminal would obey, and not endless."""
    return "".join(x if x.isprintable() else "?" for x in text[:120])


def process_name(pid: int) -> str:
    """comm of a process or thread, as far as it is printable, or "?" when it has ended."""
    try:
        return printable(Path(f"/proc/{pid}/comm").read_text(errors="replace").removesuffix("\n"))
    except OSError:
        return "?"


def owner(pid: int) -> tuple[int, int]:
    """uid and gid of a process; TargetError when it does not exist."""
    try:
        status = os.stat(f"/proc/{pid}")
    except OSError:
        raise TargetError(f"process {pid} does not exist") from None
    return status.st_uid, status.st_gid


def cpu_model() -> str:
    """What /proc/cpuinfo calls this processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model", "CPU part")):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def is_ending(pid: int) -> bool:
    """Whether a process has ended, or does so now: its memory goes first."""
    try:
        ended = os.pidfd_open(pid)
    except OSError:
        return True
    with open(ended):
        return bool(select.select([ended], [], [], 0.5)[0])
