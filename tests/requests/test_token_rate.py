"""The counter of tokens per second holds what the user got, step by step."""

from __future__ import annotations

from dataclasses import dataclass, replace

from profinfer.requests.portions import Portion, Request
from profinfer.requests.token_rate import TokenRate

SECOND = 1_000_000_000
OPEN = (1 << 63) - 1


@dataclass
class Batch:
    begin: int
    end: int


def portion(position: int, request: Request, phase: str = "decode", outputs: int = 1) -> Portion:
    tokens = 4 if phase == "prefill" else outputs
    return Portion(1, request.sequence, 7, 0, 0, position, tokens, outputs, True, phase=phase,
                   request=request)  # fmt: skip


def request(number: int = 1, sequence: int = 0) -> Request:
    return Request(number, 1, sequence, 0, 0)


def test_a_step_lasts_until_the_next_one() -> None:
    rate, asked = TokenRate(), request()
    given = [
        *rate.batch([Batch(1 * SECOND, 2 * SECOND)], [portion(0, asked, "prefill")]),
        *rate.batch([Batch(3 * SECOND, 4 * SECOND)], [portion(4, asked)]),
        *rate.batch([Batch(5 * SECOND, 6 * SECOND)], [portion(5, asked)]),
        *rate.batch([Batch(5 * SECOND + SECOND // 4, 6 * SECOND)], [portion(6, asked)]),
    ]
    assert given == [(3 * SECOND, 0.5), (5 * SECOND, 4.0)]
    # The last one lasts until it was computed; what is not over has no rate.
    assert list(rate.finish()) == [(5 * SECOND + SECOND // 4, 4 / 3), (6 * SECOND, 0.0)]
    assert not list(rate.batch([Batch(9 * SECOND, OPEN)], [portion(0, request(2))]))
    assert not list(rate.finish())


def test_requests_in_one_batch_and_pauses_between_them() -> None:
    rate, first, second = TokenRate(), request(1, 0), request(2, 1)
    together = [portion(4, first), portion(9, second)]
    given = [
        *rate.batch([Batch(0, 1)], together),
        *rate.batch([Batch(SECOND, 2 * SECOND)], [replace(each, position=each.position + 1)
                                                  for each in together]),
        *rate.batch([Batch(60 * SECOND, 61 * SECOND)], [portion(0, request(3), "prefill")]),
    ]  # fmt: skip
    assert given == [(0, 2.0), (2 * SECOND, 0.0)]


def test_drafts_count_where_they_were_accepted() -> None:
    rate, asked = TokenRate(), request()
    verified = portion(4, asked, outputs=5)
    assert not list(rate.batch([Batch(0, 1)], [verified]))
    drafts = replace(verified, phase="draft", context=2)
    assert not list(rate.batch([Batch(1, 2)], [drafts]))
    assert list(rate.batch([Batch(SECOND, SECOND + 1)], [portion(7, asked)])) == [(0, 3.0)]


def test_a_shifted_context_goes_on() -> None:
    rate, asked = TokenRate(), request()
    list(rate.batch([Batch(0, 1)], [portion(500, asked)]))
    shifted = replace(portion(251, asked), shift=250)
    assert list(rate.batch([Batch(SECOND, SECOND + 1)], [shifted])) == [(0, 1.0)]


def test_what_may_be_incomplete_does_not_count() -> None:
    rate, asked = TokenRate(), request()
    for step in range(3):
        given = list(rate.batch([Batch(step * SECOND, step * SECOND + 1)], [portion(step, asked)]))
        assert given == [[], [(0, 1.0)], [(SECOND, 0.0)]][step]
        rate.lose(SECOND + 5, SECOND + 6)
