"""Which instructions of an entry block may bear a probe."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from profinfer.binaries.elf import Elf
from profinfer.binaries.sites import Site, cheapest, direct_references, entry_sites
from profinfer.probes.hitcost import Ask, hit_cost

CASES = {
    "compare": ("mov (%rdi), %eax; cmp $1, %eax; je 1f; ret; 1: ret", [0, 2, 5]),
    "overwrites": ("mov %rdi, %rax; mov $1, %esi; push %rbx; pop %rbx; ret", [0, 3]),
    "loops": ("mov %rdi, %rax; 1: dec %rax; push %rbx; pop %rbx; jne 1b; ret", [0]),
    "pushes": ("push %rbx; pop %rbx; ret", [0, 1]),
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Elf:
    folder = tmp_path_factory.mktemp("sites")
    source = ".text\n" + "".join(
        f".globl {n}\n.type {n}, @function\n.p2align 4\n{n}:\n{code}\n.size {n}, .-{n}\n"
        for n, (code, _) in CASES.items()
    )
    source += ".globl caller\n.type caller, @function\ncaller: call compare@PLT; jmp pushes\n"
    source += ".size caller, .-caller\n"
    (folder / "s.s").write_text(source)
    subprocess.run(
        ["gcc", "-shared", "-Wl,-Bsymbolic", "-o", folder / "s.so", folder / "s.s"],
        check=True, timeout=60,
    )  # fmt: skip
    return Elf(Path(folder / "s.so"))


@pytest.mark.parametrize("name", ["compare", "overwrites", "loops"])
def test_sites_end_where_arguments_or_the_single_way_do(library: Elf, name: str) -> None:
    sites = entry_sites(library, library.symbols[name])
    assert [site.offset for site in sites][: len(CASES[name][1])] == CASES[name][1]
    if name != "overwrites":
        assert len(sites) == len(CASES[name][1])


def test_a_direct_jump_to_a_function_is_found(library: Elf) -> None:
    assert direct_references(library, library.symbols["pushes"].value)
    assert not direct_references(library, library.symbols["overwrites"].value)


def test_the_cheapest_site_is_the_first_of_those_within_five_percent() -> None:
    sites = [Site(0, "stepped", ""), Site(3, "push", ""), Site(4, "jcc", "")]
    assert cheapest(sites, {"stepped": 9.0, "push": 0.70, "jcc": 0.69}).offset == 3
    assert cheapest(sites, {"stepped": 9.0, "push": 0.90, "jcc": 0.69}).offset == 4
    assert cheapest(sites, {"stepped": 9.0}).offset == 0


def test_the_self_test_tells_stepped_from_emulated_instructions(ask: Ask, best_way: str) -> None:
    cost = hit_cost(ask, best_way)
    known = [ns for kind, ns in cost.sites.items() if ns is not None and kind != "stepped"]
    stepped = cost.sites["stepped"]
    assert stepped is not None
    assert stepped > min(known) > 0
    assert cost.empty_handler_ns > 0
