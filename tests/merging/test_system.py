"""Beside Perfetto's own recorder: a real system trace of the same time, and `record --system`."""

# ruff: noqa: S608  SQL is put together here, from words of this file

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from profinfer.trace_processor import Session, open_trace, query
from tests.conftest import REPO, Require
from tests.merging.placement import is_to_be_repeated, placement
from tests.support import (
    ENGINE_ONLY,
    PLACED,
    Engine,
    Recording,
    attached,
    double_fixture,
    finish,
    run,
    wait_for,
    waiting,
)

__all__ = ["double_fixture"]

PERFETTO = REPO / "build/perfetto/bin"
INSTANCES = Path("/sys/kernel/tracing/instances")
CONFIG = """
buffers { size_kb: 32768 fill_policy: DISCARD }
data_sources { config {
  name: "linux.ftrace"
  ftrace_config {
    instance_name: "INSTANCE"
    ftrace_events: "sched/sched_switch"
    ftrace_events: "sched/sched_waking"
    ftrace_events: "sched/sched_process_exit"
    ftrace_events: "sched/sched_process_free"
    ftrace_events: "task/task_newtask"
    ftrace_events: "task/task_rename"
    buffer_size_kb: 8192
    drain_period_ms: 100
    compact_sched { enabled: true }
  }
} }
data_sources { config {
  name: "linux.process_stats"
  process_stats_config { scan_all_processes_on_start: true }
} }
data_sources { config {
  name: "linux.sys_stats"
  sys_stats_config { meminfo_period_ms: 100 meminfo_counters: MEMINFO_MEM_AVAILABLE }
} }
"""
SLEEPY = ("--threads", 2, "--layers", 2, "--decode", 40, "--sleep", "--work-us", 200)
"""Its threads sleep within each operator, so that each is Running for moments only: clocks that
are apart show."""
TRIES = 5
"""As often is recorded again what the kernel has not reported whole (see placement.py)."""


@pytest.fixture(scope="module")
def engine(double: Engine, require: Require) -> Iterator[Engine]:
    """The engine double, and system.pbtx: with buffers of ftrace's for these tests alone."""
    require("Perfetto's traced (build/perfetto)", (PERFETTO / "traced").is_file())
    require("tracefs", INSTANCES.is_dir())
    instance = INSTANCES / f"profinfer-test-{os.getpid()}"
    instance.mkdir()
    (double.folder / "system.pbtx").write_text(CONFIG.replace("INSTANCE", instance.name))
    try:
        yield double
    finally:
        instance.rmdir()


def _record(engine: Engine, trace: Path, *options: object, programs: Path | str = PERFETTO,
            target: tuple[object, ...] = SLEEPY) -> subprocess.CompletedProcess[str]:  # fmt: skip
    environment = engine.environment | {"PROFINFER_PERFETTO": str(programs)}
    return run(
        engine, "record", *ENGINE_ONLY, "--level", "barrier", "-o", trace, *options, "--",
        engine.program(), *target, environment=environment, timeout=120,
    )  # fmt: skip


@pytest.fixture(scope="module")
def recording(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    for _ in range(TRIES):
        trace = tmp_path_factory.mktemp("system") / "both.pftrace"
        done = _record(engine, trace, "--system", engine.folder / "system.pbtx")
        found = Recording(trace, done.stdout, done.stderr, done.returncode)
        assert done.returncode == 0, done.stderr
        if not is_to_be_repeated(found.session):
            break
        found.close()
    try:
        yield found
    finally:
        found.close()


def test_the_system_is_in_the_trace(recording: Recording) -> None:
    assert recording.session.import_errors() == []
    assert os.listdir(recording.trace.parent) == [recording.trace.name]
    pid = recording.truth["pid"]
    threads = recording.rows(
        f"SELECT tid, count() FROM thread JOIN process USING (upid) WHERE pid = {pid} GROUP BY 1"
    )
    assert [count for _, count in threads] == [1] * len(threads)
    [(switches, others)] = recording.rows(
        f"SELECT sum(pid = {pid}), sum(pid IS NOT {pid}) FROM sched JOIN thread USING (utid) "
        "LEFT JOIN process USING (upid)"
    )
    assert isinstance(switches, int)
    assert isinstance(others, int)
    assert switches > 100
    assert others > 100
    [(samples,)] = recording.rows(
        "SELECT count() FROM counter JOIN counter_track AS t ON track_id = t.id "
        "WHERE t.name = 'MemAvailable'"
    )
    assert isinstance(samples, int)
    assert samples > 1
    assert "same boot" in recording.stderr
    assert ".system" not in recording.stderr  # the name of a file that is gone


def test_nothing_of_the_engine_is_missing(recording: Recording) -> None:
    truth = recording.truth
    assert recording.count("ubatch") == sum(truth["ubatches"].values())
    assert recording.count("graph") == len(truth["graphs"])
    operators = sum(each["extra"] + each["fused"] for each in truth["threads"])
    assert recording.count("operator") == operators


def test_operators_lie_where_the_kernel_says_that_their_thread_ran(recording: Recording) -> None:
    found = placement(recording.session)
    assert found.slices == recording.count("operator")
    assert found.edges >= 0.99
    # The measure tells clocks that are 0.1 ms apart.
    assert placement(recording.session, shift=100_000).edges < 0.5


_SWITCHES_TO_OPERATORS = """
    SELECT count() FROM sched AS s JOIN thread_track AS t USING (utid) JOIN slice AS o
    ON o.track_id = t.id WHERE o.category = 'operator' AND s.ts < o.ts + o.dur
    AND (s.dur < 0 OR s.ts + s.dur > o.ts)"""


def test_working_operators_lie_where_their_thread_ran_or_others_ran_in_its_place(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread never sleeps; others may take its CPU. Where the kernel has not reported that it
    got one (see placement.py) there is nothing to compare: then it is recorded again."""
    monkeypatch.setenv("PROFINFER_PERFETTO", str(PERFETTO))
    for number in range(TRIES):
        trace = tmp_path / f"{number}.pftrace"
        _record_working(engine, tmp_path / f"gate{number}", trace)
        with open_trace(trace, trace_processor="wasm") as session:
            assert session.import_errors() == []
            found = placement(session)
            assert found.slices > 1_000
            if is_to_be_repeated(session):
                continue
            assert found.at_work >= 0.99
            # An operator that begins while its thread waits for a CPU: a switch is missing.
            if session.query(_SWITCHES_TO_OPERATORS).rows() == [(0,)] or found.edges < 0.99:
                continue
            _all_answer(session)
            return
    pytest.fail(f"{TRIES} times operators began or ended where their thread did not run")


def _record_working(engine: Engine, gate: Path, trace: Path) -> None:
    config = engine.folder / "system.pbtx"
    work = ("--threads", 1, "--layers", 3, "--decode", 60, "--work-us", 60)
    with waiting(engine, gate, *work) as target:
        options = ("--level", "barrier", "--system", config)
        with attached(engine, target.pid, trace, *options, probes=PLACED) as recorder:
            target.go()
            target.truth()
            code, said = finish(recorder)
    assert code == 0, said


def _all_answer(session: Session) -> None:
    for path in query.ready_queries():
        assert query.run(session, query.read(path))


def test_merging_by_hand_gives_the_same(engine: Engine, tmp_path: Path) -> None:
    """A system trace that somebody else has recorded, and our recording within its time."""
    for number in range(TRIES):
        folder = tmp_path / str(number)
        folder.mkdir()
        system, ours, both = (folder / f"{name}.pftrace" for name in ("system", "ours", "both"))
        _record_beside(engine, ours, system)
        merged = run(engine, "merge", ours, system, "-o", both)
        assert merged.returncode == 0, merged.stderr
        assert re.search(r"same boot .*REALTIME clocks agree", merged.stdout), merged.stdout
        with open_trace(both, trace_processor="wasm") as session:
            if not is_to_be_repeated(session):
                assert placement(session).edges >= 0.99
                return
    pytest.fail(f"{TRIES} times operators began or ended where their thread did not run")


def _record_beside(engine: Engine, ours: Path, system: Path) -> None:
    environment = os.environ | {
        "PERFETTO_PRODUCER_SOCK_NAME": str(ours.parent / "p"),
        "PERFETTO_CONSUMER_SOCK_NAME": str(ours.parent / "c"),
    }
    running: list[subprocess.Popen[bytes]] = []
    started, told = os.pipe()
    try:
        for name in ("traced", "traced_probes", "perfetto"):
            options = ("--txt", "-c", engine.folder / "system.pbtx", "--out", system,
                       "--notify-fd", str(told)) if name == "perfetto" else ()  # fmt: skip
            running.append(
                subprocess.Popen(
                    [PERFETTO / name, *options], env=environment, pass_fds=(told,),
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )
            )  # fmt: skip
            wait_for("traced's socket", (ours.parent / "c").exists)
        assert select.select([started], [], [], 30)[0]
        done = _record(engine, ours)
        assert done.returncode == 0, done.stderr
    finally:
        os.close(started)
        os.close(told)
        for process in reversed(running):
            process.terminate()
            process.wait(60)


# ---- What goes wrong


def test_without_perfetto_nothing_is_started(engine: Engine, tmp_path: Path) -> None:
    done = _record(
        engine, tmp_path / "t.pftrace", "--system", engine.folder / "system.pbtx",
        programs=tmp_path,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "Perfetto's traced" in done.stderr
    assert "hint: install" in done.stderr
    assert not done.stdout  # the engine would have said what it did
    assert os.listdir(tmp_path) == []


def test_two_readers_of_the_same_buffers_are_refused(engine: Engine, tmp_path: Path) -> None:
    shared = tmp_path / "shared.pbtx"
    shared.write_text("\n".join(line for line in CONFIG.splitlines() if "INSTANCE" not in line))
    event = INSTANCES.parent / "events/task/task_rename/enable"
    before = event.read_text()
    event.write_text("1")
    try:
        done = _record(engine, tmp_path / "t.pftrace", "--system", shared)
    finally:
        event.write_text(before[:1])
    assert done.returncode == 2, done.stderr
    assert "somebody else is recording with ftrace" in done.stderr
    assert "instance_name" in done.stderr
    assert not done.stdout
    assert os.listdir(tmp_path) == ["shared.pbtx"]


def test_a_configuration_that_perfetto_refuses(engine: Engine, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pbtx"
    bad.write_text("buffers { size_kb: many }")
    for config in (bad, tmp_path / "none.pbtx", tmp_path):
        done = _record(engine, tmp_path / "t.pftrace", "--system", config)
        assert done.returncode == 2, done.stderr
        assert str(config) in done.stderr
        assert "Traceback" not in done.stderr
        assert not done.stdout
    assert os.listdir(tmp_path) == ["bad.pbtx"]


def test_modules_in_the_current_folder_are_not_ours(engine: Engine, tmp_path: Path) -> None:
    """Root records in a stranger's folder."""
    (tmp_path / "argparse.py").write_text("raise SystemExit('a stranger was here')")
    script = Path(sys.executable).with_name("profinfer")
    done = subprocess.run(
        [script, "record", "--system", engine.folder / "system.pbtx", "-o", "t.pftrace", "--",
         engine.program(), "--decode", "2"],
        cwd=tmp_path, env=engine.environment | {"PROFINFER_PERFETTO": str(PERFETTO)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "same boot" in done.stderr


def test_perfetto_that_dies_leaves_our_trace(engine: Engine, tmp_path: Path) -> None:
    """A perfetto that acknowledges, and then writes nothing."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("traced", "traced_probes"):
        (programs / name).symlink_to(PERFETTO / name)
    script = programs / "perfetto"
    script.write_text(
        "#!/bin/bash\n"
        "while (($#)); do [[ $1 == --notify-fd ]] && fd=$2; shift; done\n"
        'printf "\\0" >&"$fd"\nexec {fd}>&-\n'
        'trap "echo no more memory; exit 1" TERM\nwhile :; do sleep 0.1; done\n'
    )
    script.chmod(0o755)
    trace = tmp_path / "t.pftrace"
    done = _record(engine, trace, "--system", engine.folder / "system.pbtx", programs=programs)
    assert done.returncode == 4, done.stderr
    assert "no more memory" in done.stderr
    assert str(trace) in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["bin", "t.pftrace"]
    with open_trace(trace, trace_processor="wasm") as session:
        assert session.import_errors() == []
        [(count,)] = session.query("SELECT count() FROM slice WHERE category = 'operator'")
        assert isinstance(count, int)
        assert count > 0


# ---- The kernel is left as it was


ENDS = ("ordinary", "Ctrl-C", "traced killed", "recorder killed", "configuration refused")


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("where", ["instance", "shared"])
def test_the_clock_of_the_buffers_is_as_before_and_no_event_is_on(
    engine: Engine, tmp_path: Path, where: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """traced_probes sets it, and does not set it back; killed, it leaves the events on."""
    monkeypatch.setenv("PROFINFER_PERFETTO", str(PERFETTO))
    text = CONFIG.replace("INSTANCE", f"profinfer-test-{os.getpid()}")
    clock = INSTANCES / f"profinfer-test-{os.getpid()}" / "trace_clock"
    if where == "shared":
        text = "\n".join(line for line in text.splitlines() if "instance_name" not in line)
        clock = INSTANCES.parent / "trace_clock"
    text = text.replace("compact_sched", "use_monotonic_raw_clock: true compact_sched")
    if end == "configuration refused":
        # A buffer that there is not: the service starts the others.
        text += 'data_sources { config { name: "linux.sys_stats" target_buffer: 7 } }'
    config = tmp_path / "raw.pbtx"
    config.write_text(text)
    found = chosen(clock)
    clock.write_text("tai")
    try:
        _record_until(engine, tmp_path, config, end, clock)
        wait_for("the clock", lambda: chosen(clock) == "tai")
        events = clock.with_name("set_event")
        wait_for("the events", lambda: not events.read_text().strip())
        # Who has set it back may look at it once more, and is not to find another one then.
        wait_for("the end of who sets it back", lambda: not _restoring())
    finally:
        clock.write_text(found)


def _restoring() -> bool:
    """Whether a process is there that will set clocks back."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = entry.read_bytes().split(b"\0")
            if words[:2] == [b"/bin/sh", b"-c"] and b"trace_clock" in words[2]:
                return True
    return False


def chosen(clock: Path) -> str:
    """The one of a file's clocks that is used."""
    return clock.read_text().partition("[")[2].partition("]")[0]


def _record_until(engine: Engine, folder: Path, config: Path, end: str, clock: Path) -> None:
    trace = folder / "t.pftrace"
    if end == "configuration refused":
        done = _record(engine, trace, "--system", config)
        assert done.returncode == 2, done.stderr
        return
    options = ("--level", "barrier", "--system", config)
    with (
        waiting(engine, folder / "gate", *SLEEPY) as target,
        attached(engine, target.pid, trace, *options, probes=PLACED) as recorder,
    ):
        wait_for("the clock", lambda: chosen(clock) == "mono_raw")
        if end == "recorder killed":
            recorder.kill()
            recorder.wait(20)
            return
        if end == "traced killed":
            os.kill(_child(recorder.pid, "traced"), signal.SIGKILL)
        target.go()
        if end == "ordinary":
            target.truth()
            code, said = finish(recorder)
        else:
            code, said = finish(recorder, signal.SIGINT)
    assert code == (4 if end == "traced killed" else 0), said


def _child(pid: int, name: str) -> int:
    """The process that another one has started, by the name of its program."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = [
        each for each in children
        if f"/{name}\0" in Path(f"/proc/{each}/cmdline").read_text()
    ]  # fmt: skip
    return int(*found)
