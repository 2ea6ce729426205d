"""Sites in functions that a compiler has made, judged by another decoder: binutils."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from profinfer.binaries.elf import Elf, Symbol
from profinfer.binaries.sites import entry_sites
from tests.conftest import require
from tests.support import Engine, double_fixture

__all__ = ["double_fixture"]

SAMPLED = 300
SLOT = 512
"""Bytes per function in the file that is decoded: its first 256, and NOPs."""

ARGUMENTS = re.compile(
    r"^(r?[ds]i|e[ds]i|[ds]il|[re]?[cd]x|[cd][lh]|r[89][dwb]?)$"
)  # rdi, rsi, rdx, rcx, r8, r9 and their parts
STACK = re.compile(r"^(rsp|esp|spl?)$")
READERS = re.compile(r"^(cmp|test|push|bt|nop\w*|endbr64|u?comis[sd]|vu?comis[sd])$")
ODD = re.compile(
    r"^(i?mul|i?div|cqo|cdq|cwd|x\w*chg\w*|xadd|cpuid|rdtscp?|xgetbv|rep\w*|lods\w|stos\w|scas\w"
    r"|movs[bwdq]|cmps[bwdq]|mulx|syscall|leave|enter|pop\w*)$"
)
"""They may write registers that they do not name."""


class Line(NamedTuple):
    """One instruction as objdump prints it."""

    offset: int
    name: str
    operands: list[str]

    def writes(self, registers: re.Pattern[str]) -> bool:
        """Whether it may write one of these registers."""
        if ODD.match(self.name) and len(self.operands) < 2:
            return True
        if READERS.match(self.name) or not self.operands:
            return False
        return bool(registers.match(self.operands[0]))

    def leaves(self) -> bool:
        """Whether what follows it may not be reached."""
        return self.name.startswith(("j", "call", "ret", "loop", "hlt", "int", "ud", "sys", "bnd"))


def _lines(elf: Elf, symbols: list[Symbol], folder: Path) -> list[list[Line]]:
    """The instructions of each function's first bytes, in one run of objdump."""
    require("objdump", shutil.which("objdump"))
    image = bytearray(b"\x90" * SLOT * len(symbols))
    for index, symbol in enumerate(symbols):
        code = elf.code_at(symbol.value, min(symbol.size, SLOT // 2))
        image[index * SLOT : index * SLOT + len(code)] = code
    path = folder / "image"
    path.write_bytes(image)
    listing = subprocess.run(
        ["objdump", "-D", "-b", "binary", "-m", "i386:x86-64", "-M", "intel", "-w",
         "--no-show-raw-insn", str(path)],
        capture_output=True, text=True, check=True, timeout=120,
    ).stdout  # fmt: skip
    found: list[list[Line]] = [[] for _ in symbols]
    for address, text in re.findall(r"^ +([0-9a-f]+):\t(.*)$", listing, re.MULTILINE):
        index, offset = divmod(int(address, 16), SLOT)
        name, _, rest = text.split("#")[0].strip().partition(" ")
        while name in ("cs", "ds", "es", "ss", "notrack", "data16", "lock"):
            name, _, rest = rest.strip().partition(" ")
        operands = [part.strip() for part in rest.split(",")] if rest.strip() else []
        found[index].append(Line(offset, name, operands))
    return found


def _sampled(elf: Elf) -> list[Symbol]:
    functions = [s for s in elf.symbols if s.exported and s.size > 16]
    functions.sort()
    return functions[:: max(1, len(functions) // SAMPLED)]


def _check(elf: Elf, symbols: list[Symbol], folder: Path) -> int:
    """Every site's way from the entry, in the words of objdump; how many are not the entry."""
    later = 0
    for symbol, lines in zip(symbols, _lines(elf, symbols, folder), strict=True):
        for at_return in (False, True):
            sites = entry_sites(elf, symbol, at_return=at_return)
            assert sites[0].offset == 0
            starts = [line.offset for line in lines]
            for site in sites[1:]:
                where = f"{symbol.name}+{site.offset:#x} ({site.text})"
                assert site.offset in starts, where
                before = lines[: starts.index(site.offset)]
                assert not [x for x in before if x.writes(ARGUMENTS)], where
                assert not [x for x in before if x.leaves()], where
                if at_return:
                    moved = [x for x in before if x.writes(STACK) or x.name == "push"]
                    assert not moved, where
                later += 1
    return later


@pytest.fixture(scope="module")
def xllamacpp() -> Elf:
    spec = importlib.util.find_spec("xllamacpp")
    require("the xllamacpp wheel", spec and spec.origin)
    assert spec is not None
    elf = Elf(next(Path(str(spec.origin)).parent.glob("xllamacpp*.so")))
    require("an x86-64 xllamacpp", elf.machine == "x86-64", hardware=True)
    return elf


def test_no_site_of_a_real_engine_comes_after_its_arguments(xllamacpp: Elf, tmp_path: Path) -> None:
    symbols = _sampled(xllamacpp)
    assert len(symbols) >= SAMPLED
    assert _check(xllamacpp, symbols, tmp_path) > 2 * SAMPLED


def test_no_site_of_the_double_comes_after_its_arguments(double: Engine, tmp_path: Path) -> None:
    elf = Elf(double.library)
    require("an x86-64 engine double", elf.machine == "x86-64", hardware=True)
    symbols = [s for s in elf.symbols if s.exported]
    assert _check(elf, symbols, tmp_path) > len(symbols)


def test_no_branch_of_the_double_leads_past_a_site(double: Engine) -> None:
    require("objdump", shutil.which("objdump"))
    elf = Elf(double.library)
    listing = subprocess.run(
        ["objdump", "-d", "-w", "--no-show-raw-insn", str(double.library)],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    targets = {
        int(t, 16) for t in re.findall(r"\t(?:j\w+|call|b\S*|[ct]bn?z) .*?([0-9a-f]+) <", listing)
    }
    assert len(targets) > 100
    for symbol in elf.symbols:
        last = symbol.value + entry_sites(elf, symbol)[-1].offset
        assert not [hex(t) for t in targets if symbol.value < t <= last], symbol.name
