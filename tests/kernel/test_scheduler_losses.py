"""What is missing of the scheduler's records is counted, and nothing is claimed around it."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from profinfer import kernel, loader
from profinfer.capture import ANY_CPU, LOSS_ENTRY, FrameKind
from profinfer.kernel_types import scheduler_types
from profinfer.programs import RAW_TRACEPOINT
from profinfer.records import FIRST_SCHEDULER_KIND, RECORD, SchedulerKind, join
from profinfer.scheduler import SYSTEM, Scheduler
from profinfer.scheduler_drain import SchedulerDrain
from profinfer.trace_processor import open_trace
from tests.kernel.scheduling import (
    BARRIER_PROBES,
    MEANS,
    answer,
    cpus_fixture,
    pinned,
    spinner_fixture,
    spinning,
)
from tests.support import (
    Engine,
    attached,
    boottime,
    double_fixture,
    finish,
)

__all__ = ["cpus_fixture", "double_fixture", "spinner_fixture"]


@pytest.mark.parametrize(("name", "transport"), MEANS)
@pytest.mark.parametrize("size", [4096, 1 << 20])
def test_what_was_recorded_and_what_was_lost_is_how_often_the_programs_ran(
    name: str, transport: str, size: int
) -> None:
    stats = kernel.enable_stats()
    scheduler = Scheduler(
        loader.choose(name).load, transport, size, os.getpid(), SYSTEM, scheduler_types()
    )
    try:
        kinds = {
            "on_switch": (SchedulerKind.SWITCH,),
            "on_waking": (SchedulerKind.WAKING,),
            "on_newtask": (SchedulerKind.NEWNAME, SchedulerKind.NEWTASK),
            "on_rename": (SchedulerKind.RENAME,),
            "on_exit": (SchedulerKind.EXIT,),
            "on_free": (SchedulerKind.FREE,),
        }
        before = {name: runs(scheduler, name) for name in kinds}
        lost_before = scheduler.losses()["lost"].sum(axis=0)
        scheduler.attach()
        drain = SchedulerDrain(scheduler)
        for _ in range(60):
            subprocess.run(["/bin/true"], check=True, timeout=20)
        scheduler.detach()
        time.sleep(0.05)
        kept = join([np.frombuffer(f.data, RECORD) for f in drain.take()
                     if f.kind == FrameKind.SCHEDULER])  # fmt: skip
        lost = scheduler.losses()["lost"].sum(axis=0) - lost_before
        for program, of in kinds.items():
            ran = runs(scheduler, program) - before[program]
            assert ran >= (0 if program == "on_waking" else 10)
            for kind in of:
                seen = int((kept["kind"] == kind).sum())
                assert seen + int(lost[kind - FIRST_SCHEDULER_KIND]) == ran, kind.name
        assert (drain.lost > 0) is (size == 4096)
    finally:
        scheduler.close()
        os.close(stats)


def test_what_the_kernel_skipped_is_a_loss_of_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program stands at system calls, where it sends a signal, and at signals: there the kernel
    does not run it within itself. The scheduler's programs are read as having its count."""
    program = kernel.load_program(signaller(threading.get_native_id()), kind=RAW_TRACEPOINT)
    counted = kernel.program_misses
    monkeypatch.setattr("profinfer.scheduler.kernel.program_misses", lambda _: counted(program))
    scheduler = Scheduler(
        loader.choose("libbpf").load, "perf", 1 << 20, os.getpid(), SYSTEM, scheduler_types()
    )
    try:
        scheduler.attach()
        drain = SchedulerDrain(scheduler)
        assert not [f for f in drain.take() if f.kind == FrameKind.LOSS]
        begin = boottime()
        links = [
            kernel.attach_raw_tracepoint(program, at) for at in ("signal_generate", "sys_enter")
        ]
        for _ in range(1000):
            os.getppid()
        for link in links:
            os.close(link)
        (frame,) = [f for f in drain.take() if f.kind == FrameKind.LOSS]
        entries = np.frombuffer(frame.data, LOSS_ENTRY)
        assert sorted(entries["kind"].tolist()) == [
            kind for kind in SchedulerKind if kind != SchedulerKind.NEWNAME and (
                kind != SchedulerKind.REASON or scheduler.names_reasons)
        ]  # fmt: skip
        assert set(entries["cpu"].tolist()) == {ANY_CPU}
        # A call is one skip; attaching, closing and the interpreter have made some more.
        assert all(1000 <= lost < 1100 for lost in entries["lost"].tolist())
        assert drain.lost == entries["lost"].sum()
        assert all(entries["first_ts"] <= begin)
        assert all(begin < last <= boottime() for last in entries["last_ts"].tolist())
    finally:
        scheduler.close()
        os.close(program)


def signaller(tid: int) -> str:
    """A program that sends this process SIGURG, which nobody minds, when this thread meets it."""
    instructions = [
        (0x85, 0, 0, 14),  # r0 = bpf_get_current_pid_tgid()
        (0xBC, 0x00, 0, 0),  # w0 = w0
        (0x56, 0x00, 2, tid),  # if w0 != tid skip two
        (0xB7, 0x01, 0, signal.SIGURG),  # r1 = SIGURG
        (0x85, 0, 0, 109),  # bpf_send_signal(r1)
        (0xB7, 0x00, 0, 0),  # r0 = 0
        (0x95, 0, 0, 0),  # exit
    ]
    return b"".join(struct.pack("<BBhi", *words) for words in instructions).hex()


def runs(scheduler: Scheduler, program: str) -> int:
    return kernel.program_stats(scheduler.program(program)).runs


def test_small_rings_say_what_they_lost_and_claim_nothing_around_it(
    double: Engine, spinner: str, cpus: tuple[int, int], tmp_path: Path
) -> None:
    trace = tmp_path / "t.pftrace"
    options = ("--level", "operator", "--scheduler", SYSTEM, "--ring-size", "16K", "--poll", 0.5,
               "--duration", 1)  # fmt: skip
    with (
        pinned(double, tmp_path / "go", cpus) as (engine, _),
        spinning(double, spinner, cpus[1]),
        attached(double, engine.pid, trace, *options, probes=BARRIER_PROBES - 1) as recorder,
    ):
        for _ in range(200):
            subprocess.run(["/bin/true"], check=True, timeout=20)
        code, said = finish(recorder)
        assert code == 0, said
    assert "warning: records were lost" in said
    with open_trace(trace) as session:
        (lost,) = session.query(
            "INCLUDE PERFETTO MODULE profinfer.recording;"
            "SELECT sum(lost), min(ts - first_ts) >= 0 FROM profinfer_loss WHERE kind = 'switch'"
        ).rows()
        assert lost[0]
        assert lost[1]
        (spans,) = session.query(
            "INCLUDE PERFETTO MODULE profinfer.scheduling;"
            "SELECT count() FROM profinfer_thread_state AS s JOIN _scheduler_loss AS l"
            " ON l.kind = 'switch' AND l.left_tid IS NULL AND l.cpu = s.ucpu"
            " AND l.first_ts <= s.ts + s.dur AND l.ts >= s.ts"
            " WHERE s.complete AND s.kind = 'running'"
        ).rows()
        assert spans == (0,)
        takers = answer(session, "interference")[0]
        assert all(row["incomplete"] for row in takers)
