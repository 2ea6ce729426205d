"""Counters per operator against `perf stat` of the same process, on each kind of core there is.

make test-pmu                        # skips, by name, what this machine has not
PROFINFER_NEED_PMU=1 make test-pmu   # where a skip is a failure
"""

from __future__ import annotations

import os
import shutil
import signal
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from profinfer.kernel.pmus import SYSFS, read_pmus
from tests.conftest import require
from tests.support import PLACED, Engine, Recording, attached, double_fixture, finish, started

__all__ = ["double_fixture"]

NEED = "PROFINFER_NEED_PMU"
LOOP, TOUCH = 200_000, 40
SCHEDULE = ("--threads", 2, "--layers", 3, "--prompt", 0, "--ubatch", 1, "--decode", 60,
            "--work-us", 0, "--samples", 0, "--final-barrier", "--hold", 60_000)  # fmt: skip
SUMS = """
INCLUDE PERFETTO MODULE profinfer.counters.readings;
SELECT n.name, sum(c.value + coalesce(c.wait_value, 0)), min(c.value)
FROM profinfer_operator_counter AS c JOIN profinfer_counter AS n USING (counter_id) GROUP BY 1
"""
CORES = {pmu.name: (SYSFS / pmu.name / "cpus") for pmu in read_pmus().cores}
"""By PMU of a kind of core, where the kernel says which CPUs are of that kind."""
# What is near enough: what the process does outside of operators is little.
HARDWARE = {"instructions": 0.01, "cycles": 0.03}
SOFTWARE = {"page-faults": 0.02}


def need(what: str, available: object) -> None:
    """Skips, or fails where that was asked for."""
    if not available and os.environ.get(NEED) == "1":
        pytest.fail(f"this machine has no {what}, and {NEED}=1")
    require(f"{what} (with {NEED}=1 this skip is a failure)", available, hardware=True)


def counted(
    engine: Engine, tmp_path: Path, events: Sequence[str], work: Sequence[object], cpus: str
) -> tuple[dict[str, tuple[float, float]], dict[str, float]]:
    """By event: what operators counted, and the least of them; what perf counted of the process."""
    gate, said, trace = tmp_path / "gate", tmp_path / "perf", tmp_path / "t.pftrace"
    pinned = ("taskset", "-c", cpus) if cpus else ()
    with started(engine, *pinned, engine.program(), *SCHEDULE, *work, "--wait", gate) as known:
        assert known.stderr is not None
        assert known.stdout is not None
        assert known.stderr.readline().startswith("ready ")
        # As a recording counts: hardware in user mode only.
        names = ",".join(f"{event}:u" if event in HARDWARE else event for event in events)
        perf = ("perf", "stat", "-x", ",", "-o", said, "-e", names, "-p", known.pid)
        group = "{" + ",".join(events) + "}"
        options = ("--level", "barrier", "--counters", group)
        with (
            started(engine, *perf) as counting,
            attached(engine, known.pid, trace, *options, probes=PLACED) as recorder,
        ):
            gate.touch()
            known.stdout.readline()
            code, words = finish(recorder, signal.SIGINT)
            assert code == 0, words
            counting.send_signal(signal.SIGINT)
            counting.wait(20)
    by_perf: dict[str, float] = defaultdict(float)
    for line in said.read_text().splitlines():
        value, _, event, *_ = [*line.split(","), "", "", ""]
        name = next((name for name in events if name in event), "")
        # On some machines an event has a line for each kind of core.
        if name and value.isdigit():
            by_perf[name] += int(value)
    recording = Recording(trace, "", words, code)
    try:
        rows = recording.rows(SUMS)
    finally:
        recording.close()
    return {str(n): (float(str(s)), float(str(least))) for n, s, least in rows}, dict(by_perf)


def check(
    found: dict[str, tuple[float, float]], by_perf: dict[str, float], near: dict[str, float]
) -> None:
    assert found.keys() == by_perf.keys() == near.keys()
    for name, (total, _) in found.items():
        assert total == pytest.approx(by_perf[name], rel=near[name]), name


def test_software_counters_are_those_of_perf(double: Engine, tmp_path: Path) -> None:
    need("perf", shutil.which("perf"))
    found, by_perf = counted(double, tmp_path, [*SOFTWARE], ("--touch", TOUCH), "")
    check(found, by_perf, SOFTWARE)
    assert found["page-faults"][1] >= TOUCH


@pytest.mark.parametrize("core", [*CORES, "any CPU"])
def test_hardware_counters_are_those_of_perf(core: str, double: Engine, tmp_path: Path) -> None:
    """On each kind of core by itself, then wherever the scheduler lets threads run."""
    need("PMU of the CPUs' own", CORES)
    need("perf", shutil.which("perf"))
    cpus = CORES[core].read_text().strip() if core in CORES and CORES[core].is_file() else ""
    found, by_perf = counted(double, tmp_path, [*HARDWARE], ("--loop", LOOP), cpus)
    check(found, by_perf, HARDWARE)
    assert found["instructions"][1] >= 2 * LOOP
