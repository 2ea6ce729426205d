"""Where in a function's entry block a probe may sit, and which instruction stands there.

The kernel executes some instructions itself when a uprobe sits on them and single-steps all
others out of line, which is dearer by far. Any instruction that every call of a function passes
exactly once, with its arguments still in their registers, serves as well as the first one.

What a kind costs, or whether a kernel takes it at all, is not known here: `cheapest` is told.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from profinfer.binaries.elf import Elf, Symbol

_ENTRY_BLOCK = 256
"""Bytes looked at: far more than arguments survive."""
_REL8 = 3 + 128
"""Reach of a jump by one byte, with a prefix."""
_IN_STEP = 4096
_PAGE = 4096
_EQUAL = 1.15
"""Costs as near as this are equal: they differ by as much from one self-test to the next."""


@dataclass(frozen=True)
class Site:
    """One place for a probe: `offset` bytes after the function's first instruction."""

    offset: int
    kind: str
    """The class of the instruction, by how kernels treat it under a uprobe."""
    text: str
    """The instruction, for people."""


class _Step(NamedTuple):
    """What one instruction means for a probe on it and for those behind it."""

    offset: int
    kind: str
    text: str
    refused: bool
    """No kernel takes a probe here, or some kernel does and comes to grief."""
    ends: bool
    """What follows it cannot be a site: control may leave, or it is too odd to be sure."""
    written: frozenset[int]
    """Arguments whose registers it writes, by their numbers from 0."""
    moves_return: bool
    """Moves the stack pointer, by which calls within others are told (bpf/calls.h), or, on arm64,
    changes the link register or copies it: a new return address in the register is not seen by who
    returns to the copy."""


def entry_sites(
    elf: Elf, symbol: Symbol, *, at_return: bool = False, arguments: int = 8
) -> list[Site]:
    """The places in a function's entry block where a probe sees each call once.

    The first instruction comes first. At the others the registers of the first `arguments` hold
    what the caller has passed and, with `at_return`, the return address is where a call has left
    it. No branch and no address of code in the file leads between them; a jump through a table back
    into the entry block would go unseen. Empty where only instructions would do that no probe may
    sit on. Raises TargetError when the file is damaged.
    """
    code = elf.code_at(symbol.value, min(max(symbol.size, 1), _ENTRY_BLOCK))
    steps = _decode(elf.machine, code, symbol.value)
    if not steps:
        return [Site(0, "stepped", code[:4].hex(" "))]
    found = [steps[0]]
    for before, step in pairwise(steps):
        overwrites = any(number < arguments for number in before.written)
        if before.ends or overwrites or (at_return and before.moves_return):
            break
        found.append(step)
    if len(found) > 1:
        first = _first_target(elf, symbol, symbol.value + found[-1].offset) - symbol.value
        found = [found[0], *(s for s in found[1:] if s.offset < first)]
    return [Site(s.offset, s.kind, s.text) for s in found if not s.refused]


def cheapest(sites: list[Site], cost: Mapping[str, float]) -> Site:
    """The site whose kind costs least; of those within 15 % the first.

    A kind that `cost` lacks counts as "stepped"; where that is missing too, as infinitely dear.
    """
    stepped = cost.get("stepped", math.inf)
    costs = [cost.get(site.kind, stepped) for site in sites]
    limit = min(costs) * _EQUAL
    return next(site for site, each in zip(sites, costs, strict=True) if each <= limit)


def direct_references(elf: Elf, address: int) -> list[int]:
    """Addresses of instructions that reach the virtual address `address` without GOT or PLT.

    Calls, jumps and computed addresses relative to the instruction, in all executable segments.
    Found by their bytes, wherever these stand, so that one may rarely be no instruction at all;
    pointers in data are not looked for. Raises TargetError when the file is damaged or for
    another processor.
    """
    from profinfer.binaries.branches import (  # here: numpy is for who places probes
        references,
        short_jumps,
    )

    places, targets = references(elf)
    found = [int(place) for place in places[targets == address]]
    if elf.machine == "x86-64":
        # Jumps by one byte, from the functions in reach: decoded, as their bytes say too little.
        # From the middle of a long one it takes a few instructions to fall into step.
        spans = {
            (max(near.value, address - _IN_STEP), min(near.value + near.size, address + _REL8))
            for near in elf.symbols.within(address - _REL8, address + _REL8)
        }
        jumps = {jump for span in spans if span[0] < span[1] for jump in short_jumps(elf, *span)}
        found += [place for place, target in jumps if target == address]
    return sorted(found)


def _first_target(elf: Elf, symbol: Symbol, last: int) -> int:
    """The lowest address after the entry, up to `last`, that anything leads to; else last + 1."""
    from profinfer.binaries.branches import references, short_jumps  # as above

    entry = symbol.value
    _, targets = references(elf)
    found = targets[(targets > entry) & (targets <= last)].tolist()
    if elf.machine == "x86-64":
        # Jumps by one byte are too many to be told by their bytes: decode what is in reach.
        for part in (symbol, elf.symbols.get(f"{symbol.name}.cold")):
            if part is None:
                continue
            start = max(part.value, entry - _REL8) if part is not symbol else entry
            end = min(part.value + part.size, last + _REL8)
            if start < end:
                found += [t for _, t in short_jumps(elf, start, end) if entry < t <= last]
    return min(found, default=last + 1)


# ---- Instructions


def _decode(machine: str, code: bytes, address: int) -> list[_Step]:
    """The instructions up to the first that cannot be decoded; none for unknown machines."""
    import capstone  # here: it takes 9 MB, and who places no probes does without

    if machine == "x86-64":
        decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        step = _x86_step
    elif machine == "aarch64":
        decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
        step = _arm_step
    else:
        return []
    decoder.detail = True
    return [step(instruction, address) for instruction in decoder.disasm(code, address)]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _text(instruction: Any) -> str:
    return f"{instruction.mnemonic} {instruction.op_str}".strip()


def _registers(instruction: Any) -> tuple[set[str], set[str]]:
    """Those that it reads, and those that it writes."""
    read, written = (set(map(instruction.reg_name, each)) for each in instruction.regs_access())
    return read, written


def _numbers(written: set[str], arguments: tuple[frozenset[str], ...]) -> frozenset[int]:
    return frozenset(n for n, names in enumerate(arguments) if written & names)


# Registers by all their names, in the order of the arguments that they hold.
_X86_ARGUMENTS = tuple(
    map(_words, ("rdi edi di dil", "rsi esi si sil", "rdx edx dx dl dh", "rcx ecx cx cl ch",
                 "r8 r8d r8w r8b", "r9 r9d r9w r9b"))
)  # fmt: skip
_X86_STACK = frozenset(("rsp", "esp", "sp", "spl"))
# The instructions that entry blocks are made of, whose effect is the one they name: they write
# their first operand (or only read it) and go on to the next. After any other we stop.
_X86_PLAIN = _words(
    "mov movabs movzx movsx movsxd lea push cmp test add sub and or xor not neg inc dec shl shr sar"
    " bt nop endbr64 imul cdqe cdq cqo pxor xorps xorpd movd movq movss movsd movaps movups movapd"
    " movdqa movdqu vmovd vmovq vmovss vmovsd vmovaps vmovups vmovapd vmovdqa vmovdqu vpxor vxorps"
    " vxorpd cvtsi2ss cvtsi2sd vcvtsi2ss vcvtsi2sd ucomiss ucomisd vucomiss vucomisd comiss comisd"
    " cmove cmovne cmova cmovae cmovb cmovbe cmovg cmovge cmovl cmovle cmovs cmovns"
    " sete setne seta setae setb setbe setg setge setl setle sets setns"
)
_X86_READERS = _words("push cmp test bt nop endbr64")
_SEGMENTS = frozenset((0x26, 0x2E, 0x36, 0x3E))
_LOCK = 0xF0
_NOP5 = bytes.fromhex("0f1f440000")
_NOP10 = bytes.fromhex("662e0f1f840000000000")


def _x86_step(instruction: Any, start: int) -> _Step:
    code = bytes(instruction.bytes)
    _, written = _registers(instruction)
    operands = instruction.operands
    if operands and instruction.mnemonic not in _X86_READERS and operands[0].type == 1:  # REG
        written.add(instruction.reg_name(operands[0].reg))
    kind = _x86_kind(code, instruction.address)
    prefixes = set(instruction.prefix)
    return _Step(
        offset=instruction.address - start,
        kind=kind,
        text=_text(instruction),
        refused=kind != "nop10" and bool(prefixes & _SEGMENTS or _LOCK in prefixes),
        ends=instruction.mnemonic not in _X86_PLAIN,
        written=_numbers(written, _X86_ARGUMENTS),
        moves_return=bool(written & _X86_STACK),
    )


def _x86_kind(code: bytes, address: int) -> str:
    """The kind of one instruction: only without prefixes do kernels emulate them all."""
    first, size = code[0], len(code)
    if code in (_NOP5, _NOP10):
        # Rewriting takes one write to one page.
        return f"nop{size}" if address % _PAGE + size <= _PAGE else "stepped"
    if code == b"\x90":
        return "nop1"
    if (size == 1 or first == 0x41) and code[-1] & 0xF8 == 0x50 and size <= 2:
        return "push"
    if first & 0xF0 == 0x70 or (first == 0x0F and code[1] & 0xF0 == 0x80):
        return "jcc"
    return {0xEB: "jmp", 0xE9: "jmp", 0xE8: "call"}.get(first, "stepped")


_ARM_ARGUMENTS = tuple(frozenset((f"x{n}", f"w{n}")) for n in range(8))
_ARM_LINK = frozenset(("x30", "w30", "lr"))
_ARM_STACK = frozenset(("sp", "wsp"))
_ARM_COMPARE = frozenset(("cmp", "cmn", "tst", "ccmp", "ccmn", "fcmp"))
_ARM_STORE = _words("stp str strb strh stur sturb sturh")
_ARM_PLAIN = (
    _ARM_COMPARE
    | _ARM_STORE
    | _words(
        "ldp ldr ldrb ldrh ldrsb ldrsh ldrsw ldur ldurb ldurh ldursw mov movi movz movn movk mvn"
        " adr adrp add sub adds subs neg and orr eor bic lsl lsr asr ubfx sbfx ubfiz sbfiz uxtb"
        " uxth sxtb sxth sxtw cset csetm csel csinc cinc mul madd mrs fmov scvtf ucvtf nop"
    )
)
# (mask, value, kind), as the kernel's decoder tells those that it simulates.
_ARM_KINDS = (
    (0x1F000000, 0x10000000, "adr"),
    (0x7C000000, 0x14000000, "b"),
    (0xFF000010, 0x54000000, "b.cond"),
    (0x7E000000, 0x34000000, "cbz"),
    (0x7E000000, 0x36000000, "tbz"),
    (0xFFFFFC1F, 0xD61F0000, "br"),
    (0xFFFFFC1F, 0xD63F0000, "br"),
    (0xFFFFFC1F, 0xD65F0000, "br"),
    (0x3B000000, 0x18000000, "ldr-literal"),
    (0x3F800000, 0x08000000, "exclusive"),
    (0xFFFFFFFF, 0xD503201F, "nop"),
    (0xFFFFF01F, 0xD503201F, "hint"),
    (0xFFE07FFF, 0xA9A07BFD, "stp"),
)
# Kernels before October 2024 crash when they simulate a load of a literal, later ones refuse it;
# a store cannot be exclusive any more after a trap.
_ARM_REFUSED = ("ldr-literal", "exclusive")
# Pointer authentication and branch targets: no kernel takes a probe on any other hint.
_ARM_HINTS = frozenset((7, 8, 10, 12, 14, *range(24, 32), 32, 34, 36, 38))


def _arm_step(instruction: Any, start: int) -> _Step:
    (word,) = struct.unpack("<I", bytes(instruction.bytes))
    kind = next((kind for mask, value, kind in _ARM_KINDS if word & mask == value), "stepped")
    read, written = _registers(instruction)
    if instruction.mnemonic in _ARM_COMPARE:
        written = set()
    operands = instruction.operands
    if operands and instruction.mnemonic not in _ARM_COMPARE | _ARM_STORE and operands[0].type == 1:
        written.add(instruction.reg_name(operands[0].reg))
    return _Step(
        offset=instruction.address - start,
        kind=kind,
        text=_text(instruction),
        refused=kind in _ARM_REFUSED or (kind == "hint" and word >> 5 & 0x7F not in _ARM_HINTS),
        ends=kind != "hint" and instruction.mnemonic not in _ARM_PLAIN,
        written=_numbers(written, _ARM_ARGUMENTS),
        moves_return=bool((written | read) & _ARM_LINK or written & _ARM_STACK),
    )
