"""The functions of a file by their names: its own symbols, those of a separate debug file, or what
can be inferred (inference.py). Each says how it was found.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import NamedTuple

from profinfer.binaries.code import Code
from profinfer.binaries.debug_files import debug_file
from profinfer.binaries.elf import Elf, Symbol
from profinfer.binaries.inference import INFERRED, TEXTS, Absent, Search
from profinfer.binaries.inlined import inlined_barriers
from profinfer.binaries.texts import places
from profinfer.errors import TargetError

SYMBOL, DEBUG_FILE, INFERENCE = "symbol", "debug file", "inferred: "
"""What a found function says of that; the last goes on with by what."""
_BARRIER = "ggml_barrier"
_MAX_NAMED = 256
"""Functions that one expression may match: each is probed."""


class Named(NamedTuple):
    """A function, or a copy of it in another."""

    symbol: Symbol
    found_by: str
    is_copy: bool = False


class Names:
    """Those of one file."""

    def __init__(self, elf: Elf) -> None:
        self._elf = elf
        self.unfound: dict[str, str] = {}
        """Why functions that were asked for were not found where there is reason to look."""

    def whole(self, pattern: str) -> list[Named]:
        """Those whose whole name the expression matches. TargetError when the file is damaged."""
        found = [Named(symbol, SYMBOL) for symbol in self._elf.symbols.whole(pattern)]
        if not found and self._debug_file:
            symbols = self._debug_file.symbols.whole(pattern)
            found = [Named(symbol, DEBUG_FILE) for symbol in symbols if self._is_code(symbol)]
        if not found:
            found = [each for name in INFERRED if re.fullmatch(pattern, name)
                     for each in self._inferred(name)]  # fmt: skip
        if len(found) > _MAX_NAMED:
            raise TargetError(
                f"{self._elf.path} has implausibly many functions of one kind: {len(found)}, the"
                f" first is {found[0].symbol.name[:80]!r}"
            )
        if found and found[0].symbol.name == _BARRIER:
            return self._with_copies(found[0])
        return found

    @property
    def backends(self) -> dict[int, str]:
        """As `backend_functions` has it, of those that were inferred on the way."""
        return self._search.backends if "_search" in self.__dict__ else {}

    @cached_property
    def _debug_file(self) -> Elf | None:
        return debug_file(self._elf)

    def _is_code(self, symbol: Symbol) -> bool:
        return any(
            s.is_code and s.vaddr <= symbol.value < s.vaddr + s.filesz for s in self._elf.segments
        )

    # ---- What is inferred

    @cached_property
    def _code_or_why(self) -> Code | TargetError:
        try:
            return Code(self._elf)
        except TargetError as error:
            return error  # it took long enough once

    @property
    def _code(self) -> Code:
        if isinstance(self._code_or_why, TargetError):
            raise self._code_or_why
        return self._code_or_why

    @cached_property
    def _search(self) -> Search:
        return Search(self._code, self._symbol)

    def _symbol(self, name: str) -> Symbol | None:
        symbol = self._elf.symbols.get(name)
        return symbol or (self._debug_file.symbols.get(name) if self._debug_file else None)

    @cached_property
    def _texts(self) -> dict[str, list[int]]:
        return places(self._elf, set(TEXTS.values()))

    def _inferred(self, name: str) -> list[Named]:
        if not self._texts[TEXTS[INFERRED[name]]]:
            return []
        try:
            symbol, how = self._search.find(name)
        except Absent as reason:
            self.unfound[name] = str(reason)
        except TargetError as error:
            self.unfound[name] = error.message
        else:
            return [Named(symbol, INFERENCE + how)]
        return []

    # ---- Copies

    def _with_copies(self, barrier: Named) -> list[Named]:
        """The barrier and its copies; nothing where there are some that are not understood."""
        try:
            number = self._code.starting(barrier.symbol.value)
        except TargetError:
            return [barrier]  # it does not tell where functions begin, or not all are in it
        try:
            copies = inlined_barriers(self._code, number) if number is not None else []
        except TargetError as error:
            self.unfound[_BARRIER] = error.message
            return []
        how = INFERENCE + "a copy in another function, which counts threads as it does"
        return [barrier] + [
            Named(Symbol(_BARRIER, copy.address, copy.size, False), how, True) for copy in copies
        ]
