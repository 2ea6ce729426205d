"""Work that takes much memory once, done in a child process: its memory never becomes ours."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import Any

from profinfer.errors import ProfinferError


def aside(work: Callable[[], Any]) -> Any:
    """What some work returns in a fork of this process, or the ProfinferError that it raises. What
    it returns must be plain data, and what it changes is changed in vain."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            outcome: object
            try:
                outcome = work()
            except ProfinferError as error:
                outcome = error
            with os.fdopen(theirs, "wb") as pipe:
                pickle.dump(outcome, pipe)
            status = 0
        finally:
            os._exit(status)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError(f"a child process of the recorder ended with status {status}")
    outcome = pickle.loads(answer)  # noqa: S301 - our own child's
    if isinstance(outcome, ProfinferError):
        raise outcome
    return outcome
