"""What it takes of a board: bytes on its disk and in its memory."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from profinfer.binaries.elf import Elf
from profinfer.records.capture import FrameKind, read_capture
from tests.conftest import require
from tests.recorder.recording import TIMEOUT, attached, drained, frame_json, make_plan
from tests.recorder.test_memory import mapper
from tests.recording.helpers import target, wait_until

MIB = 1 << 20


def test_the_program_has_at_most_one_mebibyte_and_needs_a_libc_alone(recorder: Path) -> None:
    assert recorder.stat().st_size <= MIB
    needed = Elf(recorder).needed
    # The loader is libc's, too: thread-local variables ask for it.
    assert [name for name in needed if not name.startswith("ld-linux")] == ["libc.so.6"]
    sections = subprocess.run(
        ["readelf", "-SW", recorder], capture_output=True, text=True, check=True, timeout=TIMEOUT
    ).stdout
    assert ".symtab" not in sections


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_static_program_needs_nothing(machine: str, repo: Path) -> None:
    static = repo / "build" / machine / "profinfer-recorder-static"
    require(f"the recorder for {machine} (tools/build_recorder.sh)", static.exists())
    elf = Elf(static)
    assert elf.machine.replace("-", "_") == machine
    assert (elf.interp, elf.needed) == (None, [])
    assert static.stat().st_size <= 2 * MIB


EVERYTHING = (
    *("--scheduler", "system", "--faults", "--block-io", "--experts", "--expert-weights"),
)


@pytest.fixture(scope="module")
def plan(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan with counters that every machine has."""
    path = tmp_path_factory.mktemp("counting") / "plan.json"
    counters = "page-faults,context-switches,cpu-migrations,sched:sched_switch"
    return make_plan(built / "libknown.so", path, "--counters", counters)


def peak_kb(pid: int) -> int:
    """The most memory that a process has had: VmHWM."""
    status = Path(f"/proc/{pid}/status").read_text()
    [peak] = [line.split() for line in status.splitlines() if line.startswith("VmHWM:")]
    assert peak[2] == "kB"
    return int(peak[1])


@pytest.mark.parametrize("transport", ["ring", "perf"])
def test_its_memory_stays_below_eight_mebibytes_at_a_high_rate(
    transport: str, recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    """The peak, with everything that was ever mapped and everything that can be recorded."""
    capture = tmp_path / "t.raw"
    engine = ("--threads", 2, "--layers", 30, "--decode", 1_000_003, "--work-us", 0)
    with (
        target(built, tmp_path, *engine) as known,
        attached(
            recorder, plan, known.pid, capture, "--transport", transport, *EVERYTHING
        ) as recording,
    ):
        known.release()
        wait_until("many records", lambda: capture.stat().st_size > 40 * MIB)
        peak = peak_kb(recording.process.pid)
        recording.process.terminate()
        said = recording.finish()
        assert recording.code == 0, said
    print(f"peak {peak} kB")
    assert 100 < peak <= 8 * 1024
    end = frame_json(capture, FrameKind.END)
    assert end["drained"] > 500_000
    assert end["scheduler"]["drained"] > 1000
    assert drained(capture)["counters"] > 100_000


@pytest.mark.parametrize("mode", ["system", "target"])
def test_its_memory_stays_below_eight_mebibytes_with_many_threads_and_mappings(
    mode: str, recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    threads, mappings = 2_000, 10_000
    capture, file = tmp_path / "t.raw", tmp_path / "file"
    file.write_bytes(bytes(3 * os.sysconf("SC_PAGESIZE")))
    with mapper(built) as crowded:
        crowded.tell("often", file, mappings)
        crowded.tell("threads", threads)
        options = (*EVERYTHING, "--scheduler", mode, "--poll", 0.05)
        with attached(recorder, plan, crowded.pid, capture, *options) as recording:
            time.sleep(0.5)  # some drains, and looks at what is mapped
            peak = peak_kb(recording.process.pid)
            recording.process.terminate()
            said = recording.finish()
            assert recording.code == 0, said
    print(f"peak {peak} kB")
    assert 100 < peak <= 8 * 1024
    named = {
        tid
        for frame in read_capture(capture)
        if frame.kind == FrameKind.TASKS
        for tid, pid, *_ in frame.json()["threads"]
        if pid == crowded.pid
    }
    assert len(named) >= threads
