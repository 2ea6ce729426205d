"""Emulated machines do what tests rely on: they boot, run, fail loudly, give back every byte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.emulated.guest import build
from tests.emulated.machine import KERNELS, MachineError, boot, kernel_version, processor
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


@pytest.mark.parametrize("kernel", KERNELS)
def test_boots_runs_and_gives_back(tmp_path: Path, kernel: str, matrix: Matrix) -> None:
    """The kernel is the one of the manifest and has BTF; files come back bit for bit."""
    matrix("machine boots", kernel=kernel, machine=processor(kernel).machine)
    (tmp_path / "hello.c").write_text(HELLO)
    hello = build(kernel, tmp_path / "hello.c", tmp_path / "hello")
    blob = os.urandom((4 << 20) + 13)
    result = boot(
        kernel,
        "cp /blob copy; mkdir -p a/b; nproc >a/b/cpus; cp /sys/kernel/btf/vmlinux btf; hello hi",
        {"/bin/hello": hello, "/blob": blob},
    )
    greeting, machine, *version, pointer = result.output.split()
    assert (greeting, machine, pointer) == ("hi", processor(kernel).machine, "8")
    assert kernel_version(kernel) in version
    assert result.status == 7
    assert result.files.pop("copy") == blob
    assert result.files.pop("btf")[:2] == b"\x9f\xeb"  # BTF's magic number
    assert result.files == {"a/b/cpus": b"2\n"}


def test_a_crash_is_an_error_with_the_console() -> None:
    with pytest.raises(MachineError, match=r"(?s)no files.*before.*sysrq triggered crash"):
        boot("x86-6.12", "echo before; echo c >/proc/sysrq-trigger")


def test_a_hang_is_an_error_with_the_output() -> None:
    with pytest.raises(MachineError, match=r"(?s)not finished after 8 s.*still here"):
        boot("arm64-6.1", "echo still here; sleep 1000", timeout=8)


def test_a_disk_holds_what_the_host_wrote(tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    (tmp_path / "disk").write_bytes(data)
    result = boot("arm64-6.1", "cat /dev/vda >copy", disks=[tmp_path / "disk"])
    assert result.check().files["copy"] == data


def test_retired_instructions_are_exact(repo: Path, tmp_path: Path, matrix: Matrix) -> None:
    """A loop of four instructions a round counts four a round, in every run and boot alike."""
    matrix("instructions counted", kernel="arm64-6.1", machine="aarch64")
    source = repo / "tests/emulated/instructions.c"
    program = build("arm64-6.1", source, tmp_path / "instructions")
    outputs = [
        boot(
            "arm64-6.1",
            f"instructions {ROUNDS}",
            {"/bin/instructions": program},
            count_instructions=True,
        )
        .check()
        .output
        for _ in range(2)
    ]
    assert outputs[0] == outputs[1]
    counts = [int(line) for line in outputs[0].split()]
    assert len(counts) == 6
    # The first run of the loop may fault its pages in; what a fault costs is not the loop's.
    for empty, full in zip(counts[2::2], counts[3::2], strict=True):
        assert full - empty == 4 * ROUNDS
