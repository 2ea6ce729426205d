"""Targets with a thread on each CPU, and another process that takes one."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from profinfer.trace_processor import Session, query
from tests.conftest import require
from tests.support import (
    Engine,
    Waiting,
    started,
    wait_for,
    waiting,
)

ENDLESS = ("--threads", 2, "--layers", 2, "--decode", 1_000_000, "--work-us", 40)
MEANS = [(name, transport) for name in ("libbpf", "bcc") for transport in ("ring", "perf")]
SYSTEM, TARGET = "system", "target"
"""Ways to record the scheduler."""
SPINNER = "the-spinner"


@pytest.fixture(scope="module", name="spinner")
def spinner_fixture(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program that takes a CPU."""
    program = tmp_path_factory.mktemp("spinner") / "spinner"
    source = repo / "tests/recording/spinner.c"
    subprocess.run(["gcc", "-O2", "-o", program, source], check=True, timeout=60)
    return str(program)


@pytest.fixture(scope="module", name="cpus")
def cpus_fixture() -> tuple[int, int]:
    """Two CPUs to pin threads to."""
    found = sorted(os.sched_getaffinity(0))
    require("two CPUs", len(found) >= 2, hardware=True)
    return found[0], found[1]


@contextmanager
def pinned(
    double: Engine, gate: Path, cpus: Sequence[int], arguments: Sequence[object] = ENDLESS
) -> Iterator[tuple[Waiting, list[int]]]:
    """The engine at work without an end, each of its two threads on a CPU of its own; their ids."""
    with waiting(double, gate, *arguments) as engine:
        engine.go()
        wait_for("its threads", lambda: len(threads(engine.pid)) == 2)
        tids = threads(engine.pid)
        for tid, cpu in zip(tids, cpus, strict=True):
            os.sched_setaffinity(tid, {cpu})
            # Whatever else this machine does at the time is to take little of it.
            os.setpriority(os.PRIO_PROCESS, tid, -20)
        yield engine, tids


def threads(pid: int) -> list[int]:
    return sorted(map(int, os.listdir(f"/proc/{pid}/task")))


@contextmanager
def spinning(double: Engine, spinner: str, cpu: int) -> Iterator[int]:
    """Another process takes a CPU again and again, whoever has it; its id."""
    with started(double, spinner, cpu, 3, 2) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        # Of a higher class than all else: it comes straight after whom it finds there.
        os.sched_setscheduler(process.pid, os.SCHED_FIFO, os.sched_param(1))
        yield process.pid


def answer(session: Session, name: str) -> list[list[dict[str, Any]]]:
    """The tables of a ready query, row by row."""
    tables = query.run(session, query.read(query.resolve(name)))
    return [[dict(zip(t.columns, row, strict=True)) for row in t.rows] for t in tables]


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)

    def stands() -> bool:
        stats = [Path(f"/proc/{pid}/task/{tid}/stat").read_text() for tid in threads(pid)]
        return {text.rpartition(")")[2].split()[0] for text in stats} == {"T"}

    wait_for("the target to stop", stands)
    time.sleep(0.01)  # until the last of them has left its CPU
