"""The plan for an engine of this machine is what a recording of it uses."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from profinfer.binaries.elf import Elf
from profinfer.describing.layout import Layout
from profinfer.describing.parameters import layout_parameters
from profinfer.probes.plan_file import dump
from profinfer.probes.ranks import RANKS
from profinfer.records.capture import FrameKind, read_capture
from tests.probes.conftest import MakePlan, Plan
from tests.support import ENGINE_ONLY, PLACED, Engine, double_fixture, run

__all__ = ["double_fixture"]

COMMON = ("symbol", "handler", "level", "at_return", "via")


def _recorded(double: Engine, folder: Path) -> Plan:
    """The START frame of a recording."""
    raw = folder / "t.raw"
    done = run(
        double, "record", *ENGINE_ONLY, "--level", "barrier", "--probes", "direct", "--raw",
        raw, "-o", folder / "t.pftrace", "--force", "--", double.program(), "--decode", 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first = next(iter(read_capture(raw)))
    assert first.kind == FrameKind.START
    start: Plan = first.json()
    return start


def test_it_is_what_a_recording_uses(double: Engine, make_plan: MakePlan, tmp_path: Path) -> None:
    start, plan = _recorded(double, tmp_path), make_plan("--target", double.library)
    assert plan["parameters"] == layout_parameters(Layout.from_dict(start["layout"]))
    assert plan["start"]["layout"] == start["layout"]
    ranks = RANKS[platform.machine().replace("x86_64", "x86-64")]
    recorded = start["plan"]["probes"]
    assert len(plan["probes"]) == len(recorded) == PLACED
    for planned, used in zip(plan["probes"], recorded, strict=True):
        assert [planned[key] for key in COMMON] == [used[key] for key in COMMON]
        # Measured, one of several equally good instructions may be the best by a little.
        assert ranks[planned["site"]] == ranks[used["site"]], used
        if planned["site"] == used["site"]:
            assert planned["offset"] == used["offset"]
        assert planned["hit_ns"] is None
        assert used["hit_ns"] > 0


def test_what_it_says_of_the_files(native: Path, make_plan: MakePlan) -> None:
    plan = make_plan("--target", native / "libknown.so")
    library = native / "libknown.so"
    elf = Elf(library)
    assert plan["format"] == 1
    assert plan["machine"] == platform.machine()
    assert plan["level"] == "barrier"
    assert plan["cost"].startswith("not measured")
    assert plan["objects"] == [
        {"name": "libknown.so", "build_id": elf.note_id, "size": library.stat().st_size,
         "sha256": elf.sha256(), "backend": ""},
    ]  # fmt: skip
    content = library.read_bytes()
    for probe in plan["probes"]:
        at = probe["offset"]
        assert bytes.fromhex(probe["code"]) == content[at : at + 16]
    [cpu, fake] = [b for b in plan["backends"] if b["name"] in ("CPU", "fake")]
    assert {cpu["object"], fake["object"]} == {0}
    assert (cpu["vaddr"], fake["vaddr"]) == (
        elf.symbols["ggml_backend_cpu_get_name"].value,
        elf.symbols["ggml_backend_fake_get_name"].value,
    )
    required = {p["handler"] for p in plan["probes"] if p["required"]}
    assert {"on_ubatch", "on_backend_graph", "on_operator", "on_barrier"} <= required
    assert not required & {"on_rebuild", "on_fused"}


@pytest.mark.parametrize("level", ["token", "graph", "operator"])
def test_a_lower_level_has_fewer_probes(level: str, native: Path, make_plan: MakePlan) -> None:
    whole = make_plan("--target", native / "libknown.so")
    less = make_plan("--target", native / "libknown.so", "--level", level)
    levels = ("token", "graph", "operator", "barrier")
    wanted = levels[: levels.index(level) + 1]
    assert less["level"] == less["start"]["plan"]["level"] == level
    assert less["probes"] == [p for p in whole["probes"] if p["level"] in wanted]
    assert less["parameters"] == whole["parameters"]


def test_it_is_the_same_json_again(native: Path, make_plan: MakePlan) -> None:
    plan = make_plan("--target", native / "libknown.so")
    assert json.loads(dump(plan)) == plan
    assert make_plan("--target", native / "libknown.so") == plan
    assert layout_parameters(Layout.from_dict(plan["start"]["layout"])) == plan["parameters"]
    assert all(type(value) is int for value in plan["parameters"].values())
    # The order of START's probes is that of the probes: a recorder drops from both.
    assert [p["offset"] for p in plan["start"]["plan"]["probes"]] == [
        p["offset"] for p in plan["probes"]
    ]


def test_a_library_given_twice_is_one(native: Path, make_plan: MakePlan, tmp_path: Path) -> None:
    folder = tmp_path / "lib"
    folder.mkdir()
    for name in ("libcopy.so", "libnoggml.so"):
        source = native / name.replace("copy", "known")
        (folder / name).write_bytes(source.read_bytes())
    (folder / "README").write_text("not a library")
    plan = make_plan("--target", native / "libknown.so", folder)
    assert [item["name"] for item in plan["objects"]] == ["libknown.so"]
    assert make_plan("--target", folder)["objects"][0]["name"] == "libcopy.so"
