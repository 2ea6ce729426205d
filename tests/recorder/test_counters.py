"""The recorder in C counts a known program's page faults, per operator and thread."""

from __future__ import annotations

from pathlib import Path

import pytest

from profinfer.records.capture import FrameKind
from tests.recorder.recording import convert, drained, frame_json, make_plan, record
from tests.recording.helpers import rows
from tests.support import as_int

TOUCH = 3
ENGINE = ("--threads", 2, "--touch", TOUCH, "--samples", 0, "--final-barrier")
INCLUDE = "INCLUDE PERFETTO MODULE profinfer.counters.readings"
FAULTS = """
SELECT tid != pid, c.value, count() FROM profinfer_operator_counter AS c
JOIN profinfer_counter AS n USING (counter_id)
JOIN thread ON thread.utid = c.utid JOIN process USING (upid)
WHERE n.name = 'page-faults' AND c.graph_id > 1 AND c.complete GROUP BY 1, 2 ORDER BY 1"""
GRAPHS, OPERATORS = 14, 35


@pytest.fixture(scope="module")
def plan(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan that counts what can be counted anywhere, and what cannot."""
    path = tmp_path_factory.mktemp("counting") / "plan.json"
    counters = "{page-faults,sched:sched_switch},no:such_tracepoint,nopmu/event=1/"
    return make_plan(built / "libknown.so", path, "--counters", counters)


@pytest.mark.parametrize("transport", ["ring", "perf"])
def test_page_faults_are_the_threads_own(
    transport: str, recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "t.raw"
    options = ("--transport", transport)
    _, said = record(recorder, plan, built, capture, ENGINE, *options)
    assert "not counted: no:such_tracepoint: no PMU here counts it; here are: " in said
    assert "not counted: nopmu/event=1/:u: no PMU here counts it; here are: " in said
    start = frame_json(capture, FrameKind.START)["counters"]
    assert [event["name"] for event in start["events"]] == ["page-faults", "sched:sched_switch"]
    assert (start["leaders"], start["records"], len(start["notes"])) == ([], 2, 2)
    seen = drained(capture)
    hits = seen["operator"] + seen["fused"] + seen["barrier"] + seen["graph_end"]
    *_, found = rows(convert(capture), INCLUDE, FAULTS)
    assert [row[:2] for row in found] == [(0, TOUCH), (1, 2 * TOUCH)]
    # Where the kernel has not reported a switch there is no reading, or none that is believed.
    few = 2 * hits // 10
    assert 2 * hits - few <= seen["counters"] <= 2 * hits
    for row in found:
        assert 0.9 * (GRAPHS - 1) * OPERATORS <= as_int(row[2]) <= (GRAPHS - 1) * OPERATORS


def test_below_operators_nothing_is_counted(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "t.raw"
    record(recorder, plan, built, capture, ENGINE, "--level", "graph")
    assert "counters" not in frame_json(capture, FrameKind.START)
    assert drained(capture)["counters"] == 0
