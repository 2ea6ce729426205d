"""ggml's tables as they stand in a file: names of operators, and types with their sizes.

They survive stripping. A table of names is a run of words that point to "NONE", "DUP", "ADD" and so
on; type traits are structs of one size, each of which begins with a pointer to its name.
"""

from __future__ import annotations

import re
import struct
from itertools import islice
from typing import Any

from profinfer.binaries.elf import Elf
from profinfer.binaries.pointers import find_pointers, loaded

#: How each table begins.
_BEGINNINGS = {
    "ops": ("NONE", "DUP", "ADD"),
    "unary_ops": ("ABS", "SGN", "NEG"),
    "glu_ops": ("REGLU", "GEGLU", "SWIGLU"),
}
_TYPES = {"f32": (1, 4), "f16": (1, 2), "q4_0": (32, 18)}
"""How that of types begins, with the elements and bytes of a block."""
_STRIDES = range(32, 128, 8)
_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,62}")
_WORD = re.compile(r"\w{1,63}", re.ASCII)
_MAX_ENTRIES = 512
_MAX_SIZE = 1 << 16
_MAX_PLACES = 4096


def read_tables(elf: Elf) -> dict[str, Any]:
    """ops, unary_ops, glu_ops and types, as a description has them (layout.py); empty lists for
    what is not there. TargetError when the file is damaged."""
    return _Tables(elf).found()


class _Tables:
    def __init__(self, elf: Elf) -> None:
        segments = loaded(elf)
        self._segments = [(segment.vaddr, data) for segment, data in segments]
        self._pointers = find_pointers(elf, segments)

    def found(self) -> dict[str, Any]:
        starts = {name: self._start(first, 8) for name, first in _BEGINNINGS.items()}
        ends = {start for start in starts.values() if start}
        names = {name: self._names(start, ends) if start else [] for name, start in starts.items()}
        return {**names, "types": self._types()}

    def _bytes(self, address: int, count: int) -> bytes:
        for start, data in self._segments:
            if start <= address < start + len(data):
                return data[address - start : address - start + count]
        return b""

    def _text(self, address: int | None) -> str:
        """The text that a word points to; "" when it does not."""
        if not address:
            return ""
        text, end, _ = self._bytes(address, 64).partition(b"\0")
        return text.decode("ascii", "replace") if end else ""

    def _places(self, text: str) -> list[int]:
        """Where a text stands, perhaps as the end of a longer one."""
        wanted = re.compile(re.escape(text.encode() + b"\0"))
        found = (
            start + match.start()
            for start, data in self._segments
            for match in wanted.finditer(data)
        )
        return list(islice(found, _MAX_PLACES))

    def _start(self, first: tuple[str, ...], stride: int) -> int | None:
        """Of the table that begins with these names."""
        for start in self._pointers.to(self._places(first[0]))[:_MAX_PLACES]:
            places = [self._pointers.at(start + stride * i) for i in range(len(first))]
            if all(self._text(at) == name for at, name in zip(places, first, strict=True)):
                return start
        return None

    def _names(self, start: int, ends: set[int]) -> list[str]:
        names: list[str] = []
        for address in range(start, start + 8 * _MAX_ENTRIES, 8):
            name = self._text(self._pointers.at(address))
            if (address != start and address in ends) or not _NAME.fullmatch(name) or name in names:
                break
            names.append(name)
        return names

    # ---- Types

    def _types(self) -> list[dict[str, Any] | None]:
        for stride in _STRIDES:
            start = self._start(tuple(_TYPES), stride)
            if start is None:
                continue
            # Newer ones have another number between a block's elements and its bytes.
            for size_at in (16, 24):
                known = [self._numbers(start + stride * i, size_at) for i in range(len(_TYPES))]
                if known == list(_TYPES.values()):
                    return self._all_types(start, stride, size_at)
        return []

    def _numbers(self, address: int, size_at: int) -> tuple[int, int] | None:
        raw = self._bytes(address, size_at + 8)
        if len(raw) != size_at + 8:
            return None
        # A block's elements were an int once: what fills the word is 0.
        block, size = struct.unpack_from("<Q", raw, 8)[0], struct.unpack_from("<Q", raw, size_at)[0]
        return (block, size) if max(block, size) <= _MAX_SIZE else None

    def _all_types(self, start: int, stride: int, size_at: int) -> list[dict[str, Any] | None]:
        types: list[dict[str, Any] | None] = []
        for address in range(start, start + stride * _MAX_ENTRIES, stride):
            numbers = self._numbers(address, size_at)
            name = self._text(self._pointers.at(address))
            is_empty = not any(self._bytes(address, stride))
            if numbers is None or not (_WORD.match(name) or is_empty):
                break
            is_used = _WORD.fullmatch(name) and all(numbers)
            names = ("name", "block_size", "type_size")
            types.append(dict(zip(names, (name, *numbers), strict=True)) if is_used else None)
        while types and types[-1] is None:
            types.pop()
        return types
