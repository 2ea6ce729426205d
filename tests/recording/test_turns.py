"""Recording that is on and off in turn: everything is in place, then nothing; and what a hit costs
is measured at the end of a recording as well."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_turns import Phase, phases

from profinfer.trace_processor import open_trace
from tests.recording.helpers import truths
from tests.support import PLACED, Engine, attached, double_fixture, finish, run, started

__all__ = ["double_fixture"]

EACH = 0.3
SCHEDULE = ("--threads", 1, "--layers", 4, "--work-us", 5, "--prompt", 0, "--ubatch", 1,
            "--pause-us", 5000)  # fmt: skip
OPERATORS = "SELECT ts FROM profinfer_operator_slice"
SWITCHES = "SELECT ts FROM sched JOIN thread USING (utid) WHERE is_main_thread"
DRIFT = (
    "SELECT DISTINCT trap_drift_ns FROM profinfer_handler"
    " WHERE handler IN ('on_operator', 'on_barrier')"
)


def held(times: list[int], found: list[Phase]) -> list[int]:
    """How many of them lie in each phase."""
    return [sum(phase.start <= ts < phase.end for ts in times) for phase in found]


@pytest.mark.parametrize(("via", "seconds"), [("stub", 5.5), ("recording", 2)])
def test_it_is_on_and_off_in_turn(via: str, seconds: float, double: Engine, tmp_path: Path) -> None:
    trace, raw = tmp_path / "t.pftrace", tmp_path / "t.raw"
    options = ("--level", "barrier", "--probes", via, "--alternate", EACH, "--raw", raw,
               "--scheduler", "target", "--duration", seconds)  # fmt: skip
    command = ("env", run(double, "env").stdout.strip(), double.program(), *SCHEDULE,
               "--decode", int((seconds + 4) / 0.0055))  # fmt: skip
    with started(double, *command) as known:
        with attached(double, known.pid, trace, *options, probes=PLACED) as recorder:
            code, said = finish(recorder)
        assert code == 0, said
        assert known.poll() is None
        (truth,) = truths(known.communicate(timeout=60)[0])
    found = phases(raw)
    assert len(found) >= seconds / EACH / 3
    assert [phase.is_on for phase in found] == [bool(i % 2) for i in range(len(found))]
    assert all(phase.end - phase.start >= EACH * 1e9 for phase in found)
    with open_trace(trace) as session:
        session.query(
            "INCLUDE PERFETTO MODULE profinfer.operators.runs;"
            "INCLUDE PERFETTO MODULE profinfer.recording.handlers;"
        )
        (operators, switches) = (
            [int(str(ts)) for (ts,) in session.query(sql).rows()] for sql in (OPERATORS, SWITCHES)
        )
        drifts = session.query(DRIFT).rows()
    graphs = [graph[-2:] for graph in truth["graphs"]]
    executed = truth["graphs"][0][3] - truth["threads"][0]["fused"] // len(graphs)
    for phase, seen, switched in zip(
        found, held(operators, found), held(switches, found), strict=True
    ):
        within = sum(phase.start <= start and end <= phase.end for start, end in graphs)
        assert within > 0
        if phase.is_on:  # graphs at its ends are recorded in part
            assert within * executed <= seen <= (within + 2) * executed
            assert switched >= within
        else:
            assert seen == switched == 0
    assert [drift is not None for (drift,) in drifts] == [via == "stub"]
