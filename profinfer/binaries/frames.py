"""Where a file's functions begin and end, by what unwinds its stack: it survives stripping.

A compiler describes each function for that, and the part of it that is rarely run apart.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from profinfer.binaries.elf import Elf
from profinfer.errors import TargetError

Addresses = npt.NDArray[np.int64]

_PT_GNU_EH_FRAME = 0x6474E550
_MAX_SIZE = 128 << 20
_MAX_FUNCTIONS = 1 << 20
_CHUNK = 1 << 20
_PC_RELATIVE, _KIND, _OMITTED = 0x10, 0x0F, 0xFF
_FORMATS = {0x00: "<Q", 0x02: "<H", 0x03: "<I", 0x04: "<Q", 0x0A: "<h", 0x0B: "<i", 0x0C: "<q"}


def functions(elf: Elf) -> tuple[Addresses, Addresses]:
    """(starts, ends): virtual addresses, in order. TargetError when the file does not tell, or is
    damaged."""
    start, size = _table(elf)
    raw = b"".join(
        elf.data_at(start + at, min(_CHUNK, size - at), _CHUNK, "the unwinding table")
        for at in range(0, size, _CHUNK)
    )
    try:
        spans = _spans(raw, start)
    except (struct.error, IndexError, KeyError, ValueError):
        raise TargetError(f"{elf.path}: its unwinding table cannot be read") from None
    if not spans:
        raise TargetError(f"{elf.path}: its unwinding table is empty")
    rows = np.unique(np.array(spans, np.int64), axis=0)
    starts, ends = rows[:, 0], rows[:, 1]
    if (ends[:-1] > starts[1:]).any():
        raise TargetError(f"{elf.path}: implausible unwinding table")
    return starts, ends


def _table(elf: Elf) -> tuple[int, int]:
    """Where .eh_frame lies: by its name or, without names, by the index that leads to it."""
    section = elf.section(".eh_frame")
    if section:
        start, size = section.addr, section.size
    else:
        header = next((s for s in elf.segments if s.type == _PT_GNU_EH_FRAME), None)
        if header is None:
            raise TargetError(f"{elf.path} does not tell where functions begin")
        version, kind, *_ = elf.data_at(header.vaddr, 4, 4, "the unwinding index")
        if version != 1 or kind != _PC_RELATIVE | 0x0B:
            raise TargetError(f"{elf.path}: its unwinding index is of an unknown kind")
        (away,) = struct.unpack("<i", elf.data_at(header.vaddr + 4, 4, 4, "the unwinding index"))
        start = header.vaddr + 4 + away
        load = next((s for s in elf.segments if s.vaddr <= start < s.vaddr + s.filesz), header)
        size = load.vaddr + load.filesz - start
    if size > _MAX_SIZE:
        raise TargetError(f"{elf.path}: implausibly large unwinding table")
    return start, size


def _spans(raw: bytes, base: int) -> list[tuple[int, int]]:
    encodings: dict[int, int] = {}
    spans = []
    at = entries = 0
    while at + 4 <= len(raw):
        if (entries := entries + 1) > _MAX_FUNCTIONS:
            raise ValueError("too many")
        (size,) = struct.unpack_from("<I", raw, at)
        if size in (0, 0xFFFFFFFF):
            break  # the end (or an entry of more than 4 GiB)
        entry, end = at + 4, at + 4 + size
        (back,) = struct.unpack_from("<I", raw, entry)
        if back == 0:
            encodings[at] = _encoding(raw, entry + 4)
        else:
            encoding = encodings[entry - back]
            code = _FORMATS[encoding & _KIND]
            width = struct.calcsize(code)
            (start,) = struct.unpack_from(code, raw, entry + 4)
            if encoding & 0x70 == _PC_RELATIVE:
                start += base + entry + 4
            # How many bytes: in the same format, but never negative.
            (count,) = struct.unpack_from(code.upper(), raw, entry + 4 + width)
            start &= (1 << 64) - 1
            if count and start + count < 1 << 62:
                spans.append((start, start + count))
        at = end
    return spans


def _encoding(raw: bytes, at: int) -> int:
    """How the entries that share this one encode addresses."""
    end = raw.index(b"\0", at + 1)
    text, at = raw[at + 1 : end], end + 1
    if not text.startswith(b"z"):
        return 0
    for _ in range(3):  # two alignments and a register
        at = _after_number(raw, at)
    at = _after_number(raw, at)
    for letter in text[1:]:
        if letter == ord("R"):
            return raw[at]
        if letter == ord("L"):
            at += 1
        elif letter == ord("P"):
            at += 1 + (0 if raw[at] == _OMITTED else struct.calcsize(_FORMATS[raw[at] & _KIND]))
    return 0


def _after_number(raw: bytes, at: int) -> int:
    while raw[at] & 0x80:
        at += 1
    return at + 1
