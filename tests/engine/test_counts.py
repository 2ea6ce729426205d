"""A probe counts the same wherever it sits: every kind in the self-test, and every site of the
engine double's functions."""

from __future__ import annotations

import ctypes
import os
import platform
import select
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from profinfer import built
from profinfer.binaries.elf import Elf
from profinfer.binaries.sites import entry_sites
from profinfer.errors import KernelError
from profinfer.probes.hitcost import Ask, HitCost, hit_cost, hit_cost_now
from profinfer.recording.recorder import Server
from tests.conftest import require
from tests.recording.own_probes import EVENT, LINK, Refused, build_sites, counters
from tests.support import Engine, double_fixture, waiting

__all__ = ["double_fixture"]

NO_SITES = ("hit_loop", "hit_offset", "hit_sites", "hit_site_count")
CALLS = 1009
"""Prime: no loop of ours makes it by chance."""
FUNCTIONS = (
    "ggml_barrier",
    "ggml_cpu_extra_compute_forward",
    "ggml_compute_forward_rms_norm_mul_fused",
    "ggml_graph_compute",
    "ggml_backend_graph_compute_async",
)


@pytest.fixture(params=[LINK, EVENT])
def way(request: pytest.FixtureRequest, best_way: str) -> str:
    """Each way to attach."""
    require("uprobe_multi links", request.param in (EVENT, best_way), hardware=True)
    way: str = request.param
    return way


def test_every_kind_counts_each_call(way: str, tmp_path: Path) -> None:
    path = build_sites(tmp_path)
    library, elf = ctypes.CDLL(str(path)), Elf(path)
    library.hit_loop.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    with counters(way) as counted:
        attached = []
        for name in _sites(elf):
            offset = elf.file_offset(elf.symbols[name].value)
            try:
                counted.attach(name, path, offset, os.getpid())
            except Refused:
                continue
            attached.append(name)
            function = ctypes.cast(getattr(library, name), ctypes.c_void_p)
            library.hit_loop(function, CALLS)
        assert counted.runs() == dict.fromkeys(attached, CALLS)
    assert "hit_stepped" in attached
    assert len(attached) >= 5


def _sites(elf: Elf) -> list[str]:
    return [n for n in elf.symbols.names() if n.startswith("hit_") and n not in NO_SITES]


def test_the_recorder_measures_every_kind_that_the_kernel_takes(
    ask: Ask, way: str, tmp_path: Path
) -> None:
    path = build_sites(tmp_path)
    ctypes.CDLL(str(path))  # the kernel looks at an instruction once it is mapped
    elf, refused = Elf(path), set()
    with counters(way) as counted:
        for name in _sites(elf):
            try:
                counted.attach(name, path, elf.file_offset(elf.symbols[name].value), os.getpid())
            except Refused:
                refused.add(_kind(name))
    measured = ask("hit_costs", attach=way)
    if platform.machine() == "x86_64":
        # By the way, what a stub takes that is not probed, but records itself.
        assert 1 < measured["sites"].pop("recording") < 1000
    assert set(measured["sites"]) == {_kind(name) for name in _sites(elf)}
    assert {kind for kind, ns in measured["sites"].items() if ns is None} == refused
    # An emulated instruction takes some 0.5 us, a stepped one at most tens; a call takes 2 ns.
    costs = [ns for ns in measured["sites"].values() if ns is not None]
    assert all(50 < ns < 1e6 for ns in costs)
    assert 5 < measured["empty_handler_ns"] < 1e5
    found = {kind: ns for kind, ns in measured["sites"].items() if ns is not None}
    assert measured["intervals"].keys() == found.keys()
    for kind, (low, high) in measured["intervals"].items():
        assert low <= found[kind] <= high
        # Of each narrow one half the width is a 25th, or what the clock can tell.
        assert not measured["settled"] or high - low <= max(0.08 * found[kind], 16)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_recorder_that_is_killed_while_it_measures_leaves_no_probe(
    end: signal.Signals, best_way: str
) -> None:
    """Its child ends with it, and the probes with that."""
    for delay in (0.0, 0.05, 0.2):
        with Server() as server:
            server.link.tell("hit_costs", attach=best_way)
            ended = os.pidfd_open(_child_of(server._pid))
            time.sleep(delay)
            os.kill(server._pid, end)
            assert select.select([ended], [], [], 5.0)[0]
            os.close(ended)


def _child_of(pid: int) -> int:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
    raise AssertionError("it has started nothing")


def test_it_is_measured_once_per_boot(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked = []
    is_settled = True

    def counted(verb: str, **members: object) -> dict[str, Any]:
        asked.append((verb, members))
        return ask(verb, **members) | {"settled": is_settled}

    first = hit_cost(counted, EVENT)
    assert asked == [("hit_costs", {"attach": EVENT})]
    assert hit_cost(counted, EVENT) == first
    assert len(asked) == 1
    (kept,) = (tmp_path / "profinfer/hitcost").iterdir()
    kept.write_text("[1]")
    again = hit_cost(counted, EVENT)
    assert set(again.sites) == set(first.sites)
    assert len(asked) == 2
    is_settled = False
    hit_cost(counted, EVENT, again=True)
    assert len(asked) == 4, "a busy machine is asked once more"
    assert hit_cost(counted, EVENT) == again, "and what it says is not kept"


def test_kinds_that_are_asked_for_are_measured_again(ask: Ask, best_way: str) -> None:
    known = HitCost({"stepped": 1.0, "a": 2.0, "b": None}, {"stepped": (0.0, 3.0)}, False, 4.0)
    now = hit_cost_now(ask, best_way, {"stepped", "b", "nothing"}, known)
    assert now.sites["stepped"] not in (None, 1.0)
    assert now.intervals["stepped"] != (0.0, 3.0)
    assert (now.sites["a"], now.sites["b"], len(now.sites)) == (2.0, None, 3)
    assert hit_cost_now(ask, best_way, {"b"}, known) is known


def test_without_the_recorder_it_says_what_builds_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(verb: str, **_: object) -> dict[str, Any]:
        raise AssertionError(f"asked for {verb}")

    monkeypatch.setattr(built, "BUILD", tmp_path)
    with pytest.raises(KernelError, match="profinfer-recorder") as error:
        hit_cost(refuse, EVENT)
    assert error.value.hint == "make setup builds it"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_its_functions_begin_with_the_kinds_that_they_name(machine: str, tmp_path: Path) -> None:
    compiler = "gcc" if machine == platform.machine() else f"{machine}-linux-gnu-gcc"
    require(compiler, shutil.which(compiler))
    elf = Elf(build_sites(tmp_path, compiler))
    named = {name: entry_sites(elf, elf.symbols[name])[0].kind for name in _sites(elf)}
    assert named == {name: _kind(name) for name in named}
    assert len(named) == {"x86_64": 8, "aarch64": 10}[machine]


def _kind(name: str) -> str:
    return name.removeprefix("hit_").replace("_", ".")


@pytest.mark.parametrize("at_return", [False, True], ids=["entry", "return"])
def test_every_site_counts_as_often_as_the_symbol(
    double: Engine, tmp_path: Path, at_return: bool, way: str
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
                counted.attach(name, double.library, offset, target.pid, at_return=at_return)
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
