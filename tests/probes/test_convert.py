"""A recording that another machine made by a plan becomes a trace here."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest

from profinfer.__main__ import main
from profinfer.records.capture import Frame, FrameKind, json_frame
from profinfer.trace_processor import Session, open_trace
from tests.captures import convert
from tests.converting.recordings import DATA, counts, frames, summary
from tests.probes.conftest import Plan

BOARD = {
    "loader": "recorder",
    "uname": {"sysname": "Linux", "version": "#1 SMP", "release": "6.6.30", "machine": "aarch64"},
    "host": "board",
    "cpu_model": "0xd0b",
    "cpus": 8,
}


def _on_board(whole: list[Frame], plan: Plan, page_size: int) -> list[Frame]:
    """The recording as if a recorder without Python had made it there by that plan."""
    started = whole[0].json()["target"]
    start: dict[str, Any] = {**plan["start"], **BOARD, "page_size": page_size}
    start["target"] = {**start["target"], **{k: started[k] for k in ("pid", "name", "command")}}
    return [json_frame(FrameKind.START, whole[0].ts, start), *whole[1:]]


def _said(session: Session) -> dict[str, Any]:
    metadata = (
        "INCLUDE PERFETTO MODULE profinfer.recording.metadata; "
        "SELECT key, value FROM profinfer_recording"
    )
    return counts(session, metadata)


@pytest.fixture(scope="module")
def plan(arm64: Path, sysroot: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("plan")
    output = folder / "plan.json"
    library = str(arm64 / "libknown.so")
    options = ["--target", library, "--sysroot", str(sysroot), "-o", str(output)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        assert main(["plan", *options]) == 0
    made: Plan = json.loads(output.read_bytes())
    return made


@pytest.mark.parametrize("page_size", [4096, 16384, 65536])
def test_a_capture_of_another_machine(plan: Plan, page_size: int, tmp_path: Path) -> None:
    trace = convert(_on_board(frames(tmp_path), plan, page_size), tmp_path / "board.pftrace")
    assert summary(trace) == json.loads((DATA / "known.json").read_text())
    with open_trace(trace, trace_processor="wasm") as session:
        metadata = counts(session, "SELECT name, coalesce(str_value, int_value) FROM metadata")
        said = _said(session)
        costs = session.query(
            "INCLUDE PERFETTO MODULE profinfer.recording.handlers;"
            "SELECT DISTINCT site, trap_ns FROM profinfer_handler WHERE handler = 'on_fused'"
        ).rows()
    assert metadata["system_machine"] == "aarch64"
    assert metadata["system_release"] == "6.6.30"
    assert platform.machine() != "aarch64"
    assert (said["page_size"], said["cpus"], said["cpu_model"]) == (str(page_size), "8", "0xd0b")
    assert said["layout.version"] == "0.0.7-known"
    # What was not measured is not made up.
    probes = plan["start"]["plan"]["probes"]
    assert costs == [(p["site"], None) for p in probes if p["handler"] == "on_fused"]


def test_more_cpus_than_here(plan: Plan, tmp_path: Path) -> None:
    whole = _on_board(frames(tmp_path), plan, 4096)
    start = whole[0].json()
    start["cpus"] = 256
    trace = convert([json_frame(FrameKind.START, whole[0].ts, start), *whole[1:]], tmp_path / "t")
    with open_trace(trace, trace_processor="wasm") as session:
        assert session.import_errors() == []
        assert _said(session)["cpus"] == "256"
