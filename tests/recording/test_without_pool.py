"""An engine that starts and joins its workers in every graph, with numbers that come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from profinfer.trace_processor import open_trace
from tests.recording.scheduling import SYSTEM, answer
from tests.support import Engine, as_int, double_fixture, record

__all__ = ["double_fixture"]

WORKERS, TOKENS = 2, 60
TARGET = ("known", "--no-pool", "--recur", "--threads", 1 + WORKERS, "--decode", TOKENS,
          "--layers", 1, "--final-barrier")  # fmt: skip
THREADS = """
INCLUDE PERFETTO MODULE profinfer.operators.runs;
SELECT count(DISTINCT o.utid), count(DISTINCT t.tid), count(), sum(o.complete)
FROM profinfer_operator_slice AS o JOIN thread AS t USING (utid) JOIN profinfer_graph AS g
USING (graph_id) WHERE o.utid != g.utid
"""


@pytest.mark.parametrize("mode", [SYSTEM, "off"])
def test_each_thread_is_one_of_its_own_whatever_its_number(
    double: Engine, tmp_path: Path, mode: str
) -> None:
    """Of numbers alone, without the scheduler, that is not known: then they are as many threads."""
    options = ("--level", "barrier", "--scheduler", mode)
    trace = tmp_path / "t.pftrace"
    with record(double, trace, *options, target=TARGET) as recording:
        truth = recording.truth
    graphs = truth["calls"]["ggml_graph_compute"]
    operators = sum(thread["extra"] + thread["fused"] for thread in truth["threads"][1:])
    with open_trace(trace) as session:
        ((threads, numbers, slices, complete),) = session.query(THREADS).rows()
        ends = session.query(
            "SELECT DISTINCT state FROM thread_state WHERE dur = -1 AND utid IN (SELECT t.utid FROM"
            " slice AS s JOIN thread_track AS t ON t.id = s.track_id"
            " WHERE s.category = 'graph.worker')"
        ).rows()
        by_thread = answer(session, "imbalance")[1]
        stalls = answer(session, "stalls")[0]
        states = answer(session, "interference")[-2]
    assert (slices, complete) == (operators, operators)
    assert as_int(numbers) < WORKERS * graphs, "no number has come back"
    if mode != SYSTEM:
        assert threads == numbers
        assert {row["starting_ms"] for row in stalls} == {None}
        return
    assert threads == WORKERS * graphs
    assert ends == [("X",)]
    names = {f"worker {k + 1} ({graphs} threads)" for k in range(WORKERS)}
    for table in (by_thread, states):
        assert {row["thread"] for row in table} == {"known", *names}
    assert sum(row["starting_ms"] for row in stalls) > 0
    assert {row["operators"] for row in by_thread} == {operators // WORKERS}
