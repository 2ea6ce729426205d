"""Which kinds of instructions are cheap under a uprobe, where nothing can be measured.

For plans made away from the machine they are for. What a kernel simulates it handles in the
breakpoint's own exception; what it steps out of line takes a second one, and so twice the time (on
emulated arm64, Linux 5.10, 6.1 and 6.12). So kinds that every kernel simulates come first, then
those that some do, then the stepped ones, in which nothing is gained over the symbol. On the
machine itself profinfer measures instead (hitcost.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

_ALWAYS, _SOME, _STEPPED, _RISKY, _REFUSED = 1.0, 2.0, 3.0, 4.0, math.inf

RANKS: dict[str, Mapping[str, float]] = {
    # arch/x86/kernel/uprobes.c has emulated the first row since 2014 (push: 2018).
    "x86-64": {
        "push": _ALWAYS, "nop1": _ALWAYS, "jcc": _ALWAYS, "jmp": _ALWAYS, "call": _ALWAYS,
        "nop5": _SOME,  # rewritten to a call since 6.18, stepped before
        "stepped": _STEPPED,
        "nop10": _REFUSED,  # before mid-2026
    },
    # arch/arm64/kernel/probes/decode-insn.c: the first row since there are uprobes (4.10).
    "aarch64": {
        "b": _ALWAYS, "b.cond": _ALWAYS, "cbz": _ALWAYS, "tbz": _ALWAYS, "br": _ALWAYS,
        "adr": _ALWAYS,
        "nop": _SOME,  # simulated since 2025, stepped before
        "stepped": _STEPPED,
        "stp": _STEPPED,  # its simulation was proposed, not taken
        "hint": _RISKY,  # stepped; refused before 5.8
    },
}  # fmt: skip
"""By machine and kind of site (sites.py): what counts is the order."""


def describe_ranks(machine: str) -> str:
    """The order in words."""
    ranks = RANKS[machine]
    groups = [
        " ".join(kind for kind, rank in ranks.items() if rank == level)
        for level in sorted({rank for rank in ranks.values() if rank < math.inf})
    ]
    return ", then ".join(groups)
