"""A real model in a real llama.cpp: the trace agrees with the engine's own timings, and with a
tracer that shares no code with ProfInfer."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require
from tests.recording.counter import Counter as Tracer
from tests.recording.counter import Place, counting
from tests.recording.helpers import BAD_STATS, Rows, ending, number, record, rows

PREDICT, THREADS = 67, 2
CALLS = {
    "create": "llama_init_from_model",
    "free": "llama_free",
    "process": "llama_process",
    "memory": "llama_get_memory",
    "remove": "llama_memory_seq_rm",
    "clear": "llama_memory_clear",
    "sample": "_Z21common_sampler_sampleP14common_samplerP13llama_contextib",
}
OPERATORS = ("ggml_cpu_extra_compute_forward", "ggml_compute_forward_rms_norm_mul_fused")


class Run:
    """One request, recorded and counted."""

    def __init__(self, repo: Path, gemma: Path, trace: Path, counter: Tracer) -> None:
        done = record(
            trace,
            ["--level", "barrier", "--ring-size", "16M"],
            [sys.executable, repo / "tools/engine.py", gemma, "--predict", PREDICT,
             "--threads", THREADS],
            timeout=200,
        )  # fmt: skip
        self.trace = trace
        self.timings: dict[str, Any] = json.loads(done.stdout)["timings"]
        [[(pid,)]] = self.ask(
            "profinfer.recording.metadata",
            "SELECT value FROM profinfer_recording WHERE key = 'target.pid'",
        )
        self.counts = counter.counts(int(str(pid)))

    def ask(self, module: str, *statements: str) -> list[Rows]:
        """Rows of each statement, with one of ProfInfer's modules."""
        return rows(self.trace, f"INCLUDE PERFETTO MODULE {module}", *statements)[1:]


def _places() -> list[Place]:
    """What is counted."""
    require("root, which recording needs", os.geteuid() == 0)
    spec = importlib.util.find_spec("xllamacpp")
    require("the xllamacpp wheel", spec and spec.origin)
    assert spec
    assert spec.origin
    [library] = Path(spec.origin).parent.glob("xllamacpp*.so")
    return [
        Place("graphs", library, "ggml_backend_graph_compute_async"),
        *(Place("operators", library, symbol) for symbol in OPERATORS),
        Place("barriers", library, "ggml_barrier"),
        *(Place(what, library, symbol) for what, symbol in CALLS.items()),
    ]


@pytest.fixture(scope="module")
def run(repo: Path, gemma: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with counting(_places()) as counter:
        yield Run(repo, gemma, tmp_path_factory.mktemp("real") / "t.pftrace", counter)


def by_graph_and_thread(found: Rows) -> dict[tuple[int, int], int]:
    """Rows of graph, thread and count."""
    return {(number(graph), number(tid)): number(count) for graph, tid, count in found}


def test_nothing_is_lost_and_the_trace_has_no_errors(run: Run) -> None:
    losses, warnings, stats = run.ask(
        "profinfer.recording.losses; INCLUDE PERFETTO MODULE profinfer.recording.warnings",
        "SELECT * FROM profinfer_loss",
        "SELECT message FROM profinfer_recording_warning",
        BAD_STATS,
    )
    assert (losses, warnings, stats) == ([], [], [])
    assert ending(run.trace)["reason"] == "the target ended"


def test_operators_of_each_graph_and_thread_are_those_an_independent_tracer_counts(
    run: Run,
) -> None:
    [found] = run.ask(
        "profinfer.operators.runs",
        "SELECT graph_id, tid, count() FROM profinfer_operator_slice"
        " JOIN thread USING (utid) GROUP BY 1, 2",
    )
    operators = by_graph_and_thread(found)
    assert operators == run.counts["operators"]
    assert len({graph for graph, _ in operators}) >= PREDICT
    assert len({tid for _, tid in operators}) == THREADS


def test_barriers_of_each_graph_and_thread_are_those_an_independent_tracer_counts(
    run: Run,
) -> None:
    [found] = run.ask(
        "profinfer.operators.runs",
        "SELECT graph_id, tid, count() FROM profinfer_operator_slice AS o"
        " JOIN thread USING (utid) JOIN slice AS b ON b.parent_id = o.id"
        " WHERE b.category IN ('barrier', 'barrier.inside') GROUP BY 1, 2",
    )
    assert by_graph_and_thread(found) == run.counts["barriers"]


def test_calls_of_each_thread_are_those_an_independent_tracer_counts(run: Run) -> None:
    [found] = run.ask(
        "profinfer.recording.metadata",
        "SELECT slice.name, tid, count() FROM slice JOIN thread_track AS t ON t.id = track_id"
        " JOIN thread USING (utid) WHERE category = 'call' GROUP BY 1, 2",
    )
    expected: Counter[tuple[str, int]] = Counter()
    for what in CALLS:
        for (_, tid), hits in run.counts[what].items():
            expected[what, tid] += hits
    # A context that is made asks for a memory itself: a call within a call is none of its own.
    for (what, tid), hits in list(expected.items()):
        if what == "create":
            expected["memory", tid] -= hits
    assert {(name, tid): count for name, tid, count in found} == expected
    assert {what for what, _ in expected} == {*CALLS}


def test_what_it_is_asked_agrees_with_what_it_did(run: Run) -> None:
    """Each token that it has answered with was sampled after a micro-batch of its context, and the
    prompt's sequence was emptied before."""
    tokens, batches, removed = run.ask(
        "profinfer.recording.metadata",
        "SELECT count() FROM slice WHERE category = 'call' AND name = 'sample'",
        "SELECT count(), sum(EXTRACT_ARG(c.arg_set_id, 'debug.context')"
        " = EXTRACT_ARG(u.arg_set_id, 'debug.context')),"
        " sum(EXTRACT_ARG(c.arg_set_id, 'debug.type') = 1)"
        " FROM slice AS u JOIN slice AS c ON c.id = u.parent_id"
        " WHERE u.category = 'ubatch' AND c.category = 'call' AND c.name = 'process'",
        "SELECT count() FROM slice WHERE category = 'call' AND name = 'remove'"
        " AND EXTRACT_ARG(arg_set_id, 'debug.begin') = 0"
        " AND EXTRACT_ARG(arg_set_id, 'debug.end') = -1",
    )
    assert tokens == [(PREDICT,)]
    [(count, *same)] = batches
    assert same == [count] * 2
    assert number(count) > PREDICT
    assert number(removed[0][0]) >= 1


def test_time_per_output_token_is_what_the_engine_measured(run: Run) -> None:
    tokens, last = run.ask(
        "profinfer.tokens.requests",
        "SELECT tpot FROM profinfer_token",
        "SELECT dur FROM profinfer_sequence WHERE phase = 'decode' AND next_ts IS NULL",
    )
    steps = run.timings["predicted_n"] - 1
    assert (run.timings["predicted_n"], len(tokens)) == (PREDICT, steps - 1)
    # The last step has no next one, so no row; on a busy machine it may be unlike the others.
    [(last_dur,)] = last
    total = sum(number(tpot) for (tpot,) in tokens) + number(last_dur)
    assert total / 1e6 / steps == pytest.approx(run.timings["predicted_ms"] / steps, rel=0.02)


def test_time_to_first_token_is_what_the_engine_measured(run: Run) -> None:
    # While it loads, llama.cpp's server decodes two tokens to see what the model can do.
    [requests] = run.ask(
        "profinfer.tokens.requests",
        "SELECT ttft, prompt_tokens, verified_tokens, complete FROM profinfer_request"
        " WHERE kind = 'request'",
    )
    [(ttft, prompt_tokens, verified_tokens, complete)] = requests
    assert (prompt_tokens, verified_tokens) == (run.timings["prompt_n"], PREDICT - 1)
    assert complete == 1
    assert number(ttft) / 1e6 == pytest.approx(run.timings["prompt_ms"], rel=0.02, abs=1)


def test_the_output_layer_is_read_from_the_model(run: Run) -> None:
    outputs, sources = run.ask(
        "profinfer.graphs.tensors",
        "SELECT DISTINCT op, ne0 FROM profinfer_tensor WHERE name = 'result_output'",
        "SELECT DISTINCT s.name FROM profinfer_tensor AS t JOIN profinfer_edge USING (tensor_id)"
        " JOIN profinfer_tensor AS s ON s.tensor_id = src_tensor_id"
        " WHERE t.name = 'result_output' AND s.kind = 'weight'",
    )
    assert outputs == [("MUL_MAT", 262144)]
    assert sources == [("token_embd.weight",)]
