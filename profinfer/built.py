"""Where things are that are not Python: what set-up has built, and BPF sources for BCC."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from profinfer.errors import KernelError

_ROOT = Path(__file__).resolve().parents[1]
BUILD = _ROOT / "build" / platform.machine()
"""For this machine."""
BPF = _ROOT / "bpf"
"""The sources."""
AUDIT = BUILD / "libprofinfer-audit.so"
"""The audit library (tools/build_audit.sh): the value for LD_AUDIT."""


def recorder_binary() -> Path:
    """The recorder for this machine. KernelError when nobody has built it."""
    path = BUILD / "profinfer-recorder"
    if not os.access(path, os.X_OK):
        raise KernelError(f"there is no recorder: {path}", "make setup builds it")
    return path


def describer(machine: str) -> tuple[Path, Path, Path]:
    """What confines an engine that describes itself, what asks it (for `machine`, as uname calls
    it), and the model that it decodes with. KernelError when one is missing."""
    folder = _ROOT / "build"
    paths = (
        BUILD / "profinfer-confine",
        folder / machine / "profinfer-describer",
        folder / "describer/tiny.gguf",
    )
    for path in paths:
        if not path.exists():
            raise KernelError(f"there is no {path}", "make setup builds it")
    return paths
