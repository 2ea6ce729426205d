"""What llama.cpp's server says of its requests, and what a trace of it says."""

from __future__ import annotations

import pytest

from tests.requests.conftest import TIMES
from tests.requests.served import Served, assert_as_told, assert_timed, integer
from tests.sql.harness import ready

ALONE = (
    *(f"cached {number}" for number in range(3)),
    *(f"cached long {number}" for number in range(3)),
    *(f"before {slot}" for slot in range(3)),
    "short", "first long", "second long",
)  # fmt: skip


@pytest.mark.parametrize("name", ALONE)
def test_a_request_is_what_the_server_says(slots: Served, name: str) -> None:
    assert_as_told(slots, slots.answers(name))


@pytest.mark.parametrize("name", ["free", "grammar"])
def test_a_request_of_a_real_model_is_what_the_server_says(constrained: Served, name: str) -> None:
    assert_as_told(constrained, constrained.answers(name))


def test_a_prompt_in_the_cache_is_told_from_a_decoded_one(slots: Served) -> None:
    short, long = (
        [(a.cached, a.prompt) for n in range(3) for a in slots.answers(f"{name} {n}")]
        for name in ("cached", "cached long")
    )
    assert short == [(0, 4)] * TIMES + [(3, 1)] * 2 * TIMES
    assert long == [(0, 15)] * TIMES + [(14, 1)] * 2 * TIMES


def test_several_answers_share_a_prefill(slots: Served) -> None:
    firsts, timed = [], []
    for answers in slots.asked("several"):
        requests = [slots.request_of(answer) for answer in answers]
        [(first, told)] = [
            (request, answer)
            for request, answer in zip(requests, answers, strict=True)
            if request["shared_prefill_of"] is None
        ]
        firsts.append(told)
        for request, answer in zip(requests, answers, strict=True):
            assert (request["certain"], request["complete"]) == (1, 1)
            assert request["tokens"] == answer.predicted
            timed.append((request, answer.prompt_ms, answer.predicted_ms))
            if request is not first:
                assert request["shared_prefill_of"] == first["request_id"]
                assert request["prompt_tokens"] == 0
    assert_as_told(slots, firsts)
    assert_timed([each for each in timed if each[0]["shared_prefill_of"] is not None])


def test_every_request_was_asked_for(slots: Served) -> None:
    kinds = [row["kind"] for row in slots.requests]
    answers = [answer for told in slots.told for answer in told["answers"]]
    assert kinds.count("request") == len(answers)
    # The engine tries what the model can do, and warms it up, before it serves.
    assert [row["kind"] for row in slots.requests[:2]] == ["warm-up"] * 2
    assert len(kinds) == len(answers) + 2


def test_a_client_goes_away_within_its_prefill(leaving: Served) -> None:
    [left] = [told for told in leaving.told if told["name"] == "leaves"]
    assert left["has_left"]
    # The server notices within a second or two that nobody waits, when the next has come.
    assert_as_told(leaving, leaving.answers("next"))
    gone, *others = [row for row in leaving.requests if row["kind"] == "request"]
    assert len(others) == TIMES
    assert left["sent"] < integer(gone["ts"]) < left["ended"]
    assert (gone["certain"], gone["ttft"], gone["tokens"]) == (1, None, 0)
    assert 0 < integer(gone["prompt_tokens"]) < 1900


def test_prompts_in_small_batches_are_what_the_verdict_names(
    leaving: Served, slots: Served
) -> None:
    """And not where 128 tokens are computed at a time."""
    causes = [
        [str(row["sentence"]) for row in ready(served.session, "explain")["The verdict"]
         if row["kind"] == "bound"]
        for served in (leaving, slots)
    ]  # fmt: skip
    assert causes[0][0].startswith("Small batches: prompts were computed by 16.0 tokens at a time")
    assert not [cause for cause in causes[1] if cause.startswith("Small batches: ")]


@pytest.mark.parametrize("name", ["cold", "warm", "hot"])
def test_speculation_is_told_by_what_the_user_gets(drafts: Served, name: str) -> None:
    answers = drafts.answers(name)
    assert_as_told(drafts, answers)
    for answer in answers:
        request = drafts.request_of(answer)
        steps = integer(request["steps"])
        assert answer.drafted == integer(request["verified_tokens"]) - steps
        assert answer.accepted == answer.predicted - 1 - steps


def test_of_its_own_drafts_a_model_accepts_fewer_the_more_is_left_to_chance(
    drafts: Served,
) -> None:
    cold, warm, hot = (drafts.answers(name)[0] for name in ("cold", "warm", "hot"))
    assert cold.accepted == cold.drafted > 0
    assert cold.accepted > warm.accepted > hot.accepted
    assert warm.drafted > warm.accepted


def test_what_goes_on_after_a_context_shift_is_one_request(shifted: Served) -> None:
    answers = shifted.answers("long")
    assert all(answer.prompt + answer.predicted > 256 for answer in answers)
    assert_as_told(shifted, answers)
