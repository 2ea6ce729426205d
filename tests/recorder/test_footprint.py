"""What it takes of a board: bytes on its disk and in its memory."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from profinfer.capture import FrameKind
from profinfer.elf import Elf
from tests.conftest import require
from tests.kernel.helpers import target, wait_until
from tests.recorder.recording import TIMEOUT, attached, frame_json

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


@pytest.mark.parametrize("transport", ["ring", "perf"])
def test_its_memory_stays_below_eight_mebibytes_at_a_high_rate(
    transport: str, recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    """The peak, with everything that was ever mapped: VmHWM."""
    capture = tmp_path / "t.raw"
    engine = ("--threads", 2, "--layers", 30, "--decode", 1_000_003, "--work-us", 0)
    with (
        target(built, tmp_path, *engine) as known,
        attached(recorder, plan, known.pid, capture, "--transport", transport) as recording,
    ):
        known.release()
        wait_until("many records", lambda: capture.stat().st_size > 30 * MIB)
        status = Path(f"/proc/{recording.process.pid}/status").read_text()
        recording.process.terminate()
        said = recording.finish()
        assert recording.code == 0, said
    peak = next(line.split() for line in status.splitlines() if line.startswith("VmHWM:"))
    assert peak[2] == "kB"
    assert 100 < int(peak[1]) <= 8 * 1024
    end = frame_json(capture, FrameKind.END)
    assert end["drained"] > 500_000
