"""Recordings on a machine: the recorder in C, an engine of known schedule, and a plan for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.conftest import REPO, require
from tests.emulated.initramfs import Content
from tests.emulated.machine import KERNELS, Result, compiler, processor
from tests.emulated.machines import Task, Work, Workshop
from tests.recorder.recording import TIMEOUT, make_plan
from tests.recording.helpers import Truth

LOADERS = {"x86_64": "/lib64/ld-linux-x86-64.so.2", "aarch64": "/lib/ld-linux-aarch64.so.1"}
HOLD = "--wait 9 --hold 1000000"
DISK_BYTES = 1 << 20
TICK_NS = 10_000_000
"""Of /proc/uptime, which is CLOCK_BOOTTIME."""

# The engine waits for a byte, works, and waits to be killed: before and after, none of its threads
# does anything, so that what the kernel counts of them can be read.
COMMAND = """
{before}
until_said() {{ # word, file
    until grep -qs $1 $2; do
        kill -0 $recorder 2>/dev/null || {{
            wait $recorder; code=$?
            cat $2
            kill $engine 2>/dev/null
            exit $code
        }}
        usleep 50000
    done
}}
look() {{ # name
    for each in status stat schedstat; do
        for thread in /proc/$engine/task/*; do cat $thread/$each; done >$1.$each
    done
    cat /proc/$engine/io >$1.io
    cut -d ' ' -f 1 /proc/uptime >$1.uptime
}}
mkfifo /tmp/gate
exec 9<>/tmp/gate
{start}
{beside}
look before
echo >&9
until [ $(wc -l <truth) = 1 ]; do kill -0 $engine || exit 1; usleep 50000; done
until look after; usleep 100000; look again; cmp -s after.status again.status; do true; done
kill -9 $engine
wait $recorder
status=$?
cat said
exit $status
"""
BY_PID = """
/engine/known {schedule} >truth 2>/tmp/ready &
engine=$!
recorder=$!
until_said ^ready /tmp/ready
recorder --pid $engine --plan {plan} -o t.raw {options} 2>said &
recorder=$!
until_said ^recording said
"""
LAUNCHED = """
recorder --plan {plan} -o t.raw {options} -- /engine/known {schedule} >truth 2>said &
recorder=$!
until_said ^ready said
engine=$(sed -n 's/^ready //p' said)
"""


@dataclass(frozen=True)
class Recording:
    """Of the engine's whole run, into t.raw."""

    options: str
    """The recorder's."""
    schedule: str
    is_launched: bool = False
    plan: tuple[str, ...] = ()
    """Options of `profinfer plan`."""
    beside: str = ""
    """What is done before the engine begins, recorded as well."""
    before: str = ""
    """What is done first."""

    def __call__(self, workshop: Workshop, task: Task) -> Work:
        machine = processor(task.kernel).machine
        folder = engine(workshop, machine)
        plan = "plan" + "".join(c if c.isalnum() else "-" for c in "".join(self.plan))
        start = (LAUNCHED if self.is_launched else BY_PID).format(
            plan=f"/{plan}.json", options=self.options, schedule=f"{self.schedule} {HOLD}"
        )
        make = partial(_plan, folder / "libknown.so", machine, self.plan)
        return Work(
            COMMAND.format(before=self.before, start=start, beside=self.beside),
            {
                **workshop.once(f"board-{machine}", partial(_board, folder, machine)),
                f"/{plan}.json": workshop.once(f"{plan}-{machine}", make),
            },
        )


def engine(workshop: Workshop, machine: str) -> Path:
    """The folder with known and libknown.so for a machine."""
    return workshop.once(f"engine-{machine}", partial(_build, _compiler(machine)))


def _compiler(machine: str) -> str:
    return compiler(next(kernel for kernel in KERNELS if processor(kernel).machine == machine))


def _build(gcc: str, folder: Path) -> Path:
    require(gcc, shutil.which(gcc))
    subprocess.run(
        ["sh", REPO / "tests/double/build.sh", folder],
        check=True, timeout=TIMEOUT, env={"PATH": "/usr/bin:/bin", "CC": gcc},
    )  # fmt: skip
    return folder


def _plan(library: Path, machine: str, options: tuple[str, ...], folder: Path) -> Path:
    if machine == "aarch64":
        sysroot = REPO / "build/roots/aarch64-bookworm"
        require("qemu-aarch64", shutil.which("qemu-aarch64"))
        require(f"arm64 libraries in {sysroot}", sysroot.is_dir())
        options = (*options, "--sysroot", str(sysroot))
    return make_plan(library, folder / "plan.json", *options)


def _board(engine: Path, machine: str, _: Path) -> dict[str, Content]:
    """What lies on every machine of a kind: the recorder, the engine and its libc."""
    recorder = REPO / "build" / machine / "profinfer-recorder-static"
    require(f"the recorder for {machine} (tools/build_recorder.sh)", recorder.exists())
    gcc, loader = _compiler(machine), LOADERS[machine]
    return {
        "/bin/recorder": recorder,
        "/engine/known": engine / "known",
        "/engine/libknown.so": engine / "libknown.so",
        loader: _from_compiler(gcc, Path(loader).name),
        "/lib/libc.so.6": _from_compiler(gcc, "libc.so.6"),
    }


def disk(workshop: Workshop) -> Path:
    """A disk of a mebibyte that is nothing but noise."""

    def make(folder: Path) -> Path:
        (folder / "disk").write_bytes(os.urandom(DISK_BYTES))
        return folder / "disk"

    return workshop.once("disk", make)


def _from_compiler(gcc: str, name: str) -> Path:
    """Where a compiler finds a library of its libc."""
    command = [gcc, f"-print-file-name={name}"]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


def captured(result: Result, folder: Path) -> tuple[Path, Truth]:
    """The capture that a recording has left, and the engine's truth."""
    capture = folder / "t.raw"
    capture.write_bytes(result.check().files["t.raw"])
    truth: Truth = json.loads(result.files["truth"])
    return capture, truth


@dataclass(frozen=True)
class Counted:
    """What the kernel itself has counted of each thread between two looks, and their times."""

    begin: int
    end: int
    switches: dict[int, int]
    """How often it has left its CPU."""
    turns: dict[int, int]
    """How often it has got one."""
    minor: dict[int, int]
    major: dict[int, int]
    read_bytes: int
    """From storage, by the whole process."""


def counted(result: Result) -> Counted:
    before, after = (_look(result, name) for name in ("before", "after"))
    switches, turns, minor, major = (
        {tid: counts[i] - before[1].get(tid, [0] * 4)[i] for tid, counts in after[1].items()}
        for i in range(4)
    )
    bytes_ = [
        int(result.files[f"{name}.io"].partition(b"\nread_bytes: ")[2].split()[0])
        for name in ("before", "after")
    ]
    return Counted(
        before[0], after[0] + TICK_NS, switches, turns, minor, major, bytes_[1] - bytes_[0]
    )


def _look(result: Result, name: str) -> tuple[int, dict[int, list[int]]]:
    """When it was, and by thread: switches, turns, minor and major faults."""
    status, stat, schedstat, uptime = (
        result.files[f"{name}.{each}"].decode()
        for each in ("status", "stat", "schedstat", "uptime")
    )
    found: dict[int, list[int]] = {}
    switches = [
        int(line.split()[1]) for line in status.splitlines() if "voluntary_ctxt_switches" in line
    ]
    for i, (line, times) in enumerate(zip(stat.splitlines(), schedstat.splitlines(), strict=True)):
        fields = line.rpartition(")")[2].split()
        tid, turns = int(line.split()[0]), int(times.split()[2])
        found[tid] = [sum(switches[2 * i : 2 * i + 2]), turns, int(fields[7]), int(fields[9])]
    return round(float(uptime) * 1e9), found
