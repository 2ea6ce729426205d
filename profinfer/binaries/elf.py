"""Read what a probe needs from an ELF file without executing any of it.

The files belong to other people and may be damaged on purpose: every size is checked against the
file before anything is allocated, nothing is memory-mapped (its owner could truncate it under
us), and every defect becomes a TargetError that names the file.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import stat
import struct
import weakref
from collections import namedtuple
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from profinfer.errors import TargetError

if TYPE_CHECKING:
    from profinfer.binaries.symbols import SymbolTable

MACHINES = {62: "x86-64", 183: "aarch64", 243: "riscv64", 258: "loongarch64"}

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE = 1, 2, 3, 4
_PF_X = 1
_SHT_SYMTAB, _SHT_DYNSYM = 2, 11
_STT_FUNC = 2
_DT_NEEDED, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SONAME = 1, 5, 6, 10, 14

# Far above any real engine (47,000 symbols, 4 MB of names), far below what would hurt.
_MAX_HEADERS = 65535
_MAX_SYMBOLS = 4 << 20
_MAX_STRINGS = 512 << 20
_MAX_NAME = 64 << 10
_MAX_NOTE = 1 << 20
_MAX_CODE = 1 << 20
_MAX_FILE = 8 << 30

_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")


class Segment(NamedTuple):
    """A program header."""

    type: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int

    @property
    def is_code(self) -> bool:
        """Whether it is loaded to be executed."""
        return self.type == _PT_LOAD and bool(self.flags & _PF_X)


Section = namedtuple("Section", "name type flags addr offset size link info align entsize")
"""A section header."""


class Symbol(NamedTuple):
    """A defined function: `value` is its virtual address and `size` its bytes, as linked."""

    name: str
    value: int
    size: int
    exported: bool


class SymbolBytes(NamedTuple):
    """A symbol table as it stands in the file."""

    entries: bytes
    strings: bytes
    dynamic: bool


def _open_regular(path: Path) -> int | None:
    """Not of anything else: it is not even opened, as some devices do something then."""
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            return None
        return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    finally:
        os.close(place)


class Elf:
    """One 64-bit little-endian ELF file, read on demand.

    Raises TargetError, naming the file, when it cannot be opened, is not such a file, or is
    damaged; the lazy attributes may raise it too.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            descriptor = _open_regular(self.path)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise TargetError(f"cannot read {self.path}: {reason}") from None
        if descriptor is None:
            raise self._bad("not a regular file")
        self._fd = descriptor
        self._close = weakref.finalize(self, os.close, self._fd)
        self.size = os.fstat(self._fd).st_size
        head = self._read(0, min(self.size, 64), 64, "the header")
        if len(head) < 64 or head[:4] != b"\x7fELF":
            raise self._bad("not an ELF file")
        if head[4] != 2 or head[5] != 1:
            what = "a 32-bit" if head[4] == 1 else "a big-endian" if head[5] == 2 else "an odd"
            raise self._bad(f"{what} one, not a 64-bit little-endian ELF file")
        (self.type, machine, _, self.entry, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum,
         shstrndx) = struct.unpack_from("<HHIQQQIHHHHHH", head, 16)  # fmt: skip
        self.machine: str = MACHINES.get(machine, f"machine {machine}")
        rows = self._table(phoff, phnum, phentsize, _PROGRAM_HEADER, "program headers")
        self.segments = [Segment(*row) for row in rows]
        self._sections = self._section_table(shoff, shnum, shentsize)
        self._names_at = shstrndx

    @property
    def descriptor(self) -> int:
        """The open file's."""
        return self._fd

    def close(self) -> None:
        """Give the file descriptor back now; what was not read yet cannot be read any more."""
        self._close()

    def _bad(self, reason: str) -> TargetError:
        return TargetError(f"{self.path} cannot be read as an ELF file: {reason}")

    def _read(self, offset: int, count: int, limit: int, what: str) -> bytes:
        """Exactly `count` bytes at `offset`, or TargetError."""
        if count > limit:
            raise self._bad(f"{what} claims {count} bytes")
        if offset + count > self.size:
            raise self._bad(f"{what} lies outside the file (truncated?)")
        try:
            data = os.pread(self._fd, count, offset) if count else b""
        except OSError as error:
            raise self._bad(f"{what}: {error.strerror}") from None
        if len(data) != count:
            raise self._bad(f"{what} ends early")
        return data

    def _table(
        self, offset: int, count: int, entry: int, kind: struct.Struct, what: str
    ) -> list[tuple[int, ...]]:
        if count == 0 or offset == 0:
            return []
        if entry != kind.size:
            raise self._bad(f"{what} have entries of {entry} bytes")
        raw = self._read(offset, count * entry, _MAX_HEADERS * entry, what)
        return list(kind.iter_unpack(raw))

    def _section_table(self, offset: int, count: int, entry: int) -> list[Section]:
        if count == 0 and offset != 0:
            # More than 65,279 sections: the count moves into the first header.
            [first] = self._table(offset, 1, entry, _SECTION_HEADER, "section headers")
            count = Section(*first).size
        rows = self._table(offset, count, entry, _SECTION_HEADER, "section headers")
        return [Section(*row) for row in rows]

    def section(self, name: str) -> Section | None:
        """The section of that name."""
        names = self._sections[self._names_at : self._names_at + 1]
        strings = b"".join(self._read(n.offset, n.size, _MAX_NOTE, "section names") for n in names)
        wanted = name.encode() + b"\0"
        for section in self._sections:
            if strings.startswith(wanted, section.name):
                return section
        return None

    def section_bytes(self, name: str, limit: int) -> bytes:
        """What stands in it, at most `limit` bytes; nothing without it."""
        found = self.section(name)
        return self._read(found.offset, min(found.size, limit), limit, name) if found else b""

    def _segments_of(self, kind: int) -> list[tuple[int, int, int]]:
        """(file offset, virtual address, bytes in the file) of each segment of that kind."""
        return [(s.offset, s.vaddr, s.filesz) for s in self.segments if s.type == kind]

    @cached_property
    def note_id(self) -> str:
        """The GNU build id in hex; "" where the linker left none."""
        for offset, _, size in self._segments_of(_PT_NOTE):
            if size > _MAX_NOTE:
                continue
            notes, at = self._read(offset, size, _MAX_NOTE, "notes"), 0
            while at + 12 <= len(notes):
                name_size, data_size, kind = struct.unpack_from("<III", notes, at)
                name_end = at + 12 + (name_size + 3 & ~3)
                data = notes[name_end : name_end + data_size]
                is_id = kind == 3 and notes[at + 12 : at + 12 + name_size] == b"GNU\0"
                if is_id and 4 <= data_size <= 64 and len(data) == data_size:
                    return data.hex()
                at = name_end + (data_size + 3 & ~3)
        return ""

    @cached_property
    def build_id(self) -> str:
        """The GNU build id in hex; without one, a SHA-256 over the first MiB and the size."""
        if self.note_id:
            return self.note_id
        count = min(self.size, 1 << 20)
        head = self._read(0, count, 1 << 20, "the first MiB")
        return hashlib.sha256(head + struct.pack("<Q", self.size)).hexdigest()

    def sha256(self) -> str:
        """Of the whole file, in hex."""
        if self.size > _MAX_FILE:
            raise self._bad(f"{self.size} bytes are too many")
        digest = hashlib.sha256()
        for offset in range(0, self.size, _MAX_CODE):
            count = min(_MAX_CODE, self.size - offset)
            digest.update(self._read(offset, count, _MAX_CODE, "the file"))
        return digest.hexdigest()

    @cached_property
    def interp(self) -> str | None:
        """The program interpreter of a dynamically linked executable."""
        for offset, _, size in self._segments_of(_PT_INTERP):
            raw = self._read(offset, size, 4096, "the interpreter's path")
            return raw.split(b"\0", 1)[0].decode("utf-8", "replace")
        return None

    @cached_property
    def _dynamic(self) -> list[tuple[int, int]]:
        for offset, _, size in self._segments_of(_PT_DYNAMIC):
            raw = self._read(offset, size & ~15, 1 << 20, "the dynamic section")
            tags = [(tag, value) for tag, value in struct.iter_unpack("<QQ", raw)]
            return tags[: next((i for i, (tag, _) in enumerate(tags) if tag == 0), len(tags))]
        return []

    @property
    def dynamic(self) -> dict[int, int]:
        """The dynamic section's values by tag."""
        return dict(self._dynamic)

    def _dynamic_strings(self) -> bytes:
        values = self.dynamic
        if _DT_STRTAB not in values:
            return b""
        offset = self.file_offset(values[_DT_STRTAB])
        return self._read(offset, values.get(_DT_STRSZ, 0), _MAX_STRINGS, "dynamic strings")

    @cached_property
    def needed(self) -> list[str]:
        """The libraries it names as DT_NEEDED, in order."""
        return self._named(_DT_NEEDED)

    @cached_property
    def soname(self) -> str | None:
        """The name other libraries know it by, where it has one."""
        return next(iter(self._named(_DT_SONAME)), None)

    def _named(self, wanted: int) -> list[str]:
        offsets = [value for tag, value in self._dynamic if tag == wanted][:4096]
        strings = self._dynamic_strings() if offsets else b""
        return [self._name(strings, at).decode("utf-8", "replace") for at in offsets]

    def _name(self, strings: bytes, at: int) -> bytes:
        end = strings.find(b"\0", at, at + _MAX_NAME)
        if end < 0:
            raise self._bad("a name has no end")
        return strings[at:end]

    def symbol_tables(self) -> list[SymbolBytes]:
        """.dynsym and .symtab, the dynamic one first."""
        found = []
        for kind in (_SHT_DYNSYM, _SHT_SYMTAB):
            for section in [s for s in self._sections if s.type == kind][:1]:
                count = section.size // _SYMBOL.size
                if section.link >= len(self._sections):
                    raise self._bad("a symbol table without names")
                names = self._sections[section.link]
                raw = self._read(section.offset, count * _SYMBOL.size,
                                 _MAX_SYMBOLS * _SYMBOL.size, "a symbol table")  # fmt: skip
                strings = self._read(names.offset, names.size, _MAX_STRINGS, "symbol names")
                found.append(SymbolBytes(raw, strings, kind == _SHT_DYNSYM))
        values = self.dynamic if not found else {}
        size = values.get(_DT_STRTAB, 0) - values.get(_DT_SYMTAB, 0)
        if size > 0 and _DT_SYMTAB in values:
            # No section headers (sstrip): linkers put the strings right after the symbols.
            count = size // _SYMBOL.size
            raw = self._read(self.file_offset(values[_DT_SYMTAB]), count * _SYMBOL.size,
                             _MAX_SYMBOLS * _SYMBOL.size, "the dynamic symbols")  # fmt: skip
            found.append(SymbolBytes(raw, self._dynamic_strings(), True))
        return found

    @cached_property
    def symbols(self) -> SymbolTable:
        """Every defined function of .dynsym and .symtab."""
        from profinfer.binaries.symbols import (
            SymbolTable,  # here: it takes numpy, which not all need
        )

        try:
            return SymbolTable(self.symbol_tables())
        except ValueError as error:
            raise self._bad(str(error)) from None

    def functions_from(self, prefixes: tuple[str, ...]) -> dict[str, int]:
        """Values of the functions whose names begin so: as `symbols` has them, but for a few that
        is quick, and without numpy."""
        starts = tuple(prefix.encode() for prefix in prefixes)
        found: dict[str, int] = {}
        for entries, strings, _ in self.symbol_tables():
            for at, info, _, section, value, _ in _SYMBOL.iter_unpack(entries):
                if info & 15 == _STT_FUNC and section and value and strings.startswith(starts, at):
                    name = self._name(strings, at).decode("utf-8", "replace")
                    found.setdefault(name, value)
        return found

    def may_name(self, part: bytes) -> bool:
        """Whether some symbol's name may hold these bytes: quick, and never wrongly False."""
        return any(part in table.strings for table in self.symbol_tables())

    def dynamic_named(self, name: str) -> dict[int, Symbol]:
        """What .dynsym holds under that name, of whatever kind, by index; value 0: imported."""
        wanted = name.encode() + b"\0"
        for entries, strings, dynamic in self.symbol_tables()[:1]:
            if not dynamic or wanted not in strings:
                continue
            # Linkers let a name share the end of a longer one, so it may begin anywhere.
            starts = {found.start() for found in re.finditer(re.escape(wanted), strings)}
            return {
                index: Symbol(name, value, size, True)
                for index, (at, _, _, _, value, size) in enumerate(_SYMBOL.iter_unpack(entries))
                if at in starts
            }
        return {}

    def file_offset(self, vaddr: int) -> int:
        """The file offset of a virtual address, through PT_LOAD.

        TargetError when no segment of the file holds it.
        """
        for offset, start, size in self._segments_of(_PT_LOAD):
            if start <= vaddr < start + size:
                return vaddr - start + offset
        raise self._bad(f"no segment holds the address {vaddr:#x}")

    def data_at(self, vaddr: int, count: int, limit: int, what: str) -> bytes:
        """Exactly `count` bytes at a virtual address, at most `limit`; or TargetError."""
        return self._read(self.file_offset(vaddr) if count else 0, count, limit, what)

    def code_at(self, vaddr: int, count: int) -> bytes:
        """`count` bytes at a virtual address; fewer at the end of the file."""
        return self.bytes_at(self.file_offset(vaddr), count)

    def bytes_at(self, offset: int, count: int) -> bytes:
        """`count` bytes at a file offset; fewer at the end of the file."""
        return self._read(offset, max(0, min(count, self.size - offset)), _MAX_CODE, "code")

    def vaddr_of(self, offset: int) -> int:
        """The virtual address of a file offset in code, where an executable mapping begins."""
        for segment in self.segments:
            # A mapping begins at a page boundary, which may lie before the segment's first byte.
            start = segment.offset & -mmap.PAGESIZE
            if segment.is_code and start <= offset < segment.offset + segment.filesz:
                return offset - segment.offset + segment.vaddr
        raise self._bad(f"no segment of code holds the file offset {offset:#x}")
