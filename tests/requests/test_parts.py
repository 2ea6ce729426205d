"""What requests of a real server waited for: the parts add up, and say because of whom."""

from __future__ import annotations

import statistics
from collections import Counter

from tests.requests.served import Request, Served, integer
from tests.sql.harness import ready

PARTS = "profinfer.tokens.parts"


def parts(served: Served, request: Request) -> list[Request]:
    """Its rows of profinfer_request_part."""
    rows = served.rows(PARTS, "SELECT * FROM profinfer_request_part")
    return [row for row in rows if row["request_id"] == request["request_id"]]


def test_parts_add_up_to_the_nanosecond(slots: Served, constrained: Served) -> None:
    for served, most in ((slots, 250), (constrained, 40)):
        wholes = served_wholes(served)
        sums = served.rows(
            PARTS,
            "SELECT request_id, step, sum(dur) AS dur FROM profinfer_request_part GROUP BY 1, 2",
        )
        assert len(wholes) > most
        assert {(row["request_id"], row["step"]): row["dur"] for row in sums} == wholes


def test_what_hindered_a_request_is_known_where_it_was_recorded(constrained: Served) -> None:
    """Of one that computed by itself nothing is estimated."""
    tables = ready(constrained.session, "requests")
    reasons = [str(row["reason"]) for row in tables["What cannot be told, and why"]]
    # The kernel does not trace every switch of a virtual machine's idle CPU.
    assert [reason for reason in reasons if not reason.startswith("records of the sched")] == []
    for table in (tables["Time to the first token"], list(tables.values())[1]):
        assert len(table) == len(constrained.told)
        for row in table:
            for part in ("preempted_ms", "throttled_ms", "faults_ms"):
                assert isinstance(row[part], float), part
            assert row["estimated"] == 0


def served_wholes(served: Served) -> dict[tuple[object, object], object]:
    """Every TTFT (step 0) and TPOT."""
    rows = served.rows(
        PARTS,
        "SELECT request_id, 0 AS step, ttft AS dur FROM profinfer_request WHERE ttft"
        " UNION ALL SELECT request_id, step, tpot FROM profinfer_token",
    )
    return {(row["request_id"], row["step"]): row["dur"] for row in rows}


def test_a_long_prompt_delays_who_answers_beside_it(slots: Served) -> None:
    short, first, second = (slots.one(name) for name in ("short", "first long", "second long"))
    rows = parts(slots, short)
    assert {row["of_request_id"] for row in rows} - {None} == {
        first["request_id"],
        second["request_id"],
    }
    by_step: Counter[object] = Counter()
    for row in rows:
        if row["of_request_id"] is not None:
            by_step[row["step"]] += integer(row["dur"])
    # The first prompt is read while it waits for one token.
    assert max(by_step.values()) > integer(first["prefill_dur"]) * 0.9


def test_a_grammar_costs_time_outside_of_the_engines_graphs(constrained: Served) -> None:
    free, grammar = (
        outside_per_step(constrained, constrained.one(name)) for name in ("free", "grammar")
    )
    assert grammar > 3 * free


def outside_per_step(served: Served, request: Request) -> float:
    """The median: a step may be interrupted by others."""
    by_step: Counter[int] = Counter()
    for row in parts(served, request):
        if row["part"] in ("outside", "sampling"):
            by_step[integer(row["step"])] += integer(row["dur"])
    return statistics.median(dur for step, dur in by_step.items() if step)
