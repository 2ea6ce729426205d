"""Counters of a program that takes known numbers of page faults in every operator."""

# ruff: noqa: S608  SQL is put together here, from words of this file

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from profinfer.trace_processor import Value
from tests.matrix import Matrix
from tests.recording import own_probes
from tests.support import (
    PLACED,
    PROFINFER,
    Engine,
    Recording,
    as_int,
    attached,
    double_fixture,
    finish,
    first_line,
    record,
    run,
    started,
    waiting,
)

__all__ = ["double_fixture"]

TOUCH = 3
FAULTS = "{page-faults,sched:sched_switch}"
COUNTERS = (
    "SELECT n.name, tid, s.graph_id, c.value, c.wait_value, c.cpu_dur, c.counted_dur, c.complete"
    " FROM profinfer_operator_counter AS c JOIN profinfer_counter AS n USING (counter_id)"
    " JOIN profinfer_operator_slice AS s USING (id) JOIN thread ON thread.utid = c.utid"
)
INCLUDE = "INCLUDE PERFETTO MODULE profinfer.counters.readings;"
HOG = """
import mmap
while True:
    with mmap.mmap(-1, 64 * mmap.PAGESIZE) as fresh:
        for at in range(0, len(fresh), mmap.PAGESIZE):
            fresh[at] = 1
"""


@pytest.fixture
def hogs() -> Iterator[None]:
    """On each CPU a stranger that takes page faults as fast as it can."""
    command = [sys.executable, "-c", HOG]
    processes = []
    for cpu in sorted(os.sched_getaffinity(0)):
        processes.append(subprocess.Popen(command))
        os.sched_setaffinity(processes[-1].pid, {cpu})
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait(20)


def page_faults(recording: Recording) -> list[tuple[int, int, float | None]]:
    """(thread's place, graph, faults in work) of each operator slice."""
    found = recording.rows(f"{INCLUDE} {COUNTERS} WHERE n.name = 'page-faults' AND c.complete")
    places = {tid: place for place, tid in enumerate(t["tid"] for t in recording.truth["threads"])}
    return [(places[as_int(row[1])], as_int(row[2]), row[3]) for row in found]  # type: ignore[misc]


@pytest.mark.parametrize("transport", ["ring", "perf"])
@pytest.mark.parametrize("loader", ["libbpf", "bcc"])
@pytest.mark.usefixtures("hogs")
def test_page_faults_are_the_threads_own(
    loader: str, transport: str, double: Engine, tmp_path: Path, matrix: Matrix
) -> None:
    matrix("counters, per thread", loader=loader, transport=transport)
    options = ["--loader", loader, "--transport", transport, "--level", "barrier"]
    target = ["known", "--touch", TOUCH, "--samples", 0, "--final-barrier"]
    trace = tmp_path / "faults.pftrace"
    with record(double, trace, *options, "--counters", FAULTS, target=target) as recording:
        found = page_faults(recording)
        truth = recording.truth
        executed = sum(thread["executed"] for thread in truth["threads"])
        fused = sum(thread["fused"] for thread in truth["threads"])
        # Nothing is missing: norm and mul of a fused pair are one slice. Without a value are only
        # those around a switch that the kernel has not reported.
        assert recording.rows(
            f"{INCLUDE} SELECT count() FROM profinfer_operator_counter AS c"
            " JOIN profinfer_counter AS n USING (counter_id) WHERE n.name = 'page-faults'"
        ) == [(executed - fused,)]
        assert 0.9 * (executed - fused) <= len(found) <= executed - fused
        # In the first graph a thread also meets its own stack and code for the first time.
        assert {(place, faults) for place, graph, faults in found if graph > 1} == {
            (0, TOUCH),
            (1, 2 * TOUCH),
        }
        assert all((faults or 0) >= TOUCH * (place + 1) for place, _, faults in found)
        # The kernel's own counters never wait for hardware.
        assert recording.rows(
            f"{INCLUDE} SELECT count() FROM profinfer_operator_counter WHERE counted_dur != cpu_dur"
        ) == [(0,)]


@pytest.fixture
def missing(tmp_path: Path) -> Path:
    """A library that stands for a kernel which runs no program at some switches."""
    library = tmp_path / "missing.so"
    source = Path(__file__).with_name("missing_switches.c")
    command = ["gcc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source)]
    subprocess.run(command, check=True, timeout=60)
    return library


@pytest.mark.usefixtures("hogs")
@pytest.mark.parametrize("loader", ["libbpf", "bcc"])
def test_what_strangers_count_at_switches_that_are_missed_is_nobodys(
    loader: str, missing: Path, double: Engine, tmp_path: Path
) -> None:
    trace = tmp_path / "missed.pftrace"
    program = ("--touch", TOUCH, "--samples", 0, "--final-barrier", "--threads", 2, "--layers", 2,
               "--decode", 1_000_000)  # fmt: skip
    options = ("--level", "barrier", "--counters", "page-faults", "--duration", 1.5, "--poll", 0.1,
               "--loader", loader, "--scheduler", "off", "-o", trace)  # fmt: skip
    nothing = own_probes.load_program(own_probes.NOTHING, kind=own_probes.RAW_TRACEPOINT)
    # The tracepoint stays on, or to attach would take 10 ms.
    kept = own_probes.attach_raw_tracepoint(nothing, "sched_switch")
    with waiting(double, tmp_path / "gate", *program) as engine:
        command = ("env", f"LD_PRELOAD={missing}", *PROFINFER, "record", "--pid", engine.pid)
        with started(double, *command, *options) as recorder:
            first_line(recorder)
            engine.go()
            code, said = finish(recorder)
    os.close(kept)
    os.close(nothing)
    assert code == 0, said
    recording = Recording(trace, "", said, code)
    try:
        # Some begin in a graph of which the beginning was not recorded.
        rows = recording.rows(
            f"{INCLUDE} SELECT tid != pid, c.value, count() FROM profinfer_operator_counter AS c"
            " JOIN profinfer_operator_slice AS s USING (id)"
            " JOIN thread ON thread.utid = c.utid JOIN process USING (upid)"
            " WHERE s.complete AND s.graph_id > 10 GROUP BY 1, 2"
        )
    finally:
        recording.close()
    known = {row[:2] for row in rows if row[1] is not None}
    assert known == {(0, TOUCH), (1, 2 * TOUCH)}
    unread, whole = (sum(as_int(r[2]) for r in rows if (r[1] is None) == none)
                     for none in (True, False))  # fmt: skip
    assert 0 < unread < whole


def test_cpu_time_and_switches_are_no_more_than_the_kernel_says(
    double: Engine, tmp_path: Path
) -> None:
    trace = tmp_path / "switches.pftrace"
    program = ("--samples", 0, "--final-barrier", "--sleep", "--hold", 60_000)
    events = "context-switches,sched:sched_switch,task-clock"
    with waiting(double, tmp_path / "gate", *program) as engine:
        options = ("--level", "barrier", "--counters", events)
        with attached(double, engine.pid, trace, *options, probes=PLACED) as recorder:
            engine.go()
            assert engine.process.stdout is not None
            engine.process.stdout.readline()
            said = {
                int(path.name): _said(path) for path in Path(f"/proc/{engine.pid}/task").iterdir()
            }
            code, stderr = finish(recorder, 2)
            assert code == 0, stderr
    recording = Recording(trace, "", "", 0)
    try:
        found: dict[tuple[Value, Value], float] = {}
        for tid, name, low, high in recording.rows(
            "SELECT tid, t.name, min(value), max(value) FROM counter AS c"
            " JOIN thread_counter_track AS t ON c.track_id = t.id JOIN thread USING (utid)"
            " GROUP BY tid, t.name"
        ):
            found[tid, name] = float(high or 0) - float(low or 0)
    finally:
        recording.close()
    tids = {tid for tid, _ in found}
    assert len(tids) == 2
    for tid in tids:
        cpu_ns, switches = said[as_int(tid)]
        # The kernel counts the event apart from the tracepoint, and skips either that meets another
        # of its kind on the CPU.
        differs = abs(found[tid, "context-switches"] - found[tid, "sched:sched_switch"])
        assert differs <= max(2, switches / 100)
        # Each of 588 nodes slept once at least.
        assert 588 <= found[tid, "sched:sched_switch"] <= switches
        assert 0 < found[tid, "CPU time"] <= cpu_ns
        assert 0 < found[tid, "task-clock"] <= cpu_ns


def _said(task: Path) -> tuple[int, int]:
    """What the kernel says of a thread: ns on CPUs, switches away from them."""
    status = dict(line.split(":\t") for line in (task / "status").read_text().splitlines())
    switches = sum(int(status[f"{kind}_ctxt_switches"]) for kind in ("voluntary", "nonvoluntary"))
    return int((task / "schedstat").read_text().split()[0]), switches


def test_what_does_not_exist_is_said_and_the_rest_is_counted(
    double: Engine, tmp_path: Path
) -> None:
    trace = tmp_path / "missing.pftrace"
    events = "page-faults,no_such_event,sched:sched_swtich,nopmu/event=1/"
    target = ["known", "--touch", 1, "--samples", 0]
    with record(double, trace, "--counters", events, target=target) as recording:
        assert "there is no event no_such_event; " in recording.stderr
        assert "there is no tracepoint sched:sched_swtich, but sched has sched_sw" in (
            recording.stderr
        )
        assert "nopmu/event=1/: there is no PMU nopmu; here are: " in recording.stderr
        assert recording.rows(f"{INCLUDE} SELECT name FROM profinfer_counter") == [("page-faults",)]
        assert recording.rows("SELECT count() FROM slice WHERE category = 'operator'") == [(980,)]


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ("{page-faults", "without its other half"),
        (",", "no name"),
        ("page-faults:x", "no modifier 'x'"),
        ("page faults!", "is not the name of an event"),
    ],
)
def test_what_is_no_name_ends_it_before_the_target_starts(
    events: str, message: str, double: Engine, tmp_path: Path
) -> None:
    trace = tmp_path / "none.pftrace"
    done = run(double, "record", "-o", trace, "--counters", events, "--", double.program())
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not trace.exists()


def test_when_none_can_be_counted_the_target_does_not_start(double: Engine, tmp_path: Path) -> None:
    trace = tmp_path / "none.pftrace"
    done = run(
        double, "record", "-o", trace, "--counters", "nopmu/event=1/", "--", double.program()
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert "none of the counters can be counted here: nopmu/event=1/: there is no PMU nopmu" in (
        done.stderr
    )
    assert "hint: profinfer doctor" in done.stderr
    assert not trace.exists()


def test_what_cannot_be_counted_is_said_before_the_target_starts(
    double: Engine, tmp_path: Path
) -> None:
    script = f"echo begun >&2; exec {double.program()} --decode 1"
    options = ("-o", tmp_path / "some.pftrace", "--counters", "page-faults,no_such_event")
    done = run(double, "record", *options, "--", "/bin/sh", "-c", script)
    assert done.returncode == 0, done.stderr
    said = done.stderr
    assert said.index("not counted: there is no event no_such_event") < said.index("begun\n")
    assert said.count("no_such_event") == 1
