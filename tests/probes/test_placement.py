"""Where hot functions are probed follows from what was measured on a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from profinfer.binaries.elf import Elf
from profinfer.binaries.sites import Site
from profinfer.built import AUDIT
from profinfer.engine.audit_library import STUBS_SYMBOL
from profinfer.engine.description import Function
from profinfer.engine.stubs import Redirection, Stub
from profinfer.engine.target import EngineObject
from profinfer.probes.hitcost import HitCost
from profinfer.probes.placement import Place, Placer
from tests.conftest import require

BARRIER = "ggml_barrier"
SITES = (Site(0, "stepped", ""), Site(7, "jcc", ""))
"""As real ones begin: mov, cmp, je."""
Series = dict[str, tuple[float, float, float]]
# us a hit: the median of pairs, and its 95 % interval, as `doctor` has said them.
REWRITTEN: Series = {  # Intel Xeon VM, Linux 6.18: wide NOPs become calls
    "nop1": (0.56, 0.56, 0.56), "nop5": (0.27, 0.26, 0.27), "jcc": (0.56, 0.56, 0.57),
    "stepped": (19.98, 19.96, 19.98),
}  # fmt: skip
STEPPED: Series = REWRITTEN | {  # where they are not, and are stepped (6.1): a stub has a jcc, too
    "nop1": (0.56, 0.56, 0.57), "nop5": (19.98, 19.96, 19.98),
}  # fmt: skip
SLOWER: Series = {  # AMD EPYC VM, where rewriting gains nothing (with intervals of a quiet one)
    "nop1": (0.89, 0.88, 0.90), "nop5": (0.89, 0.88, 0.90), "jcc": (0.86, 0.85, 0.87),
    "stepped": (18.3, 18.2, 18.4),
}  # fmt: skip
BUSY: Series = SLOWER | {"nop1": (0.89, 0.6, 1.2), "nop5": (0.89, 0.6, 1.2), "jcc": (0.8, 0.6, 1.1)}


def place(series: Series, *, takes_stubs: bool = False, why: str | None = "") -> Place:
    """Of the barrier's one probe."""
    require("the audit library", AUDIT.is_file())
    elf = Elf(AUDIT)
    address = elf.symbols[STUBS_SYMBOL].value
    cost = HitCost(
        {kind: 1000 * ns for kind, (ns, _, _) in series.items()},
        {kind: (1000 * low, 1000 * high) for kind, (_, low, high) in series.items()},
        series is not BUSY, 40.0,
    )  # fmt: skip
    placer = Placer(cost, 0)
    placer.takes_stubs = takes_stubs
    placer.why_probed = why
    stub = Stub(BARRIER, 0x1000, address, elf.file_offset(address), 0)
    placer.redirection = Redirection(AUDIT, str(AUDIT), stubs={(0, BARRIER): stub})
    item = EngineObject("libggml.so", Path("libggml.so"), Path("libggml.so"), elf, (0,))
    (found,) = placer.places(item, Function(BARRIER, 0x1000, 0x1000, "", SITES))
    return found


@pytest.mark.parametrize(
    ("series", "via", "site"),
    [
        (REWRITTEN, "stub", "nop5"),
        (STEPPED, "stub", "nop1"),
        (SLOWER, "direct", "jcc"),
        (BUSY, "stub", "nop1"),
    ],
    ids=["rewritten", "stepped", "slower", "busy"],
)
def test_the_cheaper_place_is_chosen(series: Series, via: str, site: str) -> None:
    found = place(series)
    assert (found.via, found.site) == (via, site)


def test_why_it_is_not_on_its_stub_is_said() -> None:
    why = "a hit is cheaper here (jcc, 0.86 us) than on its stub (nop1, 0.89 us)"
    assert place(SLOWER).why == why
    assert place(SLOWER, why="its stubs cannot record").why == f"its stubs cannot record; {why}"


def test_stubs_that_are_asked_for_are_used() -> None:
    assert place(SLOWER, takes_stubs=True).via == "stub"
    assert place(SLOWER, why=None).via == "recording"
