"""Splits, and what is copied for them, worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from profinfer.trace_processor import Session
from tests.sql.harness import ask, opened, ready, rows
from tests.sql.schedules import offloaded


@pytest.fixture(scope="module", name="session")
def session_fixture() -> Iterator[Session]:
    with opened(offloaded()) as session:
        yield session


def test_backends_bear_the_name_that_their_inputs_have(session: Session) -> None:
    """RPC's own name is known before its first graph; the CPU's is known by its function alone."""
    found = ask(session, "SELECT backend, name, kind, guid FROM profinfer_backend")
    assert found == [(1, "CPU", "CPU", "0" * 32), (2, "RPC0", "RPC", "0" * 32)]


def test_a_split_begins_with_the_node_that_moved(session: Session) -> None:
    table, why, fallbacks = ready(session, "splits").values()
    assert rows(table, "phase", "ubatches", "splits_min", "splits_max", "backends") == [
        ("decode", 3, 3, 3, 2), ("prefill", 1, 0, 0, 0),
    ]  # fmt: skip
    columns = ("from_backend", "backend", "moved_op", "moved", "takes", "splits", "operators")
    assert rows(why, *columns) == [
        ("RPC0", "CPU", "ADD", "d-1", None, 3, 6),
        ("CPU", "RPC0", "RMS_NORM", "n-1", None, 3, 9),
    ]
    assert rows(fallbacks, "phase", "op", "beside", "layers", "runs") == [
        ("decode", "ADD", "RPC0", 1, 6)
    ]
    first = ask(session, "SELECT DISTINCT held FROM profinfer_split WHERE split = 0")
    assert first == [("blk.0.w.weight",)]


def test_copies_are_told_from_inputs_and_results(session: Session) -> None:
    copies, step, unseen = ready(session, "copies").values()
    columns = ("from_backend", "to_backend", "tensor", "copies", "sum_bytes", "time_ms")
    assert rows(copies, *columns) == [
        ("RPC0", "CPU", "c-1", 3, 48, 1.8), ("CPU", "RPC0", "a-0", 3, 48, 0.45),
        ("host", "RPC0", "inp_pos", 3, 48, 0.15),
    ]  # fmt: skip
    assert rows(step, "split", "tensor", "bytes", "at_ms", "dur_us") == [
        (1, "a-0", 16, 0.32, 150.0), (1, "inp_pos", 16, 0.48, 50.0), (2, "c-1", 16, 0.59, 600.0),
    ]  # fmt: skip
    assert rows(unseen, "to_backend", "copies", "sum_bytes", "time_ms") == [("RPC0", 3, 96, None)]


def test_submission_and_execution_are_told_apart(session: Session) -> None:
    found = ask(
        session,
        "SELECT split, e.backend, submit_dur, seen_dur, wait_dur FROM profinfer_execution AS e"
        " JOIN profinfer_split USING (graph_id) WHERE profinfer_split.ubatch_id = 2 ORDER BY split",
    )
    assert found == [
        (0, "CPU", 300_000, 306_000, 1_000), (1, "RPC0", 20_000, 560_000, 500_000),
        (2, "CPU", 100_000, 111_000, 1_000),
    ]  # fmt: skip
    table = ready(session, "backends")["Submission, execution as seen from the host, and waiting"]
    assert rows(table, "backend", "graphs", "waited_for", "submit_ms", "seen_ms", "wait_ms") == [
        ("CPU", 6, 6, 1.2, 1.25, 0.01), ("RPC0", 3, 3, 0.06, 1.68, 1.5),
    ]  # fmt: skip


def test_lost_calls_are_counted() -> None:
    made = offloaded()
    made.call("wait", 5_000_000, 5_000_001, {"backend": 1}, kind="void", is_lost=True)
    with opened(made) as session:
        for name in ("backends", "copies"):
            tables = ready(session, name)
            counted = [row["incomplete"] for table in tables.values() for row in table]
            assert any(counted), name
