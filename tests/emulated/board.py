"""A machine with the recorder in C, an engine of known schedule, and a plan for it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPO, require
from tests.emulated.machine import KERNELS, Result, boot, compiler, processor
from tests.recorder.recording import TIMEOUT, make_plan

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

    def run(
        self, kernel: str, options: str, schedule: str, *, count_instructions: bool = False
    ) -> Result:
        """Boots a kernel and records the engine's whole run there, into t.raw."""
        command = COMMAND.format(schedule=schedule, options=options)
        return boot(kernel, command, self.files, timeout=120, count_instructions=count_instructions)


def make_board(machine: str, folder: Path, *options: str) -> Board:
    """The board of a machine. `options`: of `profinfer plan`."""
    recorder = REPO / "build" / machine / "profinfer-recorder-static"
    require(f"the recorder for {machine} (tools/build_recorder.sh)", recorder.exists())
    gcc = compiler(next(k for k in KERNELS if processor(k).machine == machine))
    require(gcc, shutil.which(gcc))
    folder.chmod(0o755)  # nobody else plans for another processor
    subprocess.run(
        ["sh", REPO / "tests/engine/build.sh", folder],
        check=True, timeout=TIMEOUT, env={"PATH": "/usr/bin:/bin", "CC": gcc},
    )  # fmt: skip
    if machine == "aarch64":
        sysroot = REPO / "build/python/aarch64"
        require("qemu-aarch64", shutil.which("qemu-aarch64"))
        require(f"an arm64 Python in {sysroot}", (sysroot / "usr/bin/python3").exists())
        options = (*options, "--sysroot", str(sysroot))
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


def _from_compiler(gcc: str, name: str) -> Path:
    """Where a compiler finds a library of its libc."""
    command = [gcc, f"-print-file-name={name}"]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
