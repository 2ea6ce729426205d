"""What is missing of the scheduler's records is counted, and nothing is claimed around it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from profinfer import kernel, loader
from profinfer.capture import FrameKind
from profinfer.kernel_types import scheduler_types
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
