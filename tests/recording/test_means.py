"""Loaders, transports and ways to attach: whatever a recording is made with, it is the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from profinfer.recording.recorder import Server
from profinfer.records.capture import FrameKind, read_capture
from profinfer.records.dtypes import (
    CALL_RECORD,
    RECORD,
    STRUCTURE_RECORD,
    TENSOR_RECORD,
    TOKENS_RECORD,
    WIDE_SIZE,
    Kind,
)
from tests.conftest import require
from tests.matrix import Matrix
from tests.recording.asked import assert_asked
from tests.recording.helpers import KERNELS_OWN, assert_matches
from tests.recording.own_probes import EVENT, LINK, lacking_helper
from tests.support import Engine, Recording, as_int, double_fixture, record, run

__all__ = ["double_fixture"]

ALL = "schedule, scheduler, faults; launched"
"""In the matrix, where emulated kernels have the same."""
MEANS = [
    ("libbpf", "ring", LINK),
    ("libbpf", "ring", EVENT),
    ("libbpf", "perf", LINK),
    ("libbpf", "perf", EVENT),
    ("bcc", "ring", EVENT),
    ("bcc", "perf", EVENT),
]
LOOP = 181
"""bpf_loop"""
TARGET = ("known", "--threads", 3, "--layers", 5, "--prompt", 17, "--decode", 7, "--sequences", 2,
          "--backend2", "--ask")  # fmt: skip


@dataclass
class Made:
    """A recording, and what it was asked to be made with."""

    means: tuple[str, str, str]
    recording: Recording
    raw: Path


@pytest.fixture(scope="module", params=MEANS, ids="-".join)
def made(
    request: pytest.FixtureRequest, double: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Made]:
    loader, transport, way = request.param
    if way == LINK:
        with Server() as server:
            means = server.ask("means", transport="auto", attach="auto", loader=loader)
        require(f"uprobe_multi links ({means['attach_reason']})", means["attach"] == LINK,
                hardware=True)  # fmt: skip
    folder = tmp_path_factory.mktemp("means")
    options = ("--level", "barrier", "--loader", loader, "--transport", transport, "--attach", way,
               "--raw", folder / "raw", "--scheduler", "system", "--faults")  # fmt: skip
    with record(double, folder / "t.pftrace", *options, target=TARGET) as recording:
        yield Made(request.param, recording, folder / "raw")


def test_it_shows_each_call_on_its_thread_and_nothing_else(made: Made, matrix: Matrix) -> None:
    loader, transport, way = made.means
    matrix(ALL, loader=loader, transport=transport, attach=way)
    assert_matches(made.recording.trace, made.recording.truth, "barrier", beside=KERNELS_OWN)
    assert ", 0 lost (the target ended)" in made.recording.stderr
    assert "warning" not in made.recording.stderr


def test_it_shows_what_the_engine_is_asked(made: Made) -> None:
    assert_asked(made.recording.trace, made.recording.truth)


def test_it_shows_where_each_thread_ran_and_its_faults(made: Made) -> None:
    tids = {thread["tid"] for thread in made.recording.truth["threads"]}
    turns = {
        as_int(tid): as_int(count)
        for tid, count in made.recording.rows(
            "SELECT tid, count() FROM sched JOIN thread USING (utid) GROUP BY 1"
        )
    }
    assert all(turns[tid] > 5 for tid in tids)
    faulting = {
        as_int(tid)
        for (tid,) in made.recording.rows(
            "SELECT DISTINCT tid FROM slice AS s JOIN thread_track AS t ON t.id = s.track_id"
            " JOIN thread USING (utid) WHERE s.category = 'fault'"
        )
    }
    asking = {tid for _, tid, *_ in made.recording.truth["asked"]}
    assert tids <= faulting <= tids | asking


@pytest.mark.parametrize("transport", ["ring", "perf"])
def test_bcc_has_no_links(transport: str, double: Engine, tmp_path: Path, matrix: Matrix) -> None:
    why_not = "BCC loads no programs for uprobe_multi links"
    matrix(ALL, loader="bcc", transport=transport, attach=LINK, why_not=why_not)
    options = ("--loader", "bcc", "--transport", transport, "--attach", LINK)
    done = run(double, "record", "-o", tmp_path / "t.pftrace", *options, "--", double.program())
    assert done.returncode == 4
    assert why_not in done.stderr


def test_the_trace_says_what_it_was_made_with(made: Made) -> None:
    (found,) = made.recording.rows(
        "SELECT EXTRACT_ARG(arg_set_id, 'debug.loader'),"
        " EXTRACT_ARG(arg_set_id, 'debug.transport'), EXTRACT_ARG(arg_set_id, 'debug.attach'),"
        " EXTRACT_ARG(arg_set_id, 'debug.attach_reason')"
        " FROM slice WHERE name = 'recording started'"
    )
    assert found[:3] == made.means
    assert bool(found[3]) == (made.means[2] == EVENT)


def content(raw: Path) -> dict[str, Any]:
    """A capture without times and addresses."""
    records: Counter[int] = Counter()
    tensors: Counter[tuple[Any, ...]] = Counter()
    structures: Counter[tuple[Any, ...]] = Counter()
    tokens: list[tuple[int, tuple[Any, ...]]] = []
    calls: Counter[int] = Counter()
    for frame in read_capture(raw):
        if frame.kind == FrameKind.RECORDS:
            kinds = np.frombuffer(frame.data, RECORD)["kind"]
            records.update(kinds[kinds != Kind.FAULT].tolist())
        if frame.kind != FrameKind.WIDE:
            continue
        for at in range(0, len(frame.data), WIDE_SIZE):
            kind = frame.data[at + 14]
            if kind == Kind.TENSOR:
                t = np.frombuffer(frame.data, TENSOR_RECORD, 1, at)[0]
                sources = int(np.count_nonzero(t["src"]))
                shape = (*t["ne"].tolist(), *t["nb"].tolist(), *t["op_params"].tolist())
                flags = (bool(t["view_src"]), bool(t["buffer"]), int(t["tensor_flags"]))
                tensors[t["name"], int(t["op"]), int(t["type"]), sources, *shape, *flags] += 1
            elif kind == Kind.STRUCTURE:
                s = np.frombuffer(frame.data, STRUCTURE_RECORD, 1, at)[0]
                structures[int(s["nodes"]), s["guid"].tobytes(), bool(s["backend_name_fn"])] += 1
            elif kind == Kind.CALL:
                calls[int(np.frombuffer(frame.data, CALL_RECORD, 1, at)[0]["number"])] += 1
            else:
                r = np.frombuffer(frame.data, TOKENS_RECORD, 1, at)[0]
                # Perf buffers hand over one CPU after the other.
                ts = int(r["header"]["ts"])
                tokens += [(ts, tuple(run.tolist())) for run in r["run"][: r["runs"]]]
    runs = [run for _, run in sorted(tokens, key=lambda each: each[0])]
    return {"records": records, "tensors": tensors, "structures": structures, "tokens": runs,
            "calls": calls}  # fmt: skip


_first: dict[str, Any] = {}


def test_it_holds_the_same_records_as_the_others(made: Made) -> None:
    found = content(made.raw)
    expected = _first.setdefault("content", found)
    assert found == expected
    assert found["records"][Kind.NODE] > 0
    assert len(found["tensors"]) > 90
    assert sum(run[2] for run in found["tokens"]) == 2 * (17 + 7)


@pytest.mark.parametrize("transport", ["ring", "perf"])
def test_where_programs_cannot_loop_they_call_each_other(
    transport: str, double: Engine, tmp_path: Path
) -> None:
    """As on kernels before 5.17, and with BCC."""
    lacking = Engine(double.folder, lacking_helper(tmp_path, LOOP))
    raw = tmp_path / "raw"
    options = ("--level", "barrier", "--loader", "libbpf", "--transport", transport, "--raw", raw)
    with record(lacking, tmp_path / "t.pftrace", *options, target=TARGET) as recording:
        assert_matches(recording.trace, recording.truth, "barrier")
        assert "warning" not in recording.stderr
        assert "libbpf" not in recording.stderr
    assert content(raw) == _first.setdefault("content", content(raw))
