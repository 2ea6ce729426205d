"""A probe counts the same wherever it sits: every kind in the self-test's library, and every site
of the engine double's functions."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from profinfer import hitcost, kernel, uprobes
from profinfer.elf import Elf
from profinfer.errors import KernelError, ProbeError
from profinfer.sites import entry_sites
from profinfer.uprobes import BY_EVENT, LINK, SITES, Way, best_way
from tests.conftest import REPO, require
from tests.support import Engine, double_fixture, require_recording, waiting

__all__ = ["double_fixture"]

CALLS = 1009
"""Prime: no loop of ours makes it by chance."""
FUNCTIONS = (
    "ggml_barrier",
    "ggml_cpu_extra_compute_forward",
    "ggml_compute_forward_rms_norm_mul_fused",
    "ggml_graph_compute",
    "ggml_backend_graph_compute_async",
)


class Counters:
    """A program of its own at each place, whose runs the kernel counts."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._stats = kernel.enable_stats()
        self._programs: dict[tuple[object, ...], int] = {}
        self._events: list[int] = []

    def attach(
        self, name: tuple[object, ...], path: Path, offset: int, pid: int, at_return: bool = False
    ) -> None:
        """ProbeError where the kernel takes no probe."""
        program = kernel.load_nothing(self._way.attach_type)
        try:
            events = self._way.attach(program, path, [offset], pid, at_return=at_return)
        except ProbeError:
            os.close(program)
            raise
        self._programs[name] = program
        self._events += events

    def runs(self) -> dict[tuple[object, ...], int]:
        return {name: kernel.program_stats(fd).runs for name, fd in self._programs.items()}

    def close(self) -> None:
        uprobes.close(self._events)
        for fd in (*self._programs.values(), self._stats):
            os.close(fd)


@pytest.fixture(params=["link", "event"])
def way(request: pytest.FixtureRequest) -> Way:
    """Each way to attach."""
    require_recording()
    if request.param == "event":
        return BY_EVENT
    best = best_way()
    require(f"uprobe_multi links ({best.reason})", best.name == LINK, hardware=True)
    return best


@contextmanager
def counters(way: Way) -> Iterator[Counters]:
    found = Counters(way)
    try:
        yield found
    finally:
        found.close()


def test_every_kind_counts_each_call(way: Way) -> None:
    require(SITES.name, SITES.is_file())
    library, elf = ctypes.CDLL(str(SITES)), Elf(SITES)
    library.hit_loop.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    names = [n for n in elf.symbols.names() if n.startswith("hit_") and n != "hit_loop"]
    with counters(way) as counted:
        attached = []
        for name in names:
            offset = elf.file_offset(elf.symbols[name].value)
            try:
                counted.attach((name,), SITES, offset, os.getpid())
            except ProbeError:
                continue
            attached.append(name)
            function = ctypes.cast(getattr(library, name), ctypes.c_void_p)
            library.hit_loop(function, CALLS)
        assert counted.runs() == {(name,): CALLS for name in attached}
    assert "hit_stepped" in attached
    assert len(attached) >= 5


def test_it_is_measured_once_per_boot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    require_recording()
    require(SITES.name, SITES.is_file())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = hitcost.hit_cost(BY_EVENT)

    def refuse(*_: object, **__: object) -> list[int]:
        raise AssertionError("attached again")

    monkeypatch.setattr(Way, "attach", refuse)
    assert hitcost.hit_cost(BY_EVENT) == first
    (kept,) = (tmp_path / "profinfer/hitcost").iterdir()
    kept.write_text("[1]")
    with pytest.raises(AssertionError, match="attached again"):
        hitcost.hit_cost(BY_EVENT)


def test_without_its_library_it_says_what_builds_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hitcost, "SITES", tmp_path / "absent.so")
    with pytest.raises(KernelError, match=r"absent\.so") as error:
        hitcost.hit_cost(BY_EVENT)
    assert error.value.hint == "make setup builds it"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_its_functions_begin_with_the_kinds_that_they_name(machine: str, tmp_path: Path) -> None:
    compiler = "gcc" if machine == platform.machine() else f"{machine}-linux-gnu-gcc"
    require(compiler, shutil.which(compiler))
    library = tmp_path / "sites.so"
    command = [compiler, "-fPIC", "-shared", "-o", str(library), str(REPO / "bpf/hit_sites.c")]
    subprocess.run(command, check=True, timeout=60)
    elf = Elf(library)
    named = {
        symbol.name.removeprefix("hit_"): entry_sites(elf, symbol)[0].kind
        for symbol in elf.symbols
        if symbol.name.startswith("hit_") and symbol.name != "hit_loop"
    }
    assert named == {name: hitcost._NAMES.get(name, name) for name in named}
    assert len(named) == {"x86_64": 8, "aarch64": 10}[machine]


@pytest.mark.parametrize("at_return", [False, True], ids=["entry", "return"])
def test_every_site_counts_as_often_as_the_symbol(
    double: Engine, tmp_path: Path, at_return: bool, way: Way
) -> None:
    elf = Elf(double.library)
    process_ubatch = elf.symbols.matching(r"14process_ubatchE.*(?<!\.cold)$")
    symbols = [*(elf.symbols[name] for name in FUNCTIONS), *process_ubatch]
    with waiting(double, tmp_path / "go", "--threads", "3") as target, counters(way) as counted:
        kinds = set()
        for symbol in symbols:
            for site in entry_sites(elf, symbol, at_return=at_return):
                name = (symbol.name, site.offset)
                offset = elf.file_offset(symbol.value) + site.offset
                counted.attach(name, double.library, offset, target.pid, at_return)
                kinds.add(site.kind)
        target.go()
        truth = target.truth()
        runs = counted.runs()
    for symbol in symbols:
        at = {offset: count for (name, offset), count in runs.items() if name == symbol.name}
        assert set(at.values()) == {at[0]}, (symbol.name, at)
        assert at[0] > 0, symbol.name
    calls = truth["calls"]
    assert runs["ggml_graph_compute", 0] == calls["ggml_graph_compute"]
    async_name = "ggml_backend_graph_compute_async"
    assert runs[async_name, 0] == calls[async_name]
    threads = truth["threads"]
    assert runs[FUNCTIONS[1], 0] == sum(thread["extra"] for thread in threads)
    assert runs[FUNCTIONS[2], 0] == sum(thread["fused"] for thread in threads)
    inside, outside = (sum(t[f"barrier_{w}"] for t in threads) for w in ("inside", "outside"))
    assert runs["ggml_barrier", 0] == inside + outside
    assert len(runs) > len(symbols) or at_return
    assert "stepped" in kinds or "push" in kinds
