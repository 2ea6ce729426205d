"""Which operator is which: by what it is, not by what the library happened to call it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from profinfer.trace_processor import Session
from tests.captures import MAIN, Capture, T
from tests.sql.harness import Rows, ask, opened, ready, rows

OPERATORS, MODULES = "Operators by work (the first 40)", "Work by module (percent of each phase)"
OUTPUT, QUERY = "blk.3.attn_output.weight", "blk.3.attn_q.weight"
WIDE = (256, 64, 1, 1)

PLAIN = (
    T("x"), T(OUTPUT, type="q4_K", ne=WIDE), T(QUERY, type="q4_K", ne=WIDE),
    T("Qcur-3", "MUL_MAT", (QUERY, "x")),
    T("node_152", "MUL_MAT", (OUTPUT, "Qcur-3")),
)  # fmt: skip
ADAPTED = (
    *PLAIN[:3], T(f"{QUERY}.lora_a", ne=(256, 8, 1, 1)), T(f"{QUERY}.lora_b", ne=(8, 64, 1, 1)),
    T("node_151", "MUL_MAT", (QUERY, "x")),
    T("node_152", "MUL_MAT", (f"{QUERY}.lora_a", "x")),
    T("node_153", "MUL_MAT", (f"{QUERY}.lora_b", "node_152")),
    T("node_154", "MUL", ("node_153", "x")),
    T("Qcur-3", "ADD", ("node_151", "node_154")),
    T("node_156", "MUL_MAT", (OUTPUT, "Qcur-3")),
)  # fmt: skip


def run(capture: Capture, at: int, tensors: Sequence[T], times: Sequence[int]) -> None:
    """A graph whose operators take so many us each."""
    shape = capture.structure(1000 * at, tensors)
    begin = at + 1
    operators, now = [], begin
    nodes = [t.name for t in tensors if t.op not in ("NONE", "VIEW", "RESHAPE")]
    for name, time in zip(nodes, times, strict=True):
        operators.append((name, 1000 * now))
        now += time
    capture.graph(shape, 1000 * begin, 1000 * now, {MAIN: operators})


def hot(session: Session, *columns: str) -> Rows:
    """Operators by work."""
    return rows(ready(session, "hotspots")[OPERATORS], *columns)


def test_an_adapter_switched_on_makes_no_two_operators_one() -> None:
    capture = Capture("operator")
    run(capture, 0, PLAIN, (20, 35))
    run(capture, 200, ADAPTED, (21, 4, 5, 1, 2, 37))
    with opened(capture) as session:
        assert hot(session, "name", "op", "layer", "runs", "mean_us") == [
            ("blk.3.attn_output", "MUL_MAT", 3, 2, 36.0),
            ("Qcur-3", "MUL_MAT", 3, 2, 20.5),
            ("blk.3.attn_q.lora_b", "MUL_MAT", 3, 1, 5.0),
            ("blk.3.attn_q.lora_a", "MUL_MAT", 3, 1, 4.0),
            ("Qcur-3", "ADD", 3, 1, 2.0),
            ("blk.3.attn_q.lora_b", "MUL", 3, 1, 1.0),
        ]
        assert rows(ready(session, "hotspots")[MODULES], "module", "runs", "work_ms") == [
            ("attention", 4, 0.11),
            ("adapter", 4, 0.01),
        ]


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("stalls", "Stalls by operator (the first 30)"),
        ("memory", "Memory by operator (the first 40 by expected bytes)"),
    ],
)
def test_other_queries_tell_them_apart_alike(query: str, title: str) -> None:
    capture = Capture()
    run(capture, 0, PLAIN, (20, 35))
    run(capture, 200, ADAPTED, (21, 4, 5, 1, 2, 37))
    with opened(capture) as session:
        assert sorted(rows(ready(session, query)[title], "name", "op", "runs")) == [
            ("Qcur-3", "ADD", 1),
            ("Qcur-3", "MUL_MAT", 2),
            ("blk.3.attn_output", "MUL_MAT", 2),
            ("blk.3.attn_q.lora_a", "MUL_MAT", 1),
            ("blk.3.attn_q.lora_b", "MUL", 1),
            ("blk.3.attn_q.lora_b", "MUL_MAT", 1),
        ]


def test_batch_and_context_make_no_operator_another() -> None:
    def tensors(batch: int, cells: int) -> list[T]:
        return [
            T("x", ne=(256, batch, 1, 1)),
            T(QUERY, type="q4_K", ne=WIDE),
            T("cache_k_l3", type="f16", ne=(64, 512, 1, 1)),
            T("Qcur-3", "MUL_MAT", (QUERY, "x"), ne=(64, batch, 1, 1)),
            T("cache_k_l3 (view)", "VIEW", ("cache_k_l3",), (64, cells, 1, 1), view="cache_k_l3"),
            T("node_5", "MUL_MAT", ("cache_k_l3 (view)", "Qcur-3"), ne=(cells, batch, 1, 1)),
            T("kq_soft_max-3", "SOFT_MAX", ("node_5",), ne=(cells, batch, 1, 1)),
            T("node_7", "ADD", ("kq_soft_max-3", "x"), ne=(cells, batch, 1, 1)),
        ]

    capture = Capture("operator")
    run(capture, 0, tensors(4, 256), (40, 30, 20, 10))
    run(capture, 200, tensors(1, 512), (40, 30, 20, 10))
    with opened(capture) as session:
        assert hot(session, "name", "op", "layer", "runs") == [
            ("Qcur-3", "MUL_MAT", 3, 2),
            # Named by what it is computed from.
            ("Qcur-3 of cache_k_l3", "MUL_MAT", 3, 2),
            ("kq_soft_max-3", "SOFT_MAX", 3, 2),
            ("kq_soft_max-3", "ADD", 3, 2),
        ]


def test_two_models_in_one_process_are_two() -> None:
    def tensors(place: int) -> list[T]:
        return [
            T("x"),
            T(QUERY, type="q4_K", ne=WIDE, address=place),
            T("Qcur-3", "MUL_MAT", (QUERY, "x"), address=place + 0x1000),
            T("sum-3", "ADD", ("Qcur-3", "x"), address=place + 0x2000),
        ]

    capture = Capture("operator")
    for at, place, times in (
        (0, 0x10000, (40, 4)),
        (200, 0x50000, (10, 1)),
        (300, 0x10000, (40, 4)),
    ):
        run(capture, at, tensors(place), times)
    with opened(capture) as session:
        assert hot(session, "name", "op", "runs", "mean_us") == [
            ("Qcur-3 (model 1)", "MUL_MAT", 2, 40.0),
            ("Qcur-3 (model 2)", "MUL_MAT", 1, 10.0),
            ("sum-3 (model 1)", "ADD", 2, 4.0),
            ("sum-3 (model 2)", "ADD", 1, 1.0),
        ]
        assert ask(session, "SELECT structure_id, model FROM profinfer_structure") == [
            (1, 1),
            (2, 2),
        ]


def test_one_name_for_several_operators() -> None:
    capture = Capture("operator")
    for at, source in ((0, "Qcur-0"), (200, "Kcur-0")):
        tensors = [T("x"), T(source, "SOFT_MAX", ("x",)), T("norm-0", "RMS_NORM", (source,))]
        run(capture, at, tensors, (20 + at, 40 + at))
    with opened(capture) as session:
        assert hot(session, "name", "op", "mean_us") == [
            ("norm-0 of Kcur-0", "RMS_NORM", 240.0),
            ("Kcur-0", "SOFT_MAX", 220.0),
            ("norm-0 of Qcur-0", "RMS_NORM", 40.0),
            ("Qcur-0", "SOFT_MAX", 20.0),
        ]


def test_one_weight_for_several_operators_of_a_graph() -> None:
    capture = Capture("operator")
    twice = [
        T("x"), T(QUERY, type="q4_K", ne=WIDE), T("first-3", "MUL_MAT", (QUERY, "x")),
        T("second-3", "MUL_MAT", (QUERY, "first-3")),
    ]  # fmt: skip
    run(capture, 0, twice, (30, 20))
    with opened(capture) as session:
        assert hot(session, "name", "runs") == [("first-3", 1), ("second-3", 1)]


def test_nobodys_names_are_told_by_unnamed_weights() -> None:
    """As in whisper.cpp, whose graphs all begin to count at node_0."""

    def tensors(weight: str, place: int) -> list[T]:
        return [
            T("leaf_9"),
            T(weight, type="q4_K", ne=WIDE, buffer=0x6000, address=place),
            T("node_0", "MUL_MAT", (weight, "leaf_9"), address=0xC000),
            T("node_1", "UNARY", ("node_0",), param=1, address=0xD000),
        ]

    capture = Capture("operator")
    run(capture, 0, tensors("leaf_0", 0x10000), (40, 5))
    run(capture, 200, tensors("leaf_0", 0x20000), (20, 2))
    run(capture, 300, tensors("leaf_0", 0x10000), (40, 5))
    with opened(capture) as session:
        assert hot(session, "name", "op", "layer", "runs", "mean_us") == [
            ("leaf_0 [256, 64] #1", "MUL_MAT", None, 2, 40.0),
            ("leaf_0 [256, 64] #2", "MUL_MAT", None, 1, 20.0),
            ("leaf_0 [256, 64] #1", "SILU", None, 2, 5.0),
            ("leaf_0 [256, 64] #2", "SILU", None, 1, 2.0),
        ]


FFN, LAST = "blk.0.ffn_down.weight", "output_norm.weight"
PATHS = (
    T("x"), T(FFN, ne=WIDE), T(LAST), T("blk.0.attn_v.weight", ne=WIDE), T("rope_freqs.weight"),
    T("token_embd.weight", ne=WIDE),
    T("node_0", "MUL_MAT", ("blk.0.attn_v.weight", "x")),
    T("node_1", "UNARY", ("node_0",), param=1),
    T("node_2", "ADD", ("node_1", "x")),
    T("node_3", "MUL_MAT", (FFN, "node_2")),
    T("norm", "RMS_NORM", ("node_3",)),
    T("l_out-0", "ADD", ("norm", "node_2")),
    T("node_6", "RMS_NORM", ("l_out-0",)),
    T("result_norm", "MUL", ("node_6", LAST)),
    T("result_output", "MUL_MAT", ("token_embd.weight", "result_norm")),
)  # fmt: skip


def test_layers_and_modules_come_from_weights_and_from_what_is_computed_from_these() -> None:
    capture = Capture("operator")
    capture.structure(0, PATHS)
    with opened(capture) as session:
        assert ask(
            session,
            "SELECT name, label, layer, module FROM profinfer_tensor WHERE kind = 'operator'"
            " ORDER BY tensor_id",
        ) == [
            ("node_0", "blk.0.attn_v", 0, "attention"),
            ("node_1", "blk.0.attn_v", 0, "attention"),
            # The residual belongs to nobody; its layer is that of what is added.
            ("node_2", "blk.0.attn_v", 0, None),
            ("node_3", "blk.0.ffn_down", 0, "ffn"),
            ("norm", "norm", 0, "ffn"),
            ("l_out-0", "l_out-0", 0, None),
            # What reads the residual may be of the next layer.
            ("node_6", "l_out-0", None, None),
            ("result_norm", "result_norm", None, "output"),
            ("result_output", "result_output", None, "output"),
        ]
