"""The words of an object that point into it: what its tables of names are made of.

In a file whose place is not fixed the dynamic loader (or a static program's own start) fills them;
which they are stands in relative relocations, packed or not. In a program linked to a fixed place
they stand as they are among all other data.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from profinfer.binaries.elf import Elf, Segment
from profinfer.errors import TargetError

_ET_EXEC = 2
_PT_LOAD = 1
_PF_X, _PF_W = 1, 2
_DT_RELA, _DT_RELASZ, _DT_RELAENT, _DT_RELR, _DT_RELRSZ = 7, 8, 9, 36, 35
_RELATIVE = {"x86-64": 8, "aarch64": 1027}
_RELA = np.dtype([("offset", "<u8"), ("kind", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])
_MAX_TABLE = 256 << 20
_MAX_LOADED = 512 << 20
_MAX_WORDS = 8 << 20


class Pointers:
    """Such words, by virtual address as linked, and what they point to."""

    def __init__(self, addresses: npt.NDArray[np.uint64], values: npt.NDArray[np.uint64]) -> None:
        order = np.argsort(addresses, kind="stable")
        self._addresses, self._values = addresses[order], values[order]

    def at(self, address: int) -> int | None:
        """Where the word at that address points to; None when it is none of these."""
        if address >> 64:
            return None
        row = int(np.searchsorted(self._addresses, np.uint64(address)))
        if row == len(self._addresses) or int(self._addresses[row]) != address:
            return None
        return int(self._values[row])

    def to(self, targets: list[int]) -> list[int]:
        """Addresses of the words that point to one of these, in order."""
        rows = np.flatnonzero(np.isin(self._values, np.array(targets, "<u8")))
        return [int(address) for address in self._addresses[rows]]


def loaded(elf: Elf) -> list[tuple[Segment, bytes]]:
    """What of the file is loaded. TargetError when it is damaged, or implausibly large."""
    segments = [segment for segment in elf.segments if segment.type == _PT_LOAD and segment.filesz]
    size = sum(segment.filesz for segment in segments)
    if size > _MAX_LOADED:
        raise TargetError(f"{elf.path} is too large to be searched: {size} bytes are loaded")
    if any(segment.vaddr >> 62 for segment in segments):
        raise TargetError(f"{elf.path} is loaded at implausible addresses")
    return [(s, elf.data_at(s.vaddr, s.filesz, _MAX_LOADED, "a segment")) for s in segments]


def find_pointers(elf: Elf, segments: list[tuple[Segment, bytes]]) -> Pointers:
    """Those of a file, of which this is loaded. TargetError when it is damaged or its processor is
    unknown."""
    if elf.type == _ET_EXEC:
        rows = list(_plain(segments))
    else:
        rows = [*_relative(elf), *_packed(elf, segments)]
    empty = np.empty(0, "<u8")
    addresses = np.concatenate([empty, *(row[0] for row in rows)])
    return Pointers(addresses, np.concatenate([empty, *(row[1] for row in rows)]))


_Rows = Iterator[tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]]


def _plain(segments: list[tuple[Segment, bytes]]) -> _Rows:
    """Every word of data that could be one."""
    low = min((segment.vaddr for segment, _ in segments), default=0)
    high = max((segment.vaddr + segment.memsz for segment, _ in segments), default=0)
    for segment, data in segments:
        skipped = -segment.vaddr & 7
        count = (len(data) - skipped) // 8
        if segment.flags & _PF_X or count <= 0:
            continue
        words = np.frombuffer(data, "<u8", count, skipped)
        rows = np.flatnonzero((words >= np.uint64(low)) & (words < np.uint64(high)))
        yield (rows * 8 + segment.vaddr + skipped).astype("<u8"), words[rows]


def _relative(elf: Elf) -> _Rows:
    kind = _RELATIVE.get(elf.machine)
    if kind is None:
        raise TargetError(f"{elf.path}: relocations of {elf.machine} are not known")
    values = elf.dynamic
    if _DT_RELA not in values or values.get(_DT_RELAENT, _RELA.itemsize) != _RELA.itemsize:
        return
    size = values.get(_DT_RELASZ, 0) // _RELA.itemsize * _RELA.itemsize
    table = np.frombuffer(elf.data_at(values[_DT_RELA], size, _MAX_TABLE, "the relocations"), _RELA)
    table = table[table["kind"] == kind]
    yield table["offset"].astype("<u8"), table["addend"].astype("<u8")


def _packed(elf: Elf, segments: list[tuple[Segment, bytes]]) -> _Rows:
    """DT_RELR: an address, then bit maps of which of the 63 words behind are meant, too. What they
    point to stands in the file."""
    values = elf.dynamic
    if _DT_RELR not in values:
        return
    size = values.get(_DT_RELRSZ, 0) & ~7
    raw = elf.data_at(values[_DT_RELR], size, _MAX_TABLE, "the packed relocations")
    addresses: list[int] = []
    base = 0
    for (entry,) in struct.iter_unpack("<Q", raw):
        if not entry & 1:
            addresses.append(entry)
            base = entry + 8
        else:
            addresses += [base + 8 * bit for bit in range(63) if entry >> bit + 1 & 1]
            base += 63 * 8
        if len(addresses) > _MAX_WORDS:
            raise TargetError(f"{elf.path} has implausibly many packed relocations")
    found = np.array([a for a in addresses if a < 1 << 63], "<u8")
    for segment, data in segments:
        start, end = segment.vaddr, segment.vaddr + len(data)
        inside = found[(found >= np.uint64(start)) & (found + np.uint64(8) <= np.uint64(end))]
        if segment.flags & _PF_W and len(inside):
            places = (inside - np.uint64(start)).astype("<i8")[:, None] + np.arange(8)
            words = np.frombuffer(data, "u1")[places]
            yield inside, np.ascontiguousarray(words).view("<u8").reshape(-1)
