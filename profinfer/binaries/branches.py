"""Which addresses of a file's code its own code leads to: branches and computed addresses.

Found by their bytes in all executable segments, without decoding from the start: data among the
code cannot hide anything, and now and then bytes in the middle of an instruction look like one.
"""

from __future__ import annotations

import re
import struct
import weakref
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from profinfer.binaries.elf import Elf
from profinfer.errors import TargetError

_Ints = npt.NDArray[np.integer[Any]]

_ET_EXEC = 2
_MOVE = re.compile(
    rb"(?:[\xb8-\xbf\x68]|\xc7(?:[\x00-\x07]|[\x40-\x47].|[\x44\x84]..|[\x80-\x87].{4}))\Z", re.S
)
_MOVE_SIZE = 6
_CHUNK = (1 << 18) - 16
_OVERLAP = 16
# Far above any real engine (15 MB of code, 500,000 references), far below what would hurt.
_MAX_CODE = 1 << 30
_MAX_SPANS = 64
_MAX_REFERENCES = 8 << 20


def short_jumps(elf: Elf, start: int, end: int) -> list[tuple[int, int]]:
    """(place, target) of the jumps by one byte in `start`..`end` of x86-64 code, decoded in turn.

    `references` lacks them: by their bytes alone they would be too many.
    """
    import capstone  # here, as in sites.py

    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    decoder.skipdata = True
    found = []
    code = elf.code_at(start, end - start)
    for place, size, mnemonic, operands in decoder.disasm_lite(code, start):
        name = mnemonic.split()[-1]
        # An opcode, the distance, and perhaps one prefix.
        if size <= 3 and name.startswith(("j", "loop")) and operands.startswith("0x"):
            found.append((place, int(operands, 16)))
    return found


_known: weakref.WeakKeyDictionary[Elf, tuple[_Ints, _Ints]] = weakref.WeakKeyDictionary()


def references(elf: Elf) -> tuple[_Ints, _Ints]:
    """(places, targets): addresses of instructions, and the address in the code each leads to.

    Read once per Elf (0.1 s for 15 MB of code). Raises TargetError when the file is damaged, of
    implausible size, or for another processor.
    """
    if elf not in _known:
        spans = _spans(elf)
        # Half a million of them are kept for a large engine: in as few bytes as hold them.
        dtype = np.uint32 if all(start + size < 1 << 32 for start, size in spans) else np.int64
        parts: list[tuple[_Ints, _Ints]] = []
        budget = _MAX_REFERENCES
        for places, targets in _scanned(elf, spans):
            keep = np.zeros(len(targets), bool)
            for start, size in spans:
                keep |= (targets >= start) & (targets < start + size)
            parts.append((places[keep].astype(dtype), targets[keep].astype(dtype)))
            budget -= len(parts[-1][0])
            if budget < 0:
                raise TargetError(f"{elf.path} cannot be searched: implausibly many branches")
        empty = np.empty(0, dtype)
        _known[elf] = (
            np.concatenate([empty, *(places for places, _ in parts)]),
            np.concatenate([empty, *(targets for _, targets in parts)]),
        )
    return _known[elf]


def uses(elf: Elf, addresses: Collection[int]) -> list[tuple[int, int]]:
    """(place, address): where code computes one of these addresses, of whatever it is; in a program
    that is linked to one place, where it has it as a number, too. TargetError as above."""
    wanted = np.array(sorted(addresses), np.int64)
    found: list[tuple[int, int]] = []
    spans = _spans(elf)
    for places, targets in _scanned(elf, spans):
        hits = np.isin(targets, wanted)
        found += zip(places[hits].tolist(), targets[hits].tolist(), strict=True)
    if elf.machine == "x86-64" and elf.type == _ET_EXEC:
        for at, own, count in _chunks(spans):
            raw = elf.code_at(at, count)
            for address in addresses:
                numbers = _numbers(raw, address) if address >> 32 == 0 else ()
                found += [(at + place, address) for place in numbers if place < own]
    return found


def search(elf: Elf, pattern: re.Pattern[bytes]) -> Iterator[int]:
    """Where in code these bytes stand, a few. TargetError as above."""
    for at, own, count in _chunks(_spans(elf)):
        found = pattern.finditer(elf.code_at(at, count))
        yield from (at + each.start() for each in found if each.start() < own)


def _numbers(raw: bytes, address: int) -> Iterator[int]:
    """Where an instruction moves this number to a register, to a word in memory or to the stack."""
    wanted = struct.pack("<I", address)
    end = raw.find(wanted)
    while end >= 0:
        if move := _MOVE.search(raw, max(end - _MOVE_SIZE, 0), end):
            yield move.start()
        end = raw.find(wanted, end + 1)


def _spans(elf: Elf) -> list[tuple[int, int]]:
    """(address, size) of the segments of code."""
    if elf.machine not in ("x86-64", "aarch64"):
        raise TargetError(f"{elf.path}: code for {elf.machine} is not understood")
    spans = [(s.vaddr, s.filesz) for s in elf.segments if s.is_code]
    size = sum(size for _, size in spans)
    if size > _MAX_CODE or len(spans) > _MAX_SPANS or any(s >> 62 for s, _ in spans):
        raise TargetError(f"{elf.path} cannot be searched: implausible segments of code")
    return spans


def _chunks(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """(address, its own bytes, bytes to read): what begins at the end is in both."""
    for start, size in spans:
        for at in range(start, start + size, _CHUNK):
            rest = start + size - at
            yield at, min(_CHUNK, rest), min(_CHUNK + _OVERLAP, rest)


def _scanned(elf: Elf, spans: list[tuple[int, int]]) -> Iterator[tuple[_Ints, _Ints]]:
    """(places, targets) of all references, by parts."""
    scan = _scan_x86 if elf.machine == "x86-64" else _scan_arm
    for at, own, count in _chunks(spans):
        places, targets = scan(elf.code_at(at, count), at)
        mine = places < at + own
        yield places[mine], targets[mine]


def _scan_x86(raw: bytes, start: int) -> tuple[_Ints, _Ints]:
    """call, jmp and jcc rel32, and rip-relative lea, at any byte."""
    code = np.frombuffer(raw, np.uint8)
    second = np.append(code[1:], np.uint8(0))
    near = np.flatnonzero(code & 0xFE == 0xE8)
    jcc = np.flatnonzero((code == 0x0F) & (second & 0xF0 == 0x80))
    lea = np.flatnonzero((code == 0x8D) & (second & 0xC7 == 0x05))
    places = np.concatenate([near, jcc, lea])
    # The displacement is relative to its own end, which is the instruction's in all of them.
    at = np.concatenate([near + 1, jcc + 2, lea + 2])
    whole = at + 4 <= len(code)
    places, at = places[whole], at[whole]
    words = np.lib.stride_tricks.sliding_window_view(code, 4)[at] if len(at) else code[:0]
    offsets = np.ascontiguousarray(words).view("<i4").ravel().astype(np.int64)
    return places + start, at + 4 + start + offsets


def _scan_arm(raw: bytes, start: int) -> tuple[_Ints, _Ints]:
    """b, bl, b.cond, cbz, tbz, adr, and adrp with an add soon after it, at any aligned word."""
    skip = -start % 4
    raw = raw[skip:]
    words = np.frombuffer(raw[: len(raw) & ~3], "<u4").astype(np.int64)
    at = np.arange(len(words), dtype=np.int64) * 4 + start + skip

    def signed(values: _Ints, low: int, bits: int) -> _Ints:
        field = values >> low & (1 << bits) - 1
        return field - (field >> bits - 1 << bits)

    def of(mask: int, value: int) -> npt.NDArray[np.intp]:
        return np.flatnonzero(words & mask == value)

    found: list[tuple[_Ints, _Ints]] = []
    for (mask, value), low, bits in (
        ((0x7C000000, 0x14000000), 0, 26),
        ((0xFF000000, 0x54000000), 5, 19),
        ((0x7E000000, 0x34000000), 5, 19),
        ((0x7E000000, 0x36000000), 5, 14),
    ):
        hits = of(mask, value)
        found.append((at[hits], at[hits] + 4 * signed(words[hits], low, bits)))
    hits = of(0x9F000000, 0x10000000)
    found.append((at[hits], at[hits] + 4 * signed(words[hits], 5, 19) + (words[hits] >> 29 & 3)))
    pages = of(0x9F000000, 0x90000000)
    delta = 4 * signed(words[pages], 5, 19) + (words[pages] >> 29 & 3)
    base = (at[pages] & ~0xFFF) + (delta << 12)
    for ahead in range(1, 4):
        inside = pages + ahead < len(words)
        here, page = pages[inside], base[inside]
        add = words[here + ahead]
        same = (add & 0xFFC00000 == 0x91000000) & (add >> 5 & 31 == words[here] & 31)
        found.append((at[here[same]], page[same] + (add[same] >> 10 & 0xFFF)))
    return np.concatenate([p for p, _ in found]), np.concatenate([t for _, t in found])
