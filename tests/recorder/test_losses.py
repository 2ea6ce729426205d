"""Rings that overflow: every record that does not fit is counted, by either transport."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.recorder.recording import convert, drained, record
from tests.recording.helpers import BAD_STATS, Truth, ending, number, rows

LOSS_STATS = {"traced_buf_trace_writer_packet_loss", "traced_buf_sequence_packet_loss"}
ENGINE = ("--threads", 2, "--layers", 1, "--decode", 499)


def emitted(truth: Truth) -> dict[str, int]:
    """The records that the handlers must have made, by kind."""
    calls, ubatches = truth["calls"], sum(truth["ubatches"].values())
    return {
        "operator": calls["ggml_cpu_extra_compute_forward"],
        "fused": calls["ggml_compute_forward_rms_norm_mul_fused"],
        "barrier": calls["ggml_barrier"],
        "graph_begin": calls["ggml_backend_graph_compute_async"],
        "graph_end": calls["ggml_backend_graph_compute_async"],
        "ubatch_begin": ubatches,
        "ubatch_end": ubatches,
    }


# With the first every ring overflows between two drains; with the second some do, on some drains.
@pytest.mark.parametrize("poll", [1, 0.4])
@pytest.mark.parametrize("transport", ["ring", "perf"])
def test_every_record_that_does_not_fit_is_counted_and_no_slice_pretends_otherwise(
    transport: str, poll: float, recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "t.raw"
    truth, said = record(
        recorder, plan, built, capture, ENGINE,
        "--transport", transport, "--ring-size", "4K", "--poll", poll,
    )  # fmt: skip
    assert "warning: records were lost: the rings were full" in said
    trace = convert(capture)
    _, lost, windows, operators, whole, stats = rows(
        trace,
        "INCLUDE PERFETTO MODULE profinfer.recording.losses; "
        "INCLUDE PERFETTO MODULE profinfer.operators.runs;",
        "SELECT kind, sum(lost) FROM profinfer_loss GROUP BY 1",
        "SELECT first_ts, ts FROM profinfer_loss",
        "SELECT count() FROM slice WHERE category IN ('operator', 'operator.incomplete')",
        "SELECT ts, ts + dur FROM slice WHERE category = 'operator'",
        BAD_STATS,
    )
    assert {str(name) for name, _ in stats} <= LOSS_STATS
    losses = Counter({str(kind): number(count) for kind, count in lost})
    kept = drained(capture)
    expected = emitted(truth)
    assert {kind: kept[kind] + losses[kind] for kind in expected} == expected
    assert losses["operator"] > 0
    assert kept["operator"] > 0
    end = ending(trace)
    assert int(str(end["lost"])) == losses.total()
    [(shown,)] = operators
    assert number(shown) + int(str(end["unattributed"])) == kept["operator"] + kept["fused"]
    begins, ends = np.array(whole, np.int64).reshape(-1, 2).T
    for first, last in windows:
        assert not np.any((begins <= number(last)) & (ends >= number(first)))


@pytest.mark.parametrize("transport", ["ring", "perf"])
def test_structure_that_does_not_fit_is_walked_again_until_it_does(
    transport: str, recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "t.raw"
    engine = ("--layers", 2, "--decode", 61, "--rebuild", 0, "--work-us", 211)
    truth, _ = record(
        recorder, plan, built, capture, engine,
        "--transport", transport, "--structure-ring-size", "4K", "--poll", 0.01,
    )  # fmt: skip
    _, lost, operators, graphs = rows(
        convert(capture),
        "INCLUDE PERFETTO MODULE profinfer.recording.losses; "
        "INCLUDE PERFETTO MODULE profinfer.graphs.runs;",
        "SELECT kind, sum(lost) FROM profinfer_loss GROUP BY 1",
        "SELECT count() FROM slice WHERE category IN ('operator', 'operator.incomplete')",
        "SELECT structure_id FROM profinfer_graph ORDER BY graph_id",
    )
    losses = {str(kind): number(count) for kind, count in lost}
    assert losses["tensor"] > 0
    assert set(losses) <= {"tensor", "structure", "tokens"}
    assert operators == [(sum(t["extra"] + t["fused"] for t in truth["threads"]),)]
    # The decode graph is the same from its first token on: in the end it is known.
    assert graphs[0] in [(0,), (None,)]
    assert graphs[-1] not in [(0,), (None,)]
