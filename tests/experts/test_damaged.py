"""Records that no handler of ours sends, as a damaged or made-up capture has them."""

from __future__ import annotations

import numpy as np
import pytest

from profinfer.records.dtypes import EXPERT_VALUES, EXPERTS_RECORD, Kind
from tests.captures import MAIN, Capture
from tests.sql.harness import ask, opened
from tests.sql.test_experts import Recording, decode

WHOLE = [[5, 1]]
MANY = 1 << 20


def with_record(used: int, tokens: int, first: int, count: int) -> Capture:
    """One token's routing, and beside the good record another one."""
    it = Recording()
    it.run([decode(1)], [WHOLE])
    [(ts, good)] = [(ts, raw) for ts, raw in it.capture.wide if raw[14] == Kind.EXPERTS]
    record = np.frombuffer(good, EXPERTS_RECORD, 1).copy()
    record["used"], record["tokens"] = used, tokens
    record["first"], record["count"] = first, count
    record["value"][:] = 3
    if (used, tokens) != (2, 1):
        it.capture.wide.remove((ts, good))
    it.capture.wide.append((ts, record.tobytes().ljust(len(good), b"\0")))
    assert int(record["header"]["tid"][0]) == MAIN
    return it.capture


@pytest.mark.parametrize(
    ("first", "count"), [(2, 1), (1_000, 64), (0xFFFFFFFF, 0xFFFFFFFF), (0, 0), (3, 0xFFFFFFFF)]
)
def test_what_lies_beyond_a_reading_changes_nothing(first: int, count: int) -> None:
    with opened(with_record(2, 1, first, count)) as session:
        assert ask(
            session, "SELECT expert, complete FROM profinfer_expert_activation ORDER BY rank"
        ) == [(5, 1), (1, 1)]


def test_more_values_than_a_record_holds() -> None:
    with opened(with_record(100, 1, 0, 0xFFFFFFFF)) as session:
        found = ask(session, "SELECT expert, complete FROM profinfer_expert_activation")
    assert [expert for expert, _ in found] == [3] * EXPERT_VALUES + [None] * (100 - EXPERT_VALUES)
    assert {complete for _, complete in found} == {0}


@pytest.mark.parametrize(("used", "tokens"), [(MANY, 2), (0xFFFFFFFF, 0xFFFFFFFF)])
def test_a_reading_that_cannot_be_is_not_written(used: int, tokens: int) -> None:
    with opened(with_record(used, tokens, 0, 64)) as session:
        assert ask(session, "SELECT count() FROM profinfer_expert_activation") == [(0,)]
        assert ask(
            session,
            "SELECT reason, complete FROM profinfer_expert_reading WHERE layer = 0",
        ) == [("too many to be read", 0)]


@pytest.mark.parametrize(("used", "tokens"), [(0, 0), (0, 7), (7, 0)])
def test_an_empty_reading(used: int, tokens: int) -> None:
    with opened(with_record(used, tokens, 0, 64)) as session:
        assert ask(session, "SELECT count() FROM profinfer_expert_activation") == [(0,)]
