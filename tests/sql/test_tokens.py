"""profinfer.tokens.requests: sequences, requests, TTFT and TPOT. Times in milliseconds."""

from __future__ import annotations

import pytest

from profinfer.records.dtypes import Kind
from tests.captures import BASE, CONTEXT, Capture
from tests.sql.harness import Rows, ask, opened, ready, rows
from tests.sql.schedules import small, ubatches

MS = 1_000_000
REQUESTS = (
    "SELECT request_id, sequence, (ts - BASE) / 1000000, dur / 1000000, prompt_tokens, "
    "verified_tokens, ttft / 1000000, prefill_dur / 1000000, decode_dur / 1000000, steps, "
    "complete FROM profinfer_request ORDER BY request_id"
)
TOKENS = (
    "SELECT request_id, step, (ts - BASE) / 1000000, tpot / 1000000, ubatch_dur / 1000000, "
    "position, complete FROM profinfer_token ORDER BY request_id, step"
)

Schedule = list[tuple[int, int, list[tuple[int, int, int, int, int]]]]


def decode(sequence: int, position: int) -> tuple[int, int, int, int, int]:
    return (sequence, position, 1, 1, 1)


ONE: Schedule = [
    (1, 11, [(0, 0, 4, 1, 1)]),
    (15, 17, [decode(0, 4)]),
    (20, 23, [decode(0, 5)]),
    (26, 28, [decode(0, 6)]),
    (31, 33, [decode(0, 7)]),
]
"""The first token has been sampled at 15, the others at 20, 26 and 31."""


def requests(schedule: Schedule) -> Rows:
    with opened(ubatches(Capture(), schedule)) as session:
        return ask(session, REQUESTS)


def test_ttft_and_tpot() -> None:
    with opened(ubatches(Capture(), ONE)) as session:
        assert ask(session, REQUESTS) == [(1, 0, 1, 32, 4, 4, 14, 10, 16, 4, 1)]
        assert ask(session, TOKENS) == [
            (1, 1, 15, 5, 2, 4, 1),
            (1, 2, 20, 6, 3, 5, 1),
            (1, 3, 26, 5, 2, 6, 1),
        ]


def test_sequences() -> None:
    with opened(ubatches(Capture(), ONE[:3])) as session:
        assert ask(
            session,
            "SELECT (ts - BASE) / 1000000, dur / 1000000, sequence, request_id, phase, position, "
            "tokens, outputs, ubatch_id, (next_ts - BASE) / 1000000 FROM profinfer_sequence "
            "ORDER BY ts",
        ) == [
            (1, 10, 0, 1, "prefill", 0, 4, 1, 1, 15),
            (15, 2, 0, 1, "decode", 4, 1, 1, 2, 20),
            (20, 3, 0, 1, "decode", 5, 1, 1, 3, None),
        ]


def test_a_prompt_in_several_ubatches_is_one_prefill() -> None:
    assert requests([
        (1, 5, [(0, 0, 3, 0, 0)]),
        (6, 9, [(0, 3, 3, 0, 0)]),
        (10, 12, [(0, 6, 1, 1, 1)]),
        (14, 15, [decode(0, 7)]),
        (16, 17, [decode(0, 8)]),
    ]) == [(1, 0, 1, 16, 7, 2, 13, 9, 2, 2, 1)]  # fmt: skip


def test_two_sequences_in_the_same_ubatches() -> None:
    """Sequence 1 is prefilled while sequence 0 already decodes."""
    schedule: Schedule = [
        (1, 5, [(0, 0, 3, 1, 1)]),
        (10, 14, [decode(0, 3), (1, 0, 6, 1, 1)]),
        (20, 22, [decode(0, 4), decode(1, 6)]),
        (27, 29, [decode(0, 5), decode(1, 7)]),
    ]
    with opened(ubatches(Capture(), schedule)) as session:
        assert ask(session, REQUESTS) == [
            (1, 0, 1, 28, 3, 3, 9, 4, 17, 3, 1),
            (2, 1, 10, 19, 6, 2, 10, 4, 7, 2, 1),
        ]
        assert ask(session, TOKENS) == [
            (1, 1, 10, 10, 4, 3, 1),
            (1, 2, 20, 7, 2, 4, 1),
            (2, 1, 20, 7, 2, 6, 1),
        ]
        assert ask(
            session, "SELECT phase, sequences, tokens FROM profinfer_ubatch ORDER BY ts"
        ) == [
            ("prefill", 1, 3),
            ("mixed", 2, 7),
            ("decode", 2, 2),
            ("decode", 2, 2),
        ]


def test_a_chat_goes_on_in_the_same_sequence() -> None:
    """The second question is prefilled behind the first answer, which stays in the cache."""
    assert requests([
        (1, 3, [(0, 0, 3, 1, 1)]),
        (5, 6, [decode(0, 3)]),
        (8, 9, [decode(0, 4)]),
        (20, 24, [(0, 5, 5, 1, 1)]),
        (26, 27, [decode(0, 10)]),
    ]) == [
        (1, 0, 1, 8, 3, 2, 4, 2, 3, 2, 1),
        (2, 0, 20, 7, 5, 1, 6, 4, 0, 1, 1),
    ]  # fmt: skip


def test_a_new_prompt_of_one_token_is_no_decoding() -> None:
    """It begins at position 0: nothing before it can have been sampled."""
    assert requests([
        (1, 3, [(0, 0, 3, 1, 1)]),
        (5, 6, [decode(0, 3)]),
        (8, 9, [(0, 0, 1, 1, 1)]),
        (10, 11, [decode(0, 1)]),
    ]) == [
        (1, 0, 1, 5, 3, 1, 4, 2, 0, 1, 1),
        (2, 0, 8, 3, 1, 1, 2, 1, 0, 1, 1),
    ]  # fmt: skip


def test_drafts_are_verified_while_decoding() -> None:
    """Three tokens at once with all their logits: decoding, though one draft was rejected."""
    with opened(ubatches(Capture(), [
        (1, 3, [(0, 0, 3, 1, 1)]),
        (5, 7, [(0, 3, 3, 3, 1)]),
        (9, 11, [(0, 5, 3, 3, 1)]),
        (13, 14, [decode(0, 8)]),
    ])) as session:  # fmt: skip
        assert ask(session, "SELECT phase, position FROM profinfer_sequence ORDER BY ts") == [
            ("prefill", 0),
            ("decode", 3),
            ("decode", 5),
            ("decode", 8),
        ]
        assert ask(session, "SELECT ttft, steps FROM profinfer_request") == [(4 * MS, 3)]


def test_recording_begun_while_decoding() -> None:
    with opened(ubatches(Capture(), [
        (1, 2, [decode(0, 57)]),
        (5, 6, [decode(0, 58)]),
        (8, 9, [decode(0, 59)]),
    ])) as session:  # fmt: skip
        assert ask(session, REQUESTS) == [(1, 0, 1, 8, 0, 3, None, 0, 7, 3, 0)]
        assert [row[3] for row in ask(session, TOKENS)] == [4, 3]


def test_a_prefill_without_an_answer_has_no_ttft() -> None:
    assert requests([(1, 3, [(0, 0, 3, 1, 1)])]) == [(1, 0, 1, 2, 3, 0, None, 2, None, 0, 1)]


def test_the_same_sequence_of_two_contexts_is_two_sequences() -> None:
    capture = ubatches(Capture(), [(1, 3, [(0, 0, 3, 1, 1)]), (9, 10, [decode(0, 3)])])
    ubatches(capture, [(4, 6, [(0, 0, 5, 1, 1)]), (7, 8, [decode(0, 5)])], context=CONTEXT + 1)
    with opened(capture) as session:
        assert [row[:7] for row in ask(session, REQUESTS)] == [
            (1, 0, 1, 9, 3, 1, 8),
            (2, 0, 4, 4, 5, 1, 3),
        ]


def test_a_step_in_which_records_were_lost_is_not_complete() -> None:
    capture = ubatches(Capture(), ONE)
    capture.add(Kind.OPERATOR, 21 * MS, 100)
    capture.lose(lambda row: row.kind == Kind.OPERATOR)
    with opened(
        capture, drains=[(BASE + t * MS + 1, BASE + t * MS + 1) for t in (20, 25)]
    ) as session:
        assert [(row[1], row[6]) for row in ask(session, TOKENS)] == [(1, 1), (2, 0), (3, 1)]
        assert [row[10] for row in ask(session, REQUESTS)] == [0]


def test_a_ubatch_of_many_runs_comes_in_several_records() -> None:
    runs = [(sequence, 0, 2, 1, 1) for sequence in range(30)]
    with opened(ubatches(Capture(), [(1, 3, runs)])) as session:
        assert ask(session, "SELECT tokens, sequences FROM profinfer_ubatch") == [(60, 30)]
        assert ask(session, "SELECT count(), count(DISTINCT sequence), sum(tokens) "
                            "FROM profinfer_sequence") == [(30, 30, 60)]  # fmt: skip


# ---- Ready queries


def test_summary_of_requests() -> None:
    with opened(ubatches(Capture(), ONE)) as session:
        table = ready(session, "summary")["Requests"]
        # TPOT 5, 6, 5 ms; 4 tokens in 10 ms; 3 in 16.
        assert rows(
            table, "request", "sequence", "prompt_tokens", "verified_tokens", "ttft_ms",
            "tpot_median_ms", "prefill_tokens_per_s", "decode_tokens_per_s", "complete",
        ) == [(1, 0, 4, 4, 14.0, 5.0, 400.0, 187.5, 1)]  # fmt: skip


def test_tpot_p95_lies_between_the_two_nearest_steps() -> None:
    """TPOTs of 10, 20, ... 210 ms: 95 % of the way from the first to the last is 200."""
    schedule: Schedule = [(1, 2, [(0, 0, 3, 1, 1)])]
    at = 10
    for step in range(1, 23):
        schedule.append((at, at + 1, [decode(0, 2 + step)]))
        at += 10 * step
    with opened(ubatches(Capture(), schedule)) as session:
        table = ready(session, "summary")["Requests"]
        assert rows(table, "tpot_median_ms", "tpot_p95_ms") == [(110.0, 200.0)]


def test_summary_of_phases_and_ops() -> None:
    with opened(small()) as session:
        tables = ready(session, "summary")
        by_phase = next(t for title, t in tables.items() if title.startswith("Time by phase"))
        assert rows(
            by_phase, "phase", "ubatches", "tokens", "time_ms", "graphs_ms", "graphs",
            "incomplete",
        ) == [
            ("decode", 1, 1, 1.7, 1.4, 2, 0), ("prefill", 1, 3, 0.9, 0.7, 1, 0),
            ("outside", None, None, 0.1, None, None, 0),
        ]  # fmt: skip
        by_op = next(t for title, t in tables.items() if title.startswith("Time by op"))
        assert rows(by_op, "op", "runs", "work_ms", "percent", "barrier_wait_ms", "incomplete") == [
            ("ADD", 3, 1.77, 54.7, 0.0, 0),
            ("MUL_MAT", 3, 1.13, 35.1, 0.38, 0),
            ("SILU", 3, 0.2, 6.0, 0.42, 0),
            ("RMS_NORM+MUL", 3, 0.14, 4.2, 0.08, 0),
        ]
        losses = next(t for title, t in tables.items() if title.startswith("Losses"))
        assert losses == []


def test_tokens_query() -> None:
    capture = ubatches(Capture(), ONE)
    capture.graph(None, 20_500_000, 22_500_000, {})
    with opened(capture) as session:
        table, *_ = ready(session, "tokens").values()
        assert rows(
            table, "request", "step", "position", "tpot_ms", "ubatch_ms", "graphs_ms", "rest_ms",
            "complete",
        ) == [
            (1, 1, 4, 5.0, 2.0, None, 3.0, 1),
            (1, 2, 5, 6.0, 3.0, 2.0, 3.0, 1),
            (1, 3, 6, 5.0, 2.0, None, 3.0, 1),
        ]  # fmt: skip


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_requests_are_numbered_in_order_of_their_start(order: tuple[int, int]) -> None:
    first, second = order
    found = requests([
        (1, 3, [(first, 0, 3, 1, 1)]),
        (4, 6, [(second, 0, 3, 1, 1)]),
    ])  # fmt: skip
    assert [row[:2] for row in found] == [(1, first), (2, second)]
