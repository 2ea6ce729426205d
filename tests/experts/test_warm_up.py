"""A warm-up sends tokens to all experts, which says nothing of routing: it is in no number."""

from __future__ import annotations

from pathlib import Path

from profinfer.trace_processor import open_trace
from tests.experts.truth import ask, command, number_tokens
from tests.recording.helpers import number, record
from tests.sql.harness import ready
from tests.support import require_recording

BATCHES = number_tokens([[(p, 0) for p in range(11)], *([(11 + i, 0)] for i in range(5))])


def test_a_warm_up_is_not_routing(tmp_path: Path) -> None:
    require_recording()
    trace = tmp_path / "t.pftrace"
    record(trace, ["--experts"], command("60x4", BATCHES, "--warm-up"))
    truth = ask("60x4", BATCHES)
    with open_trace(trace) as session:
        layers, shares, missing = ready(session, "experts").values()
        list(session.query("INCLUDE PERFETTO MODULE profinfer.experts.activations"))
        [(activations,)] = [
            tuple(row) for row in session.query("SELECT count() FROM profinfer_expert_activation")
        ]
    assert missing == []
    assert activations == len(truth.ids)
    assert {row["used_per_token"] for row in layers} == {4}
    assert {row["incomplete"] for row in layers} == {0}
    decoded = [row["tokens"] for row in layers if row["phase"] == "decode"]
    assert decoded == [5] * len(decoded)
    assert sum(number(row["tokens"]) for row in shares) <= len(truth.ids)
