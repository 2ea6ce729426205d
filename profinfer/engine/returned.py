"""The string that a function returns, where it does nothing else: read, not called."""

from __future__ import annotations

import re

from profinfer.binaries.elf import Elf, Symbol
from profinfer.errors import TargetError

_MAX_CODE = 64
_MAX_STRING = 256
_X86 = re.compile(
    rb"(?:\xf3\x0f\x1e\xfa)?(?:\x55\x48\x89\xe5)?"  # endbr64; push %rbp, mov %rsp, %rbp
    rb"(?:\x48\x8d\x05(?P<lea>....)|\xb8(?P<mov>....)|\x48\xc7\xc0(?P<wide>....))"
    rb"(?:\x5d)?\xc3",  # pop %rbp; ret
    re.DOTALL,
)
"""lea disp(%rip), %rax; mov $address, %eax, or %rax."""


def returned_string(elf: Elf, symbol: Symbol) -> str | None:
    """None where the function is anything else, or its string is not in the file."""
    try:
        code = elf.code_at(symbol.value, min(max(symbol.size, 1), _MAX_CODE))
    except TargetError:
        return None  # it stands nowhere
    find = {"x86-64": _x86_address, "aarch64": _arm_address}.get(elf.machine)
    address = find(code, symbol.value) if find else None
    if address is None:
        return None
    try:
        offset = elf.file_offset(address)
        text, end, _ = elf.bytes_at(offset, _MAX_STRING).partition(b"\0")
        return text.decode("utf-8") if text and end else None
    except (TargetError, UnicodeDecodeError):
        return None


def _x86_address(code: bytes, at: int) -> int | None:
    match = _X86.match(code)
    if match is None:
        return None
    if distance := match["lea"]:
        return at + match.end("lea") + int.from_bytes(distance, "little", signed=True)
    return int.from_bytes(match["mov"] or match["wide"], "little")


def _arm_address(code: bytes, at: int) -> int | None:
    """adrp x0, page; add x0, x0, #offset; ret. A landing pad (bti, nop) may stand before, or adr
    instead."""
    words = [int.from_bytes(code[i : i + 4], "little") for i in range(0, len(code) - 3, 4)]
    while words and words[0] & 0xFFFFF01F == 0xD503201F:  # hint
        words, at = words[1:], at + 4
    if len(words) < 2 or words[0] & 0x1F:
        return None
    distance = words[0] >> 29 & 3 | (words[0] >> 5 & 0x7FFFF) << 2
    distance -= (distance & 1 << 20) << 1
    is_return = 0xD65F03C0
    if words[0] & 0x9F000000 == 0x10000000 and words[1] == is_return:
        return at + distance
    is_page = words[0] & 0x9F000000 == 0x90000000
    if is_page and words[1] & 0xFFC003FF == 0x91000000 and words[2:3] == [is_return]:
        return (at & ~0xFFF) + (distance << 12) + (words[1] >> 10 & 0xFFF)
    return None
