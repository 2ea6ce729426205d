"""One BPF object per architecture passes the verifier of every kernel."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from profinfer.kernel_types import scheduler_types
from profinfer.layout import describe
from profinfer.parameters import layout_parameters
from tests.conftest import require
from tests.emulated.guest import BPF_LIBRARIES, build
from tests.emulated.machine import KERNELS, boot, processor
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


@pytest.fixture(scope="module")
def layout() -> dict[str, int]:
    """The parameters of a real engine's layout."""
    spec = importlib.util.find_spec("xllamacpp")
    require("the xllamacpp wheel", spec and spec.origin)
    library = next(Path(str(spec and spec.origin)).parent.glob("xllamacpp*.so"))
    return layout_parameters(describe([library], uid=os.getuid(), gid=os.getgid()))


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("kernel", "old"), [*((kernel, False) for kernel in KERNELS), ("x86-6.12", True)]
)
def test_every_program_is_accepted(
    repo: Path, tmp_path: Path, matrix: Matrix, layout: dict[str, int], kernel: str, old: bool
) -> None:
    """With every field that an engine may have and as many counters as there is room for, and with
    none of those an old engine lacks and no counters."""
    what = "programs loaded" + (", old engine" if old else "")
    # The ring's atomic instructions came with Linux 5.12; everything else is older.
    is_old = kernel.endswith("-5.10")
    refused = {"profinfer", "scheduler"} if is_old else set()
    transport = "perf" if refused else "both"
    machine = processor(kernel).machine
    matrix(what, kernel=kernel, machine=machine, loader="libbpf", transport=transport)
    objects = {f"/{name}.bpf.o": repo / f"build/{machine}/{name}.bpf.o" for name in OBJECTS}
    require(f"BPF objects for {machine}", all(path.exists() for path in objects.values()))
    tool = build(kernel, repo / "tests/emulated/load_programs.c", tmp_path / "load", *BPF_LIBRARIES)
    absent = OPTIONAL if old else ("nothing",)
    values = {name: -1 if name.startswith(absent) else value for name, value in layout.items()}
    assert (-1 in values.values()) is old
    if not old:
        values |= {"COUNTERS": 16, "COUNTER_LEADERS": 0xFFFF, "COUNTER_RECORDS": 17}
    # Registers of a system call are found since 5.15.
    values |= {"CALL_OFFSET": -1 if is_old or old else 120, "TARGET_ONLY": int(old)}
    values |= {"SWITCH_TELLS_STATE": int(not is_old)}
    values |= dict.fromkeys(("EXPERTS", "EXPERT_WEIGHTS"), int(not old))
    settings = " ".join(f"{name}={value}" for name, value in values.items())
    command = f"load {' '.join(objects)} {settings} BOOT_CLOCK=1 CHILD_OFFSET=44"
    result = boot(kernel, command, {"/bin/load": tool, **objects})
    expected = [
        (f"/{name}.bpf.o", program)
        for name, source in OBJECTS.items()
        if name not in refused
        for program in programs(repo / f"bpf/{source}.bpf.c")
    ]
    loaded = re.findall(r"^loaded: (\S+) (\S+)$", result.output, re.M)
    assert sorted(loaded) == sorted(expected), result.output
    assert (result.status != 0) is bool(refused)
    assert ("BPF_STX uses reserved fields" in result.output) is bool(refused)


@pytest.mark.matrix
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_kernels_types_are_found_and_its_tracepoints_take_the_programs(
    repo: Path, tmp_path: Path, matrix: Matrix, kernel: str
) -> None:
    """With the offsets that its own BTF gives."""
    machine = processor(kernel).machine
    matrix("scheduler's programs attached", kernel=kernel, machine=machine, loader="libbpf",
           transport="perf")  # fmt: skip
    types = boot(kernel, "cp /sys/kernel/btf/vmlinux .", {}).check().files["vmlinux"]
    path = tmp_path / "vmlinux"
    path.write_bytes(types)
    found = scheduler_types(path)
    assert found["SWITCH_TELLS_STATE"] == (not kernel.endswith("-5.10"))
    program = repo / f"build/{machine}/scheduler-perf.bpf.o"
    require(f"BPF objects for {machine}", program.exists())
    source = repo / "tests/emulated/record_schedule.c"
    tool = build(kernel, source, tmp_path / "tool", f"-I{repo}/bpf", *BPF_LIBRARIES)
    settings = " ".join(f"{name}={value}" for name, value in found.items())
    command = f"tool /scheduler-perf.bpf.o {settings} BOOT_CLOCK=1 CALL_OFFSET=-1"
    result = boot(kernel, command, {"/bin/tool": tool, "/scheduler-perf.bpf.o": program}).check()
    seen = dict(re.findall(r"^(\w+): (.*)$", result.output, re.M))
    # It has slept 20 times, with its default priority, and changed its name once.
    assert {name: seen[name] for name in ("asleep", "woken", "priorities", "name")} == {
        "asleep": "20", "woken": "20", "priorities": "20", "name": "other-name",
    }  # fmt: skip
    assert int(seen["awake"]) >= 20  # somebody may have preempted it
    assert seen["threads"] == "1 made as other-name, 1 ended, 1 gone"


def programs(source: Path) -> list[str]:
    """The programs that a source of the libbpf dialect defines."""
    found = re.findall(r"^SEC\(.* int (\w+)\(", source.read_text(), re.M)
    assert found
    return found


def test_a_refusal_comes_with_the_verifiers_log(repo: Path, tmp_path: Path) -> None:
    require("clang", shutil.which("clang"))
    source, refused = tmp_path / "refused.bpf.c", tmp_path / "refused.bpf.o"
    source.write_text(REFUSED)
    includes = (f"-I{repo}/build/sysroot/x86_64/usr/include", "-I/usr/include/x86_64-linux-gnu")
    subprocess.run(
        ["clang", "-target", "bpf", "-O2", *includes, "-c", source, "-o", refused],
        check=True,
        timeout=60,
    )
    load = repo / "tests/emulated/load_programs.c"
    tool = build("x86-6.1", load, tmp_path / "load", *BPF_LIBRARIES)
    result = boot("x86-6.1", "load /refused.bpf.o", {"/bin/load": tool, "/refused.bpf.o": refused})
    assert result.status == 1
    assert re.search(r"BEGIN PROG LOAD LOG(?s:.*)R\d invalid mem access", result.output)
