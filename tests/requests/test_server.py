"""What llama.cpp's server says of its requests, and what a trace of it says."""

from __future__ import annotations

import os

import pytest

from tests.recording.helpers import number
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


def test_what_drafts_gave_is_what_the_server_says(drafts: Served) -> None:
    table = ready(drafts.session, "speculative")["Requests with drafts"]
    rows = {row["request"]: row for row in table}
    taken = []
    for name in ("cold", "warm", "hot"):
        for answer in drafts.answers(name):
            row = rows[drafts.request_of(answer)["request_id"]]
            # Of the last step, which has no next one, four may be drafts.
            for what, told in (("drafted", answer.drafted), ("accepted", answer.accepted)):
                assert told - 4 <= number(row[what]) <= told
            taken.append((row["token_ms"], answer.predicted_ms / (answer.predicted - 1)))
    assert any(ours == pytest.approx(told, rel=0.02) for ours, told in taken), taken


def test_what_shifts_a_context_is_outside_and_in_nobodys_tokens(shifted: Served) -> None:
    phases = {row["phase"]: row for row in ready(shifted.session, "summary")["Time by phase"]}
    outside = phases.pop("outside")
    assert number(outside["graphs"]) >= len(shifted.told)
    assert outside["tokens"] is None
    tokens = sum(number(row["tokens"]) for row in phases.values())
    computed = [
        integer(row["prompt_tokens"]) + integer(row["verified_tokens"]) for row in shifted.requests
    ]
    assert tokens == sum(computed)


def test_threads_that_wait_for_each_others_cpu_are_said(ranking: Served) -> None:
    cpus = len(os.sched_getaffinity(0))
    said = str(ready(ranking.session, "interference")["In short"][0]["what"])
    assert said.startswith(f"{2 * cpus} compute threads on {cpus} CPU")
    assert said.endswith("of waiting were CPU taken by the engine's own threads")


def test_what_goes_on_after_a_context_shift_is_one_request(shifted: Served) -> None:
    answers = shifted.answers("long")
    assert all(answer.prompt + answer.predicted > 256 for answer in answers)
    assert_as_told(shifted, answers)


ANSWERS = {"embedded": 1, "ranked": 3, "several": 3}
"""What is computed for each: a text, or a document with what was asked of it."""


def test_an_embedding_or_a_rank_is_a_request_without_a_first_token(ranking: Served) -> None:
    requests = [row for row in ranking.requests if row["kind"] == "request"]
    assert len(requests) == sum(ANSWERS[told["name"]] for told in ranking.told)
    for row in requests:
        assert (row["certain"], row["complete"], row["cached_tokens"], row["steps"]) == (1, 1, 0, 0)
        assert (row["tokens"], row["ttft"], row["first_token_ts"]) == (None, None, None)
        assert 0 < integer(row["prefill_dur"]) <= integer(row["dur"])
    # Of those that are asked for at the same time, who asked for which is not seen.
    for told in ranking.told[:4]:
        mine = [row for row in requests
                if told["sent"] <= integer(row["ts"]) < told["ended"]]  # fmt: skip
        assert len(mine) == ANSWERS[told["name"]]
        assert sum(integer(row["prompt_tokens"]) for row in mine) == told["usage"]["prompt_tokens"]
    tokens = sum(told["usage"]["prompt_tokens"] for told in ranking.told)
    assert sum(integer(row["prompt_tokens"]) for row in requests) == tokens


def test_why_there_is_no_first_token_is_said(ranking: Served, leaving: Served) -> None:
    gaps = ready(ranking.session, "requests")["What cannot be told, and why"]
    [asked] = [row for row in gaps if "an embedding, a rank" in str(row["reason"])]
    assert asked["requests"] == sum(ANSWERS[told["name"]] for told in ranking.told)
    gaps = ready(leaving.session, "requests")["What cannot be told, and why"]
    [gone] = [row for row in gaps if "it was given up" in str(row["reason"])]
    assert gone["requests"] == 1
