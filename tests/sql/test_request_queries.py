"""The ready queries of requests: what they waited for, because of whom, and what drafts gave."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from profinfer.records.dtypes import Kind
from profinfer.trace_processor import Session
from tests.captures import BASE, CONTEXT, MAIN, Capture, Run
from tests.sql.harness import ask, opened, ready, rows
from tests.sql.schedules import ubatches
from tests.sql.test_parts import SERVER, decode
from tests.sql.test_scheduling import schedule
from tests.sql.test_throttling import schedule as throttled

MS = 1_000_000
DRAFT = CONTEXT + 1


def parallel() -> Capture:
    """Two slots; the sampler's calls are seen. A graph runs outside micro-batches."""
    capture = ubatches(Capture(), SERVER)
    for begin, end in ((10, 11), (16, 18), (39, 39.5), (44, 45), (50, 51)):
        capture.call("sample", begin * MS + 1, int(end * MS) + 1, {"context": CONTEXT})
    capture.graph(None, 18_500_000, 19_500_000, {})
    return capture


@pytest.fixture(scope="module")
def server() -> Iterator[Session]:
    with opened(parallel()) as session:
        yield session


def test_requests_says_what_each_waited_for(server: Session) -> None:
    first, steps, gaps = ready(server, "requests").values()
    assert rows(
        first, "request", "ttft_ms", "own_ms", "draft_ms", "same_ubatch_ms", "others_ubatches_ms",
        "sampling_ms", "outside_ms", "preempted_ms", "throttled_ms", "faults_ms", "estimated",
        "complete",
    ) == [
        (1, 11.0, 10.0, 0.0, 0.0, 0.0, 1.0, 0.0, None, None, None, 0, 1),
        (2, 19.5, 16.0, 0.0, 2.0, 0.0, 0.5, 1.0, None, None, None, 1, 1),
    ]  # fmt: skip
    # Steps of 19, 9 and 6 ms, of which 4, 2 and 2 are its own.
    assert rows(
        steps, "request", "tpot_ms", "own_ms", "draft_ms", "same_ubatch_ms", "others_ubatches_ms",
        "sampling_ms", "outside_ms", "preempted_ms", "estimated", "incomplete",
    ) == [
        (1, 11.333, 2.667, 0.0, 2.667, 3.333, 1.167, 1.5, None, 1, 0),
        (2, 6.0, 2.0, 0.0, 2.0, 0.0, 1.0, 1.0, None, 1, 0),
    ]  # fmt: skip
    assert len(gaps) == 1
    assert "the scheduler and barriers were not both recorded" in str(gaps[0]["reason"])


def test_who_delayed_whom_and_by_how_much(server: Session) -> None:
    [table] = ready(server, "who_delayed").values()
    assert rows(
        table, "request", "delayed_by", "delay_ms", "percent", "in_ttft_ms", "same_ubatch_ms",
        "their_ubatches_ms", "steps", "certain", "incomplete",
    ) == [
        (1, 2, 18.0, 40.0, 0.0, 8.0, 10.0, 3, 1, 0),
        (2, 1, 4.0, 15.7, 2.0, 4.0, 0.0, 2, 1, 0),
    ]  # fmt: skip


def test_tokens_says_whose_micro_batches_a_step_waited_for(server: Session) -> None:
    table, *_ = ready(server, "tokens").values()
    assert rows(
        table, "request", "step", "tpot_ms", "ubatch_ms", "draft_ms", "others_ms", "whose",
        "rest_ms",
    ) == [
        (1, 1, 19.0, 4.0, 0.0, 10.0, "2", 5.0),
        (1, 2, 9.0, 8.0, 0.0, 0.0, None, 1.0),
        (1, 3, 6.0, 4.0, 0.0, 0.0, None, 2.0),
        (2, 1, 6.0, 4.0, 0.0, 0.0, None, 2.0),
    ]  # fmt: skip


def test_summary_has_what_is_outside_in_a_row_of_its_own(server: Session) -> None:
    tables = ready(server, "summary")
    assert rows(tables["Requests"], "request", "outside_ms") == [(1, 2.67), (2, 2.0)]
    # From 10 to 11, when the first token is there; 16 to 20, 30 to 31, 39 to 40 and 44 to 46.
    assert rows(
        tables["Time by phase"], "phase", "ubatches", "tokens", "time_ms", "graphs_ms", "graphs"
    ) == [
        ("prefill", 2, 12, 20.0, None, None),
        ("decode", 3, 5, 12.0, None, None),
        ("outside", None, None, 9.0, 1.0, 1),
        ("mixed", 1, 4, 8.0, None, None),
    ]  # fmt: skip


def test_graphs_of_an_engine_without_micro_batches_are_in_a_row() -> None:
    capture = Capture()
    capture.graph(None, MS, 4 * MS, {})
    with opened(capture) as session:
        assert rows(
            ready(session, "summary")["Time by phase"], "phase", "time_ms", "graphs_ms", "graphs"
        ) == [("outside", None, 3.0, 1)]


@pytest.mark.parametrize("calls", [True, False])
def test_disturbance_of_its_own_micro_batches(calls: bool) -> None:
    """tests/sql/test_scheduling.py: of a step of 9.8 ms, 9.7 in its micro-batch, an operator came
    2 ms later since a stranger had a thread's CPU, and one 1 ms since a thread was in a fault."""
    with opened(schedule(calls=calls)) as session:
        assert ask(
            session,
            "SELECT part, (dur + 1) / 1000 FROM profinfer_request_part WHERE step = 1 "
            "ORDER BY part",
        ) == [
            *([("faults", 1000)] if calls else []),
            ("outside", 100), ("own decode", 6700 if calls else 7700), ("preempted", 2000),
        ]  # fmt: skip
        _, steps, gaps = ready(session, "requests").values()
        assert rows(steps, "own_ms", "preempted_ms", "throttled_ms", "faults_ms") == [
            (6.7, 2.0, 0.0, 1.0) if calls else (7.7, 2.0, 0.0, None)
        ]
        assert len(gaps) == (1 if calls else 2)


def test_disturbance_is_in_nobodys_share() -> None:
    """The same with a second sequence in the micro-batch: what is divided is the rest."""
    capture = schedule()
    capture.wide = [(ts, data) for ts, data in capture.wide if ts != BASE + 400_000]
    record = capture.records
    capture.records = [row for row in record if row.ts != BASE + 400_000]
    capture.ubatch(400_000, None, [(0, 3, 1, 1, 1), (1, 0, 3, 1, 1)])
    with opened(capture) as session:
        assert ask(
            session,
            "SELECT part, of_request_id, (dur + 1) / 1000, is_estimated "
            "FROM profinfer_request_part WHERE request_id = 1 AND step = 1 ORDER BY part",
        ) == [
            ("faults", None, 1000, 0),
            ("outside", None, 100, 0),
            ("own decode", None, 1675, 1),
            ("preempted", None, 2000, 0),
            ("same ubatch", 2, 5025, 1),
        ]


def test_throttling_is_disturbance_too() -> None:
    """tests/sql/test_throttling.py: of a step of 6.8 ms 2.4 ms, since threads were throttled."""
    with opened(throttled("system")) as session:
        assert ask(
            session,
            "SELECT part, (dur + 1) / 1000 FROM profinfer_request_part WHERE step = 1 "
            "ORDER BY part",
        ) == [("outside", 100), ("own decode", 4300), ("throttled", 2400)]


# ---- Drafts


def verify(position: int, tokens: int) -> Run:
    return (0, position, tokens, tokens, 1)


def drafting(*, single: bool = True) -> Capture:
    """A prompt of 9 tokens; a draft model proposes 3 tokens at a time, 2 ms each, and 6 ms verify
    them. Of the first three all are accepted, of the second one, of the third none. Then two steps
    without drafts."""
    capture = ubatches(Capture(), [(0, 10, [(0, 0, 9, 1, 1)])])
    ubatches(capture, [(11, 14, [(0, 0, 9, 1, 1)])], context=DRAFT)
    at, position = 15, 9
    for accepted in (4, 2, 1):
        for i in range(3):
            draft = [(at + 2 * i, at + 2 * i + 2 - 1, [decode(0, position + i)])]
            ubatches(capture, draft, context=DRAFT)
        ubatches(capture, [(at + 6, at + 12, [verify(position, 4)])])
        at, position = at + 13, position + accepted
    for i in range(3 if single else 1):
        ubatches(capture, [(at + 8 * i, at + 8 * i + 5, [decode(0, position + i)])])
    return capture


def test_what_drafts_gave() -> None:
    with opened(drafting()) as session:
        table, by_step = ready(session, "speculative").values()
    # Steps of 13, 13 and 7 ms with 4, 2 and 1 tokens, then two of 8 ms. In the first two 3 ms of
    # the next step's drafts. Of 6 ms of verifying 2 of 4 and 3 of 4 tokens were for nothing.
    assert rows(
        table, "request", "steps", "tokens", "drafted", "accepted", "accepted_share",
        "tokens_per_step", "draft_ms", "verify_ms", "rejected_ms", "token_ms", "without_ms",
        "single_steps", "speedup", "certain", "incomplete",
    ) == [
        (1, 5, 9, 9, 4, 0.444, 1.8, 6.0, 18.0, round(3 + 4.5 + 6 * 5 / 9, 2), 5.444, 8.0, 2, 1.47,
         1, 0),
    ]  # fmt: skip
    assert rows(by_step, "computed", "tokens", "steps", "percent") == [
        (4, 1, 1, 33.3), (4, 2, 1, 33.3), (4, 4, 1, 33.3),
    ]  # fmt: skip


def test_what_a_token_costs_without_drafts_is_not_guessed() -> None:
    with opened(drafting(single=False)) as session:
        table, _ = ready(session, "speculative").values()
    assert rows(table, "without_ms", "single_steps", "speedup") == [(None, 0, None)]


def test_a_draft_models_time_is_the_requests() -> None:
    with opened(drafting()) as session:
        assert ask(
            session,
            "SELECT step, part, dur / 1000000 FROM profinfer_request_part WHERE step IN (0, 1) "
            "ORDER BY step, part",
        ) == [
            (0, "draft", 6), (0, "outside", 5), (0, "own prefill", 10),
            (1, "draft", 3), (1, "outside", 4), (1, "own decode", 6),
        ]  # fmt: skip


# ---- Several answers to one prompt, losses


def test_a_shared_prefill_is_a_part_of_both() -> None:
    """The second answer's sequence is copied from the first's when that was prefilled."""
    capture = ubatches(Capture(), [(0, 10, [(0, 0, 9, 1, 1)])])
    memory = {"memory": 0x77}
    capture.call("memory", 1, 2, {"context": CONTEXT}, result=0x77, kind="address")
    capture.call("copy", 11 * MS, 11 * MS + 1,
                 {**memory, "source": 0, "sequence": 1, "begin": -1, "end": -1})  # fmt: skip
    ubatches(
        capture, [(13, 15, [decode(0, 9), decode(1, 9)]), (16, 18, [decode(0, 10), decode(1, 10)])]
    )
    with opened(capture) as session:
        shared = ask(session, "SELECT request_id, shared_prefill_of, ttft / 1000000 "
                              "FROM profinfer_request")  # fmt: skip
        assert shared == [(1, None, 13), (2, 1, 13)]
        assert ask(
            session,
            "SELECT request_id, part, of_request_id, dur / 1000000 FROM profinfer_request_part "
            "WHERE step = 0 ORDER BY request_id, part",
        ) == [
            (1, "outside", None, 3), (1, "own prefill", None, 10),
            (2, "outside", None, 3), (2, "shared prefill", 1, 10),
        ]  # fmt: skip
        first = next(iter(ready(session, "requests").values()))
        assert rows(first, "own_ms", "outside_ms") == [(10.0, 3.0), (10.0, 3.0)]


def test_steps_with_losses_are_counted_and_in_no_sum() -> None:
    capture = ubatches(Capture(), SERVER)
    capture.add(Kind.OPERATOR, 42 * MS, MAIN)
    capture.lose(lambda row: row.kind == Kind.OPERATOR)
    drains = [(BASE + t * MS + 1, BASE + t * MS + 1) for t in (40, 45)]
    with opened(capture, drains=drains) as session:
        _, steps, _ = ready(session, "requests").values()
        assert rows(steps, "request", "tpot_ms", "incomplete") == [(1, 14.0, 1), (2, None, 1)]
        [table] = ready(session, "who_delayed").values()
        assert rows(table, "request", "delayed_by", "delay_ms", "incomplete") == [
            (1, 2, 16.0, 1), (2, 1, 2.0, 1),
        ]  # fmt: skip
