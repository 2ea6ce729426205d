"""The recorder in C records the known schedule under every kernel; its captures convert here."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from profinfer.capture import FrameKind
from tests.conftest import REPO, require
from tests.emulated.machine import KERNELS, Result, boot, compiler, processor
from tests.kernel.helpers import assert_matches, ending
from tests.matrix import Matrix
from tests.recorder.recording import TIMEOUT, convert, frame_json, make_plan

SCHEDULE = "--threads 2 --layers 3 --prompt 13 --decode 20 --sequences 2 --backend2"
WITHOUT_RINGS = ("arm64-5.10", "x86-5.10")
WITHOUT_LINKS = (*WITHOUT_RINGS, "arm64-6.1", "x86-6.1")
LOADERS = {"x86_64": "/lib64/ld-linux-x86-64.so.2", "aarch64": "/lib/ld-linux-aarch64.so.1"}

# The engine waits until the recorder says that its probes are in place.
COMMAND = """
/engine/known {schedule} --wait /tmp/go >truth 2>/tmp/ready &
engine=$!
until grep -q ready /tmp/ready; do usleep 10000; done
recorder --pid $engine --plan /plan.json -o t.raw {options} 2>said &
recorder=$!
until grep -q ^recording said; do kill -0 $recorder || break; usleep 10000; done
touch /tmp/go
wait $recorder
status=$?
cat said
kill $engine
exit $status
"""


@dataclass(frozen=True)
class Board:
    """What lies on a machine: the recorder, an engine with its libc, and a plan for it."""

    files: dict[str, Path | bytes]

    def run(self, kernel: str, options: str) -> Result:
        """Boots a kernel and records the engine's whole run there."""
        command = COMMAND.format(schedule=SCHEDULE, options=options)
        return boot(kernel, command, self.files, timeout=120)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Board]:
    """Makes the board for a kernel's machine, once per machine."""

    @cache
    def made(machine: str) -> Board:
        recorder = REPO / "build" / machine / "profinfer-recorder-static"
        require(f"the recorder for {machine} (tools/build_recorder.sh)", recorder.exists())
        gcc = compiler(next(k for k in KERNELS if processor(k).machine == machine))
        require(gcc, shutil.which(gcc))
        folder = tmp_path_factory.mktemp(machine)
        folder.chmod(0o755)  # nobody else plans for another processor
        subprocess.run(
            ["sh", REPO / "tests/engine/build.sh", folder],
            check=True, timeout=TIMEOUT, env={"PATH": "/usr/bin:/bin", "CC": gcc},
        )  # fmt: skip
        options = []
        if machine == "aarch64":
            sysroot = REPO / "build/python/aarch64"
            require("qemu-aarch64", shutil.which("qemu-aarch64"))
            require(f"an arm64 Python in {sysroot}", (sysroot / "usr/bin/python3").exists())
            options = ["--sysroot", sysroot]
        loader = LOADERS[machine]
        return Board(
            {
                "/bin/recorder": recorder,
                "/engine/known": folder / "known",
                "/engine/libknown.so": folder / "libknown.so",
                "/plan.json": make_plan(folder / "libknown.so", folder / "plan.json", *options),
                loader: _from_compiler(gcc, Path(loader).name),
                "/lib/libc.so.6": _from_compiler(gcc, "libc.so.6"),
            }
        )

    return lambda kernel: made(processor(kernel).machine)


def _from_compiler(gcc: str, name: str) -> Path:
    """Where a compiler finds a library of its libc."""
    command = [gcc, f"-print-file-name={name}"]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


@pytest.mark.matrix
@pytest.mark.parametrize("transport", ["ring", "perf"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_known_schedule_is_recorded_there_and_converted_here(
    kernel: str, transport: str, board: Callable[[str], Board], matrix: Matrix, tmp_path: Path
) -> None:
    machine, attach = (
        processor(kernel).machine,
        "perf_event" if kernel in WITHOUT_LINKS else "uprobe_multi",
    )
    what = "schedule recorded in C"
    matrix(what, kernel=kernel, machine=machine, loader="C", transport=transport, attach=attach)
    result = board(kernel).run(kernel, f"--transport {transport}")
    if transport == "ring" and kernel in WITHOUT_RINGS:
        matrix(
            "refused as it should", kernel=kernel, machine=machine, loader="C", transport=transport
        )
        assert result.status == 4
        assert "lacks the atomic instructions or the ring buffer" in result.output
        assert "hint: --transport perf needs less" in result.output
        return
    result.check()
    capture = tmp_path / "t.raw"
    capture.write_bytes(result.files["t.raw"])
    start = frame_json(capture, FrameKind.START)
    assert (start["transport"], start["attach"]) == (transport, attach)
    assert start["uname"]["machine"] == machine
    assert start["boot_clock"] is True
    trace = convert(capture)
    assert_matches(trace, json.loads(result.files["truth"]), "barrier")
    end = ending(trace)
    assert (end["reason"], end["lost"], end["unattributed"]) == ("the target ended", "0", "0")


@pytest.mark.matrix
@pytest.mark.parametrize("kernel", ["arm64-5.10", "arm64-6.12"])
def test_the_transport_is_chosen_by_what_the_kernel_can(
    kernel: str, board: Callable[[str], Board], matrix: Matrix, tmp_path: Path
) -> None:
    transport = "perf" if kernel in WITHOUT_RINGS else "ring"
    machine = processor(kernel).machine
    matrix("transport chosen", kernel=kernel, machine=machine, loader="C", transport=transport)
    result = board(kernel).run(kernel, "--level token").check()
    capture = tmp_path / "t.raw"
    capture.write_bytes(result.files["t.raw"])
    assert frame_json(capture, FrameKind.START)["transport"] == transport
    assert_matches(convert(capture), json.loads(result.files["truth"]), "token")
