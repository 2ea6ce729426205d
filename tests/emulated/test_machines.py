"""Emulated machines do what tests rely on: they boot, run, fail loudly, give back every byte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.emulated.board import DISK_BYTES, disk
from tests.emulated.guest import build
from tests.emulated.machine import KERNELS, MachineError, hangs, kernel_version, processor
from tests.emulated.machines import COUNTING, Machines, Setting, Task, Work, Workshop
from tests.matrix import Matrix

HELLO = """
#include <stdio.h>
#include <sys/utsname.h>
int main(int argc, char **argv)
{
    struct utsname name;
    uname(&name);
    printf("%s %s %s %zu\\n", argv[argc - 1], name.machine, name.version, sizeof(void *));
    return 7;
}
"""
ROUNDS = 1_000_000
BLOB = os.urandom((4 << 20) + 13)

pytestmark = pytest.mark.timeout(1200)


def greet(workshop: Workshop, task: Task) -> Work:
    def make(folder: Path) -> Path:
        (folder / "hello.c").write_text(HELLO)
        return build(task.kernel, folder / "hello.c", folder / "hello")

    hello = workshop.once(f"hello-{processor(task.kernel).machine}", make)
    command = "cp /blob copy; mkdir -p a/b; nproc >a/b/cpus; cp /sys/kernel/btf/vmlinux btf"
    return Work(f"{command}; hello hi", {"/bin/hello": hello, "/blob": BLOB})


@pytest.mark.parametrize("task", [Task(kernel, "greet", greet) for kernel in KERNELS], ids=str)
def test_boots_runs_and_gives_back(task: Task, machines: Machines, matrix: Matrix) -> None:
    """The kernel is the one of the manifest and has BTF; files come back bit for bit."""
    machine = processor(task.kernel).machine
    matrix("machine boots", kernel=task.kernel, machine=machine)
    result = machines.result(task)
    greeting, found, *version, pointer = result.output.split()
    assert (greeting, found, pointer) == ("hi", machine, "8")
    assert kernel_version(task.kernel) in version
    assert result.status == 7
    assert result.files.pop("copy") == BLOB
    assert result.files.pop("btf")[:2] == b"\x9f\xeb"  # BTF's magic number
    assert result.files == {"a/b/cpus": b"2\n"}


def alone(kernel: str, name: str, command: str, timeout: float) -> Task:
    """A task with a machine of its own."""
    setting = Setting(alone=name, timeout=timeout)
    return Task(kernel, name, lambda _, __: Work(command), setting)


CRASH = alone("x86-6.12", "crash", "echo before; echo c >/proc/sysrq-trigger", 120)
HANG = alone("arm64-6.1", "hang", "echo still here; sleep 1000", 8)


@pytest.mark.parametrize("task", [CRASH], ids=str)
def test_a_crash_is_an_error_with_the_console(task: Task, machines: Machines) -> None:
    with pytest.raises(MachineError, match=r"(?s)no files.*before.*sysrq triggered crash"):
        machines.result(task)


@pytest.mark.parametrize("task", [HANG], ids=str)
def test_a_hang_is_an_error_with_the_output(task: Task, machines: Machines) -> None:
    with pytest.raises(MachineError, match=r"(?s)not finished after 8 s.*still here"):
        machines.result(task)


@pytest.mark.parametrize(("jiffies", "is_hung"), [(5_250, False), (14_999, False), (21_003, True)])
def test_a_kernel_says_when_it_hangs(jiffies: int, is_hung: bool) -> None:
    stall = f"rcu: rcu_preempt kthread starved for {jiffies} jiffies! g-1131 f0x0 RCU_GP_WAIT"
    assert hangs(f"a line before\n[   84.1] {stall}\n") == is_hung


def copy_disk(workshop: Workshop, _: Task) -> Work:
    shown = disk(workshop)
    return Work("cat /dev/vda >copy; cat /shown >shown", {"/shown": shown}, shown)


@pytest.mark.parametrize("task", [Task("arm64-6.1", "disk", copy_disk)], ids=str)
def test_a_disk_holds_what_the_host_wrote(task: Task, machines: Machines) -> None:
    files = machines.result(task).check().files
    assert files["copy"] == files["shown"]
    assert len(files["copy"]) == DISK_BYTES


def count_loop(workshop: Workshop, task: Task) -> Work:
    source = Path(__file__).with_name("instructions.c")
    program = workshop.once(
        "instructions", lambda folder: build(task.kernel, source, folder / "instructions")
    )
    return Work(f"instructions {ROUNDS}", {"/bin/instructions": program})


AMONG_OTHERS = Task("arm64-6.1", "instructions", count_loop, COUNTING)
AGAIN = Task(
    "arm64-6.1", "instructions", count_loop, Setting(count_instructions=True, alone="again")
)


@pytest.mark.parametrize(("task", "again"), [(AMONG_OTHERS, AGAIN)], ids=str)
def test_retired_instructions_are_exact(
    task: Task, again: Task, machines: Machines, matrix: Matrix
) -> None:
    """A loop of four instructions a round counts four a round, in every run and boot alike."""
    matrix("instructions counted", kernel="arm64-6.1", machine="aarch64")
    outputs = [machines.result(each).check().output for each in (task, again)]
    assert outputs[0] == outputs[1]
    counts = [int(line) for line in outputs[0].split()]
    assert len(counts) == 6
    # The first run of the loop may fault its pages in; what a fault costs is not the loop's.
    for empty, full in zip(counts[2::2], counts[3::2], strict=True):
        assert full - empty == 4 * ROUNDS
