"""Loaders, transports and ways to attach: whatever a recording is made with, it is the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from profinfer.capture import FrameKind, read_capture
from profinfer.records import (
    RECORD,
    STRUCTURE_RECORD,
    TENSOR_RECORD,
    TOKENS_RECORD,
    WIDE_SIZE,
    Kind,
)
from profinfer.uprobes import EVENT, LINK, best_way
from tests.conftest import require
from tests.kernel.helpers import assert_matches
from tests.matrix import Matrix
from tests.support import Engine, Recording, double_fixture, record

__all__ = ["double_fixture"]

MEANS = [
    ("libbpf", "ring", LINK),
    ("libbpf", "ring", EVENT),
    ("libbpf", "perf", LINK),
    ("libbpf", "perf", EVENT),
    ("bcc", "ring", EVENT),
    ("bcc", "perf", EVENT),
]
TARGET = ("known", "--threads", 3, "--layers", 5, "--prompt", 17, "--decode", 7, "--sequences", 2,
          "--backend2")  # fmt: skip


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
        best = best_way()
        require(f"uprobe_multi links ({best.reason})", best.name == LINK, hardware=True)
    folder = tmp_path_factory.mktemp("means")
    options = ("--level", "barrier", "--loader", loader, "--transport", transport, "--attach", way,
               "--raw", folder / "raw")  # fmt: skip
    with record(double, folder / "t.pftrace", *options, target=TARGET) as recording:
        yield Made(request.param, recording, folder / "raw")


def test_it_shows_each_call_on_its_thread_and_nothing_else(made: Made, matrix: Matrix) -> None:
    loader, transport, way = made.means
    matrix("schedule recorded", loader=loader, transport=transport, attach=way)
    assert_matches(made.recording.trace, made.recording.truth, "barrier")
    assert ", 0 lost (the target ended)" in made.recording.stderr
    assert "warning" not in made.recording.stderr


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
    for frame in read_capture(raw):
        if frame.kind == FrameKind.RECORDS:
            records.update(np.frombuffer(frame.data, RECORD)["kind"].tolist())
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
            else:
                r = np.frombuffer(frame.data, TOKENS_RECORD, 1, at)[0]
                # Perf buffers hand over one CPU after the other.
                ts = int(r["header"]["ts"])
                tokens += [(ts, tuple(run.tolist())) for run in r["run"][: r["runs"]]]
    runs = [run for _, run in sorted(tokens, key=lambda each: each[0])]
    return {"records": records, "tensors": tensors, "structures": structures, "tokens": runs}


_first: dict[str, Any] = {}


def test_it_holds_the_same_records_as_the_others(made: Made) -> None:
    found = content(made.raw)
    expected = _first.setdefault("content", found)
    assert found == expected
    assert found["records"][Kind.NODE] > 0
    assert len(found["tensors"]) > 90
    assert sum(run[2] for run in found["tokens"]) == 2 * (17 + 7)
