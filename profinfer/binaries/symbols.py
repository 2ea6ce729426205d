"""The functions that an ELF file defines, kept small: a real engine has tens of thousands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

from profinfer.binaries.elf import Symbol, SymbolBytes

_STT_FUNC = 2
MAX_NAMES = 256 << 20
_MAX_NAME = 64 << 10


_ENTRY = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("shndx", "<u2"),
     ("value", "<u8"), ("size", "<u8")]
)  # fmt: skip


class SymbolTable:
    """Functions, one after the other or by (mangled) name. Of several with one name the exported
    one wins, then the first.

    Names are the lines of one string and addresses stand in an array: an object per function would
    take several times the memory, for the few that anyone asks for.
    """

    def __init__(self, tables: Iterable[SymbolBytes]) -> None:
        """`tables`: the dynamic ones first. Raises ValueError saying what is wrong with a name."""
        names: dict[bytes, None] = {}
        rows = [np.empty((0, 3), "<u8")]
        budget = MAX_NAMES
        for entries, strings, dynamic in tables:
            table = np.frombuffer(entries, _ENTRY)
            is_defined = (table["shndx"] != 0) & (table["value"] != 0)
            functions = table[is_defined & (table["info"] & 15 == _STT_FUNC)]
            new = np.zeros(len(functions), bool)
            for row, at in enumerate(functions["name"].tolist()):
                end = strings.find(b"\0", at, at + _MAX_NAME)
                if end < 0:
                    raise ValueError("a symbol's name has no end")
                # Overlapping names could multiply a small file into gigabytes.
                budget -= end - at
                if budget < 0:
                    raise ValueError("implausibly long symbol names")
                known = len(names)
                names[strings[at:end].replace(b"\n", b"?")] = None
                new[row] = len(names) > known
            exported = np.full(len(functions), dynamic)
            columns = np.stack([functions["value"], functions["size"], exported], axis=1)
            rows.append(columns.astype("<u8")[new])
        self._rows = np.concatenate(rows)
        self._names = b"\n".join([b"", *names, b""]).decode("utf-8", "replace")

    def __len__(self) -> int:
        return len(self._rows)

    def names(self) -> Iterator[str]:
        """Their names, in order."""
        return (line[1] for line in re.finditer(r"\n([^\n]*)(?=\n)", self._names))

    def __iter__(self) -> Iterator[Symbol]:
        return (self._symbol(row, name) for row, name in enumerate(self.names()))

    def get(self, name: str) -> Symbol | None:
        """The function of that name, if there is one."""
        at = -1 if "\n" in name else self._names.find(f"\n{name}\n")
        return None if at < 0 else self._symbol(self._names.count("\n", 0, at), name)

    def __getitem__(self, name: str) -> Symbol:
        symbol = self.get(name)
        if symbol is None:
            raise KeyError(name)
        return symbol

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def matching(self, pattern: str | re.Pattern[str]) -> list[Symbol]:
        """Those whose name the expression finds (`re.search`)."""
        search = re.compile(pattern).search
        return [self._symbol(row, name) for row, name in enumerate(self.names()) if search(name)]

    def whole(self, pattern: str) -> list[Symbol]:
        """Those whose whole name the expression matches."""
        if re.escape(pattern) == pattern:  # a name, not an expression: found at once
            return [symbol for symbol in [self.get(pattern)] if symbol]
        return self.matching(rf"^(?:{pattern})$")

    def within(self, start: int, end: int) -> list[Symbol]:
        """Those with a byte from the address `start` on and before `end`."""
        values, sizes = self._rows[:, 0], self._rows[:, 1]
        ends = values + np.maximum(sizes, 1)
        # Beyond all addresses, where an odd one may lie.
        low, high = (np.uint64(min(max(bound, 0), (1 << 64) - 1)) for bound in (start, end))
        rows = np.flatnonzero((values < high) & (ends > low))
        wanted = set(rows.tolist())
        return [self._symbol(row, name) for row, name in enumerate(self.names()) if row in wanted]

    def _symbol(self, row: int, name: str) -> Symbol:
        value, size, exported = self._rows[row].tolist()
        return Symbol(name, value, size, bool(exported))
