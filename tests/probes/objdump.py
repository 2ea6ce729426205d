"""What binutils say of arm64 code: a witness that shares nothing with profinfer."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.conftest import require

_TOOLS = "aarch64-linux-gnu-"
_ARGUMENT = re.compile(r"^[wx][0-7]$")
_READERS = re.compile(r"^(cmp|cmn|tst|ccm[np]|fcmpe?|st[rpu]\w*|nop|bti|pac\w+)$")
_LEAVES = re.compile(r"^(b|bl|b\.\w+|br|blr|ret\w*|cbn?z|tbn?z|brk|svc|udf)$")
KINDS = {
    "b": "b|bl",
    "b.cond": r"b\.\w+",
    "cbz": "cbn?z",
    "tbz": "tbn?z",
    "adr": "adrp?",
    "br": "br|blr|ret",
    "nop": "nop",
    "stp": "stp",
    "hint": r"bti|pac\w+|hint",
    "ldr-literal": "ldr|ldrsw",
}
"""Mnemonics of each kind of site."""


class Instruction(NamedTuple):
    """One instruction as objdump prints it."""

    address: int
    code: str
    """As bytes in hex."""
    name: str
    operands: list[str]

    def writes_argument(self) -> bool:
        """Whether it may write one of the registers that arguments come in."""
        if _READERS.match(self.name):
            # With writeback a store moves its base.
            return "!" in self.operands[-1] and "sp" not in self.operands[-1]
        registers = self.operands[: 2 if self.name == "ldp" else 1]
        return any(_ARGUMENT.match(r) for r in registers)

    def leaves(self) -> bool:
        """Whether what follows may not be executed next."""
        return bool(_LEAVES.match(self.name))

    def names(self, register: str) -> bool:
        """Whether it names a register, or reads or signs the link register without naming it."""
        implied = register == "x30" and self.name.startswith(("pac", "aut"))
        return implied or any(re.search(rf"\b{register}\b", o) for o in self.operands)


def _run(tool: str, *arguments: object) -> str:
    command = _TOOLS + tool
    require(f"{command} (binutils-aarch64-linux-gnu)", shutil.which(command))
    return subprocess.run(
        [command, *map(str, arguments)], capture_output=True, text=True, check=True, timeout=120
    ).stdout


def functions(path: Path) -> dict[str, tuple[int, int]]:
    """(address, size) of a file's functions by name, of both symbol tables."""
    found: dict[str, tuple[int, int]] = {}
    for table in (["-D"], []):
        for line in _run("nm", "-S", "--defined-only", *table, path).splitlines():
            fields = line.split()
            if len(fields) == 4 and fields[2] in "TtWw":
                found.setdefault(
                    fields[3].partition("@")[0], (int(fields[0], 16), int(fields[1], 16))
                )
    return found


def instructions(path: Path, address: int, size: int) -> list[Instruction]:
    """The instructions of a part of the code."""
    listing = _run(
        "objdump", "-d", "-w", f"--start-address={address:#x}",
        f"--stop-address={address + size:#x}", path,
    )  # fmt: skip
    found = []
    for at, word, text in re.findall(
        r"^ +([0-9a-f]+):\t([0-9a-f]{8}) \t(.*)$", listing, re.MULTILINE
    ):
        name, _, rest = text.partition("//")[0].strip().partition("\t")
        operands = [o.strip() for o in re.split(r",(?![^\[]*\])", rest)] if rest else []
        code = bytes.fromhex(word)[::-1].hex()
        found.append(Instruction(int(at, 16), code, name, operands))
    return found


def address_of(path: Path, offset: int) -> int:
    """The virtual address of a file offset in code, by readelf."""
    for line in _run("readelf", "-lW", path).splitlines():
        fields = line.split()
        if fields[:1] == ["LOAD"] and "E" in fields[6:-1]:
            start, vaddr, size = (int(fields[i], 16) for i in (1, 2, 4))
            if start <= offset < start + size:
                return vaddr + offset - start
    raise AssertionError(f"{path}: {offset:#x} is in no segment of code")
