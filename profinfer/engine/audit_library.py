"""The audit library (audit/) as a file: what it redirects, and how its stubs look.

It is known by what it contains: whoever is recorded may show us anything.
"""

from __future__ import annotations

import stat
import struct
from pathlib import Path

from profinfer.binaries.elf import Elf, Symbol
from profinfer.errors import TargetError

FUNCTIONS = (
    "ggml_cpu_extra_compute_forward",
    "ggml_compute_forward_rms_norm_mul_fused",
    "ggml_barrier",
)
"""What it redirects, in the order of its stubs."""
OPERATORS = FUNCTIONS[0]
"""That which is called for each operator; of certain ops its stubs send calls on to a probe."""

STUBS_SYMBOL = "profinfer_stubs"
SLOTS_SYMBOL = "profinfer_slots"
CHANGING_SYMBOL = "profinfer_changing"
PAGE_SYMBOL = "profinfer_page"
COPIES = 16
STUBS = len(FUNCTIONS) * COPIES
STUB_SIZE = 64
SLOT = struct.Struct("<QQQQ")
"""Where the stub leads to; the function itself; load address and handle of its object."""
_PAGE_SIZES = {"x86-64": 4096, "aarch64": 65536}
SENT_ON_AT = 40
"""Bytes from a stub's first one to where it leads operators that it leaves to a probe."""
_MAX_LIBRARY = 1 << 20


def _symbol(elf: Elf, name: str, size: int) -> Symbol | None:
    found = list(elf.dynamic_named(name).values())
    return found[0] if len(found) == 1 and found[0].value and found[0].size == size else None


def open_library(path: Path) -> Elf | None:
    """The file if it is an audit library of ours with stubs as we know them."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_LIBRARY:
            return None
        elf = Elf(path)
    except (OSError, TargetError):
        return None
    try:
        slots = _symbol(elf, SLOTS_SYMBOL, STUBS * SLOT.size)
        stubs = _symbol(elf, STUBS_SYMBOL, STUBS * STUB_SIZE)
        changing = _symbol(elf, CHANGING_SYMBOL, 8)
        page = _symbol(elf, PAGE_SYMBOL, _PAGE_SIZES.get(elf.machine, 0))
        if not (slots and stubs and changing and page):
            pass
        elif _are_stubs(elf, stubs.value, slots.value, page.value):
            return elf
    except TargetError:
        pass
    elf.close()
    return None


def _are_stubs(elf: Elf, stubs: int, slots: int, page: int) -> bool:
    """Whether every stub is the one that audit.c has there, with its own slot and switch."""
    code = elf.data_at(stubs, STUBS * STUB_SIZE, _MAX_LIBRARY, "the stubs")
    for index in range(STUBS):
        address, slot = stubs + index * STUB_SIZE, slots + index * SLOT.size
        expected = _STUB_CODE.get(elf.machine, _no_code)(address, slot, page + 8 * index)
        at = index * STUB_SIZE
        if not expected or not all(code.startswith(part, at + n) for n, part in expected.items()):
            return False
    return True


def _no_code(address: int, slot: int, switch: int) -> dict[int, bytes]:
    del address, slot, switch
    return {}


def _x86_64_code(address: int, slot: int, switch: int) -> dict[int, bytes]:
    """endbr64, the NOPs of 1, 5 and 10 bytes, cmpq $0, switch(%rip), jne (to where it records),
    jmp *slot(%rip); these NOPs and jmp *slot(%rip)."""
    nops = bytes.fromhex("90 0f1f440000 662e0f1f840000000000")
    test = b"\x48\x83\x3d" + struct.pack("<I", switch - (address + 28) & 0xFFFFFFFF) + b"\0"
    first, second = (
        b"\xff\x25" + struct.pack("<I", slot - (address + end) & 0xFFFFFFFF) for end in (40, 62)
    )
    begin = bytes.fromhex("f30f1efa") + nops + test + b"\x0f\x85"
    return {0: begin, 34: first + nops + second}


def _aarch64_code(address: int, slot: int, switch: int) -> dict[int, bytes]:
    """bti c, nop, b .+4, the switch in x16, cbnz (to where it records), the slot in x16, br x16;
    nop, b .+4, the slot in x16, br x16."""
    test, load = (
        struct.pack(
            "<2I",
            0x90000010 | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5,
            0xF9400210 | (word >> 3 & 0x1FF) << 10,
        )
        for word in (switch, slot)
        for pages in ((word >> 12) - (address >> 12),)
    )
    hint, nop, branch, jump = (
        struct.pack("<I", word) for word in (0xD503245F, 0xD503201F, 0x14000001, 0xD61F0200)
    )
    return {0: hint + nop + branch + test, 24: load + jump, SENT_ON_AT: nop + branch + load + jump}


_STUB_CODE = {"x86-64": _x86_64_code, "aarch64": _aarch64_code}
