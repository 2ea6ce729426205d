"""Every ready query answers with the numbers worked out by hand for test_tables' recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import compress
from pathlib import Path

import pytest

from profinfer.trace_processor import Session, open_trace, query
from profinfer.trace_processor.query import Table
from profinfer.ui.links import without_slices
from tests.captures import MAIN, WORKER, Capture, convert
from tests.sql.test_tables import FUSED, MATRIX, SUM, write_lossy, write_small

MS = 1_000_000
FUSED_OP = "RMS_NORM+MUL"


def answer(session: Session, name: str) -> list[Table]:
    """The tables of a ready query, as it prints them without links."""
    return without_slices(query.run(session, query.read(query.resolve(name))))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with open_trace(write_small(tmp_path_factory.mktemp("ready") / "small.pftrace")) as session:
        yield session


@pytest.fixture(scope="module")
def lossy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with open_trace(write_lossy(tmp_path_factory.mktemp("ready") / "lossy.pftrace")) as session:
        yield session


def test_summary_tells_latency_phases_ops_and_losses(whole: Session) -> None:
    requests, phases, ops, _, losses, processes = answer(whole, "summary")
    # Of the times per token 2.0 and 2.4 ms, 1.0 and 1.4 outside; 3 tokens in 4 ms, 2 in 4.4 ms.
    assert requests.columns == [
        "request", "kind", "sequence", "prompt_tokens", "cached_tokens", "tokens", "steps",
        "verified_tokens", "ttft_ms", "tpot_median_ms", "tpot_p95_ms", "outside_ms",
        "prefill_tokens_per_s", "decode_tokens_per_s", "certain", "complete", "reason",
    ]  # fmt: skip
    assert requests.rows == [
        (1, "request", 0, 3, 0, 4, 3, 3, 5.0, 2.2, 2.38, 1.2, 750.0, 454.5, 1, 1, None)
    ]
    assert phases.columns == [
        "phase", "ubatches", "tokens", "time_ms", "graphs_ms", "graphs", "incomplete",
    ]  # fmt: skip
    assert phases.rows == [
        ("prefill", 1, 3, 4.0, 3.8, 1, 0),
        ("outside", None, None, 3.4, None, None, 0),
        ("decode", 3, 3, 3.0, 2.55, 3, 0),
    ]
    assert ops.rows == [
        ("ADD", 4, 4.16, None, None, 47.3, None, 2.0, 0),
        ("MUL_MAT", 4, 3.44, None, None, 39.1, None, 0.99, 0),
        (FUSED_OP, 4, 1.2, None, None, 13.6, None, 0.4, 0),
    ]
    assert losses.rows == []
    assert losses.columns == ["kind", "cpu", "lost", "gaps", "gaps_ms"]
    assert processes.columns == [
        "process", "pid", "engine", "levels", "left_out", "graphs", "incomplete", "note",
        "cgroup", "container_id", "unit",
    ]  # fmt: skip
    assert processes.rows == [
        ("engine (100)", 100, "ggml 1.2.3", None, None, 4, 0, None, None, None, None)
    ]


def test_summary_takes_median_and_percentile_over_all_steps(tmp_path: Path) -> None:
    capture = Capture()
    capture.ubatch(0, 3 * MS, [(0, 0, 5, 1, 1)])
    time = 4 * MS
    for step in range(22):
        capture.ubatch(time, time + MS // 2, [(0, 5 + step, 1, 1, 1)])
        time += (step + 1) * MS
    with open_trace(convert(capture.frames(), tmp_path / "steps.pftrace")) as session:
        requests = answer(session, "summary")[0]
    # Steps of 1, 2, ... 21 ms: 21 tokens in 231 ms; all but half a millisecond each is outside.
    assert requests.rows == [
        (1, "request", 0, 5, 0, 23, 22, 22, 4.0, 11.0, 20.0, 10.5, 1666.7, 90.9, 1, 1, None)
    ]


def test_summary_lists_every_request_of_every_sequence(tmp_path: Path) -> None:
    capture = Capture()
    capture.ubatch(0, MS, [(0, 0, 4, 1, 1)])
    capture.ubatch(2 * MS, 3 * MS, [(0, 4, 1, 1, 1), (1, 0, 2, 1, 1)])
    capture.ubatch(5 * MS, 6 * MS, [(0, 5, 1, 1, 1), (1, 2, 1, 1, 1)])
    capture.ubatch(7 * MS, 8 * MS, [(0, 0, 6, 1, 1)])
    with open_trace(convert(capture.frames(), tmp_path / "slots.pftrace")) as session:
        requests, phases, *_ = answer(session, "summary")
    columns = [column not in ("kind", "cached_tokens", "reason") for column in requests.columns]
    assert [tuple(compress(row, columns)) for row in requests.rows] == [
        (1, 0, 4, 3, 2, 2, 2.0, 3.0, 3.0, 2.0, 4000.0, 333.3, 1, 1),
        (2, 1, 2, 2, 1, 1, 3.0, None, None, None, 2000.0, None, 1, 1),
        (3, 0, 6, None, 0, 0, None, None, None, None, 6000.0, None, 1, 1),
    ]
    assert sorted(phases.rows, key=str) == [
        ("decode", 1, 2, 1.0, None, None, 0),
        ("mixed", 1, 3, 1.0, None, None, 0),
        ("outside", None, None, 3.0, None, None, 0),
        ("prefill", 2, 10, 2.0, None, None, 0),
    ]


def test_stalls_divides_waiting_into_imbalance_and_release(whole: Session) -> None:
    by_op, by_operator, _ = answer(whole, "stalls")
    assert by_op.columns == [
        "op", "runs", "work_ms", "wait_ms", "stall_ratio", "imbalance_ms", "interference_ms",
        "throttled_ms", "starting_ms", "fault_ms", "blocked_ms", "release_ms",
        "inside_wait_min_ms", "incomplete",
    ]  # fmt: skip
    assert by_op.rows == [
        ("ADD", 4, 4.16, 2.0, 0.325, 0.6, None, None, None, None, None, 1.4, None, 0),
        ("MUL_MAT", 4, 3.44, 0.99, 0.223, 0.45, None, None, None, None, None, 0.54, 0.16, 0),
        (FUSED_OP, 4, 1.2, 0.4, 0.248, 0.31, None, None, None, None, None, 0.09, None, 0),
    ]
    assert by_operator.rows == [
        (SUM, "ADD", 4, 1040.0, 500.0, 0.325, 0.3, None, 0),
        (MATRIX, "MUL_MAT", 4, 861.0, 247.5, 0.223, 0.455, None, 0),
        (FUSED, FUSED_OP, 4, 300.0, 99.0, 0.248, 0.783, None, 0),
    ]


def test_imbalance_compares_the_slowest_with_the_fastest_thread(whole: Session) -> None:
    by_operator, by_thread = answer(whole, "imbalance")
    assert by_operator.columns == [
        "name", "op", "threads", "runs", "slowest_mean_us", "fastest_mean_us",
        "slowest_net_us", "fastest_net_us", "idle_ms", "idle_share", "incomplete",
    ]  # fmt: skip
    assert by_operator.rows == [
        (SUM, "ADD", 2, 4, 597.5, 442.5, None, None, 0.6, 0.097, 0),
        (MATRIX, "MUL_MAT", 2, 4, 487.5, 373.5, None, None, 0.45, 0.101, 0),
        (FUSED, FUSED_OP, 2, 4, 187.5, 112.5, None, None, 0.31, 0.194, 0),
    ]
    assert by_thread.rows == [
        (WORKER, "compute 1", 12, 4.45, 1.64, 0.269, 0),
        (MAIN, "compute 0", 12, 4.35, 1.75, 0.287, 0),
    ]


def test_hotspots_orders_operators_by_work_within_phases(whole: Session) -> None:
    table, modules, _ = answer(whole, "hotspots")
    assert table.columns == [
        "phase", "name", "op", "layer", "runs", "work_ms", "net_ms", "probes_percent", "percent",
        "mean_us", "max_us", "incomplete",
    ]  # fmt: skip
    assert table.rows == [
        ("prefill", SUM, "ADD", 0, 1, 3.29, None, None, 37.4, 1900.0, 1900.0, 0),
        ("prefill", MATRIX, "MUL_MAT", 0, 1, 2.09, None, None, 23.8, 1310.0, 1310.0, 0),
        ("decode", MATRIX, "MUL_MAT", 0, 3, 1.35, None, None, 15.3, 310.0, 310.0, 0),
        ("decode", SUM, "ADD", 0, 3, 0.87, None, None, 9.9, 400.0, 400.0, 0),
        ("prefill", FUSED, FUSED_OP, 0, 1, 0.78, None, None, 8.9, 506.0, 506.0, 0),
        ("decode", FUSED, FUSED_OP, 0, 3, 0.42, None, None, 4.8, 100.0, 100.0, 0),
    ]
    assert modules.columns == [
        "phase", "module", "runs", "work_ms", "net_ms", "probes_percent", "percent", "incomplete",
    ]  # fmt: skip
    assert modules.rows == [
        ("decode", "attention", 6, 1.77, None, None, 67.0, 0),
        ("decode", None, 3, 0.87, None, None, 33.0, 0),
        ("prefill", None, 1, 3.29, None, None, 53.4, 0),
        ("prefill", "attention", 2, 2.87, None, None, 46.6, 0),
    ]


def test_tokens_divides_each_step_into_ubatch_and_rest(whole: Session) -> None:
    table, *_ = answer(whole, "tokens")
    assert table.columns == [
        "request", "step", "position", "tokens", "tpot_ms", "ubatch_ms", "graphs_ms", "draft_ms",
        "others_ms", "whose", "rest_ms", "complete",
    ]  # fmt: skip
    assert table.rows == [
        (1, 1, 3, 1, 2.0, 1.0, 0.85, 0.0, 0.0, None, 1.0, 1),
        (1, 2, 4, 1, 2.4, 1.0, 0.85, 0.0, 0.0, None, 1.4, 1),
    ]


def test_dag_lists_nodes_with_operands_and_mean_times(whole: Session) -> None:
    (table,) = answer(whole, "dag")
    assert table.columns == [
        "node", "name", "op", "type", "shape", "kind", "layer", "sources", "runs", "mean_us",
        "incomplete",
    ]  # fmt: skip
    shape = ("f32", "256 x 3 x 1 x 1")
    weight = "(weight)"
    assert table.rows == [
        (0, "norm-0", "RMS_NORM", *shape, "operator", 0, "inp", None, None, None),
        (1, FUSED, FUSED_OP, *shape, "operator", 0, f"norm-0, blk.0.attn_norm.weight {weight}",
         4, 201.5, 0),
        (2, MATRIX, "MUL_MAT", *shape, "operator", 0, f"blk.0.attn_q.weight {weight}, scaled-0",
         4, 560.0, 0),
        (3, "Qcur-0 (view)", "VIEW", *shape, "view", 0, MATRIX, None, None, None),
        (4, SUM, "ADD", *shape, "operator", 0, "Qcur-0 (view), inp", 4, 775.0, 0),
    ]  # fmt: skip


def _named(table: Table, name: object) -> tuple[object, ...]:
    (row,) = (row for row in table.rows if name in row)
    return row


def _decoded(table: Table, name: object) -> tuple[object, ...]:
    (row,) = (row for row in table.rows if row[:2] == ("decode", name))
    return row


@pytest.mark.parametrize(
    ("name", "index", "find", "expected"),
    [
        ("summary", 2, lambda t: _named(t, FUSED_OP),
         (FUSED_OP, 3, 1.06, None, None, 12.2, None, 0.34, 1)),
        ("stalls", 0, lambda t: _named(t, FUSED_OP),
         (FUSED_OP, 3, 1.06, 0.34, 0.241, 0.27, None, None, None, None, None, 0.07, None, 1)),
        ("stalls", 1, lambda t: _named(t, FUSED),
         (FUSED, FUSED_OP, 3, 353.3, 112.0, 0.241, 0.804, None, 1)),
        ("imbalance", 0, lambda t: _named(t, FUSED),
         (FUSED, FUSED_OP, 2, 3, 220.0, 133.3, None, None, 0.27, 0.193, 1)),
        ("imbalance", 1, lambda t: _named(t, WORKER),
         (WORKER, "compute 1", 11, 4.36, 1.63, 0.271, 1)),
        ("hotspots", 0, lambda t: _decoded(t, FUSED),
         ("decode", FUSED, FUSED_OP, 0, 2, 0.28, None, None, 3.2, 100.0, 100.0, 1)),
        ("dag", 0, lambda t: _named(t, FUSED),
         (1, FUSED, FUSED_OP, "f32", "256 x 3 x 1 x 1", "operator", 0,
          "norm-0, blk.0.attn_norm.weight (weight)", 3, 235.3, 1)),
    ],
    ids=lambda value: str(value) if isinstance(value, str | int) else "",
)  # fmt: skip
def test_incomplete_operator_is_counted_and_in_no_sum(
    lossy: Session,
    name: str,
    index: int,
    find: Callable[[Table], tuple[object, ...]],
    expected: tuple[object, ...],
) -> None:
    assert find(answer(lossy, name)[index]) == expected


def test_operators_beside_the_gap_keep_their_sums(whole: Session, lossy: Session) -> None:
    for name in ("stalls", "imbalance"):
        for before, after in zip(answer(whole, name), answer(lossy, name), strict=True):
            for operator in ("ADD", "MUL_MAT"):
                rows = [[r for r in table.rows if operator in r] for table in (before, after)]
                assert rows[0] == rows[1]


def test_summary_and_tokens_say_what_lost_records(lossy: Session) -> None:
    requests, phases, _, _, losses, _ = answer(lossy, "summary")
    assert [row[-2] for row in requests.rows] == [0]
    assert phases.rows == [
        ("prefill", 1, 3, 4.0, 3.8, 1, 0),
        ("outside", None, None, 3.4, None, None, 0),
        ("decode", 3, 3, 3.0, 2.55, 3, 1),
    ]
    assert losses.rows == [("barrier", WORKER % 4, 1, 1, 0.69)]
    assert [row[-1] for row in answer(lossy, "tokens")[0].rows] == [0, 0]
