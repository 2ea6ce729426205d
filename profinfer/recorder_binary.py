"""Where the recorder in C is."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from profinfer.errors import KernelError

_BUILD = Path(__file__).resolve().parent.parent / "build"


def recorder_binary() -> Path:
    """The recorder for this machine. KernelError when nobody has built it."""
    path = _BUILD / platform.machine() / "profinfer-recorder"
    if not os.access(path, os.X_OK):
        raise KernelError(f"there is no recorder: {path}", "make setup builds it")
    return path
