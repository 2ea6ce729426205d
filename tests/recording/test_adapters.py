"""An adapter (LoRA) switched on between two requests, and the same model twice in one process: what
is one operator and what are two, on the real engine."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import make_dense_gguf
import make_lora_gguf
import pytest

from tests.conftest import require
from tests.recording.helpers import Rows, number, record, rows

LAYERS, PREDICT = 2, 6
SIZE = [
    "--layers", str(LAYERS), "--embd", "256", "--ff", "512", "--heads", "4", "--kv-heads", "2",
    "--vocab", "512", "--context", "512",
]  # fmt: skip
ADAPTED = ["attn_q", "attn_output"]


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording, which no test changes."""
    require("root, which recording needs", os.geteuid() == 0)
    require("the xllamacpp wheel", importlib.util.find_spec("xllamacpp"))
    folder = tmp_path_factory.mktemp("adapters")
    model, adapter, trace = folder / "model.gguf", folder / "adapter.gguf", folder / "t.pftrace"
    make_dense_gguf.main([str(model), *SIZE])
    make_lora_gguf.main([str(model), str(adapter), "--weights", *ADAPTED])
    driver = Path(__file__).with_name("adapted.py")
    done = record(trace, ["--level", "operator"], [sys.executable, driver, model, adapter])
    said: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["timings"]["predicted_n"] for line in said] == [PREDICT] * 3
    return trace


def ask(trace: Path, sql: str) -> Rows:
    """The rows of a query."""
    [_, found] = rows(trace, "INCLUDE PERFETTO MODULE profinfer.operators.runs", sql)
    return found


def test_what_runs_once_in_each_graph_is_one_operator(trace: Path) -> None:
    """Of a graph no two operators are one, and nothing is lost by taking several for one."""
    assert ask(trace, "SELECT DISTINCT n FROM (SELECT count() AS n FROM profinfer_operator"
                      " GROUP BY graph_id, operator_id)") == [(1,)]  # fmt: skip
    assert ask(trace, "SELECT count() FROM profinfer_operator WHERE operator_id IS NULL") == [(0,)]


def test_operators_are_the_same_with_and_without_the_adapter(trace: Path) -> None:
    """Each of the first model's graphs has them all: those with the adapter have more."""
    runs = """
        SELECT module IS 'adapter' AS is_adapter, s.node_count, count(DISTINCT o.operator_id)
        FROM profinfer_operator AS o
        JOIN profinfer_graph USING (graph_id)
        JOIN profinfer_structure AS s USING (structure_id)
        WHERE s.model = 1
        GROUP BY 1, 2
        ORDER BY 1, 2"""
    found = [tuple(map(number, row)) for row in ask(trace, runs)]
    (_, plain, several), (_, adapted, same), (_, _, more) = found
    assert plain < adapted
    assert several == same
    assert more == 4 * LAYERS * len(ADAPTED)


def test_an_adapters_operators_have_its_layers_and_run_with_it_only(trace: Path) -> None:
    """The adapted request: a graph of the prompt, and one for each token but the last."""
    found = ask(
        trace,
        "SELECT label, op, layer, count() FROM profinfer_operator WHERE module = 'adapter'"
        " AND layer = 1 GROUP BY operator_id ORDER BY label, op",
    )
    assert found == [
        ("Qcur-1", "ADD", 1, PREDICT),
        ("attn_out-1", "ADD", 1, PREDICT),
        ("blk.1.attn_output.lora_a", "MUL_MAT", 1, PREDICT),
        ("blk.1.attn_output.lora_b", "MUL_MAT", 1, PREDICT),
        ("blk.1.attn_output.lora_b", "SCALE", 1, PREDICT),
        ("blk.1.attn_q.lora_a", "MUL_MAT", 1, PREDICT),
        ("blk.1.attn_q.lora_b", "MUL_MAT", 1, PREDICT),
        ("blk.1.attn_q.lora_b", "SCALE", 1, PREDICT),
    ]


def test_two_models_of_one_file_are_two(trace: Path) -> None:
    """Of each model all graphs, and no more, run its weights."""
    found = ask(
        trace,
        "SELECT o.label, min(s.model), max(s.model), count(),"
        " (SELECT count() FROM profinfer_graph JOIN profinfer_structure AS x USING (structure_id)"
        "  WHERE x.model = s.model)"
        " FROM profinfer_operator AS o JOIN profinfer_graph USING (graph_id)"
        " JOIN profinfer_structure AS s USING (structure_id)"
        " WHERE o.op = 'MUL_MAT' AND o.label GLOB 'Qcur-0*' GROUP BY o.operator_id ORDER BY label",
    )
    assert [row[:3] for row in found] == [("Qcur-0 (model 1)", 1, 1), ("Qcur-0 (model 2)", 2, 2)]
    assert [runs for *_, runs, _ in found] == [graphs for *_, graphs in found]
