"""profinfer.graphs.runs, operators, barriers and totals. The schedule is that of
schedules.graph."""

from __future__ import annotations

import pytest

from profinfer.records.dtypes import Kind
from tests.captures import BASE, MAIN, WORKER, Capture, T
from tests.sql.harness import ask, opened, ready, rows
from tests.sql.schedules import PROMPT, graph, small, structure, ubatches

OPERATORS = (
    "SELECT (ts - BASE) / 1000, dur / 1000, name, op, layer, thread_count, busy_dur / 1000, "
    "wait_dur / 1000, imbalance_dur / 1000, slowest_dur / 1000, fastest_dur / 1000, complete "
    "FROM profinfer_operator WHERE graph_id = 1 ORDER BY ts"
)


def test_ubatches() -> None:
    with opened(small()) as session:
        assert ask(
            session,
            "SELECT ubatch_id, (ts - BASE) / 1000, dur / 1000, tid, phase, tokens, sequences, "
            "context, complete FROM profinfer_ubatch JOIN thread USING (utid) ORDER BY ubatch_id",
        ) == [
            (1, 100, 900, MAIN, "prefill", 3, 1, 0x7000, 1),
            (2, 1100, 1700, MAIN, "decode", 1, 1, 0x7000, 1),
        ]


@pytest.mark.parametrize(
    ("runs", "phase", "sequences"),
    [
        ([], "ubatch", None),
        ([(0, 0, 3, 1, 1)], "prefill", 1),
        ([(0, 9, 1, 1, 1), (4, 9, 1, 1, 1)], "decode", 2),
        ([(0, 9, 1, 1, 1), (4, 0, 5, 1, 1)], "mixed", 2),
    ],
)
def test_phase_of_a_ubatch(
    runs: list[tuple[int, int, int, int, int]], phase: str, sequences: int | None
) -> None:
    with opened(ubatches(Capture(), [(1, 2, runs)])) as session:
        assert ask(session, "SELECT phase, sequences FROM profinfer_ubatch") == [(phase, sequences)]


def test_graphs() -> None:
    with opened(small()) as session:
        assert ask(
            session,
            "SELECT graph_id, (ts - BASE) / 1000, dur / 1000, tid, backend, structure_id, "
            "ubatch_id, thread_count, complete FROM profinfer_graph JOIN thread USING (utid) "
            "ORDER BY graph_id",
        ) == [
            (1, 200, 700, MAIN, "CPU", 1, 1, 2, 1),
            (2, 1200, 700, MAIN, "CPU", 1, 2, 2, 1),
            (3, 2000, 700, MAIN, "CPU", 1, 2, 2, 1),
        ]


def test_graphs_of_another_backend_bear_its_name() -> None:
    capture = Capture(backends={0xF00D: "Vulkan"})
    shape = capture.structure(0, [T("x"), T("a-0", "ADD", ("x",))], backend=0xF00D)
    capture.graph(shape, 1000, 2000, {}, backend=0xF00D)
    capture.graph(shape, 3000, 4000, {})
    with opened(capture) as session:
        assert ask(
            session, "SELECT graph_id, backend, ubatch_id, thread_count FROM profinfer_graph"
        ) == [(1, "Vulkan", None, 1), (2, "CPU", None, 1)]
        assert ask(
            session,
            "SELECT t.name, count() FROM slice JOIN track t ON t.id = track_id "
            "WHERE category = 'backend' GROUP BY 1 ORDER BY 1",
        ) == [("CPU", 1), ("Vulkan", 1)]


def test_operator_slices() -> None:
    with opened(small()) as session:
        assert ask(
            session,
            "SELECT tid, (ts - BASE) / 1000, dur / 1000, s.name, wait_dur / 1000, complete "
            "FROM profinfer_operator_slice s JOIN thread USING (utid) "
            "WHERE graph_id = 1 ORDER BY tid, ts",
        ) == [
            (MAIN, 210, 40, "attn_norm-0", 10, 1),
            (MAIN, 250, 250, "Qcur-0", 100, 1),
            (MAIN, 500, 100, "ffn_silu-1", 50, 1),
            (MAIN, 600, 300, "result", 0, 1),
            (WORKER, 220, 32, "attn_norm-0", 17, 1),
            (WORKER, 252, 253, "Qcur-0", 25, 1),
            (WORKER, 505, 105, "ffn_silu-1", 90, 1),
            (WORKER, 610, 290, "result", 0, 1),
        ]


def test_operators_across_threads() -> None:
    with opened(small()) as session:
        assert ask(session, OPERATORS) == [
            (210, 42, "attn_norm-0", "RMS_NORM+MUL", 0, 2, 45, 27, 5, 30, 15, 1),
            (250, 255, "Qcur-0", "MUL_MAT", 0, 2, 378, 125, 80, 228, 150, 1),
            (500, 110, "ffn_silu-1", "SILU", 1, 2, 65, 140, 30, 50, 15, 1),
            (600, 300, "result", "ADD", None, 2, 590, 0, 0, 300, 290, 1),
        ]


def test_level_operator_knows_no_waits() -> None:
    with opened(small("operator")) as session:
        assert ask(session, OPERATORS) == [
            (210, 42, "attn_norm-0", "RMS_NORM+MUL", 0, 2, 72, None, None, 40, 32, 1),
            (250, 255, "Qcur-0", "MUL_MAT", 0, 2, 503, None, None, 253, 250, 1),
            (500, 110, "ffn_silu-1", "SILU", 1, 2, 205, None, None, 105, 100, 1),
            (600, 300, "result", "ADD", None, 2, 590, None, None, 300, 290, 1),
        ]


def test_a_barrier_after_the_last_node_is_a_wait_too() -> None:
    capture = Capture()
    shape = structure(capture, 0, [T("x"), T("a-0", "ADD", ("x",)), T("b-0", "ADD", ("a-0",))])
    for begin in (10_000, 20_000):
        operators = [("a-0", begin + 100, begin + 300), ("b-0", begin + 400, begin + 700)]
        capture.graph(shape, begin, begin + 1000, {MAIN: operators})
    with opened(capture) as session:
        assert ask(
            session,
            "SELECT graph_id, name, dur, wait_dur FROM profinfer_operator_slice ORDER BY ts",
        ) == [
            (1, "a-0", 300, 100),
            (1, "b-0", 600, 300),
            (2, "a-0", 300, 100),
            (2, "b-0", 600, 300),
        ]


def test_without_a_final_barrier_the_last_one_of_mul_mat_is_inside_it() -> None:
    capture = Capture()
    nodes = [T("x"), T("a-0", "MUL_MAT", ("x",)), T("b-0", "MUL_MAT", ("a-0",))]
    shape = structure(capture, 0, nodes)
    operators = [("a-0", 10_100, 10_200, 10_300), ("b-0", 10_400, 10_500)]
    capture.graph(shape, 10_000, 11_000, {MAIN: operators})
    with opened(capture) as session:
        assert ask(
            session, "SELECT name, dur, wait_dur FROM profinfer_operator_slice ORDER BY ts"
        ) == [("a-0", 300, 100), ("b-0", 600, 0)]
        assert ask(
            session, "SELECT ts - BASE, thread_count FROM profinfer_inside_barrier ORDER BY ts"
        ) == [(10_200, 1), (10_500, 1)]


def test_barriers_inside_operators() -> None:
    with opened(small()) as session:
        assert ask(
            session,
            "SELECT graph_id, description, number, (ts - BASE) / 1000, thread_count, "
            "wait_dur / 1000, complete FROM profinfer_inside_barrier "
            "JOIN _operator_kind USING (arg_set_id) ORDER BY graph_id",
        ) == [
            (graph_id, description, 1, ts, 2, 10, 1)
            for graph_id, ts, description in (
                (g, t, ask(session, "SELECT description FROM profinfer_tensor "
                                    "WHERE name = 'Qcur-0'")[0][0])
                for g, t in ((1, 270), (2, 1270), (3, 2070))
            )
        ]  # fmt: skip


def test_totals_add_up_all_runs() -> None:
    with opened(small()) as session:
        assert ask(
            session,
            "SELECT name, op, layer, runs, thread_count, dur / 1000, max_dur / 1000, "
            "busy_dur / 1000, wait_dur / 1000, imbalance_dur / 1000, slowest_dur / 1000, "
            "fastest_dur / 1000, incomplete FROM profinfer_operator_total ORDER BY name",
        ) == [
            ("Qcur-0", "MUL_MAT", 0, 3, 2, 765, 255, 1134, 375, 240, 684, 450, 0),
            ("attn_norm-0", "RMS_NORM+MUL", 0, 3, 2, 126, 42, 135, 81, 15, 90, 45, 0),
            ("ffn_silu-1", "SILU", 1, 3, 2, 330, 110, 195, 420, 90, 150, 45, 0),
            ("result", "ADD", None, 3, 2, 900, 300, 1770, 0, 0, 900, 870, 0),
        ]  # fmt: skip


def test_the_operator_filter_leaves_the_others_out() -> None:
    capture = small()
    capture.names = ("Qcur-*",)
    with opened(capture) as session:
        assert ask(session, "SELECT name, count() FROM profinfer_operator GROUP BY 1") == [
            ("Qcur-0", 3)
        ]


# ---- Ready queries


def test_hotspots() -> None:
    with opened(small()) as session:
        table, *_ = ready(session, "hotspots").values()
        assert rows(
            table, "phase", "name", "op", "layer", "runs", "work_ms", "percent", "mean_us",
            "max_us", "incomplete",
        ) == [
            ("decode", "result", "ADD", None, 2, 1.18, 36.5, 300.0, 300.0, 0),
            ("decode", "Qcur-0", "MUL_MAT", 0, 2, 0.76, 23.4, 255.0, 255.0, 0),
            ("prefill", "result", "ADD", None, 1, 0.59, 18.2, 300.0, 300.0, 0),
            ("prefill", "Qcur-0", "MUL_MAT", 0, 1, 0.38, 11.7, 255.0, 255.0, 0),
            ("decode", "ffn_silu-1", "SILU", 1, 2, 0.13, 4.0, 110.0, 110.0, 0),
            ("decode", "attn_norm-0", "RMS_NORM+MUL", 0, 2, 0.09, 2.8, 42.0, 42.0, 0),
            ("prefill", "ffn_silu-1", "SILU", 1, 1, 0.07, 2.0, 110.0, 110.0, 0),
            ("prefill", "attn_norm-0", "RMS_NORM+MUL", 0, 1, 0.04, 1.4, 42.0, 42.0, 0),
        ]  # fmt: skip


def test_stalls() -> None:
    with opened(small()) as session:
        by_op, by_operator, _ = ready(session, "stalls").values()
        # Three runs each: SILU waits 3 x 140 of 3 x 205 us, MUL_MAT 3 x 125 of 3 x 503.
        assert rows(
            by_op, "op", "runs", "work_ms", "wait_ms", "stall_ratio", "imbalance_ms", "release_ms",
            "inside_wait_min_ms", "incomplete",
        ) == [
            ("SILU", 3, 0.2, 0.42, 0.683, 0.09, 0.33, None, 0),
            ("MUL_MAT", 3, 1.13, 0.38, 0.249, 0.24, 0.14, 0.03, 0),
            ("RMS_NORM+MUL", 3, 0.14, 0.08, 0.375, 0.01, 0.07, None, 0),
            ("ADD", 3, 1.77, 0.0, 0.0, 0.0, 0.0, None, 0),
        ]  # fmt: skip
        assert rows(
            by_operator, "name", "runs", "mean_work_us", "mean_wait_us", "stall_ratio",
            "imbalance_share", "incomplete",
        ) == [
            ("ffn_silu-1", 3, 65.0, 140.0, 0.683, 0.214, 0),
            ("Qcur-0", 3, 378.0, 125.0, 0.249, 0.64, 0),
            ("attn_norm-0", 3, 45.0, 27.0, 0.375, 0.185, 0),
            ("result", 3, 590.0, 0.0, 0.0, None, 0),
        ]  # fmt: skip


def test_imbalance() -> None:
    with opened(small()) as session:
        operators, threads = ready(session, "imbalance").values()
        assert rows(
            operators, "name", "op", "threads", "runs", "slowest_mean_us", "fastest_mean_us",
            "idle_ms", "idle_share", "incomplete",
        ) == [
            ("Qcur-0", "MUL_MAT", 2, 3, 228.0, 150.0, 0.24, 0.159, 0),
            ("ffn_silu-1", "SILU", 2, 3, 50.0, 15.0, 0.09, 0.146, 0),
            ("attn_norm-0", "RMS_NORM+MUL", 2, 3, 30.0, 15.0, 0.01, 0.069, 0),
            ("result", "ADD", 2, 3, 300.0, 290.0, 0.0, 0.0, 0),
        ]  # fmt: skip
        # Worker: 3 x (15 + 228 + 15 + 290) us of work, 3 x (17 + 25 + 90) of waiting.
        assert rows(
            threads, "tid", "thread", "operators", "work_ms", "wait_ms", "wait_share", "incomplete"
        ) == [
            (WORKER, "compute 1", 12, 1.64, 0.4, 0.194, 0),
            (MAIN, "compute 0", 12, 1.59, 0.48, 0.232, 0),
        ]


def test_dag() -> None:
    with opened(small()) as session:
        [table] = ready(session, "dag").values()
        assert rows(
            table, "node", "name", "op", "shape", "kind", "layer", "sources", "runs", "mean_us",
        ) == [
            (0, "norm-0", "RMS_NORM", "256 x 3 x 1 x 1", "operator", 0, "inp", None, None),
            (1, "attn_norm-0", "RMS_NORM+MUL", "256 x 3 x 1 x 1", "operator", 0,
             "norm-0, blk.0.attn_norm.weight (weight)", 3, 42.0),
            (2, "Qcur-0", "MUL_MAT", "512 x 3 x 1 x 1", "operator", 0,
             "blk.0.attn_q.weight (weight), attn_norm-0", 3, 255.0),
            (3, "Qcur-0 (view)", "VIEW", "256 x 3 x 1 x 1", "view", 0, "Qcur-0", None, None),
            (4, "ffn_silu-1", "SILU", "256 x 3 x 1 x 1", "operator", 1, "Qcur-0 (view)", 3,
             110.0),
            (5, "result", "ADD", "256 x 3 x 1 x 1", "operator", None, "ffn_silu-1, inp", 3, 300.0),
        ]  # fmt: skip


# ---- What was not recorded


def test_an_operator_that_lost_its_end_is_incomplete_and_in_no_sum() -> None:
    capture = small()
    # Thread main in graph 1: without the start of ffn_silu-1, Qcur-0 seems to go on to `result`.
    capture.lose(
        lambda row: row.tid == MAIN and row.kind == Kind.OPERATOR and row.ts == BASE + 500_000
    )
    drains = [(BASE + t, BASE + t) for t in (490_000, 560_000)]
    with opened(capture, drains=drains) as session:
        assert ask(
            session,
            "SELECT name, thread_count, complete FROM profinfer_operator WHERE graph_id = 1 "
            "ORDER BY ts",
        ) == [
            ("attn_norm-0", 2, 1),
            ("Qcur-0", 2, 0),
            ("ffn_silu-1", 1, 0),
            ("result", 2, 1),
        ]
        assert ask(
            session,
            "SELECT name, runs, busy_dur / 1000, incomplete FROM profinfer_operator_total "
            "WHERE name = 'Qcur-0'",
        ) == [("Qcur-0", 2, 756, 1)]
        [hot, *_] = [
            row for row in next(iter(ready(session, "hotspots").values()))
            if row["phase"] == "prefill" and row["name"] == "Qcur-0"
        ]  # fmt: skip
        assert (hot["runs"], hot["work_ms"], hot["mean_us"], hot["incomplete"]) == (0, 0.0, None, 1)
        assert ask(session, "SELECT graph_id, complete FROM profinfer_graph ORDER BY 1") == [
            (1, 0),
            (2, 1),
            (3, 1),
        ]
        assert ask(session, "SELECT ubatch_id, complete FROM profinfer_ubatch ORDER BY 1") == [
            (1, 0),
            (2, 1),
        ]


def test_what_runs_when_recording_ends_has_no_duration() -> None:
    capture = Capture()
    shape = structure(capture, 150)
    capture.ubatch(100_000, None, [PROMPT])
    operators = [("Qcur-0", 210_000, 230_000), ("result", 240_000)]
    capture.graph(shape, 200_000, None, {MAIN: operators})
    with opened(capture) as session:
        assert ask(session, "SELECT dur, complete FROM profinfer_ubatch") == [(None, 0)]
        assert ask(session, "SELECT dur, complete FROM profinfer_graph") == [(None, 0)]
        assert ask(
            session, "SELECT name, dur, complete FROM profinfer_operator_slice ORDER BY ts"
        ) == [("Qcur-0", 30_000, 1), ("result", None, 0)]


def test_recording_begun_within_a_graph_has_none_of_its_operators() -> None:
    capture = Capture()
    shape = structure(capture, 150)
    graph(capture, shape, 200)
    graph(capture, shape, 1000)
    capture.records = [row for row in capture.records if row.ts > BASE + 550_000 or row.kind == 8]
    with opened(capture) as session:
        assert ask(session, "SELECT (ts - BASE) / 1000 FROM profinfer_graph") == [(1000,)]
        assert ask(session, "SELECT count() FROM profinfer_operator_slice") == [(8,)]
        assert ask(session, "SELECT message FROM profinfer_recording_warning") == [
            ("2 operator records belong to no graph that was recorded",)
        ]
