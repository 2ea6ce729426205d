"""The words of an object that the dynamic loader fills with a function's address."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from profinfer.binaries.elf import Elf, Symbol
from profinfer.errors import TargetError

_DT_PLTRELSZ, _DT_RELA, _DT_RELASZ, _DT_RELAENT, _DT_JMPREL = 2, 7, 8, 9, 23
_RELA = struct.Struct("<QIIq")
"""Offset, kind, symbol, addend."""
_MAX_SIZE = (8 << 20) * _RELA.size
"""The largest engine libraries (with CUDA kernels) have some 100,000 relocations."""


class _Kinds(NamedTuple):
    jump_slot: int
    relative: int
    names: dict[int, str]


_KINDS = {
    "x86-64": _Kinds(7, 8, {1: "R_X86_64_64", 6: "R_X86_64_GLOB_DAT", 8: "R_X86_64_RELATIVE"}),
    "aarch64": _Kinds(
        1026, 1027,
        {257: "R_AARCH64_ABS64", 1025: "R_AARCH64_GLOB_DAT", 1027: "R_AARCH64_RELATIVE"},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Word:
    """A word of an object by which it calls a function."""

    offset: int
    """Virtual address, as linked."""
    where: str
    """Its relocation, for messages."""
    jump_slot: bool
    """Whether only calls by the procedure linkage table use it."""
    linked: int
    """What the file holds there: it stays until the loader binds it."""

    def values(self, base: int, stub: int) -> tuple[int, int, int]:
        """What it may hold in an object loaded at `base` whose calls pass the stub at that address.
        A word that is not bound yet is fine, for the audit library will be asked; the loader may
        even not have come to it."""
        return stub, self.linked, self.linked + base & (1 << 64) - 1


def linkage_words(elf: Elf, function: str) -> list[Word]:
    """Every word of an object that the loader fills with the address of `function`, in order.

    TargetError when the file is damaged or its processor is unknown.
    """
    kinds = _KINDS.get(elf.machine)
    if kinds is None:
        raise TargetError(f"{elf.path}: relocations of {elf.machine} are not known")
    named = elf.dynamic_named(function)
    values = {symbol.value for symbol in named.values() if symbol.value}
    found: dict[int, Word] = {}
    # Some linkers let the first table contain the second.
    for table, size in ((_DT_RELA, _DT_RELASZ), (_DT_JMPREL, _DT_PLTRELSZ)):
        for offset, kind, symbol, addend in _RELA.iter_unpack(_read(elf, table, size, named)):
            # A word with the definition's own address names no symbol.
            if symbol in named or (kind == kinds.relative and addend in values):
                where = f"{kinds.names.get(kind, f'relocation {kind}')} at {offset:#x}"
                linked = _linked_word(elf, offset)
                found[offset] = Word(offset, where, kind == kinds.jump_slot, linked)
    return [found[offset] for offset in sorted(found)]


def relative_words(elf: Elf) -> dict[int, int]:
    """The words that the loader fills with addresses of the same file, and with which. TargetError
    as above."""
    kinds = _KINDS.get(elf.machine)
    if kinds is None or _DT_RELA not in elf.dynamic:
        return {}
    rows = _RELA.iter_unpack(_table(elf, _DT_RELA, _DT_RELASZ))
    return {offset: addend for offset, kind, _, addend in rows if kind == kinds.relative}


def _linked_word(elf: Elf, vaddr: int) -> int:
    """What the file holds there; 0 where the loader adds zeros."""
    try:
        return int.from_bytes(elf.data_at(vaddr, 8, 8, "a word"), "little")
    except TargetError:
        return 0


def _read(elf: Elf, table: int, size: int, named: dict[int, Symbol]) -> bytes:
    return _table(elf, table, size) if named else b""


def _table(elf: Elf, table: int, size: int) -> bytes:
    values = elf.dynamic
    if values.get(_DT_RELAENT, _RELA.size) != _RELA.size:
        raise TargetError(f"{elf.path}: relocations of {values[_DT_RELAENT]} bytes are not known")
    count = values.get(size, 0) // _RELA.size if table in values else 0
    return elf.data_at(values.get(table, 0), count * _RELA.size, _MAX_SIZE, "the relocations")
