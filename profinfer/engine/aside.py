"""Work that takes much memory once, done in a child process: its memory never becomes ours."""

from __future__ import annotations

import os
from collections.abc import Callable


def aside(work: Callable[[], bytes]) -> bytes:
    """What some work returns in a fork of this process; what else it changes is changed in vain.
    ChildProcessError when the child has failed."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
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
