"""What is missing of the scheduler's records is counted, and nothing is claimed around it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from profinfer.records.capture import ANY_CPU, LOSS_ENTRY, FrameKind, read_capture
from profinfer.records.dtypes import FIRST_SCHEDULER_KIND, RECORD, SchedulerKind
from profinfer.trace_processor import open_trace
from tests.recording.own_probes import enable_stats
from tests.recording.scheduling import (
    MEANS,
    SYSTEM,
    answer,
    cpus_fixture,
    pinned,
    spinner_fixture,
    spinning,
)
from tests.support import (
    PLACED,
    Engine,
    attached,
    double_fixture,
    finish,
    waiting,
)

__all__ = ["cpus_fixture", "double_fixture", "spinner_fixture"]


@dataclass(frozen=True)
class Kept:
    """What a capture holds of the scheduler: by kind, what was recorded and what was lost."""

    records: Counter[int]
    lost: Counter[int]
    programs: dict[str, dict[str, int]]
    """As END has them."""

    @classmethod
    def read(cls, raw: Path) -> Kept:
        records, lost = Counter[int](), dict[tuple[int, int], int]()
        for frame in read_capture(raw):
            if frame.kind == FrameKind.SCHEDULER:
                records.update(np.frombuffer(frame.data, RECORD)["kind"].tolist())
            elif frame.kind == FrameKind.LOSS:
                for cpu, kind, count, _, _ in np.frombuffer(frame.data, LOSS_ENTRY).tolist():
                    if cpu != ANY_CPU and kind >= FIRST_SCHEDULER_KIND:
                        lost[cpu, kind] = count
            elif frame.kind == FrameKind.END:
                programs = {item["program"]: item for item in frame.json()["event_programs"]}
        by_kind = Counter[int]()
        for (_, kind), count in lost.items():
            by_kind[kind] += count
        return cls(records, by_kind, programs)


@pytest.mark.parametrize(("name", "transport"), MEANS)
@pytest.mark.parametrize("size", ["16K", "4M"])
def test_what_was_recorded_and_what_was_lost_is_how_often_the_programs_ran(
    name: str, transport: str, size: str, double: Engine, tmp_path: Path
) -> None:
    kinds = {
        "on_switch": (SchedulerKind.SWITCH,),
        "on_waking": (SchedulerKind.WAKING,),
        "on_newtask": (SchedulerKind.NEWNAME, SchedulerKind.NEWTASK),
        "on_rename": (SchedulerKind.RENAME,),
        "on_exit": (SchedulerKind.EXIT,),
        "on_free": (SchedulerKind.FREE,),
    }
    raw = tmp_path / "t.raw"
    options = ("--level", "operator", "--scheduler", SYSTEM, "--loader", name, "--transport",
               transport, "--ring-size", size, "--poll", 5, "--raw", raw)  # fmt: skip
    stats = enable_stats()  # all along: then every run is counted
    try:
        with (
            waiting(double, tmp_path / "go") as engine,
            attached(
                double, engine.pid, tmp_path / "t.pftrace", *options, probes=PLACED - 1
            ) as recorder,
        ):
            for _ in range(60):
                subprocess.run(["/bin/true"], check=True, timeout=20)
            code, said = finish(recorder, signal.SIGINT)
            assert code == 0, said
    finally:
        os.close(stats)
    kept = Kept.read(raw)
    for program, of in kinds.items():
        ran = kept.programs[program]["timed_runs"]
        assert kept.programs[program]["runs"] == ran
        assert ran >= (0 if program == "on_waking" else 10)
        for kind in of:
            assert kept.records[kind] + kept.lost[kind] == ran, kind.name
    assert (kept.lost.total() > 0) is (size == "16K")


def test_small_rings_say_what_they_lost_and_claim_nothing_around_it(
    double: Engine, spinner: str, cpus: tuple[int, int], tmp_path: Path
) -> None:
    trace = tmp_path / "t.pftrace"
    options = ("--level", "operator", "--scheduler", SYSTEM, "--ring-size", "16K", "--poll", 0.5,
               "--duration", 1)  # fmt: skip
    with (
        pinned(double, tmp_path / "go", cpus) as (engine, _),
        spinning(double, spinner, cpus[1]),
        attached(double, engine.pid, trace, *options, probes=PLACED - 1) as recorder,
    ):
        for _ in range(200):
            subprocess.run(["/bin/true"], check=True, timeout=20)
        code, said = finish(recorder)
        assert code == 0, said
    assert "warning: records were lost" in said
    with open_trace(trace) as session:
        (lost,) = session.query(
            "INCLUDE PERFETTO MODULE profinfer.recording.losses;"
            "SELECT sum(lost), min(ts - first_ts) >= 0 FROM profinfer_loss WHERE kind = 'switch'"
        ).rows()
        assert lost[0]
        assert lost[1]
        (spans,) = session.query(
            "INCLUDE PERFETTO MODULE profinfer.scheduling.operators;"
            "SELECT count() FROM profinfer_thread_state AS s JOIN _scheduler_loss AS l"
            " ON l.kind = 'switch' AND l.left_tid IS NULL AND l.cpu = s.ucpu"
            " AND l.first_ts <= s.ts + s.dur AND l.ts >= s.ts"
            " WHERE s.complete AND s.kind = 'running'"
        ).rows()
        assert spans == (0,)
        takers = answer(session, "interference")[1]
        assert all(row["incomplete"] for row in takers)
