"""The words of an object that the dynamic loader fills with a function's address."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from profinfer.elf import Elf
from profinfer.errors import TargetError

_DT_PLTRELSZ, _DT_RELA, _DT_RELASZ, _DT_RELAENT, _DT_JMPREL = 2, 7, 8, 9, 23
_RELA = np.dtype([("offset", "<u8"), ("kind", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])
_MAX_SIZE = (8 << 20) * _RELA.itemsize
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


class Relocation(NamedTuple):
    """A word that the loader fills with a function's address."""

    offset: int
    """Virtual address of the word, as linked."""
    kind: str
    """Its name in the processor's ABI, or its number."""
    jump_slot: bool
    """Whether only calls by the procedure linkage table use it."""


def relocations_of(elf: Elf, function: str) -> list[Relocation]:
    """Every relocation that stores the address of `function`, in order of the words.

    TargetError when the file is damaged or its processor is unknown.
    """
    kinds = _KINDS.get(elf.machine)
    if kinds is None:
        raise TargetError(f"{elf.path}: relocations of {elf.machine} are not known")
    named = elf.dynamic_named(function)
    values = {symbol.value for symbol in named.values() if symbol.value}
    found: dict[int, Relocation] = {}
    # Some linkers let the first table contain the second.
    for table, size in ((_DT_RELA, _DT_RELASZ), (_DT_JMPREL, _DT_PLTRELSZ)):
        rows = _read(elf, table, size) if named else np.empty(0, _RELA)
        # A word with the definition's own address names no symbol.
        relative = (rows["kind"] == kinds.relative) & np.isin(rows["addend"], list(values))
        for row in rows[np.isin(rows["symbol"], list(named)) | relative]:
            kind, offset = int(row["kind"]), int(row["offset"])
            name = kinds.names.get(kind, f"relocation {kind}")
            found[offset] = Relocation(offset, name, kind == kinds.jump_slot)
    return [found[offset] for offset in sorted(found)]


def _read(elf: Elf, table: int, size: int) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    values = elf.dynamic
    if values.get(_DT_RELAENT, _RELA.itemsize) != _RELA.itemsize:
        raise TargetError(f"{elf.path}: relocations of {values[_DT_RELAENT]} bytes are not known")
    count = values.get(size, 0) // _RELA.itemsize if table in values else 0
    raw = elf.data_at(values.get(table, 0), count * _RELA.itemsize, _MAX_SIZE, "the relocations")
    return np.frombuffer(raw, _RELA)
