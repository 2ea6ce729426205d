"""In a PID namespace of its own, as a container has it, the kernel's programs see other numbers
than /proc does: what rests on both is refused or left out, and said."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from profinfer.records.capture import FrameKind, read_capture
from tests.conftest import require
from tests.recorder.recording import TIMEOUT, drained, frame_json

SCRIPT = """
engine=$1 recorder=$2
shift 2
"$engine" --threads 2 --layers 3 --decode 1000003 --work-us 101 >&2 &
until grep -q libknown "/proc/$!/maps"; do sleep 0.02; done
"$recorder" --pid $! "$@"
"""
HINT = "hint: give the container the machine's PIDs"


def apart(*command: object) -> subprocess.CompletedProcess[str]:
    """Runs a command as a container would; whatever it leaves behind ends with it."""
    unshare = shutil.which("unshare")
    require("unshare (util-linux)", unshare)
    return subprocess.run(
        [str(unshare), "--pid", "--fork", "--mount-proc", *map(str, command)],
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip


def record(
    recorder: Path, plan: Path, built: Path, capture: Path, *options: object
) -> subprocess.CompletedProcess[str]:
    words = ("--plan", plan, "-o", capture, "--duration", 0.5, *options)
    return apart("sh", "-c", SCRIPT, "sh", built / "known", recorder, *words)


def test_the_engine_is_recorded_and_what_is_missing_is_said(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "t.raw"
    done = record(recorder, plan, built, capture)
    assert done.returncode == 0, done.stderr
    assert drained(capture)["operator"] > 50
    start, end = (frame_json(capture, kind) for kind in (FrameKind.START, FrameKind.END))
    assert "scheduler" not in start
    assert [note.split(":")[0] for note in end["notes"]] == [
        "threads bear the machine's numbers, which this PID namespace does not know, and the name"
        " of their process",
        "the scheduler was not recorded",
    ]
    assert end["threads_waited_s"] is None
    names = [frame.json() for frame in read_capture(capture) if frame.kind == FrameKind.NAMES]
    assert {name for frame in names for name in frame.values()} == {"known"}


@pytest.mark.parametrize(
    "options", [("--faults",), ("--block-io",), ("--scheduler", "target")], ids=lambda o: o[0]
)
def test_what_needs_the_machines_numbers_is_refused(
    options: tuple[str, ...], recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    done = record(recorder, plan, built, tmp_path / "t.raw", *options)
    assert done.returncode == 4, done.stderr
    assert "PID namespace of its own" in done.stderr
    assert HINT in done.stderr
    assert not (tmp_path / "t.raw").exists()


def test_nothing_is_launched(recorder: Path, plan: Path, tmp_path: Path) -> None:
    done = apart(recorder, "--plan", plan, "-o", tmp_path / "t.raw", "--", "touch", tmp_path / "x")
    assert done.returncode == 4, done.stderr
    assert HINT in done.stderr
    assert not (tmp_path / "x").exists()
