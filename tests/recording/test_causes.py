"""Engines in what users report: the verdict names the cause first, and no other one's.

An intruder is in test_scheduler.py, a memory limit in test_real_memory.py, small batches in
tests/requests, several backends in tests/sql/test_verdict.py.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import make_dense_gguf

from profinfer.trace_processor import Session, open_trace
from tests.conftest import require
from tests.recording.helpers import PROFINFER
from tests.recording.quota import group, require_told, watched, within
from tests.recording.scheduling import SYSTEM, answer, cpus_fixture
from tests.support import (
    PLACED,
    Engine,
    attached,
    boottime,
    double_fixture,
    family,
    finish,
    require_recording,
    waiting,
)

__all__ = ["cpus_fixture", "double_fixture"]

QUOTA, PERIOD = 60_000, 100_000
"""Microseconds: 60 % of a CPU."""
NONE = -1
THREADS = 6
TINY = ("--layers", "1", "--embd", "1024", "--ff", "256", "--heads", "16", "--kv-heads", "16",
        "--vocab", "2000")  # fmt: skip
"""Of a model that has 5 MB of weights, and reads 4 KB of its cache for each token that is there."""
GROWN = 1_500
TRIES = 5
"""Until what others do to the machine leaves something to be seen."""
UNEVEN = ("--threads", 2, "--layers", 2, "--decode", 60, "--work-us", 200)
"""Its second thread works twice as long as its first."""
CAUSES = ("Its CPU quota: ", "Too many threads: ", "The KV cache: ", "Imbalance: ")


BUSY = ("Somebody else: ", "Its own threads: ")


def causes(session: Session, *, besides: tuple[str, ...] = BUSY) -> list[str]:
    """What the verdict names, the first first, besides what a busy machine does to any engine."""
    session.query("INCLUDE PERFETTO MODULE profinfer.verdict.lines")
    lines = session.query("SELECT sentence FROM _verdict_line WHERE kind = 'bound' ORDER BY place")
    return [str(sentence) for (sentence,) in lines if not str(sentence).startswith(besides)]


def assert_named(found: list[str], cause: str) -> None:
    """First, and none of the others."""
    assert found[0].startswith(cause), found
    assert [each for each in found if each.startswith(CAUSES)] == found[:1], found


@contextmanager
def serving(
    repo: Path, model: Path, trace: Path, *options: object, level: str = "operator",
    cpus: Sequence[int] = (),
) -> Iterator[subprocess.Popen[str]]:  # fmt: skip
    """tools/engine.py, recorded with the defaults, from when it waits for requests."""
    require("the xllamacpp wheel", importlib.util.find_spec("xllamacpp"))
    require_recording()
    pinned = ["taskset", "-c", ",".join(map(str, cpus))] if cpus else []
    command = [*PROFINFER, "record", "-o", trace, "--level", level, "--", *pinned,
               sys.executable, repo / "tools/engine.py", model, "--serve", *options]  # fmt: skip
    recorder = subprocess.Popen(
        [*map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert recorder.stdout
        assert recorder.stdout.readline() == "ready\n"
        yield recorder
        recorder.communicate(timeout=60)  # there are no more requests
        assert recorder.returncode == 0
    finally:
        recorder.kill()
        recorder.wait()


def ask(engine: subprocess.Popen[str], predict: int) -> dict[str, Any]:
    """The engine's answer to a request."""
    assert engine.stdin
    assert engine.stdout
    engine.stdin.write(json.dumps({"prompt": "one two three", "predict": predict}) + "\n")
    engine.stdin.flush()
    found: dict[str, Any] = json.loads(engine.stdout.readline())
    return found


def computing(pid: int) -> list[int]:
    """The two threads of a process that have had the most of the CPUs."""

    def spent(tid: int) -> int:
        stat = Path(f"/proc/{pid}/task/{tid}/stat").read_text().rpartition(")")[2].split()
        return int(stat[11]) + int(stat[12])

    return sorted(map(int, os.listdir(f"/proc/{pid}/task")), key=spent)[-2:]


def test_a_quota_is_named_with_the_time_that_the_kernel_counts(
    repo: Path, gemma: Path, cpus: tuple[int, int], tmp_path: Path
) -> None:
    trace = tmp_path / "t.pftrace"
    with serving(repo, gemma, trace, level="barrier") as engine:
        ask(engine, 8)
        (pid,) = (pid for pid in family(engine.pid).values()
                  if b"engine.py" in Path(f"/proc/{pid}/cmdline").read_bytes())  # fmt: skip
        for tid, cpu in zip(computing(pid), cpus, strict=True):
            os.sched_setaffinity(tid, {cpu})
        with group(QUOTA, PERIOD) as folder:
            (folder / "cgroup.procs").write_text(str(pid))
            with watched(folder) as grown:
                ask(engine, 24)
                end = boottime()
    grown = [sample for sample in grown if sample[0] < end]
    (first, before), (last, after) = grown[0], grown[-1]
    truth, span = after - before, (first, last)
    assert truth > (last - first) // 4
    with open_trace(trace) as session:
        require_told(session)
        found = within(session, "throttled", span)
        assert abs(found - truth) <= truth // 50, (found, truth)
        short = answer(session, "interference")[0]
        stalls = answer(session, "stalls")[0]
        assert any("its threads were throttled" in row["what"] for row in short)
        assert_named(causes(session, besides=()), CAUSES[0])
    # No thread had that much more to do than the other.
    assert sum(row["imbalance_ms"] for row in stalls) * 1e6 < truth / 4


def test_more_threads_than_cpus_are_named(
    repo: Path, gemma: Path, cpus: tuple[int, int], tmp_path: Path
) -> None:
    """Who waits for a CPU, and none of them is idle: nobody is throttled, however busy it is."""
    cause = f"{CAUSES[1]}{THREADS} compute threads ran on "
    for attempt in range(TRIES):
        trace = tmp_path / f"{attempt}.pftrace"
        with serving(repo, gemma, trace, "--threads", THREADS, cpus=cpus) as engine:
            ask(engine, 6)
        with open_trace(trace) as session:
            assert within(session, "throttled", (0, boottime())) == 0
            assert within(session, "preempted", (0, boottime())) > 0
            found = causes(session)
        # Others may have had the CPUs for longer, or switches may have been lost.
        if found[0].startswith(cause):
            break
    assert_named(found, cause)


def test_a_context_that_grows_is_named(repo: Path, tmp_path: Path) -> None:
    model, trace = tmp_path / "tiny.gguf", tmp_path / "t.pftrace"
    assert make_dense_gguf.main([str(model), *TINY]) == 0
    with serving(repo, model, trace, "--threads", 1) as engine:
        ask(engine, GROWN)
    with open_trace(trace) as session:
        assert within(session, "throttled", (0, boottime())) == 0
        assert_named(causes(session), CAUSES[2])


def test_threads_of_unequal_work_are_named(double: Engine, tmp_path: Path) -> None:
    options = ("--level", "barrier", "--scheduler", SYSTEM)
    for attempt in range(TRIES):
        trace, gate = tmp_path / f"{attempt}.pftrace", tmp_path / f"go-{attempt}"
        with waiting(double, gate, *UNEVEN) as engine, group(NONE, PERIOD) as folder:
            (folder / "cgroup.procs").write_text(str(engine.pid))
            with attached(double, engine.pid, trace, *options, probes=PLACED) as recorder:
                engine.go()
                engine.truth()
                code, said = finish(recorder)
                assert code == 0, said
        with open_trace(trace) as session:
            assert within(session, "throttled", (0, boottime())) == 0
            found = causes(session)
        # Both may have run on one CPU, others having had the other one.
        if found[0].startswith(CAUSES[3]):
            break
    assert_named(found, CAUSES[3])
