"""What charts are made of, worked out by hand: work, products, pace, backends, threads, experts."""

from __future__ import annotations

import pytest

from profinfer.records.dtypes import Kind
from tests.captures import MAIN, WORKER, Capture, T
from tests.sql.harness import opened, ready, rows
from tests.sql.schedules import small, split, ubatches
from tests.sql.test_experts import Recording, decode
from tests.sql.test_kv_cache import grown
from tests.sql.test_scheduling import schedule

MS = 1_000_000


def test_work_by_op_layer_and_module() -> None:
    """tests/sql/schedules.py, us of both threads: 30 and 15 of the fused operator, 150 and 228 of
    Qcur-0, 50 and 15 of ffn_silu-1, 300 and 290 of the result; in prefill, and twice in decode."""
    with opened(small()) as session:
        ops, layers = ready(session, "work").values()
    assert rows(ops, "phase", "op", "runs", "work_ms", "per_token_us", "incomplete") == [
        ("decode", "ADD", 2, 1.18, 1180.0, 0),
        ("decode", "MUL_MAT", 2, 0.76, 756.0, 0),
        ("decode", "SILU", 2, 0.13, 130.0, 0),
        ("decode", "RMS_NORM+MUL", 2, 0.09, 90.0, 0),
        ("prefill", "ADD", 1, 0.59, 196.7, 0),
        ("prefill", "MUL_MAT", 1, 0.38, 126.0, 0),
        ("prefill", "SILU", 1, 0.07, 21.7, 0),
        ("prefill", "RMS_NORM+MUL", 1, 0.04, 15.0, 0),
    ]
    assert ops[0]["percent"] == round(100 * 1180 / 2156, 1)
    assert sum(row["work_ms"] for row in layers) == pytest.approx(3.24, abs=0.02)  # type: ignore[misc]
    assert {row["layer"] for row in layers} <= {0, 1, None}
    assert {row["incomplete"] for row in layers} == {0}


def multiplying(sizes: tuple[int, ...] = (64, 256, 1024)) -> Capture:
    """A decoded token: products of so many rows of 64 f16 weights with a column, half a nanosecond
    for each multiplication on one thread."""
    capture = Capture("operator")
    capture.ubatch(0, MS, [(0, 0, 5, 1, 1)])
    tensors = [T("x", ne=(64, 1, 1, 1))]
    at, operators = 3 * MS, []
    for m in sizes:
        weight = f"blk.0.w{m}.weight"
        tensors += [
            T(weight, ne=(64, m, 1, 1), type="f16", buffer=0x6000),
            T(f"p{m}-0", "MUL_MAT", (weight, "x"), (m, 1, 1, 1)),
        ]
        operators.append((f"p{m}-0", at))
        at += 32 * m
    shape = capture.structure(2 * MS, tensors)
    capture.ubatch(3 * MS - 1000, at + 1000, [(0, 5, 1, 1, 1)])
    capture.graph(shape, 3 * MS - 500, at, {MAIN: operators})
    return capture


def test_products_have_their_size_speed_and_line() -> None:
    with opened(multiplying()) as session:
        sizes, lines, roof = ready(session, "products").values()
    assert rows(sizes, "phase", "op", "type", "m", "n", "k", "runs", "mean_us", "gflop_per_s") == [
        ("decode", "MUL_MAT", "f16", m, 1, 64, 1, round(32 * m / 1000, 2), 4.0)
        for m in (1024, 256, 64)
    ]
    largest = sizes[0]
    moved = 2 * 64 * 1024 + 4 * 64 + 4 * 1024
    assert largest["mnk_millions"] == round(64 * 1024 / 1e6, 4)
    assert largest["gb_per_s"] == round(moved / (32 * 1024), 2)
    assert largest["flop_per_byte"] == round(2 * 64 * 1024 / moved, 2)
    assert rows(lines, "sizes", "exponent", "r2", "from_us", "to_us", "incomplete") == [
        (3, 1.0, 1.0, 2.05, 32.77, 0)
    ]
    assert roof[0]["flop_per_byte"] <= roof[1]["flop_per_byte"] <= roof[2]["flop_per_byte"]  # type: ignore[operator]
    assert {row["gflop_per_s"] for row in roof} == {4.0}


def test_two_sizes_give_no_line() -> None:
    with opened(multiplying((64, 256))) as session:
        _, lines, _ = ready(session, "products").values()
    assert rows(lines, "sizes", "exponent", "r2", "from_us") == [(2, None, None, None)]


def test_pace_adds_up_steps_where_there_are_many() -> None:
    """802 steps of 1 ms, every 100th of 9 ms: three to a row; the last one has no next."""
    capture = Capture()
    capture.ubatch(0, 2 * MS, [(0, 0, 5, 1, 1)])
    at = 3 * MS
    for step in range(803):
        capture.ubatch(at, at + MS // 2, [(0, 5 + step, 1, 1, 1)])
        at += 9 * MS if step % 100 == 99 else MS
    with opened(capture) as session:
        steps, prefills = ready(session, "pace").values()
    assert len(steps) == 268
    assert rows(steps[:1] + steps[33:34] + steps[-1:], "step", "steps", "tpot_ms", "max_ms") == [
        (1, 3, 1.0, 1.0), (100, 3, round(11 / 3, 3), 9.0), (802, 1, 1.0, 1.0),
    ]  # fmt: skip
    assert rows(steps[:1], "at_s", "disturbed_by", "preempted_ms") == [(0.003, None, None)]
    assert rows(prefills, "request", "tokens", "from_s", "to_s") == [(1, 5, 0.0, 0.002)]


def test_pace_says_what_disturbed_a_token() -> None:
    """tests/sql/test_request_queries.py: of a step of 9.8 ms 2 by a stranger, and 1 in a fault."""
    with opened(schedule()) as session:
        [step] = ready(session, "pace")["Time per token over time"]
    assert step["tpot_ms"] == 9.8
    assert (step["disturbed_by"], step["preempted_ms"], step["faults_ms"]) == (
        "preempted", 2.0, 1.0,
    )  # fmt: skip


def test_backends_take_turns() -> None:
    with opened(split()) as session:
        totals, _, turns = ready(session, "backends").values()
    assert rows(totals, "backend", "phase", "graphs", "operators", "time_ms", "percent") == [
        ("Vulkan0", "decode", 3, 6, 1.8, 66.7), ("CPU", "decode", 3, 3, 0.9, 33.3),
    ]  # fmt: skip
    assert rows(totals, "per_token_ms") == [(0.6,), (0.3,)]
    # All steps are of one length: the second one.
    assert rows(turns, "backend", "from_ms", "to_ms", "nodes", "incomplete") == [
        ("CPU", 0.001, 0.301, 1, 0), ("Vulkan0", 0.302, 0.902, 2, 0),
    ]  # fmt: skip


UNRECORDED = "Graphs by backend (unrecorded: without a record of any operator)"


def unrecorded(capture: Capture) -> list[dict[str, object]]:
    """What `summary` and `hotspots` both say of it."""
    with opened(capture) as session:
        said, also = (ready(session, name)[UNRECORDED] for name in ("summary", "hotspots"))
    assert said == also
    return said


def test_what_ran_without_recorded_operators_is_said() -> None:
    assert rows(unrecorded(split()), "backend", "graphs", "graphs_ms", "unrecorded", "percent") == [
        ("Vulkan0", 3, 1.8, 3, 66.7), ("CPU", 3, 0.9, 0, 0.0),
    ]  # fmt: skip
    assert rows(unrecorded(split()), "unrecorded_ms", "reason", "incomplete") == [
        (1.8, "the backend computes operators by itself", 0), (0.0, None, 0),
    ]  # fmt: skip


def test_why_it_ran_without_them_is_said() -> None:
    def why(capture: Capture) -> list[object]:
        return [row["reason"] for row in unrecorded(capture)]

    of_level = split()
    of_level.level = "graph"
    of_level.records = [row for row in of_level.records if row.kind != Kind.OPERATOR]
    assert why(of_level) == ["operators were not recorded (record --level operator)"] * 2
    chosen = split()
    chosen.names = ["b-*"]
    assert why(chosen) == [
        "none of their operators was asked for, or the backend computes them by itself"
    ] * 2  # fmt: skip
    unended = split(1)
    unended.lose(lambda row: row.kind in (Kind.GRAPH_END, Kind.OPERATOR, Kind.UBATCH_END))
    assert {row["graphs_ms"] for row in unrecorded(unended)} == {None, 0.3}
    assert "records were lost" in why(unended)


def test_threads_tells_numbers_of_threads_apart() -> None:
    """Two graphs while decoding: one on both threads, one on one."""
    capture = Capture()
    capture.ubatch(0, MS, [(0, 0, 5, 1, 1)])
    shape = capture.structure(
        MS + 1000, [T("x"), T("a-0", "ADD", ("x",)), T("b-0", "MUL", ("a-0",))]
    )
    at = 2 * MS
    capture.ubatch(at, at + MS, [(0, 5, 1, 1, 1)])
    one = [("a-0", at + 1000, at + 31_000), ("b-0", at + 41_000)]
    two = [("a-0", at + 1000, at + 21_000), ("b-0", at + 41_000)]
    capture.graph(shape, at + 500, at + 50_000, {MAIN: one, WORKER: two})
    at += 100_000
    one = [("a-0", at + 1000, at + 61_000), ("b-0", at + 61_000)]
    capture.graph(shape, at + 500, at + 70_000, {MAIN: one})
    with opened(capture) as session:
        [table] = ready(session, "threads").values()
    found = [row for row in table if row["op"] == "ADD"]
    assert rows(found, "threads", "runs", "mean_us", "work_us", "wait_share") == [
        (1, 1, 60.0, 60.0, 0.0), (2, 1, 40.0, 50.0, 0.375),
    ]  # fmt: skip
    assert rows(found, "has_counters", "incomplete") == [(0, 0)] * 2
    assert found[0]["expected_kb"] == 0.03


def test_experts_come_and_go_by_step_and_layer() -> None:
    it = Recording()
    it.run([(0, 0, 1, 1, 1)], [[[0, 1]], [[2, 3]]])
    for position, ids in enumerate(([[0, 1]], [[4, 5]], [[0, 4]])):
        it.run([decode(1 + position)], [ids, [[2, 3]]], durs=(1000 * (position + 1), 500))
    with opened(it.capture) as session:
        steps, used = ready(session, "expert_map").values()
    # Two operators a layer.
    assert rows(steps, "layer", "step", "steps", "mean_distance", "first_uses", "mean_us") == [
        (0, 1, 1, 1.0, 0, 2.0), (0, 2, 1, None, 2, 4.0), (0, 3, 1, 1.5, 0, 6.0),
        (1, 1, 1, 1.0, 0, 1.0), (1, 2, 1, 1.0, 0, 1.0), (1, 3, 1, 1.0, 0, 1.0),
    ]  # fmt: skip
    assert [row for row in rows(used, "layer", "step", "expert", "distance") if row[0] == 0] == [
        (0, 1, 0, 1), (0, 1, 1, 1), (0, 2, 4, None), (0, 2, 5, None), (0, 3, 0, 2), (0, 3, 4, 1),
    ]  # fmt: skip
    assert {row["incomplete"] for row in steps + used} == {0}


def test_medians_of_attention_lie_on_their_line() -> None:
    """tests/sql/test_kv_cache.py: 2 us, and 3 ns for each token of the context."""
    with opened(grown()) as session:
        points = ready(session, "kv_growth")["Work of all layers by context"]
    kqv = [row for row in points if row["part"] == "KQV"]
    assert len(kqv) == 32
    assert sum(row["tokens"] for row in kqv) == 40  # type: ignore[misc]
    for row in kqv:
        assert row["median_us"] == row["line_us"]
        assert row["line_us"] == pytest.approx(2 + 0.003 * row["context"], abs=0.01)  # type: ignore[operator]


def test_many_requests_have_their_own_rows() -> None:
    capture = ubatches(Capture(), [
        (0, 1, [(0, 0, 4, 1, 1)]), (2, 3, [(0, 4, 1, 1, 1)]), (4, 5, [(0, 5, 1, 1, 1)]),
        (6, 7, [(1, 0, 4, 1, 1)]), (8, 9, [(1, 4, 1, 1, 1)]), (11, 12, [(1, 5, 1, 1, 1)]),
    ])  # fmt: skip
    with opened(capture) as session:
        steps, prefills = ready(session, "pace").values()
    assert rows(steps, "request", "step", "tpot_ms") == [(1, 1, 2.0), (2, 1, 3.0)]
    assert rows(prefills, "request", "from_s") == [(1, 0.0), (2, 0.006)]
