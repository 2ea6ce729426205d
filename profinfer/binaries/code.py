"""What a file without symbols shows of its functions: where each lies, what it calls, what texts it
uses. For `inference`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt

from profinfer.binaries.branches import references, search, uses
from profinfer.binaries.elf import Elf
from profinfer.binaries.frames import functions
from profinfer.binaries.relocations import relative_words
from profinfer.binaries.texts import places

_MAX_DATA = 512 << 20
_CHUNK = 1 << 20
_MAX_DECODED = 64 << 10
"""Bytes of one function that are decoded: far more than any has that is looked at so."""
_WORD = re.compile(r"\[\w+(?: \+ |, #)?(0x[0-9a-f]+|\d*)\]$")
"""A word in memory that one register leads to."""
_WHOLE = re.compile(r"^e(\w\w)$")
_HERE = re.compile(r"\[rip ([+-]) (\w+)\]")


class Code:
    """A file's functions, by their numbers: in order of address."""

    def __init__(self, elf: Elf) -> None:
        """TargetError when the file does not tell its functions, or is damaged."""
        self.elf = elf
        self.starts, self.ends = functions(elf)
        places, targets = references(elf)
        order = np.argsort(places, kind="stable")
        self._places: npt.NDArray[np.int64] = places[order].astype(np.int64)
        self._targets: npt.NDArray[np.int64] = targets[order].astype(np.int64)

    def at(self, address: int) -> int | None:
        """The function that has this address in it."""
        number = int(np.searchsorted(self.starts, address, "right")) - 1
        return number if number >= 0 and address < self.ends[number] else None

    def starting(self, address: int) -> int | None:
        """The function that begins there."""
        number = self.at(address)
        return number if number is not None and self.starts[number] == address else None

    def size(self, number: int) -> int:
        """In bytes."""
        return int(self.ends[number] - self.starts[number])

    def _leads(self, number: int) -> Iterator[tuple[int, int]]:
        """(place, target) of what leads out of a function."""
        first, last = np.searchsorted(self._places, [self.starts[number], self.ends[number]])
        yield from zip(
            self._places[first:last].tolist(), self._targets[first:last].tolist(), strict=True
        )

    def callees(self, number: int) -> set[int]:
        """Which functions it calls, jumps to or has the address of."""
        found = {self.starting(target) for _, target in self._leads(number)}
        return {each for each in found if each is not None and each != number}

    @cached_property
    def _by_target(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
        order = np.argsort(self._targets, kind="stable")
        return order, self._targets[order]

    def _into(self, number: int) -> list[tuple[int, int]]:
        """(place, target) of what leads into a function from elsewhere."""
        order, targets = self._by_target
        first, last = np.searchsorted(targets, [self.starts[number], self.ends[number]])
        rows = order[first:last]
        places = self._places[rows]
        outside = (places < self.starts[number]) | (places >= self.ends[number])
        rows = rows[outside]
        return list(zip(self._places[rows].tolist(), self._targets[rows].tolist(), strict=True))

    def callers(self, number: int) -> set[int]:
        """The functions that call it, or their parts that do."""
        start = self.starts[number]
        found = {self.whole(at) for place, target in self._into(number)
                 if target == start and (at := self.at(place)) is not None}  # fmt: skip
        return found - {number}

    def whole(self, number: int) -> int:
        """The function that this one is a rarely run part of; else itself. Such a part is never
        called: one function jumps to it, and nobody else."""
        into = self._into(number)
        if not into or any(self._is_call(place) for place, _ in into):
            return number
        owners = {self.at(place) for place, _ in into}
        owner = owners.pop()
        return number if owners or owner is None else owner

    def _is_call(self, place: int) -> bool:
        """Whether it calls or takes an address: it does not jump."""
        code = self.elf.code_at(place, 4)
        if self.elf.machine == "x86-64":
            return code[0] in (0xE8, 0x8D)
        return code[3] & 0xFC == 0x94 or code[3] & 0x1F == 0x10

    # ---- Texts

    def computing(self, addresses: Iterable[int]) -> dict[int, set[int]]:
        """For each address, the functions whose code has it."""
        found: dict[int, set[int]] = {address: set() for address in addresses}
        for place, address in uses(self.elf, found) if found else ():
            number = self.at(place)
            if number is not None:
                found[address].add(self.whole(number))
        return found

    def users(self, texts: Collection[str]) -> dict[str, set[int]]:
        """For each text, the functions that use it."""
        where = {a: text for text, found in places(self.elf, texts).items() for a in found}
        found: dict[str, set[int]] = {}
        for address, numbers in self.computing(where).items():
            found.setdefault(where[address], set()).update(numbers)
        return found

    # ---- Instructions

    def instructions(self, number: int) -> list[tuple[int, str, str]]:
        """(address behind it, mnemonic, operands) of each instruction of a function."""
        import capstone  # here, as in sites.py

        if self.elf.machine == "x86-64":
            decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        else:
            decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
        start = int(self.starts[number])
        code = self.elf.code_at(start, min(self.size(number), _MAX_DECODED))
        rows = decoder.disasm_lite(code, start)
        return [(at + size, name, text) for at, size, name, text in rows]

    def holding(self, pattern: re.Pattern[bytes]) -> set[int]:
        """The functions in whose code the bytes are found."""
        return {number for place in search(self.elf, pattern)
                if (number := self.at(place)) is not None}  # fmt: skip

    def jumps(self, number: int) -> list[int]:
        """Of the calls and jumps to where a word in memory says, in order: the word's distance from
        what the register before it points to, -1 where there is no such register."""
        found = []
        loaded: dict[str, int] = {}
        for _, name, text in self.instructions(number):
            register = text.split(",")[0]
            if name in ("call", "jmp", "blr", "br"):
                if not text.startswith(("0x", "#")):
                    word = _WORD.search(text)
                    found.append(int(word[1] or "0", 0) if word else loaded.get(register, -1))
            elif name in ("mov", "ldr") and (word := _WORD.search(text)) and text[0] != "q":
                loaded[register] = int(word[1] or "0", 0)
            else:
                loaded.pop(register, None)
        return found

    def stores(self, number: int) -> dict[int, int]:
        """The addresses that a function writes into memory on x86-64, and how far from what a
        register points to; the last of several."""
        found = {}
        held: dict[str, int] = {}
        for end, name, text in self.instructions(number):
            target, _, value = text.partition(", ")
            word = _WORD.search(target)
            if name == "mov" and word and target.startswith("qword"):
                address = int(value, 0) if value[:2] == "0x" else held.get(value, 0)
                found[address] = int(word[1] or "0", 0)
            held.pop(target, None)
            if name == "call":
                held.clear()
            if name == "mov" and value[:2] == "0x":
                held[_WHOLE.sub(r"r\1", target)] = int(value, 0)
            if name == "lea" and (away := _HERE.match(value)):
                held[target] = end + int(away[1] + away[2], 0)
        return found

    # ---- Data

    def pointer(self, word: int) -> int:
        """The address that data hold there once they are relocated; 0 where there is none."""
        if word in self._relocated:
            return self._relocated[word]
        return int.from_bytes(self.elf.data_at(word, 8, 8, "a word"), "little")

    @cached_property
    def _relocated(self) -> dict[int, int]:
        return relative_words(self.elf)

    def words(self, address: int) -> list[int]:
        """Where data hold an address, once they are relocated."""
        found = {word for word, value in self._relocated.items() if value == address}
        wanted = address.to_bytes(8, "little")
        for segment in self.elf.segments:
            if segment.type != 1 or segment.is_code or segment.filesz > _MAX_DATA:
                continue
            for base in range(0, segment.filesz, _CHUNK):
                count = min(_CHUNK + 7, segment.filesz - base)
                raw = self.elf.data_at(segment.vaddr + base, count, _CHUNK + 7, "data")
                at = raw.find(wanted)
                while at >= 0:
                    found.add(segment.vaddr + base + at)
                    at = raw.find(wanted, at + 1)
        return sorted(word for word in found if word % 8 == 0)
