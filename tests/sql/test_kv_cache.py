"""A line through attention's work, and bytes that operators have to move: worked out by hand."""

from __future__ import annotations

import pytest

from tests.captures import MAIN, Capture, Shape, T
from tests.sql.harness import ask, opened, ready


def attention(capture: Capture, at: int, cells: int) -> Shape:
    return capture.structure(
        at,
        [
            T("q-0", "ADD", ("x",)),
            T("kq-0", "MUL_MAT", ("cache_k_l0 (view)", "q-0"), (cells, 1, 1, 1)),
            T("kqv-0", "MUL_MAT", ("cache_v_l0 (view)", "kq-0"), (8, 1, 1, 1)),
            T("cache_k_l0 (view)", ne=(8, cells, 1, 1), type="f16"),
            T("cache_v_l0 (view)", ne=(cells, 8, 1, 1), type="f16"),
            T("x"),
        ],
    )


def grown(steps: int = 40, disturbed: int = 1 << 30) -> Capture:
    """KQ takes 5 us and 10 ns per cell, KQV 2 us and 3 ns per token; 32 cells at a time. Every
    how many tokens are `disturbed`, for 50 us each time."""
    capture = Capture()
    capture.ubatch(0, 1_000, [(0, 0, 5, 1, 1)])
    at, cells = 10_000, 0
    shape: Shape | None = None
    for step in range(steps):
        context = 6 + step
        if -(-context // 32) * 32 != cells:
            cells = -(-context // 32) * 32
            shape = attention(capture, at, cells)
            at += 1_000
        late = 50_000 if step % disturbed == disturbed - 1 else 0
        kq, kqv = 5_000 + 10 * cells + late, 2_000 + 3 * context + late
        begin = at + 100
        middle = begin + 500 + kq
        capture.ubatch(at, middle + kqv + 100, [(0, context - 1, 1, 1, 1)])
        capture.graph(
            shape,
            at + 50, middle + kqv,
            {MAIN: [("q-0", begin), ("kq-0", begin + 500), ("kqv-0", middle)]},
        )  # fmt: skip
        at = middle + kqv + 1_000
    return capture


def test_kv_growth_finds_slope_and_step() -> None:
    with opened(grown()) as session:
        total, layers, _ = ready(session, "kv_growth").values()
    kq, kqv = total
    assert (kq["part"], kq["tokens"], kq["context_from"], kq["context_to"]) == ("KQ", 40, 6, 45)
    assert (kq["step_cells"], kq["ns_per_cell"], kq["us_per_step"]) == (32, 10.0, 0.3)
    assert (kqv["slope_ns_per_token"], kqv["r2"]) == (3.0, 1.0)
    assert kq["incomplete"] == kqv["incomplete"] == 0
    assert [(row["part"], row["layer"], row["cells_from"], row["cells_to"]) for row in layers] == [
        ("KQ", 0, 32, 64), ("KQV", 0, 32, 64),
    ]  # fmt: skip
    assert layers[1]["slope_ns_per_token"] == 3.0


def test_tokens_that_were_disturbed_do_not_bend_the_lines() -> None:
    with opened(grown(320, 7)) as session:
        kq, kqv = next(iter(ready(session, "kv_growth").values()))
    assert kq["ns_per_cell"] == pytest.approx(10, rel=0.01)
    assert kqv["slope_ns_per_token"] == pytest.approx(3, rel=0.05)
    assert kqv["r2"] == pytest.approx(1, abs=0.01)
    assert kqv["mean_us"] == pytest.approx(2 + 3e-3 * (6 + 325) / 2 + 50 * 45 / 320, abs=0.1)


def test_kv_growth_says_nothing_of_one_token() -> None:
    with opened(grown(1)) as session:
        kq, _ = next(iter(ready(session, "kv_growth").values()))
    assert (kq["tokens"], kq["slope_ns_per_token"], kq["step_cells"]) == (1, None, None)


def test_traffic_counts_rows_experts_and_fused_operands() -> None:
    capture = Capture()
    shape = capture.structure(
        1_000,
        [
            T("norm", "RMS_NORM", ("x",), (64, 2, 1, 1)),
            T("attn_norm-0", "MUL", ("norm", "blk.0.attn_norm.weight"), (64, 2, 1, 1)),
            T("up-0", "MUL_MAT", ("blk.0.ffn_up.weight", "attn_norm-0"), (256, 2, 1, 1)),
            T("x", ne=(64, 2, 1, 1)),
            T("blk.0.attn_norm.weight", ne=(64, 1, 1, 1)),
            T("blk.0.ffn_up.weight", ne=(64, 256, 1, 1), type="f16"),
        ],
    )
    capture.graph(
        shape, 5_000, 9_000, {MAIN: [("norm+attn_norm-0", 6_000), ("up-0", 7_000)]}
    )  # fmt: skip
    with opened(capture) as session:
        found = ask(
            session,
            "SELECT k.op, t.weight_bytes, t.read_bytes, t.written_bytes FROM"
            " profinfer_operator_traffic AS t JOIN _operator_kind AS k USING (arg_set_id)"
            " ORDER BY 1",
        )
        table, _ = ready(session, "memory").values()
    assert found == [
        ("MUL_MAT", 64 * 256 * 2, 64 * 256 * 2 + 64 * 2 * 4, 256 * 2 * 4),
        ("RMS_NORM+MUL", 64 * 4, 64 * 2 * 4 + 64 * 4, 64 * 2 * 4),
    ]
    assert [(row["op"], row["runs"], row["expected_mb"], row["gb_per_s"]) for row in table] == [
        ("MUL_MAT", 1, 0.04, 17.66), ("RMS_NORM+MUL", 1, 0.0, 1.28),
    ]  # fmt: skip
    assert {row["major_faults"] for row in table} == {None}
