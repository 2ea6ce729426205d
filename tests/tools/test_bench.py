"""What the bench measures: whose processes, whose time, how many records."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from bench_processes import Family, spent
from bench_recording import taken
from bench_table import Row, at_most, markdown

from tests.captures import BASE, PID, convert, write_capture
from tests.sql.test_scheduling import SPINNER, UNIT, schedule
from tests.support import wait_for


def sleepers(pid: int) -> set[int]:
    """Children of a process that have become `sleep`."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(each) for each in children if Path(f"/proc/{each}/comm").read_text() == "sleep\n"}


def test_the_family_is_whoever_was_started_but_what_is_recorded() -> None:
    family = Family()
    script = f"setsid sleep 60 & {' '.join(family.unmarked(['sleep', '60']))} & wait"
    with subprocess.Popen(["sh", "-c", script], env=family.environment) as shell:
        try:
            wait_for("its children", lambda: len(sleepers(shell.pid)) == 2)
            found = set(family.look())
            assert shell.pid in found
            assert len(sleepers(shell.pid) & found) == 1
            assert len(found) == 2
            assert Family().look() == []
        finally:
            for pid in sleepers(shell.pid):
                os.kill(pid, signal.SIGKILL)
            shell.wait(20)
    assert family.look() == []
    assert shell.pid in family.pids


def test_its_cpu_time_is_that_of_all_threads_also_of_those_that_ended() -> None:
    family = Family()
    program = (
        "import threading, time\n"
        "def work():\n"
        "    until = time.thread_time() + 0.3\n"
        "    while time.thread_time() < until: pass\n"
        "print('ready', flush=True); input()\n"
        "for _ in range(2): t = threading.Thread(target=work); t.start(); t.join()\n"
        "print('done', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], env=family.environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        before = family.cpu_s()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"
        after = family.cpu_s()
        assert list(after) == [process.pid]
        assert 0.6 <= spent(before, after) < 0.9
        assert family.peaks_mb().popitem()[1] > 1
        process.stdin.close()


def test_what_was_taken_is_what_the_trace_says(tmp_path: Path) -> None:
    """The schedule of tests/sql/test_scheduling.py: the spinner runs from 150 to 350 of a graph
    from 50 to 1000, in a micro-batch from 40 to 1010, which another one follows until 1030."""
    capture = schedule()
    frames = capture.frames()
    raw, trace = tmp_path / "t.raw", convert(frames, tmp_path / "t.pftrace")
    write_capture(frames, raw)
    found = taken(trace, raw, {SPINNER})
    assert found.seconds * 1e9 == pytest.approx(950 * UNIT)
    assert found.running_s * 1e9 == pytest.approx(200 * UNIT)
    assert found.decoding_s * 1e9 == pytest.approx(990 * UNIT)
    assert found.delay_s * 1e9 == pytest.approx(200 * UNIT)
    span = (BASE + 50 * UNIT, BASE + 1000 * UNIT)
    rows = [row for row in (*capture.records, *capture.scheduled) if span[0] <= row.ts <= span[1]]
    assert found.records == len(rows) > 20
    assert taken(trace, raw, {PID}).running_s > 0
    assert taken(trace, raw, {4_000_000}).running_s == 0


def test_the_table_says_what_was_not_met() -> None:
    rows = [at_most("a", 2, [1.0, 3.0, 2.0], "s"), at_most("b", 2, [4.0], "s"), Row("c", "", "5")]
    assert [row.met for row in rows] == [True, False, None]
    assert markdown(rows).splitlines()[2:] == [
        "| a      | 2 s    | 2.00 s (1.00..3.00) |",
        "| b      | 2 s    | **4.00 s**          |",
        "| c      |        | 5                   |",
    ]
