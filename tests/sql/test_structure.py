"""profinfer.graphs.tensors: tensors, edges, structures, nodes."""

from __future__ import annotations

from tests.captures import Capture, T
from tests.sql.harness import ask, opened
from tests.sql.schedules import TENSORS, graph, small, structure


def test_tensors() -> None:
    with opened(small()) as session:
        assert ask(
            session,
            "SELECT name, op, type, kind, layer, ne0, ne1, ne2, ne3, bytes, buffer "
            "FROM profinfer_tensor ORDER BY name",
        ) == [
            ("Qcur-0", "MUL_MAT", "f32", "operator", 0, 512, 3, 1, 1, 6144, 0x5000),
            ("Qcur-0 (view)", "VIEW", "f32", "view", 0, 256, 3, 1, 1, 3072, 0x5000),
            ("attn_norm-0", "MUL", "f32", "operator", 0, 256, 3, 1, 1, 3072, 0x5000),
            ("blk.0.attn_norm.weight", "NONE", "f32", "weight", 0, 256, 1, 1, 1, 1024, 0x5000),
            ("blk.0.attn_q.weight", "NONE", "q4_K", "weight", 0, 256, 512, 1, 1, 73728, 0x6000),
            ("ffn_silu-1", "SILU", "f32", "operator", 1, 256, 3, 1, 1, 3072, 0x5000),
            ("inp", "NONE", "f32", "leaf", None, 256, 3, 1, 1, 3072, 0x5000),
            ("norm-0", "RMS_NORM", "f32", "operator", 0, 256, 3, 1, 1, 3072, 0x5000),
            ("result", "ADD", "f32", "operator", None, 256, 3, 1, 1, 3072, 0x5000),
        ]  # fmt: skip


def test_strides_and_views() -> None:
    with opened(small()) as session:
        assert ask(
            session,
            "SELECT t.name, t.nb0, t.nb1, t.nb2, t.nb3, v.name FROM profinfer_tensor t "
            "LEFT JOIN profinfer_tensor v ON v.tensor_id = t.view_src "
            "WHERE t.name GLOB 'Qcur*' OR t.type = 'q4_K' ORDER BY t.name",
        ) == [
            ("Qcur-0", 4, 2048, 6144, 6144, None),
            ("Qcur-0 (view)", 4, 1024, 3072, 3072, "Qcur-0"),
            ("blk.0.attn_q.weight", 144, 144, 73728, 73728, None),
        ]


def test_descriptions_say_op_shape_and_sources() -> None:
    with opened(small()) as session:
        [(text,)] = ask(session, "SELECT description FROM profinfer_tensor WHERE name = 'Qcur-0'")
        assert str(text).startswith(
            "MUL_MAT f32 [512, 3] = blk.0.attn_q.weight q4_K [256, 512], attn_norm-0 f32 [256, 3]"
        )


def test_edges() -> None:
    with opened(small()) as session:
        assert ask(
            session,
            "SELECT s.name, t.name, slot FROM profinfer_edge e "
            "JOIN profinfer_tensor s ON s.tensor_id = src_tensor_id "
            "JOIN profinfer_tensor t ON t.tensor_id = e.tensor_id ORDER BY t.name, slot",
        ) == [
            ("blk.0.attn_q.weight", "Qcur-0", 0),
            ("attn_norm-0", "Qcur-0", 1),
            ("Qcur-0", "Qcur-0 (view)", 0),
            ("norm-0", "attn_norm-0", 0),
            ("blk.0.attn_norm.weight", "attn_norm-0", 1),
            ("Qcur-0 (view)", "ffn_silu-1", 0),
            ("inp", "norm-0", 0),
            ("ffn_silu-1", "result", 0),
            ("inp", "result", 1),
        ]


def test_an_absent_source_leaves_its_slot_free() -> None:
    capture = Capture()
    capture.structure(0, [T("x"), T("y"), T("a-0", "ADD", ("x", "", "y"))])
    with opened(capture) as session:
        assert ask(
            session,
            "SELECT s.name, slot FROM profinfer_edge JOIN profinfer_tensor s "
            "ON s.tensor_id = src_tensor_id ORDER BY slot",
        ) == [("x", 0), ("y", 2)]


def test_nodes_are_in_order_of_execution() -> None:
    with opened(small()) as session:
        assert ask(
            session,
            "SELECT structure_id, node, name FROM profinfer_node "
            "JOIN profinfer_tensor USING (tensor_id) ORDER BY structure_id, node",
        ) == [
            (1, 0, "norm-0"),
            (1, 1, "attn_norm-0"),
            (1, 2, "Qcur-0"),
            (1, 3, "Qcur-0 (view)"),
            (1, 4, "ffn_silu-1"),
            (1, 5, "result"),
        ]


def test_a_changed_shape_is_a_new_tensor_and_a_new_structure() -> None:
    capture = Capture()
    x, longer = T("x"), T("a-0", "ADD", ("x", "x"), ne=(8, 1, 1, 1))
    first = capture.structure(0, [x, T("a-0", "ADD", ("x", "x"))])
    capture.graph(first, 10_000, 11_000, {})
    capture.graph(capture.structure(20_000, [x, longer]), 30_000, 31_000, {})
    capture.graph(first, 40_000, 41_000, {})
    with opened(capture) as session:
        assert ask(session, "SELECT name, ne0 FROM profinfer_tensor ORDER BY name, tensor_id") == [
            ("a-0", 4),
            ("a-0", 8),
            ("x", 4),
        ]
        assert ask(
            session, "SELECT graph_id, structure_id FROM profinfer_graph ORDER BY graph_id"
        ) == [(1, 1), (2, 2), (3, 1)]


def test_structures() -> None:
    capture = small()
    capture.structure(5_000_000, [*TENSORS[:4]], cgraph=0x9999, nodes=2)
    with opened(capture) as session:
        assert ask(
            session,
            "SELECT structure_id, node_count, complete, cgraph FROM profinfer_structure ORDER BY 1",
        ) == [(1, 6, 1, 0x9000), (2, 1, 0, 0x9999)]


def test_a_graph_whose_structure_is_unknown_has_none() -> None:
    capture = Capture()
    structure(capture, 150)
    graph(capture, None, 200)
    with opened(capture) as session:
        assert ask(session, "SELECT graph_id, structure_id FROM profinfer_graph") == [(1, None)]
        assert ask(session, "SELECT DISTINCT name, op FROM profinfer_operator") == [
            ("operator of an unknown graph", None)
        ]
