"""profinfer.recording.net: operators without the probes' own time, by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from profinfer.records.dtypes import Kind
from profinfer.trace_processor import open_trace
from tests.captures import Capture, convert
from tests.sql.costs import HANDLERS, PROBES, decoding, measure
from tests.sql.harness import ask, opened, ready, rows

COST = "SELECT DISTINCT reason FROM profinfer_operator_cost"
NET = """
SELECT name, thread_count, busy_dur - busy_net_dur, slowest_dur - slowest_net_dur,
  fastest_dur - fastest_net_dur, dur - net_dur
FROM profinfer_operator WHERE graph_id = 2 ORDER BY ts"""


def reasons(capture: Capture) -> set[object]:
    """Why costs are not known."""
    with opened(capture) as session:
        assert ask(session, "SELECT busy_net_dur FROM profinfer_operator_slice LIMIT 1") == [
            (None,)
        ]
        return {reason for (reason,) in ask(session, COST)}


def test_net_is_without_the_hits_of_each_thread() -> None:
    """9980 for the fused one and 900 for others, 700 for a barrier inside and for the one after."""
    with opened(measure(decoding())) as session:
        assert ask(session, NET) == [
            ("attn_norm-0", 2, 2 * 9980, 9980, 9980, 9980 + 700),
            ("Qcur-0", 2, 2 * 1600, 1600, 1600, 1600 + 700),
            ("ffn_silu-1", 2, 2 * 900, 900, 900, 900 + 700),
            ("result", 2, 2 * 900, 900, 900, 900),  # no barrier after it
        ]
        by_slice = (
            "SELECT DISTINCT name, busy_dur - busy_net_dur FROM profinfer_operator_slice ORDER BY 2"
        )
        assert ask(session, by_slice) == [
            ("ffn_silu-1", 900), ("result", 900), ("Qcur-0", 1600), ("attn_norm-0", 9980),
        ]  # fmt: skip
        of_runs = (
            "SELECT name, sum(busy_net_dur), sum(slowest_net_dur), sum(fastest_net_dur),"
            " sum(net_dur) FROM profinfer_operator GROUP BY name ORDER BY name"
        )
        of_all = (
            "SELECT name, busy_net_dur, slowest_net_dur, fastest_net_dur, net_dur"
            " FROM profinfer_operator_total ORDER BY name"
        )
        assert ask(session, of_all) == ask(session, of_runs)
        by_phase = (
            "SELECT name, sum(busy_net_dur), sum(net_dur) FROM profinfer_operator_phase"
            " GROUP BY name ORDER BY name"
        )
        assert ask(session, by_phase) == [
            (name, busy, dur) for name, busy, *_, dur in ask(session, of_all)
        ]


def floats(table: Sequence[Mapping[str, object]], column: str) -> list[float]:
    """A column in which every row has a number."""
    found = [row[column] for row in table]
    assert all(isinstance(value, float) for value in found), found
    return [value for value in found if isinstance(value, float)]


def test_shares_are_those_of_net_work() -> None:
    with opened(measure(decoding())) as session:
        ops = next(
            t for title, t in ready(session, "summary").items() if title.startswith("Time by op")
        )
        (by_op, _) = ready(session, "work").values()
        [share] = ask(session, "SELECT busy_dur, busy_net_dur, share FROM profinfer_probes_share")
    net = floats(ops, "net_ms")
    shares = [100 * ms / sum(net) for ms in net]
    assert floats(ops, "percent") == pytest.approx(shares, abs=0.1)
    assert ("RMS_NORM+MUL", 44.4) in rows(by_op, "op", "probes_percent")
    busy, busy_net, part = share
    assert isinstance(busy, int)
    assert isinstance(busy_net, int)
    assert sum(net) == pytest.approx(busy_net / 1e6, abs=0.02)
    assert part == pytest.approx(1 - busy_net / busy)


def test_net_is_never_less_than_nothing() -> None:
    capture = measure(decoding())
    capture.at_start["plan"]["probes"] = [p | {"hit_ns": 1e9} for p in PROBES]
    with opened(capture) as session:
        for sql in (
            "SELECT DISTINCT busy_net_dur FROM profinfer_operator_slice",
            "SELECT DISTINCT busy_net_dur FROM profinfer_operator",
            "SELECT DISTINCT busy_net_dur FROM profinfer_operator_total",
            "SELECT DISTINCT busy_net_dur FROM profinfer_operator_phase",
        ):
            assert ask(session, sql) == [(0,)], sql


def test_without_barriers_only_operators_hits_count() -> None:
    with opened(measure(decoding("operator"))) as session:
        assert ask(session, NET) == [
            (name, 2, 2 * hit, hit, hit, hit)
            for name, hit in (
                ("attn_norm-0", 9980), ("Qcur-0", 900), ("ffn_silu-1", 900), ("result", 900),
            )
        ]  # fmt: skip


def test_what_is_not_known_says_why(tmp_path: Path) -> None:
    assert reasons(decoding()) == {"what a hit costs there was not measured"}
    capture = measure(decoding())
    capture.at_end["handlers"] = [h | {"timed_runs": 0} for h in HANDLERS]
    assert reasons(capture) == {"the kernel did not count the handlers' time"}
    path = convert(measure(decoding()).frames(ended=False), tmp_path / "cut.pftrace")
    with open_trace(path, trace_processor="wasm") as session:
        assert ask(session, COST) == [
            ("the end of the recording is missing, with the handlers' time",)
        ]


def test_hits_that_read_experts_cost_nobody_knows_what() -> None:
    capture = measure(decoding())
    capture.with_experts = True
    sql = (
        "SELECT reason, count(hits_ns), count() FROM profinfer_operator_cost GROUP BY 1 ORDER BY 1"
    )
    with opened(capture) as session:
        fused, others = ask(session, sql)
    assert fused == (None, 1, 1)
    assert others == ("hits at operators also read experts, some of them", 0, 3)


def test_what_was_lost_of_the_first_run_changes_no_cost() -> None:
    """A barrier inside an operator: another run tells that there is one."""
    capture = measure(decoding())
    inside = min(
        row.ts for row in capture.records if row.kind == Kind.BARRIER and row.ts % 10**6 == 260_000
    )
    capture.lose(lambda row: row.ts == inside)
    assert len(capture.lost) == 1
    sql = "SELECT arg_set_id, inside, hits_ns FROM profinfer_operator_cost ORDER BY 2, 3"
    with opened(capture) as session, opened(measure(decoding())) as whole:
        assert [row[1:] for row in ask(session, sql)] == [row[1:] for row in ask(whole, sql)]
