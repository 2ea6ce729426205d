"""Every public table holds what was worked out by hand for one small recording.

Two threads, one micro-batch of three prompt tokens and three of one decoded token. Each runs one
graph: a fused RMS_NORM and MUL, a MUL_MAT with a barrier inside, a view, an ADD.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from profinfer.trace_processor import SQL_DIR, Session, open_trace
from profinfer.trace_processor.session import sql_modules
from tests.captures import BASE, CONTEXT, MAIN, WORKER, Capture, T, convert

US = 1_000
MODULES = sql_modules(SQL_DIR)
BACKEND = 0xAAAA
STRUCTURE_AT = 10
DECODES = (6_000, 8_000, 10_400)
GAP = (7_500, 8_190)
"""From when on to when records were lost, where some were."""

SHAPE = (256, 3, 1, 1)
FUSED, MATRIX, SUM = "scaled-0", "Qcur-0", "l_out-0"
NODES = [
    T("norm-0", "RMS_NORM", ("inp",), ne=SHAPE),
    T(FUSED, "MUL", ("norm-0", "blk.0.attn_norm.weight"), ne=SHAPE),
    T(MATRIX, "MUL_MAT", ("blk.0.attn_q.weight", FUSED), ne=SHAPE),
    T("Qcur-0 (view)", "VIEW", (MATRIX,), ne=SHAPE, view=MATRIX),
    T(SUM, "ADD", ("Qcur-0 (view)", "inp"), ne=SHAPE),
    T("inp", ne=SHAPE),
    T("blk.0.attn_norm.weight", ne=(256, 1, 1, 1), buffer=0x6000),
    T("blk.0.attn_q.weight", ne=(256, 256, 1, 1), type="q4_K", buffer=0x6000),
]

Rows = list[tuple[object, ...]]


def small() -> Capture:
    """The recording; its times are written below in microseconds."""
    capture = Capture(backends={BACKEND: "CPU"})
    shape = capture.structure(STRUCTURE_AT * US, NODES, backend=BACKEND)

    def at(*times: int) -> tuple[int, ...]:
        return tuple(time * US for time in times)

    fused = f"norm-0+{FUSED}"
    capture.ubatch(1_000 * US, 5_000 * US, [(0, 0, 3, 1, 1)])
    capture.graph(
        shape, 1_100 * US, 4_900 * US,
        {
            MAIN: [(fused, *at(1_200, 1_500)), (MATRIX, *at(1_700, 1_900, 2_900)),
                   (SUM, *at(3_000, 4_500))],
            WORKER: [(fused, *at(1_210, 1_690)), (MATRIX, *at(1_706, 2_000, 2_600)),
                     (SUM, *at(3_010, 4_800))],
        },
        backend=BACKEND,
    )  # fmt: skip
    for number, t in enumerate(DECODES):
        capture.ubatch(t * US, (t + 1_000) * US, [(0, 3 + number, 1, 1, 1)])
        capture.graph(
            shape, (t + 50) * US, (t + 900) * US,
            {
                MAIN: [(fused, *at(t + 100, t + 150)), (MATRIX, *at(t + 200, t + 250, t + 400)),
                       (SUM, *at(t + 500, t + 700))],
                WORKER: [(fused, *at(t + 100, t + 190)), (MATRIX, *at(t + 200, t + 230, t + 450)),
                         (SUM, *at(t + 510, t + 600))],
            },
            backend=BACKEND,
        )  # fmt: skip
    return capture


def write_small(path: Path) -> Path:
    """The trace of the recording."""
    return convert(small().frames(), path)


def write_lossy(path: Path) -> Path:
    """The same, without the worker's barrier after the fused operator of the second decode."""
    capture = small()
    capture.lose(lambda row: row.ts == BASE + GAP[1] * US and row.tid == WORKER)
    assert len(capture.lost) == 1
    drains = [(BASE + t * US, BASE + t * US) for t in (GAP[0], GAP[1] + 5)]
    return convert(capture.frames(drains), path)


def ask(session: Session, sql: str) -> Rows:
    """The rows of a query with every module included; BASE and US stand for the numbers."""
    include = "".join(f"INCLUDE PERFETTO MODULE {name};\n" for name in MODULES)
    text = re.sub(r"\bUS\b", str(US), sql.replace("BASE", str(BASE)))
    return [tuple(row) for row in session.query(include + text)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    path = write_small(tmp_path_factory.mktemp("tables") / "small.pftrace")
    with open_trace(path) as session:
        yield session


@pytest.fixture(scope="module")
def lossy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    path = write_lossy(tmp_path_factory.mktemp("tables") / "lossy.pftrace")
    with open_trace(path) as session:
        yield session


def test_trace_processor_takes_the_whole_recording(whole: Session) -> None:
    assert whole.import_errors() == []


def test_ubatches_have_their_phase_and_tokens(whole: Session) -> None:
    assert ask(
        whole,
        "SELECT ubatch_id, (ts - BASE) / US, dur / US, tid, phase, tokens, sequences, context, "
        "complete FROM profinfer_ubatch JOIN thread USING (utid) ORDER BY ts",
    ) == [
        (1, 1_000, 4_000, MAIN, "prefill", 3, 1, CONTEXT, 1),
        (2, 6_000, 1_000, MAIN, "decode", 1, 1, CONTEXT, 1),
        (3, 8_000, 1_000, MAIN, "decode", 1, 1, CONTEXT, 1),
        (4, 10_400, 1_000, MAIN, "decode", 1, 1, CONTEXT, 1),
    ]


def test_graphs_lie_in_their_ubatch(whole: Session) -> None:
    assert ask(
        whole,
        "SELECT graph_id, (ts - BASE) / US, dur / US, tid, backend, structure_id, ubatch_id, "
        "thread_count, complete FROM profinfer_graph JOIN thread USING (utid) ORDER BY ts",
    ) == [
        (1, 1_100, 3_800, MAIN, "CPU", 1, 1, 2, 1),
        (2, 6_050, 850, MAIN, "CPU", 1, 2, 2, 1),
        (3, 8_050, 850, MAIN, "CPU", 1, 3, 2, 1),
        (4, 10_450, 850, MAIN, "CPU", 1, 4, 2, 1),
    ]


def test_slice_ids_lead_to_the_slices(whole: Session) -> None:
    assert ask(
        whole,
        "SELECT category, slice.name, count() FROM slice JOIN "
        "(SELECT slice_id, ts FROM profinfer_ubatch UNION ALL SELECT slice_id, ts FROM "
        "profinfer_graph UNION ALL SELECT slice_id, ts FROM profinfer_sequence UNION ALL "
        "SELECT id, ts FROM profinfer_operator_slice) AS r ON slice.id = r.slice_id AND "
        "slice.ts = r.ts GROUP BY category, slice.name ORDER BY category, slice.name",
    ) == [
        ("graph", "graph CPU", 4),
        ("operator", MATRIX, 8),
        ("operator", SUM, 8),
        ("operator", FUSED, 8),
        ("sequence", "decode", 3),
        ("sequence", "prefill", 1),
        ("ubatch", "decode", 3),
        ("ubatch", "prefill", 1),
    ]


def test_tensors_are_numbered_sources_first(whole: Session) -> None:
    strides = (4, 1_024, 3_072, 3_072)
    assert ask(
        whole,
        "SELECT tensor_id, ts - BASE - 10 * US, name, op, type, kind, layer, view_src, buffer, "
        "address - 0x100000, bytes FROM profinfer_tensor ORDER BY tensor_id",
    ) == [
        (1, 9, "inp", "NONE", "f32", "leaf", None, None, 0x5000, 0xA00, 3_072),
        (2, 10, "norm-0", "RMS_NORM", "f32", "operator", 0, None, 0x5000, 0x000, 3_072),
        (3, 11, "blk.0.attn_norm.weight", "NONE", "f32", "weight", 0, None, 0x6000, 0xC00, 1_024),
        (4, 12, FUSED, "MUL", "f32", "operator", 0, None, 0x5000, 0x200, 3_072),
        (5, 13, "blk.0.attn_q.weight", "NONE", "q4_K", "weight", 0, None, 0x6000, 0xE00, 36_864),
        (6, 14, MATRIX, "MUL_MAT", "f32", "operator", 0, None, 0x5000, 0x400, 3_072),
        (7, 15, "Qcur-0 (view)", "VIEW", "f32", "view", 0, 6, 0x5000, 0x600, 3_072),
        (8, 16, SUM, "ADD", "f32", "operator", 0, None, 0x5000, 0x800, 3_072),
    ]
    shapes = ask(
        whole,
        "SELECT ne0, ne1, ne2, ne3, nb0, nb1, nb2, nb3 FROM profinfer_tensor ORDER BY tensor_id",
    )
    assert shapes == [
        (*SHAPE, *strides),
        (*SHAPE, *strides),
        (256, 1, 1, 1, 4, 1_024, 1_024, 1_024),
        (*SHAPE, *strides),
        (256, 256, 1, 1, 144, 144, 36_864, 36_864),
        (*SHAPE, *strides),
        (*SHAPE, *strides),
        (*SHAPE, *strides),
    ]


def test_tensors_are_described_with_their_operands(whole: Session) -> None:
    norm, matrix = "blk.0.attn_norm.weight f32 [256]", "blk.0.attn_q.weight q4_K [256, 256]"
    assert ask(whole, "SELECT description FROM profinfer_tensor ORDER BY tensor_id") == [
        ("NONE f32 [256, 3]  #1",),
        ("RMS_NORM f32 [256, 3] = inp f32 [256, 3]  #2",),
        ("NONE f32 [256]  #3",),
        (f"MUL f32 [256, 3] = norm-0 f32 [256, 3], {norm}  #4",),
        ("NONE q4_K [256, 256]  #5",),
        (f"MUL_MAT f32 [256, 3] = {matrix}, scaled-0 f32 [256, 3]  #6",),
        ("VIEW f32 [256, 3] = Qcur-0 f32 [256, 3]  #7",),
        ("ADD f32 [256, 3] = Qcur-0 (view) f32 [256, 3], inp f32 [256, 3]  #8",),
    ]


def test_edges_are_operands_by_slot(whole: Session) -> None:
    assert ask(
        whole,
        "SELECT src_tensor_id, tensor_id, slot FROM profinfer_edge ORDER BY tensor_id, slot",
    ) == [(1, 2, 0), (2, 4, 0), (3, 4, 1), (5, 6, 0), (4, 6, 1), (6, 7, 0), (7, 8, 0), (1, 8, 1)]


def test_structure_and_its_nodes_are_there_once(whole: Session) -> None:
    assert ask(
        whole,
        "SELECT structure_id, ts - BASE - 10 * US, node_count, complete, cgraph "
        "FROM profinfer_structure",
    ) == [(1, 17, 5, 1, 0x9000)]
    assert ask(whole, "SELECT structure_id, node, tensor_id FROM profinfer_node ORDER BY node") == [
        (1, 0, 2),
        (1, 1, 4),
        (1, 2, 6),
        (1, 3, 7),
        (1, 4, 8),
    ]


def test_operator_slices_end_where_the_next_begins_and_tell_their_wait(whole: Session) -> None:
    found = ask(
        whole,
        "SELECT graph_id, tid, (ts - BASE) / US, dur / US, wait_dur / US, "
        "profinfer_operator_slice.name, complete FROM profinfer_operator_slice "
        "JOIN thread USING (utid) ORDER BY graph_id, tid, ts",
    )
    assert found[:6] == [
        (1, MAIN, 1_200, 500, 200, FUSED, 1),
        (1, MAIN, 1_700, 1_300, 100, MATRIX, 1),
        (1, MAIN, 3_000, 1_900, 400, SUM, 1),
        (1, WORKER, 1_210, 496, 16, FUSED, 1),
        (1, WORKER, 1_706, 1_304, 410, MATRIX, 1),
        (1, WORKER, 3_010, 1_890, 100, SUM, 1),
    ]
    decodes = []
    for graph, t in enumerate(DECODES, 2):
        decodes += [
            (graph, MAIN, t + 100, 100, 50, FUSED, 1),
            (graph, MAIN, t + 200, 300, 100, MATRIX, 1),
            (graph, MAIN, t + 500, 400, 200, SUM, 1),
            (graph, WORKER, t + 100, 100, 10, FUSED, 1),
            (graph, WORKER, t + 200, 310, 60, MATRIX, 1),
            (graph, WORKER, t + 510, 390, 300, SUM, 1),
        ]
    assert found[6:] == decodes


OPERATORS = (
    "SELECT (ts - BASE) / US, dur / US, name, op, layer, graph_id, tensor_id, thread_count, "
    "busy_dur / US, wait_dur / US, imbalance_dur / US, slowest_dur / US, fastest_dur / US, "
    "complete FROM profinfer_operator ORDER BY ts"
)


def test_operators_join_the_slices_of_their_threads(whole: Session) -> None:
    found = ask(whole, OPERATORS)
    assert found[:3] == [
        (1_200, 506, FUSED, "RMS_NORM+MUL", 0, 1, 4, 2, 780, 216, 190, 480, 300, 1),
        (1_700, 1_310, MATRIX, "MUL_MAT", 0, 1, 6, 2, 2_094, 510, 300, 1_200, 894, 1),
        (3_000, 1_900, SUM, "ADD", 0, 1, 8, 2, 3_290, 500, 300, 1_790, 1_500, 1),
    ]
    decodes: Rows = []
    for graph, t in enumerate(DECODES, 2):
        decodes += [
            (t + 100, 100, FUSED, "RMS_NORM+MUL", 0, graph, 4, 2, 140, 60, 40, 90, 50, 1),
            (t + 200, 310, MATRIX, "MUL_MAT", 0, graph, 6, 2, 450, 160, 50, 250, 200, 1),
            (t + 500, 400, SUM, "ADD", 0, graph, 8, 2, 290, 500, 100, 200, 90, 1),
        ]
    assert found[3:] == decodes


TOTALS = (
    "SELECT name, op, layer, runs, thread_count, dur / US, max_dur / US, busy_dur / US, "
    "wait_dur / US, imbalance_dur / US, slowest_dur / US, fastest_dur / US, incomplete "
    "FROM profinfer_operator_total ORDER BY name"
)


def test_totals_add_up_all_runs(whole: Session) -> None:
    fused = (FUSED, "RMS_NORM+MUL", 0)
    assert ask(whole, TOTALS) == [
        (MATRIX, "MUL_MAT", 0, 4, 2, 2_240, 1_310, 3_444, 990, 450, 1_950, 1_494, 0),
        (SUM, "ADD", 0, 4, 2, 3_100, 1_900, 4_160, 2_000, 600, 2_390, 1_770, 0),
        (*fused, 4, 2, 806, 506, 1_200, 396, 310, 750, 450, 0),
    ]


def test_barriers_inside_an_operator_have_the_last_arrival_and_the_wait(whole: Session) -> None:
    assert ask(
        whole,
        "SELECT graph_id, string_value, number, (i.ts - BASE) / US, thread_count, wait_dur / US, "
        "complete FROM profinfer_inside_barrier AS i JOIN args USING (arg_set_id) "
        "WHERE flat_key = 'correlation_id' ORDER BY i.ts",
    ) == [
        (graph, "MUL_MAT f32 [256, 3] = blk.0.attn_q.weight q4_K [256, 256], "
         "scaled-0 f32 [256, 3]  #6", 1, ts, 2, wait, 1)
        for graph, ts, wait in (
            (1, 2_000, 100), (2, 6_250, 20), (3, 8_250, 20), (4, 10_650, 20),
        )
    ]  # fmt: skip


def test_sequences_know_their_request_and_the_next_step(whole: Session) -> None:
    assert ask(
        whole,
        "SELECT (ts - BASE) / US, dur / US, sequence, request_id, phase, position, tokens, "
        "outputs, ubatch_id, (next_ts - BASE) / US FROM profinfer_sequence ORDER BY ts",
    ) == [
        (1_000, 4_000, 0, 1, "prefill", 0, 3, 1, 1, 6_000),
        (6_000, 1_000, 0, 1, "decode", 3, 1, 1, 2, 8_000),
        (8_000, 1_000, 0, 1, "decode", 4, 1, 1, 3, 10_400),
        (10_400, 1_000, 0, 1, "decode", 5, 1, 1, 4, None),
    ]


REQUESTS = (
    "SELECT request_id, sequence, (ts - BASE) / US, dur / US, prompt_tokens, verified_tokens, "
    "ttft / US, prefill_dur / US, decode_dur / US, steps, complete FROM profinfer_request"
)
STEPS = (
    "SELECT request_id, step, (ts - BASE) / US, tpot / US, ubatch_dur / US, position, ubatch_id, "
    "complete FROM profinfer_token ORDER BY ts"
)


def test_request_has_its_first_token_where_decoding_begins(whole: Session) -> None:
    assert ask(whole, REQUESTS) == [(1, 0, 1_000, 10_400, 3, 3, 5_000, 4_000, 4_400, 3, 1)]


def test_tokens_last_from_one_decoding_step_to_the_next(whole: Session) -> None:
    assert ask(whole, STEPS) == [
        (1, 1, 6_000, 2_000, 1_000, 3, 2, 1),
        (1, 2, 8_000, 2_400, 1_000, 4, 3, 1),
    ]


def test_recording_tells_how_it_was_made_and_how_it_ended(whole: Session) -> None:
    found = {row[0]: row[1] for row in ask(whole, "SELECT key, value FROM profinfer_recording")}
    # 5 nodes; 4 times 2 records of the ubatch, 2 of the graph, 3 operators and 4 barriers of
    # each of the 2 threads.
    expected: dict[object, object] = {
        "profinfer": "0",
        "target.name": "engine",
        "target.pid": "100",
        "target.command[0]": "engine",
        "target.command[2]": "model",
        "config.level": "barrier",
        "plan.level": "barrier",
        "layout.version": "1.2.3",
        "uname.release": "6.1",
        "cpus": "4",
        "reason": "the target ended",
        "records": str(5 + 4 * (2 + 2 + 2 * 7)),
        "unattributed": "0",
    }
    assert {key: found.get(key) for key in expected} == expected


def test_whole_recording_has_neither_losses_nor_warnings(whole: Session) -> None:
    assert ask(whole, "SELECT * FROM profinfer_loss") == []
    assert ask(whole, "SELECT * FROM profinfer_recording_warning") == []


def test_loss_has_its_gap_and_its_kind(lossy: Session) -> None:
    assert ask(
        lossy,
        "SELECT (ts - BASE) / US, (first_ts - BASE) / US, cpu, kind, lost FROM profinfer_loss",
    ) == [(GAP[1], GAP[0], WORKER % 4, "barrier", 1)]
    assert [row[0] for row in ask(lossy, "SELECT message FROM profinfer_recording_warning")] == [
        "1 records were lost in 1 gaps"
    ]


def test_only_operators_in_the_gap_are_incomplete(lossy: Session) -> None:
    assert ask(
        lossy,
        "SELECT graph_id, tid, profinfer_operator_slice.name FROM profinfer_operator_slice "
        "JOIN thread USING (utid) WHERE NOT complete ORDER BY tid",
    ) == [(3, MAIN, FUSED), (3, WORKER, FUSED)]
    assert ask(
        lossy, "SELECT graph_id, name FROM profinfer_operator WHERE NOT complete"
    ) == [(3, FUSED)]  # fmt: skip
    assert ask(lossy, "SELECT count() FROM profinfer_operator") == [(12,)]


def test_incomplete_operators_are_counted_and_left_out_of_totals(lossy: Session) -> None:
    fused = (FUSED, "RMS_NORM+MUL", 0)
    assert ask(lossy, TOTALS) == [
        (MATRIX, "MUL_MAT", 0, 4, 2, 2_240, 1_310, 3_444, 990, 450, 1_950, 1_494, 0),
        (SUM, "ADD", 0, 4, 2, 3_100, 1_900, 4_160, 2_000, 600, 2_390, 1_770, 0),
        (*fused, 3, 2, 706, 506, 1_060, 336, 270, 660, 400, 1),
    ]


def test_whatever_a_gap_touches_is_marked(lossy: Session) -> None:
    ubatches = ask(lossy, "SELECT ubatch_id, complete FROM profinfer_ubatch ORDER BY ts")
    assert ubatches == [(1, 1), (2, 1), (3, 0), (4, 1)]
    graphs = ask(lossy, "SELECT graph_id, complete FROM profinfer_graph ORDER BY ts")
    assert graphs == [(1, 1), (2, 1), (3, 0), (4, 1)]
    assert [row[-1] for row in ask(lossy, REQUESTS)] == [0]
    # The gap begins before the first step has ended.
    assert [row[-1] for row in ask(lossy, STEPS)] == [0, 0]
    inside = ask(lossy, "SELECT graph_id, complete FROM profinfer_inside_barrier ORDER BY ts")
    assert inside == [(1, 1), (2, 1), (3, 1), (4, 1)]
