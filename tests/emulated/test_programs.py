"""One BPF object per architecture passes the verifier of every kernel."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from profinfer.describing.describe import describe
from profinfer.describing.parameters import layout_parameters
from tests.conftest import REPO, require
from tests.emulated.guest import BPF_LIBRARIES, build
from tests.emulated.machine import KERNELS, processor
from tests.emulated.machines import Machines, Task, Work, Workshop
from tests.matrix import Matrix

OBJECTS = {
    "profinfer": "profinfer", "profinfer-perf": "profinfer", "scheduler": "scheduler",
    "scheduler-perf": "scheduler", "launch": "launch",
}  # fmt: skip
"""Objects, and the sources in bpf/ that they are made of."""
OPTIONAL = ("T_BUFFER", "T_FLAGS", "T_VIEW_SRC", "G_UID", "B_", "U_")
"""What an old engine lacks. Code for it must then be dead for the verifier, too."""

REFUSED = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
SEC("uprobe") int reads_null(void *ctx) { return *(volatile int *)0; }
"""


pytestmark = pytest.mark.timeout(1200)


def layout(_: Path) -> dict[str, int]:
    """The parameters of a real engine's layout."""
    spec = importlib.util.find_spec("xllamacpp")
    require("the xllamacpp wheel", spec and spec.origin)
    library = next(Path(str(spec and spec.origin)).parent.glob("xllamacpp*.so"))
    return layout_parameters(describe([library], uid=os.getuid(), gid=os.getgid()))


def refused(kernel: str) -> set[str]:
    """The ring's atomic instructions came with Linux 5.12; everything else is older."""
    return {"profinfer", "scheduler"} if kernel.endswith("-5.10") else set()


@dataclass(frozen=True)
class Load:
    """All objects, for a new engine or an old one."""

    is_old: bool

    def __call__(self, workshop: Workshop, task: Task) -> Work:
        kernel = task.kernel
        folder = REPO / "build" / processor(kernel).machine
        objects = {f"/{name}.bpf.o": folder / f"{name}.bpf.o" for name in OBJECTS}
        require(f"BPF objects in {folder}", all(path.exists() for path in objects.values()))
        absent = OPTIONAL if self.is_old else ("nothing",)
        known = workshop.once("layout", layout)
        values = {name: -1 if name.startswith(absent) else value for name, value in known.items()}
        assert (-1 in values.values()) is self.is_old
        if not self.is_old:
            values |= {"COUNTERS": 16, "COUNTER_LEADERS": 0xFFFF, "COUNTER_RECORDS": 17}
        # Registers of a system call are found since 5.15.
        has_calls = not (refused(kernel) or self.is_old)
        values |= {"CALL_OFFSET": 120 if has_calls else -1, "TARGET_ONLY": int(self.is_old)}
        values |= {"SWITCH_TELLS_STATE": int(not refused(kernel))}
        values |= {"TASK_THROTTLED": 0 if kernel.endswith("-current") else -1}
        values |= dict.fromkeys(("EXPERTS", "EXPERT_WEIGHTS"), int(not self.is_old))
        # As in a PID namespace of its own: else none of that is left for the verifier.
        values |= {"PID_LEVEL": int(not self.is_old), "TASK_GROUP_LEADER": 8, "PID_NUMBER": 112}
        settings = " ".join(f"{name}={value}" for name, value in values.items())
        command = f"load {' '.join(objects)} {settings} BOOT_CLOCK=1 CHILD_OFFSET=44"
        command += " GROUP_DEAD_OFFSET=-1"
        return Work(command, {"/bin/load": loader(workshop, kernel), **objects})


def loader(workshop: Workshop, kernel: str) -> Path:
    """The program that loads what it is told to."""
    source = Path(__file__).with_name("load_programs.c")
    return workshop.once(
        f"load-{processor(kernel).machine}",
        lambda folder: build(kernel, source, folder / "load", *BPF_LIBRARIES),
    )


NEW = [Task(kernel, "load", Load(False)) for kernel in KERNELS]
OLD = Task("x86-6.12", "load-old", Load(True))


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("task", "old"),
    [pytest.param(task, task is OLD, id=f"{task.kernel}-{task is OLD}") for task in (*NEW, OLD)],
)
def test_every_program_is_accepted(
    repo: Path, matrix: Matrix, machines: Machines, task: Task, old: bool
) -> None:
    """With every field that an engine may have, as many counters as there is room for, and other
    numbers of threads than the machine's; and with none of those an old engine lacks, no counters
    and its numbers."""
    what = "programs loaded" + (", old engine" if old else "")
    left_out = refused(task.kernel)
    matrix(what, kernel=task.kernel, machine=processor(task.kernel).machine, loader="libbpf",
           transport="perf" if left_out else "both")  # fmt: skip
    result = machines.result(task)
    expected = [
        (f"/{name}.bpf.o", program)
        for name, source in OBJECTS.items()
        if name not in left_out
        for program in programs(repo / f"bpf/{source}.bpf.c")
    ]
    loaded = re.findall(r"^loaded: (\S+) (\S+)$", result.output, re.M)
    assert sorted(loaded) == sorted(expected), result.output
    callers = set(re.findall(r"^calls: (\S+) bpf_iter_task_vma_\w+$", result.output, re.M))
    has_functions = task.kernel.endswith(("-6.12", "-current"))
    assert callers == ({"on_exec", "on_objects_changed"} if has_functions else set())
    assert (result.status != 0) is bool(left_out)
    assert ("BPF_STX uses reserved fields" in result.output) is bool(left_out)


LACKING = {
    "5.10": {"TASK_THROTTLED", "QUEUE_THROTTLED_TIME"},
    "6.1": {"TASK_THROTTLED", "QUEUE_THROTTLED_TIME"},
    "6.12": {"TASK_THROTTLED"},
    "current": {"QUEUE_THROTTLES"},
}
"""What a kernel does not tell of throttling: of tasks or of queues."""
TYPES = [
    Task(kernel, "types", lambda _, __: Work("cp /sys/kernel/btf/vmlinux .")) for kernel in KERNELS
]


@pytest.mark.matrix
@pytest.mark.parametrize("task", TYPES, ids=str)
def test_the_kernels_types_are_found(
    repo: Path, tmp_path: Path, machines: Machines, task: Task
) -> None:
    """That its tracepoints take the programs with these is seen by recordings (test_recorder)."""
    path = tmp_path / "vmlinux"
    path.write_bytes(machines.result(task).check().files["vmlinux"])
    settings, throttling = scheduler_types(repo, path, tmp_path).splitlines()
    assert f"SWITCH_TELLS_STATE={int(not task.kernel.endswith('-5.10'))}" in settings
    assert "PID_NUMBER=" in settings
    assert "=-1" not in settings
    lacks = {name for name, value in (each.split("=") for each in throttling.split())
             if value == "-1"}  # fmt: skip
    *_, version = task.kernel.split("-")
    assert lacks == LACKING[version], throttling


def scheduler_types(repo: Path, btf: Path, folder: Path) -> str:
    """Parameters of the scheduler's programs, as the recorder finds them in a kernel's BTF."""
    recorder = repo / "bpf/recorder"
    sources = [repo / "tests/emulated/kernel_types.c", recorder / "btf.c",
               recorder / "kernel_types.c"]  # fmt: skip
    command = ["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-iquote", recorder, "-o", folder / "types"]
    subprocess.run([*map(str, command), *map(str, sources)], check=True, timeout=60)
    done = subprocess.run(
        [folder / "types", btf], stdout=subprocess.PIPE, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def programs(source: Path) -> list[str]:
    """The programs that a source of the libbpf dialect defines."""
    text = source.read_text()
    found = re.findall(r"^SEC\(.* int (\w+)\(", text, re.M)
    assert found
    numbered = re.findall(r"^ON_(CALL|STEP)\((\d+)\)", text, re.M)
    return found + [f"on_{name.lower()}_{number}" for name, number in numbered]


def load_refused(workshop: Workshop, task: Task) -> Work:
    refused = workshop.once("refused", compile_refused)
    files = {"/bin/load": loader(workshop, task.kernel), "/refused.bpf.o": refused}
    return Work("load /refused.bpf.o", files)


def compile_refused(folder: Path) -> Path:
    require("clang", shutil.which("clang"))
    source, refused = folder / "refused.bpf.c", folder / "refused.bpf.o"
    source.write_text(REFUSED)
    includes = (f"-I{REPO}/build/sysroot/x86_64/usr/include", "-I/usr/include/x86_64-linux-gnu")
    subprocess.run(
        ["clang", "-target", "bpf", "-O2", *includes, "-c", source, "-o", refused],
        check=True,
        timeout=60,
    )
    return refused


@pytest.mark.parametrize("task", [Task("x86-6.1", "refused", load_refused)], ids=str)
def test_a_refusal_comes_with_the_verifiers_log(task: Task, machines: Machines) -> None:
    result = machines.result(task)
    assert result.status == 1
    assert re.search(r"BEGIN PROG LOAD LOG(?s:.*)R\d invalid mem access", result.output)
