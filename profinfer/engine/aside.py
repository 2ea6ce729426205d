"""Work that takes much memory once, done in a child process: its memory never becomes ours."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable

_SECONDS = 60
"""Of CPU time that it may take: a stranger's file may be made to take for ever. Real
ones take one."""


def aside(work: Callable[[], bytes]) -> bytes:
    """What some work returns in a fork of this process; what else it changes is changed in vain.
    ChildProcessError when the child has failed."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
            with os.fdopen(theirs, "wb") as pipe:
                pipe.write(work())
            status = 0
        finally:
            os._exit(status)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(pid, 0)
    if status:
        raise ChildProcessError(f"a child process ended with {os.waitstatus_to_exitcode(status)}")
    return answer
