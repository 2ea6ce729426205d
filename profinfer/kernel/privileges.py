"""What this process may do, and must be able to, before it has anything recorded."""

from __future__ import annotations

import contextlib
import resource

from profinfer.errors import PrivilegeError
from profinfer.kernel import features

_FILES = 1024
"""Descriptors: an engine may consist of dozens of files."""


def check_privileges() -> None:
    """PrivilegeError naming what is missing."""
    missing = features.missing_capabilities()
    if missing:
        raise PrivilegeError(
            f"recording needs {', '.join(missing)}, which this process lacks",
            "run it as root: sudo profinfer record ...",
        )


def allow_files() -> None:
    """Lets this process have as many files open as it may need. A recorder that runs already, and
    what it launches, keep what they were given."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _FILES:
        return
    for limits in ((_FILES, max(hard, _FILES)), (hard, hard)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            return
