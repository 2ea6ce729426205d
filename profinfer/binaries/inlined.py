"""Copies of ggml_barrier that a compiler has put into its callers (clang does): each arrival passes
the function or one of them.

The function itself shows at which distances from a threadpool threads are counted. A copy counts
at the same ones, and goes past that by a conditional jump where there is one thread only: every
arrival passes this jump, and a probe on it costs least.
"""

from __future__ import annotations

import re
from itertools import takewhile
from typing import NamedTuple

from profinfer.binaries.code import Code
from profinfer.errors import TargetError

_MEMORY = re.compile(r"^dword ptr \[(\w+)(?: \+ (\w+))?\]")
_ADDRESS = re.compile(r"^(\w+), \[(\w+) \+ (\w+)\]$")
_COUNTING = re.compile(rb"\xf0[\x40-\x4f]?\x0f\xc1", re.S)
"""lock xadd, by its bytes."""
_MAX_CODE = 64 << 20
_AROUND = 12
"""Instructions among which the rest of a copy stands, on either side."""


class _Step(NamedTuple):
    address: int
    size: int
    name: str
    text: str

    def word(self) -> tuple[str, int] | None:
        """Register and distance of the word in memory that is its first operand."""
        found = _MEMORY.match(self.text)
        return (found[1], int(found[2] or "0", 0)) if found else None


class Copy(NamedTuple):
    """The conditional jump of one copy."""

    address: int
    size: int


def inlined_barriers(code: Code, barrier: int) -> list[Copy]:
    """All copies in a file for x86-64, of a barrier with threads of ggml's own (none of OpenMP).
    TargetError when there is one that is not understood."""
    if code.elf.machine != "x86-64":
        return []
    arrived, passed = _counters(_steps(code, barrier))
    copies = []
    holding = code.holding(_COUNTING) - {barrier} if arrived else set()
    if sum(map(code.size, holding)) > _MAX_CODE:
        raise TargetError("too much code for copies of ggml_barrier to be looked for")
    for number in holding:
        steps = _steps(code, number)
        targets = {int(s.text, 0) for s in steps if s.name[0] == "j" and s.text[:2] == "0x"}
        turns = any(step.name == "pause" for step in steps)
        for at, step in enumerate(steps):
            word = step.word() if step.name == "lock xadd" else None
            if not turns or not word or word[1] != arrived:
                continue
            copy = _copy(steps, at, word[0], passed, targets)
            if copy is None:
                raise TargetError(
                    f"ggml_barrier is a part of other functions, too, at {step.address:#x} in a"
                    " way that is not understood"
                )
            copies.append(copy)
    return copies


def _steps(code: Code, number: int) -> list[_Step]:
    at = int(code.starts[number])
    steps = []
    for end, name, text in code.instructions(number):
        steps.append(_Step(at, end - at, name, text))
        at = end
    return steps


def _counters(steps: list[_Step]) -> tuple[int, int]:
    """Where in a threadpool it is counted who has arrived, and how often all have passed; 0 where
    that is not seen."""
    held: dict[str, int] = {"rdi": 0}
    found = []
    for step in steps:
        if step.name == "lea" and (away := _ADDRESS.match(step.text)) and away[2] in held:
            held[away[1]] = held[away[2]] + int(away[3], 0)
        word = step.word() if step.name.startswith("lock ") else None
        if word and word[0] in held:
            found.append((step.name, held[word[0]] + word[1]))
    if len(found) != 2 or found[0][0] != "lock xadd":
        return 0, 0
    return found[0][1], found[1][1]


def _copy(steps: list[_Step], at: int, pool: str, passed: int, targets: set[int]) -> Copy | None:
    """The copy around an instruction that counts who has arrived: before it, whether there is one
    thread only; behind it, who comes last."""
    before = list(takewhile(lambda s: s.address not in targets, steps[at - 1 :: -1][:_AROUND]))
    jump = next((i for i, step in enumerate(before) if step.name[0] == "j"), None)
    if jump is None or jump + 2 >= len(before):
        return None
    compared = before[jump + 1]
    loads = [s for s in before[jump + 2 :] if s.name == "mov" and f"[{pool} + " in s.text]
    last = [s for s in steps[at + 1 :][:_AROUND] if s.name.startswith("lock ")]
    if compared.name != "cmp" or not compared.text.endswith(", 1") or not loads or not last:
        return None
    if last[0].word() != (pool, passed):
        return None
    return Copy(before[jump].address, before[jump].size)
