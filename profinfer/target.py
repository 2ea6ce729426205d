"""The target: a process, the files it has mapped, and which of them hold ggml or llama code."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from dataclasses import dataclass, replace
from pathlib import Path

from profinfer.elf import Elf
from profinfer.errors import TargetError

_MARK = re.compile(
    r"^(ggml_(init|barrier|graph_compute|cpu_extra_compute_forward"
    r"|backend_graph_compute_async|backend_init|backend_\w+_reg)|llama_decode)$"
)
"""The last two of ggml's: a backend in a library of its own."""


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

    @property
    def base(self) -> int:
        """The first of these."""
        return self.bases[0]


def executable_mappings(pid: int) -> list[Mapping]:
    """Executable file mappings of a process; TargetError when it does not exist."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(errors="surrogateescape").splitlines()
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


def is_engine(elf: Elf) -> bool:
    """Whether a file defines functions of ggml or llama.cpp. TargetError when it is damaged."""
    return bool(elf.symbols.matching(_MARK))


class ObjectFinder:
    """Finds engine objects among mappings; each file is read once, however often it is asked."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], Elf | None] = {}

    def find(self, pid: int) -> list[EngineObject]:
        """The engine's objects as mapped now, in order of address; empty when there are none."""
        found: dict[tuple[str, int], EngineObject] = {}
        for mapping in executable_mappings(pid):
            access = Path(f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}")
            if mapping.identity not in self._known:
                self._known[mapping.identity] = self._examine(access)
            elf = self._known[mapping.identity]
            if elf is None:
                continue
            base = mapping.start - elf.vaddr_of(mapping.offset)
            known = found.get(mapping.identity)
            if known is None:
                library = _library_path(pid, mapping, access)
                found[mapping.identity] = EngineObject(mapping.path, access, library, elf, (base,))
            elif base not in known.bases:
                found[mapping.identity] = replace(known, bases=(*known.bases, base))
        return list(found.values())

    @staticmethod
    def _examine(path: Path) -> Elf | None:
        try:
            elf = Elf(path)
            return elf if is_engine(elf) else None
        except TargetError:
            return None  # not ELF: a file that somebody mapped executable


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


def process_name(pid: int) -> str:
    """comm of a process or thread, or "?" when it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").rstrip("\n")
    except OSError:
        return "?"


def command_line(pid: int) -> list[str]:
    """Arguments of a process; empty when it has ended."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [part.decode("utf-8", "replace") for part in raw.split(b"\0")[:-1]]


def owner(pid: int) -> tuple[int, int]:
    """uid and gid of a process; TargetError when it does not exist."""
    try:
        status = os.stat(f"/proc/{pid}")
    except OSError:
        raise TargetError(f"process {pid} does not exist") from None
    return status.st_uid, status.st_gid


def is_alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def start_time(pid: int) -> int:
    """Start time of a process in clock ticks since boot: tells a recycled PID apart."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])


def cpu_model() -> str:
    """What /proc/cpuinfo calls this processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model", "CPU part")):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
