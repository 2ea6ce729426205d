"""A real llama.cpp on an emulated arm64 machine: the trace has every call the kernel counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from profinfer.capture import FrameKind
from tests.emulated.engine import record_engine
from tests.kernel.helpers import BAD_STATS, ending, number, rows
from tests.matrix import Matrix
from tests.recorder.recording import convert, drained, frame_json

PREDICT = 4

SLICES = """
SELECT category, count() FROM slice WHERE category IN ('ubatch', 'graph', 'operator') GROUP BY 1"""
DECODED = "SELECT sum(decode_tokens) FROM profinfer_request"


@pytest.mark.matrix
def test_a_real_engine_is_recorded_on_arm64(tmp_path: Path, matrix: Matrix) -> None:
    kernel = "arm64-6.12"
    matrix("llama.cpp recorded in C", kernel=kernel, machine="aarch64", loader="C")
    recorded = record_engine(kernel, "Once upon a time", PREDICT, count=True)
    capture = tmp_path / "t.raw"
    capture.write_bytes(recorded.capture)
    start = frame_json(capture, FrameKind.START)
    matrix(
        "llama.cpp recorded in C",
        kernel=kernel,
        machine="aarch64",
        loader="C",
        transport=start["transport"],
        attach=start["attach"],
    )

    records, hits = drained(capture), recorded.hits
    assert {name: records[name] for name in ("operator", "fused", "barrier")} == {
        name: hits[name] for name in ("operator", "fused", "barrier")
    }
    assert hits["operator"] > 1000
    trace = convert(capture)
    _, slices, decoded, stats = rows(
        trace, "INCLUDE PERFETTO MODULE profinfer.tokens", SLICES, DECODED, BAD_STATS
    )
    assert {category: count for category, count in slices} == {
        "ubatch": hits["graph"],
        "graph": hits["graph"],
        "operator": hits["operator"] + hits["fused"],
    }
    assert recorded.answer["text"] == recorded.alone["text"]
    # The first token is the prefill's.
    assert number(decoded[0][0]) == recorded.answer["timings"]["predicted_n"] - 1 == PREDICT - 1
    assert stats == []
    assert recorded.peak_kb <= 8 * 1024
    end = ending(trace)
    assert (end["reason"], end["lost"], end["unattributed"]) == ("the target ended", "0", "0")
