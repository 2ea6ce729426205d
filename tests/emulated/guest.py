"""Programs for emulated machines: C, statically linked, for the kernel's processor."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.conftest import REPO, require
from tests.emulated.machine import compiler, processor

BPF_LIBRARIES = ("-lbpf", "-lelf", "-lz")


def build(kernel: str, source: Path, output: Path, *arguments: str | Path) -> Path:
    """Compiles `source` for a kernel's machine; libbpf and what it needs can be linked."""
    machine = processor(kernel).machine
    sysroot = REPO / "build/sysroot" / machine / "usr"
    require(f"libbpf for {machine}", (sysroot / "include/bpf/libbpf.h").exists())
    command = [
        *(compiler(kernel), "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-static"),
        *("-isystem", sysroot / "include", f"-L{sysroot}/lib/{machine}-linux-gnu"),
        *("-o", output, source, *arguments),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return output
