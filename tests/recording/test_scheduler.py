"""Who takes a CPU from the target, and what is said where that is not recorded."""

# ruff: noqa: S608  SQL is put together here, from words of this file
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from statistics import median

import pytest

from profinfer.records.capture import FrameKind, read_capture
from profinfer.trace_processor import open_trace
from tests.recording.scheduling import (
    ENDLESS,
    MEANS,
    SPINNER,
    SYSTEM,
    TARGET,
    answer,
    cpus_fixture,
    pinned,
    spinner_fixture,
    spinning,
    stop,
)
from tests.support import (
    PLACED,
    Engine,
    as_int,
    attached,
    double_fixture,
    finish,
    run,
    waiting,
)

__all__ = ["cpus_fixture", "double_fixture", "spinner_fixture"]


DELAYS = """
SELECT t.name, coalesce(p.taker_name, '(not recorded)'), sum(d.dur)
FROM profinfer_delay AS d
JOIN profinfer_preemption AS p ON p.id = d.preemption_id
JOIN _operator_kind AS k USING (arg_set_id)
JOIN profinfer_tensor AS t USING (tensor_id)
GROUP BY 1, 2 HAVING sum(d.dur) > 0
"""
# The same work in each graph, however long it takes: some 100 us, so that many tokens fall between
# two turns of the spinner.
COUNTED_WORK = ("--threads", 2, "--layers", 1, "--decode", 1_000_000, "--work-us", 0,
                "--loop", 2_000, "--final-barrier")  # fmt: skip

TRIES = 3
STEPS = """
INCLUDE PERFETTO MODULE profinfer.scheduling.delays;
INCLUDE PERFETTO MODULE profinfer.tokens.requests;
SELECT max(g.dur), coalesce(sum(d.dur), 0)
FROM profinfer_token AS t
JOIN profinfer_graph AS g USING (ubatch_id)
LEFT JOIN profinfer_delay AS d USING (graph_id)
WHERE t.tpot > 0
GROUP BY t.ubatch_id
"""


@pytest.mark.parametrize("mode", [SYSTEM, TARGET])
@pytest.mark.parametrize(("name", "transport"), MEANS)
def test_the_spinner_and_the_operators_that_it_delays_are_named(
    double: Engine, spinner: str, cpus: tuple[int, int], tmp_path: Path,
    name: str, transport: str, mode: str,
) -> None:  # fmt: skip
    options = ("--level", "barrier", "--scheduler", mode, "--loader", name, "--transport",
               transport)  # fmt: skip
    trace = tmp_path / "t.pftrace"
    with (
        pinned(double, tmp_path / "go", cpus) as (engine, tids),
        spinning(double, spinner, cpus[1]) as intruder,
        attached(double, engine.pid, trace, *options, probes=PLACED) as recorder,
    ):
        time.sleep(2.5)
        code, said = finish(recorder, signal.SIGINT)
        assert code == 0, said
    with open_trace(trace) as session:
        _, takers, operators, tokens, by_thread, _ = answer(session, "interference")
        stalls = answer(session, "stalls")[0]
        verdict = answer(session, "explain")[0]
        whom = session.query(
            "SELECT DISTINCT t.tid FROM profinfer_preemption AS p JOIN thread AS t USING (utid)"
            f" WHERE p.taker_tid = {intruder}"
        ).rows()
        delays: dict[object, dict[object, int]] = {}
        for operator, taker, dur in session.query(DELAYS).rows():
            delays.setdefault(operator, {})[taker] = as_int(dur)
    # Whatever else goes on at the time on this machine has rows of its own.
    rows = [row for row in takers if row["tid"] == intruder]
    assert len(rows) == 1, takers
    (row,) = rows
    assert (row["thread"], row["own"]) == (SPINNER, 0)
    assert row["times"] > 0
    assert 0 < row["delay_ms"] <= row["in_work_ms"] <= row["taken_ms"]
    assert row["operators"] > 0
    assert row["tokens"] > 0
    assert whom == [(tids[1],)], "the thread on its CPU, and no other"
    # Of each operator the one that has delayed it most; the spinner has delayed some.
    assert {row["name"] for row in operators} <= delays.keys()
    for row in operators:
        by = delays[row["name"]]
        assert by[row["mostly_by"]] == max(by.values())
    assert any(SPINNER in by for by in delays.values())
    assert {str(row["name"])[-2:] for row in operators} & {"-0", "-1"}
    assert {row["mostly_by"] for row in tokens if row["delay_ms"]} <= {
        taker["thread"] for taker in takers
    }
    states = {row["tid"]: row for row in by_thread}
    assert set(states) == set(tids)
    # It leaves its CPU from its own code, as R: preempted all the same.
    assert states[tids[1]]["preempted_ms"] > 0
    assert sum(row["interference_ms"] for row in stalls) > 0
    if mode == SYSTEM:  # else it is not known who else had a CPU when a thread was woken
        others = max((row for row in takers if not row["own"]), key=lambda row: row["delay_ms"])
        cause = next(row["sentence"] for row in verdict if row["kind"] == "bound")
        assert cause.startswith("Somebody else: ")
        assert f" by {others['thread']} ({others['tid']})." in cause


def test_tokens_without_their_delay_are_as_long_as_those_without_any(
    double: Engine, spinner: str, cpus: tuple[int, int], tmp_path: Path
) -> None:
    """Of one recording, some tokens meet the spinner, and some fall between its turns. Whoever else
    runs is a delay, too, as long as a graph is computed: a token's only one."""
    for attempt in range(TRIES):
        steps = measured(double, spinner, cpus, tmp_path / str(attempt))
        usual = sorted(dur for dur, _ in steps)[len(steps) // 20]
        delayed = [(dur, delay) for dur, delay in steps if dur > 3 * usual]
        # The spinner takes 3 ms of each 5: most of the time goes into tokens that it meets, unless
        # others have the CPUs so often that no token is without a delay.
        if sum(dur for dur, _ in delayed) > sum(dur for dur, _ in steps) / 2:
            break
    assert len(delayed) > 10
    assert sum(dur for dur, _ in delayed) > sum(dur for dur, _ in steps) / 2
    # What is left when the delay is taken away is a token like any other.
    assert usual / 2 < median(dur - delay for dur, delay in delayed) < 2 * usual


def measured(
    double: Engine, spinner: str, cpus: tuple[int, int], folder: Path
) -> list[tuple[int, int]]:
    """Of each token of a recording how long it took, and its delay; ns."""
    folder.mkdir()
    trace = folder / "t.pftrace"
    options = ("--level", "barrier", "--scheduler", SYSTEM, "--duration", 3)
    with (
        pinned(double, folder / "go", cpus, COUNTED_WORK) as (engine, _),
        spinning(double, spinner, cpus[1]),
        attached(double, engine.pid, trace, *options, probes=PLACED) as recorder,
    ):
        code, said = finish(recorder)
        assert code == 0, said
    with open_trace(trace) as session:
        return [(as_int(dur), as_int(delay)) for dur, delay in session.query(STEPS).rows()]


def test_a_stopped_target_takes_no_page_faults(double: Engine, tmp_path: Path) -> None:
    """A signal stops its threads in their own code: they are in no system call then."""
    trace = tmp_path / "t.pftrace"
    with (
        waiting(double, tmp_path / "go", *ENDLESS) as engine,
        attached(double, engine.pid, trace, "--scheduler", SYSTEM, probes=PLACED - 1) as recorder,
    ):
        engine.go()
        time.sleep(0.1)
        for _ in range(5):
            stop(engine.pid)
            os.kill(engine.pid, signal.SIGCONT)
            time.sleep(0.02)
        code, said = finish(recorder, signal.SIGINT)
        assert code == 0, said
    with open_trace(trace) as session:
        rows = session.query(
            "INCLUDE PERFETTO MODULE profinfer.scheduling.thread_states;"
            "SELECT p.kind, p.blocked_in, count() FROM profinfer_thread_state AS p"
            " JOIN thread_state AS s ON s.id = p.state_id WHERE s.state GLOB 'T*' GROUP BY 1, 2"
        ).rows()
    assert [row[:2] for row in rows] == [("sleep", None)]
    assert as_int(rows[0][2]) >= 5


def test_a_short_lived_process_has_its_name_its_states_and_its_end(
    double: Engine, tmp_path: Path
) -> None:
    """It is gone before anybody could look into /proc."""
    program = tmp_path / "short-lived"
    shutil.copy("/bin/true", program)
    trace = tmp_path / "t.pftrace"
    options = ("--scheduler", SYSTEM, "--poll", 5)
    with (
        waiting(double, tmp_path / "go", *ENDLESS) as engine,
        attached(double, engine.pid, trace, *options, probes=PLACED - 1) as recorder,
    ):
        done = subprocess.Popen([program])
        assert done.wait(20) == 0
        time.sleep(0.1)  # until the kernel has let go of it
        code, said = finish(recorder, signal.SIGINT)
        assert code == 0, said
    with open_trace(trace) as session:
        rows = session.query(
            "SELECT name, end_ts IS NOT NULL, (SELECT count() > 0 FROM thread_state AS s"
            " WHERE s.utid = thread.utid AND state = 'Running')"
            f" FROM thread WHERE tid = {done.pid}"
        ).rows()
    assert rows == [("short-lived", 1, 1)]


def test_off_records_nothing_of_it_and_the_trace_says_so(double: Engine, tmp_path: Path) -> None:
    trace = tmp_path / "t.pftrace"
    options = ("--scheduler", "off")
    with (
        waiting(double, tmp_path / "go") as engine,
        attached(double, engine.pid, trace, *options, probes=PLACED - 1) as recorder,
    ):
        engine.go()
        engine.truth()
        code, said = finish(recorder)
        assert code == 0, said
    with open_trace(trace) as session:
        rows = session.query(
            "SELECT (SELECT count() FROM sched), (SELECT count() FROM args"
            " WHERE key = 'debug.config.scheduler' AND string_value = 'off')"
        ).rows()
    assert rows == [(0, 1)]


def test_a_kernel_that_does_not_describe_its_types_is_recorded_without_it(
    double: Engine, tmp_path: Path
) -> None:
    hidden = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/kernel/btf && exec "$@"',
              "sh")  # fmt: skip
    raw = tmp_path / "t.raw"
    with waiting(double, tmp_path / "go", *ENDLESS) as engine:
        options = ("record", "--pid", engine.pid, "--level", "graph", "--duration", 0.1,
                   "--raw", raw, "-o", tmp_path / "t.pftrace")  # fmt: skip
        done = run(double, *options, "--scheduler", "auto", wrapper=hidden)
        assert done.returncode == 0, done.stderr
        assert "the scheduler was not recorded: this kernel does not describe" in done.stderr
        frames = list(read_capture(raw))
        assert "scheduler" not in frames[0].json()
        assert not {FrameKind.SCHEDULER, FrameKind.TASKS} & {frame.kind for frame in frames}
        done = run(double, *options, "--force", "--scheduler", SYSTEM, wrapper=hidden)
        assert done.returncode == 4, done.stderr
        assert "does not describe its types" in done.stderr
