"""The audit library (audit/audit.c) in a process: which calls it leads through which stubs.

A stub is a few NOPs before a jump to the function: where a probe is cheapest. The process is not
ours and may show us anything: the library is known by what it contains, the table of its stubs
is checked, and whether a call really leads through a stub is read from the caller's own words.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from profinfer.binaries.elf import Elf
from profinfer.binaries.relocations import Word
from profinfer.built import AUDIT
from profinfer.engine.audit_library import (
    CHANGING_SYMBOL,
    COPIES,
    FUNCTIONS,
    PAGE_SYMBOL,
    SLOT,
    SLOTS_SYMBOL,
    STUB_SIZE,
    STUBS,
    STUBS_SYMBOL,
    open_library,
)
from profinfer.engine.target import Mapping, executable_mappings
from profinfer.errors import KernelError, TargetError

_PAGE = struct.Struct("<48Q16x2Q")
"""audit/rings.h: switches; file, state."""
_PAGE_STATES = {
    0: "it has been forked from the process that loaded the engine",
    2: "it runs under a system call filter (seccomp), or /proc does not tell",
    3: "its files may not become large enough (RLIMIT_FSIZE)",
    4: "its kernel gives no sealed memory file, or no page that a forked child finds empty",
}
"""Why not, by what the library says of itself."""
_READY, _FILTERED = 1, 2
_RECORDER = "profinfer-rec\n"
"""What the kernel calls who records (bpf/recorder/serve.c)."""
_MAX_ENVIRON = 8 << 20
_AT_SECURE = 23


@dataclass(frozen=True)
class Stub:
    """One stub that leads to one function of one loaded object."""

    function: str
    real: int
    """Address in the process of the function itself."""
    address: int
    """Address in the process of the stub's first byte."""
    offset: int
    """The same in the audit library's file: where a uprobe counts from."""
    index: int
    """Which of the library's it is."""


@dataclass(frozen=True)
class Redirection:
    """What the audit library does in a process."""

    library: Path | None
    """The library's very inode (/proc/PID/map_files/...); None when the process has none."""
    path: str = ""
    """The library as the process sees it; display only."""
    identity: tuple[str, int] = ("", 0)
    """Its device and inode."""
    stubs: dict[tuple[int, str], Stub] = field(default_factory=dict)
    """By load address of the object that defines the function, and the function's name."""
    reason: str = ""
    """Why there are no stubs; empty when there are."""
    changing: bool = False
    """Whether the loader is adding or removing objects: what it has mapped may get its stubs yet.
    It calls _dl_debug_state once more when it has done so, before it binds anything of them."""
    page: int = 0
    """Address of the page that switches stubs on to record by themselves (audit/rings.h)."""
    cannot_record: str = ""
    """Why they cannot; empty when they can."""
    user: int = 0
    """A recorder that has switched them on; 0: nobody has."""


def with_audit(others: str) -> str:
    """The value of LD_AUDIT that adds the audit library to those that are set (or to ""). It comes
    last: the functions of the others then stand behind its stubs. KernelError without it."""
    if not AUDIT.is_file():
        raise KernelError(f"there is no {AUDIT}", "make setup builds it")
    if set(str(AUDIT)) & set(": \t\n"):
        raise KernelError(f"LD_AUDIT cannot name {AUDIT}", "move profinfer to a plainer path")
    if str(AUDIT) in others.split(":"):
        return others  # twice, it would be loaded twice
    return f"{others}:{AUDIT}" if others else str(AUDIT)


def read_redirection(pid: int) -> Redirection:
    """The stubs of a process as they are now. TargetError when it does not exist."""
    found: list[tuple[Mapping, Elf]] = []
    mappings = executable_mappings(pid)
    try:
        for mapping in mappings:
            elf = open_library(_access(pid, mapping))
            if elf is not None:
                found.append((mapping, elf))
        if not found:
            files = {mapping.identity for mapping in mappings}
            return Redirection(None, reason=_why_absent(pid, len(files)))
        mapping, elf = found[0]
        if len(found) > 1:
            # A probe belongs to the file: it would count each call once per copy.
            reason = "the audit library is loaded more than once (LD_AUDIT names it twice?)"
            return _unused(pid, mapping, reason)
        try:
            stubs, changing = _read_tables(pid, mapping, elf)
            page, cannot_record, user = _read_page(pid, mapping, elf)
        except (OSError, TargetError) as error:
            why = error.message if isinstance(error, TargetError) else error.strerror
            reason = f"the audit library's table cannot be read: {why}"
            return _unused(pid, mapping, reason)
        reason = "" if stubs else "no loaded object exports a function that is redirected"
        return Redirection(
            _access(pid, mapping), mapping.path, mapping.identity, stubs, reason, changing,
            page, cannot_record, user,
        )  # fmt: skip
    finally:
        for _, elf in found:
            elf.close()


def _unused(pid: int, mapping: Mapping, reason: str) -> Redirection:
    return Redirection(_access(pid, mapping), mapping.path, mapping.identity, reason=reason)


def bypasses(pid: int, base: int, words: Sequence[Word], stub: Stub) -> str | None:
    """Why calls of the stub's function by an object loaded at `base` may not pass the stub.

    None when all that use the dynamic linker's `words` (linkage_words) do; those that an object
    makes of its own function directly have no such word: see sites.direct_references.
    """
    try:
        for word in words:
            if not word.jump_slot:
                return f"its address is used outside the procedure linkage table ({word.where})"
            value = _word(_read_memory(pid, base + word.offset, 8))
            if value not in word.values(base, stub.address):
                return f"its procedure linkage table leads to {value:#x}, not to the stub"
    except OSError as error:
        return f"whether calls pass the stub cannot be read: {error.strerror}"
    return None


def _access(pid: int, mapping: Mapping) -> Path:
    return Path(f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}")


def _word(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _read_memory(pid: int, address: int, count: int) -> bytes:
    """Exactly `count` bytes of a process's memory, or OSError."""
    fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(fd, count, address) if address < 1 << 63 else b""
    finally:
        os.close(fd)
    if len(data) != count:
        raise OSError(0, f"no memory at {address:#x}")
    return data


def _read_tables(pid: int, mapping: Mapping, elf: Elf) -> tuple[dict[tuple[int, str], Stub], bool]:
    """The stubs in use, and whether the loader is at work."""
    named = [elf.dynamic_named(n) for n in (STUBS_SYMBOL, SLOTS_SYMBOL, CHANGING_SYMBOL)]
    stubs, slots, changing = (symbol.value for [symbol] in map(dict.values, named))
    first = elf.file_offset(stubs)
    if not mapping.offset <= first < mapping.offset + mapping.end - mapping.start:
        raise TargetError("its stubs are not mapped")
    library = mapping.start - elf.vaddr_of(mapping.offset)
    is_changing = any(_read_memory(pid, library + changing, 8))
    rows = SLOT.iter_unpack(_read_memory(pid, library + slots, STUBS * SLOT.size))
    found: dict[tuple[int, str], Stub] = {}
    for index, (_, real, base, handle) in enumerate(rows):
        if handle:
            function, at = FUNCTIONS[index // COPIES], index * STUB_SIZE
            stub = Stub(function, real, library + stubs + at, first + at, index)
            found.setdefault((base, function), stub)
    return found, is_changing


def _read_page(pid: int, mapping: Mapping, elf: Elf) -> tuple[int, str, int]:
    """Where the page is, why nothing can be recorded by it, and who records by it."""
    [page] = elf.dynamic_named(PAGE_SYMBOL).values()
    address = mapping.start - elf.vaddr_of(mapping.offset) + page.value
    *switches, file, state = _PAGE.unpack(_read_memory(pid, address, _PAGE.size))
    user = next((x for word in switches if _is_recorder(x := word & 0xFFFFFFFF)), 0)
    if state == _READY and _is_filtered(pid):
        state = _FILTERED
    if state != _READY:
        return address, _PAGE_STATES.get(state, "its page is damaged"), user
    if os.readlink(f"/proc/{pid}/ns/pid") != os.readlink("/proc/self/ns/pid"):
        return address, "it is in another PID namespace", user
    return address, _why_closed(pid, file), user


def _why_closed(pid: int, file: int) -> str:
    """Why we cannot switch them, or reach the file of their rings, which is mapped there."""
    try:
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC))
        [place] = Path(f"/proc/{pid}/map_files").glob(f"{file:x}-*")
        if not stat.S_ISREG(place.stat().st_mode):
            return "the file of its rings is not the library's own"
        os.close(os.open(place, os.O_RDWR | os.O_CLOEXEC))
    except (OSError, ValueError) as error:
        return f"its memory cannot be reached: {error}"
    return ""


def _is_recorder(pid: int) -> bool:
    """Whether it lives: words of one that was killed stay."""
    try:
        return Path(f"/proc/{pid}/comm").read_text() == _RECORDER
    except (OSError, UnicodeDecodeError):
        return False


def _is_filtered(pid: int) -> bool:
    """Whether some thread has a filter by now, which may not let it ask for a ring."""
    threads = [*Path(f"/proc/{pid}/task").iterdir()]
    return any("\nSeccomp:\t0\n" not in _status(thread) for thread in threads)


def _status(thread: Path) -> str:
    try:
        return (thread / "status").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return "\nSeccomp:\t0\n"  # it has ended


def _why_absent(pid: int, files: int) -> str:
    """Why a process that has mapped so many files has not loaded the audit library."""
    try:
        with Path(f"/proc/{pid}/environ").open("rb") as file:
            variables = file.read(_MAX_ENVIRON).split(b"\0")
        raw = Path(f"/proc/{pid}/auxv").read_bytes()
    except OSError as error:
        return f"its environment cannot be read: {error.strerror}"
    value = next((v[9:] for v in variables if v.startswith(b"LD_AUDIT=")), b"")
    entries = [os.fsdecode(entry) for entry in value.split(b":")]
    named = next((entry for entry in entries if Path(entry).name == AUDIT.name), None)
    if named is None:
        return "started without LD_AUDIT" + (" naming the audit library" if value else "")
    try:
        elf = Elf(f"/proc/{pid}/exe")
        interp = elf.interp
        elf.close()
    except TargetError as error:
        return f"its executable cannot be read: {error.message}"
    if interp is None:
        return "static executable"
    auxv = dict(struct.iter_unpack("<QQ", raw[: len(raw) & ~15]))
    if auxv.get(_AT_SECURE):
        return "its loader ignores LD_AUDIT because it runs with raised privileges"
    if "/" in named and not Path(f"/proc/{pid}/root", named.lstrip("/")).exists():
        return f"LD_AUDIT names {named}, which is not in its file system"
    if files <= 2:
        return "its loader has not run yet"  # only the executable and the loader itself
    if "musl" in interp:
        return "its loader (musl) knows no audit libraries"
    return "its loader ignores audit libraries of version 2 (glibc before 2.35 does)"
