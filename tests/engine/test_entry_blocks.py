"""The exact sites of small functions, by hand for each processor."""

from __future__ import annotations

import pytest

from profinfer.binaries.elf import Symbol
from profinfer.binaries.sites import direct_references, entry_sites
from profinfer.errors import TargetError
from tests.engine.conftest import Assemble, function

Expected = list[tuple[int, str]]

X86: dict[str, tuple[str, Expected]] = {
    "a push, a call, and nothing behind it": (
        "push %rbp; mov %rsp, %rbp; push %r12; call g; push %rbx; ret; g: ret",
        [(0, "push"), (1, "stepped"), (4, "push"), (6, "call")],
    ),
    "as ggml_barrier": (
        "mov 0x68(%rdi), %eax; cmp $1, %ax; je 1f; jmp *%rax; 1: ret",
        [(0, "stepped"), (3, "stepped"), (7, "jcc")],
    ),
    "an argument is overwritten before anything cheap": (
        "mov %rdi, %rax; mov %rsi, %rdi; push %rbx; pop %rbx; ret",
        [(0, "stepped"), (3, "stepped")],
    ),
    "half of an argument is overwritten": (
        "mov $1, %dl; push %rbx; pop %rbx; ret",
        [(0, "stepped")],
    ),
    "rdx is overwritten without being named": (
        "mov %rdi, %rax; cqo; push %rbx; pop %rbx; ret",
        [(0, "stepped"), (3, "stepped")],
    ),
    "arguments are overwritten by a string instruction": (
        "movsl; push %rbx; pop %rbx; ret",
        [(0, "stepped")],
    ),
    "a one-byte jump goes back into the block": (
        "mov %rdi, %rax; 1: push %rbx; pop %rbx; dec %rax; jne 1b; ret",
        [(0, "stepped")],
    ),
    "a loop's head is behind the first sites": (
        "push %rbx; mov %rdi, %rbx; 1: cmp $7, %rbx; push %r12; pop %r12; jne 1b; pop %rbx; ret",
        [(0, "push"), (1, "stepped")],
    ),
    "another function jumps into it": (
        "push %rbx; 1: mov %rdi, %rbx; push %r12; ret\n.size f, . - f\n.skip 256\n jmp 1b",
        [(0, "push")],
    ),
    "the cold part jumps back into it": (
        "push %rbx; mov %rdi, %rbx; 1: push %r12; pop %r12; ret\n"
        ".size f, . - f\n.type f.cold, %function\nf.cold: jmp 1b\n.size f.cold, . - f.cold",
        [(0, "push"), (1, "stepped")],
    ),
    "an address in it is computed": (
        "push %rbx; mov %rdi, %rbx; 1: push %r12; lea 1b(%rip), %rax; jmp *%rax",
        [(0, "push"), (1, "stepped")],
    ),
    "endbr64 first": (
        "endbr64; push %rbp; mov %rsp, %rbp; pop %rbp; ret",
        [(0, "stepped"), (4, "push"), (5, "stepped"), (8, "stepped")],
    ),
    "the symbol is shorter than the code": (
        "push %rbx; push %r12; .size f, . - f\n push %r13; ret",
        [(0, "push"), (1, "push")],
    ),
    "no size at all": ("push %rbx; push %r12; ret\n.size f, 0", [(0, "push")]),
    "NOPs": (
        "nop; .byte 0x66, 0x90; .byte 0x0f, 0x1f, 0x44, 0, 0;"
        " .byte 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0; .byte 0x0f, 0x1f, 0x44, 0, 8; ret",
        [(0, "nop1"), (1, "stepped"), (3, "nop5"), (8, "nop10"), (18, "stepped"), (23, "stepped")],
    ),
    "pause is no nop, and too odd to go on": ("pause; push %rbx; ret", [(0, "stepped")]),
    "pushes that are not emulated": (
        ".byte 0x48, 0x53; pushq (%rdi); pushq $1; .byte 0x66, 0x53; ret",
        [(0, "stepped"), (2, "stepped"), (4, "stepped"), (6, "stepped"), (8, "stepped")],
    ),
    "branches that are emulated, and one that is not": (
        "cmp %rdi, %rsi; .byte 0x0f, 0x84, 0, 0, 0, 0; ret",
        [(0, "stepped"), (3, "jcc")],
    ),
    "a short jump ends it": ("jmp 1f; push %rbx; 1: ret", [(0, "jmp")]),
    "a jump through memory": ("test %rdi, %rdi; jmp *(%rdi)", [(0, "stepped"), (3, "stepped")]),
    "a prefix that no kernel takes is passed over": (
        ".byte 0x2e; mov (%rdi), %eax; .byte 0x2e; mov (%rdi), %eax; push %rbx; ret",
        [(6, "push"), (7, "stepped")],
    ),
    "what cannot be decoded ends it": (
        "push %rbx; .byte 0x06; push %r12; ret",
        [(0, "push")],
    ),
}
X86_RETURN: dict[str, tuple[str, Expected]] = {
    "the stack moves at once": ("push %rbx; push %r12; ret", [(0, "push")]),
    "the stack moves later": (
        "mov 8(%rdi), %rax; push %rbx; push %r12; ret",
        [(0, "stepped"), (4, "push")],
    ),
    "the stack is aligned": (
        "lea 8(%rsp), %r10; and $-32, %rsp; push -8(%r10); ret",
        [(0, "stepped"), (5, "stepped")],
    ),
    "endbr64 moves nothing": ("endbr64; push %rbp; ret", [(0, "stepped"), (4, "push")]),
    "it only looks": (
        "cmp $1, %esi; je 1f; ret; 1: ret",
        [(0, "stepped"), (3, "jcc")],
    ),
}
ARM: dict[str, tuple[str, Expected]] = {
    "a frame": (
        "stp x29, x30, [sp, #-32]!; mov x29, sp; cbz x0, 1f; 1: ret",
        [(0, "stp"), (4, "stepped"), (8, "cbz")],
    ),
    "a signed frame": (
        "paciasp; stp x29, x30, [sp, #-16]!; bl f2; nop; f2: ret",
        [(0, "hint"), (4, "stp"), (8, "b")],
    ),
    "a hint that no kernel takes is passed over": (
        "nop; hint #20; hint #36; ret",
        [(0, "nop"), (8, "hint"), (12, "br")],
    ),
    "comparing writes nothing": (
        "cmp x0, x1; tst w2, #3; b.eq 1f; 1: ret",
        [(0, "stepped"), (4, "stepped"), (8, "b.cond")],
    ),
    "storing writes nothing": (
        "str x0, [sp, #8]; tbz w1, #3, 1f; 1: ret",
        [(0, "stepped"), (4, "tbz")],
    ),
    "an argument is overwritten": (
        "mov x9, x0; mov w1, #1; nop; ret",
        [(0, "stepped"), (4, "stepped")],
    ),
    "an argument is moved on by a load": ("ldr x8, [x0], #8; nop; ret", [(0, "stepped")]),
    "an argument is the second of a pair": ("ldp x9, x3, [sp]; nop; ret", [(0, "stepped")]),
    "what kernels simulate, but for loads of literals": (
        "nop; adr x9, here_f; adrp x10, here_f; ldr x11, 1f; ldr w12, 1f; ldrsw x13, 1f; ret;"
        " 1: .quad 0",
        [(0, "nop"), (4, "adr"), (8, "adr"), (24, "br")],
    ),
    "a literal is loaded first, on which old kernels crash": (
        "ldr d9, 1f; ldr x9, 1f; mov x10, x0; b.eq 1f; 1: .quad 0",
        [(8, "stepped"), (12, "b.cond")],
    ),
    "nothing but such a load": ("ldrsw x0, 1f; ret; 1: .quad 0", []),
    "a store that is no push of the frame": (
        "stp x19, x20, [sp, #-16]!; stp x29, x30, [sp, #16]; br x9",
        [(0, "stepped"), (4, "stepped"), (8, "br")],
    ),
    "a loop goes back into it": (
        "nop; mov x9, x0; 1: nop; subs x9, x9, #1; b.ne 1b; ret",
        [(0, "nop"), (4, "stepped")],
    ),
    "another function jumps into it": (
        "nop; 1: nop; ret\n.size f, . - f\n.skip 4096\n tbnz x9, #40, 1b",
        [(0, "nop")],
    ),
    "an address in it is computed": (
        "nop; 1: nop; ret\n.size f, . - f\n adrp x9, 1b; nop; add x9, x9, :lo12:1b",
        [(0, "nop")],
    ),
    "an exclusive load is refused, and too odd to go on": ("nop; ldxr x9, [x0]; nop; ret",
                                                           [(0, "nop")]),
    "such a store": ("nop; stlxr w9, x1, [x0]; nop; ret", [(0, "nop")]),
    "a load that is not": ("ldar x9, [x0]; nop; ret", [(0, "stepped")]),
}  # fmt: skip
ARM_RETURN: dict[str, tuple[str, Expected]] = {
    "the stack moves": ("nop; sub sp, sp, #32; nop; ret", [(0, "nop"), (4, "stepped")]),
    "the frame keeps the return address": ("stp x29, x30, [sp, #-32]!; nop; ret", [(0, "stp")]),
    "it is kept alone": ("nop; str x30, [sp, #-16]!; nop; ret", [(0, "nop"), (4, "stepped")]),
    "it is kept in a register": ("mov x9, x30; nop; ret", [(0, "stepped")]),
    "a signed return address": ("bti c; paciasp; nop; ret", [(0, "hint"), (4, "hint")]),
    "a call's own": ("mov x30, x9; nop; ret", [(0, "stepped")]),
}


def _cases(machine: str, at_return: bool, cases: dict[str, tuple[str, Expected]]) -> list[object]:
    return [
        pytest.param(machine, at_return, code, expected, id=f"{machine}: {name}")
        for name, (code, expected) in cases.items()
    ]


@pytest.mark.parametrize(
    ("machine", "at_return", "code", "expected"),
    [
        *_cases("x86_64", False, X86),
        *_cases("x86_64", True, X86_RETURN),
        *_cases("aarch64", False, ARM),
        *_cases("aarch64", True, ARM_RETURN),
    ],
)
def test_sites_are_exactly(
    assemble: Assemble, machine: str, at_return: bool, code: str, expected: Expected
) -> None:
    elf = assemble(machine, function("f", code))
    sites = entry_sites(elf, elf.symbols["f"], at_return=at_return)
    assert [(site.offset, site.kind) for site in sites] == expected
    assert all(site.text for site in sites)


def test_a_wide_nop_across_two_pages_is_not_rewritten(assemble: Assemble) -> None:
    nop = ".byte 0x0f, 0x1f, 0x44, 0, 0"
    source = f".p2align 12\n.skip 4088\n{function('f', 'ret')}.p2align 12\n.skip 4092\n"
    source += f".globl g\n.type g, %function\ng: {nop}; ret\n.size g, . - g\n"
    elf = assemble("x86_64", source)
    assert [site.kind for site in entry_sites(elf, elf.symbols["g"])] == ["stepped", "stepped"]


@pytest.mark.parametrize(
    ("machine", "code", "count"),
    [
        (
            "x86_64",
            "jne here_f; jmp here_f; call here_f; .skip 300; jmp here_f; jne here_f;"
            " lea here_f(%rip), %rax; call *f@GOTPCREL(%rip); call f@PLT; loop here_f",
            7,
        ),
        ("x86_64", "call *f@GOTPCREL(%rip); call f@PLT; lea here_g(%rip), %rax; jmp here_g", 0),
        (
            "aarch64",
            "b here_f; bl here_f; cbz x0, here_f; b.eq here_f; tbz x0, #1, here_f; adr x0, here_f;"
            " adrp x1, here_f; add x1, x1, :lo12:here_f; bl f",
            7,
        ),
        ("aarch64", "adrp x1, :got:f; ldr x1, [x1, :got_lo12:f]; blr x1; bl here_g; bl f", 0),
    ],
)
def test_direct_references_are_all_found(
    assemble: Assemble, machine: str, code: str, count: int
) -> None:
    elf = assemble(machine, function("g", code) + function("f", "ret"))
    found = direct_references(elf, elf.symbols["f"].value)
    start, size = elf.symbols["g"].value, elf.symbols["g"].size
    assert len(set(found)) == len(found) == count
    assert all(start <= place < start + size for place in found)


def test_a_symbol_outside_the_file_is_an_error(assemble: Assemble) -> None:
    elf = assemble("x86_64", function("f", "ret"))
    with pytest.raises(TargetError, match="no segment holds"):
        entry_sites(elf, Symbol("lost", 1 << 40, 8, True))
