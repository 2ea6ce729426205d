"""A real llama.cpp on an emulated arm64 machine: the trace has every call the kernel counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from profinfer.records.capture import FrameKind
from tests.emulated.engine import engine_task, recorded
from tests.emulated.machines import Machines, Task
from tests.matrix import Matrix
from tests.recorder.recording import convert, drained, frame_json
from tests.recording.helpers import BAD_STATS, ending, number, rows

PREDICT = 4

SLICES = """
SELECT category, count() FROM slice WHERE category IN ('ubatch', 'graph', 'operator') GROUP BY 1"""
DECODED = "SELECT sum(verified_tokens) FROM profinfer_request"


TASK = engine_task("arm64-6.12", "Once upon a time", PREDICT, count=True)


@pytest.mark.matrix
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("task", [TASK], ids=str)
def test_a_real_engine_is_recorded_on_arm64(
    task: Task, machines: Machines, tmp_path: Path, matrix: Matrix
) -> None:
    what = "llama.cpp recorded"
    matrix(what, kernel=task.kernel, machine="aarch64", loader="libbpf")
    found = recorded(machines.result(task))
    capture = tmp_path / "t.raw"
    capture.write_bytes(found.capture)
    start = frame_json(capture, FrameKind.START)
    matrix(what, kernel=task.kernel, machine="aarch64", loader="libbpf",
           transport=start["transport"], attach=start["attach"])  # fmt: skip
    records, hits = drained(capture), found.hits
    assert {name: records[name] for name in ("operator", "fused", "barrier")} == {
        name: hits[name] for name in ("operator", "fused", "barrier")
    }
    assert hits["operator"] > 1000
    trace = convert(capture)
    _, slices, decoded, stats = rows(
        trace, "INCLUDE PERFETTO MODULE profinfer.tokens.requests", SLICES, DECODED, BAD_STATS
    )
    assert {category: count for category, count in slices} == {
        "ubatch": hits["graph"],
        "graph": hits["graph"],
        "operator": hits["operator"] + hits["fused"],
    }
    assert found.answer["text"] == found.alone["text"]
    # The first token is the prefill's.
    assert number(decoded[0][0]) == found.answer["timings"]["predicted_n"] - 1 == PREDICT - 1
    assert stats == []
    assert found.peak_kb <= 8 * 1024
    end = ending(trace)
    assert (end["reason"], end["lost"], end["unattributed"]) == ("the target ended", "0", "0")
