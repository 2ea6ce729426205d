"""profinfer.graphs.dags and layers: which layers are one, and their parts' numbers."""

from __future__ import annotations

from collections.abc import Sequence

from tests.captures import MAIN, WORKER, Capture, Operator, T
from tests.sql.harness import ask, opened, ready, rows

WIDE = (256, 1, 1, 1)
SQUARE = (256, 256, 1, 1)
WEIGHT_BYTES, ROW_BYTES = 256 * 144, 256 * 4
"""Of a matrix in q4_K and of a row in f32."""


def layer(i: int, *, mask: str = "mask", type: str = "q4_K", more: bool = False) -> list[T]:
    before = f"l_out-{i - 1}" if i else "inp_embd"
    weights = [
        T(f"blk.{i}.attn_norm.weight", ne=WIDE, buffer=0x6000),
        T(f"blk.{i}.attn_q.weight", type=type, ne=SQUARE, buffer=0x6000),
    ]
    return [
        *weights,
        T(f"norm-{i}", "RMS_NORM", (before,), ne=WIDE),
        T(f"attn_norm-{i}", "MUL", (f"norm-{i}", weights[0].name), ne=WIDE),
        T(f"Qcur-{i}", "MUL_MAT", (weights[1].name, f"attn_norm-{i}"), ne=WIDE),
        T(f"Qcur-{i} (view)", "VIEW", (f"Qcur-{i}",), WIDE, view=f"Qcur-{i}"),
        T(f"kq-{i}", "SOFT_MAX", (f"Qcur-{i} (view)", mask), ne=WIDE),
        *([T(f"kq_more-{i}", "MUL", (f"kq-{i}", f"Qcur-{i}"), ne=WIDE)] if more else []),
        T(f"l_out-{i}", "ADD", (f"kq_more-{i}" if more else f"kq-{i}", before), ne=WIDE),
    ]


def model(layers: Sequence[list[T]]) -> list[T]:
    """With what is outside layers; nobody computes the inputs."""
    return [
        T("inp", ne=WIDE), T("mask", ne=WIDE), T("other", ne=WIDE),
        T("output.weight", type="q4_K", ne=SQUARE, buffer=0x6000),
        T("inp_embd", "MUL", ("inp", "inp"), ne=WIDE),
        *(tensor for tensors in layers for tensor in tensors),
        T("result_output", "MUL_MAT", ("output.weight", f"l_out-{len(layers) - 1}"), ne=WIDE),
    ]  # fmt: skip


def run(
    capture: Capture, at: int, tensors: Sequence[T], *, tokens: int = 1, position: int = 0,
    us: int = 10,
) -> None:  # fmt: skip
    """A micro-batch at `at` us. Norms are fused, each operator takes `us` times its layer + 1:
    main works four fifths of that, the worker two."""
    begin = at + 10
    shape = capture.structure(1000 * at, tensors)
    main: list[Operator] = []
    worker: list[Operator] = []
    now = begin + 1
    for t in tensors:
        if t.op in ("NONE", "VIEW", "RMS_NORM"):
            continue
        dur = us * (int(t.name[-1]) + 1 if t.name[-1].isdigit() else 1)
        name = t.name.replace("attn_norm", "norm") + "+" + t.name if "norm" in t.name else t.name
        for operators, work in ((main, 800), (worker, 400)):
            barriers = [] if t.name == "result_output" else [1000 * now + work * dur]
            operators.append((name, 1000 * now, *barriers))
        now += dur
    capture.ubatch(1000 * (begin - 1), 1000 * (now + 2), [(0, position, tokens, 1, tokens)])
    capture.graph(shape, 1000 * begin, 1000 * now, {MAIN: main, WORKER: worker})


FORMS = "SELECT layers, layer_count, is_typical, difference FROM profinfer_layer_form"


def test_layers_that_are_alike_are_one() -> None:
    capture = Capture()
    run(capture, 0, model([layer(0), layer(1, type="f16"), layer(2), layer(3, more=True)]))
    with opened(capture) as session:
        assert ask(session, FORMS) == [("0-2", 3, 1, None), ("3", 1, 0, "+1 MUL")]
        forms, operators = ready(session, "layers").values()
        # Four operators a layer, in the last one five.
        assert rows(forms, "phase", "tokens", "runs", "layers", "layer_us", "incomplete") == [
            ("prefill", 1, 1, "0-2", 80.0, 0),
            ("prefill", 1, 1, "3", 200.0, 0),
        ]
        columns = ("layers", "name", "op", "module", "min_us", "median_us", "max_us")
        assert rows(operators, *columns)[:6] == [
            ("outside", "inp_embd", "MUL", "embedding", 10.0, 10.0, 10.0),
            ("outside", "result_output", "MUL_MAT", "output", 10.0, 10.0, 10.0),
            ("0-2", "attn_norm", "RMS_NORM+MUL", "attention", 10.0, 20.0, 30.0),
            ("0-2", "Qcur", "MUL_MAT", "attention", 10.0, 20.0, 30.0),
            ("0-2", "kq", "SOFT_MAX", "attention", 10.0, 20.0, 30.0),
            ("0-2", "l_out", "ADD", None, 10.0, 20.0, 30.0),
        ]
        assert ask(
            session,
            "SELECT DISTINCT types FROM profinfer_layer_node"
            " JOIN profinfer_tensor USING (tensor_id) WHERE name GLOB 'blk.*' ORDER BY 1",
        ) == [("f32",), ("q4_K",), ("q4_K, f16",)]


def test_layers_that_read_something_else_are_another_form() -> None:
    capture = Capture()
    masks = ("mask", "other", "mask", "other", "mask", "other", "mask")
    run(capture, 0, model([layer(i, mask=mask) for i, mask in enumerate(masks)]))
    with opened(capture) as session:
        assert ask(session, FORMS) == [
            ("0, 2 ... 6", 4, 1, None),
            ("1, 3, 5", 3, 0, "reads other"),
        ]


def test_layers_of_other_shapes_are_another_form() -> None:
    capture = Capture()
    narrow = [
        t if t.op != "SOFT_MAX" else T(t.name, t.op, t.src, ne=(64, 1, 1, 1)) for t in layer(1)
    ]
    run(capture, 0, model([layer(0), narrow]))
    with opened(capture) as session:
        assert ask(session, FORMS) == [
            ("0", 1, 1, None),
            ("1", 1, 0, "order or shapes"),
        ]


def test_bandwidth_and_waits_are_of_all_runs() -> None:
    capture = Capture()
    run(capture, 0, model([layer(0), layer(1)]))
    run(capture, 500, model([layer(0), layer(1)]), position=1)
    run(capture, 1000, model([layer(0), layer(1)]), position=2, us=30)
    with opened(capture) as session:
        assert ask(session, "SELECT phase, tokens, runs, is_main FROM profinfer_dag") == [
            ("decode", 1, 2, 1),
            ("prefill", 1, 1, 1),
        ]
        moved = WEIGHT_BYTES + 2 * ROW_BYTES
        [of_decode, _] = ask(
            session,
            "SELECT n.dur, bandwidth, stall_share, imbalance_share, runs, n.incomplete"
            " FROM profinfer_dag_node AS n JOIN profinfer_tensor USING (tensor_id)"
            " WHERE name = 'Qcur-0' ORDER BY dag_id",
        )
        # The mean of 10 and 30 us.
        assert of_decode == (20_000, moved / 20_000, 0.4, 0.2, 2, 0)
        assert ask(
            session,
            "SELECT DISTINCT dur, bandwidth FROM profinfer_dag_node JOIN profinfer_tensor"
            " USING (tensor_id) WHERE kind = 'view'",
        ) == [(None, None)]


def test_without_barriers_nothing_is_said_of_waiting() -> None:
    capture = Capture("operator")
    run(capture, 0, model([layer(0)]))
    capture.records = [row for row in capture.records if row.kind != 3]
    with opened(capture) as session:
        assert ask(
            session, "SELECT DISTINCT stall_share, imbalance_share FROM profinfer_dag_node"
        ) == [(None, None)]
        assert ask(session, "SELECT count() FROM profinfer_dag_node WHERE bandwidth > 0") != [(0,)]


def test_the_length_of_the_context_makes_no_other_graph_but_the_batch_does() -> None:
    capture = Capture()
    for number, cells in enumerate((64, 64, 128)):
        grown = [
            t if t.op != "SOFT_MAX" else T(t.name, t.op, t.src, ne=(cells, 1, 1, 1))
            for t in model([layer(0)])
        ]
        run(capture, 500 * number, grown, position=number)
    run(capture, 2000, model([layer(0)]), tokens=3, us=20)
    with opened(capture) as session:
        assert ask(
            session, "SELECT phase, tokens, runs, is_main FROM profinfer_dag ORDER BY tokens, phase"
        ) == [("decode", 1, 2, 1), ("prefill", 1, 1, 0), ("prefill", 3, 1, 1)]
        assert ask(
            session,
            "SELECT DISTINCT n.runs FROM profinfer_dag_node AS n JOIN profinfer_dag AS d"
            " USING (dag_id) WHERE d.phase = 'decode' AND n.op = 'SOFT_MAX'",
        ) == [(2,)]


def test_fused_operators_are_one_node_of_the_graph() -> None:
    capture = Capture()
    run(capture, 0, model([layer(0)]))
    with opened(capture) as session:
        assert ask(
            session,
            "SELECT s.name, t.name, slot FROM profinfer_dag_edge AS e"
            " JOIN profinfer_tensor AS s ON s.tensor_id = e.src_tensor_id"
            " JOIN profinfer_tensor AS t ON t.tensor_id = e.tensor_id"
            " WHERE t.name GLOB '*norm*' OR s.name GLOB '*norm*' ORDER BY 1, 2",
        ) == [
            ("attn_norm-0", "Qcur-0", 1),
            ("blk.0.attn_norm.weight", "attn_norm-0", 1),
            ("inp_embd", "attn_norm-0", 0),
        ]
        assert ask(session, "SELECT op FROM profinfer_dag_node WHERE fused_into IS NOT NULL") == [
            ("RMS_NORM",)
        ]


def test_graphs_outside_micro_batches_are_graphs_too() -> None:
    capture = Capture()
    shape = capture.structure(0, model([layer(0)]))
    for at in (10_000, 20_000):
        capture.graph(shape, at, at + 5_000, {MAIN: [("Qcur-0", at + 100, at + 4_100)]})
    with opened(capture) as session:
        assert ask(session, "SELECT phase, tokens, runs FROM profinfer_dag") == [(None, None, 2)]
        assert ask(
            session, "SELECT dur FROM profinfer_dag_node WHERE op = 'MUL_MAT' AND layer = 0"
        ) == [(4_900,)]
