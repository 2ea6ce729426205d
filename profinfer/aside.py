"""Work that takes much memory once, done in a child process: its memory never becomes ours."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import Generic, TypeVar

from profinfer.errors import ProfinferError

T = TypeVar("T")


class Aside(Generic[T]):
    """Some work under way in a fork of this process; `result` waits for it."""

    def __init__(self, work: Callable[[], T]) -> None:
        """What `work` returns must be plain data, and what it changes is changed in vain."""
        self._answer, theirs = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
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

    def result(self) -> T:
        """What the work has returned, or the ProfinferError that it has raised."""
        with os.fdopen(self._answer, "rb") as pipe:
            answer = pipe.read()
        _, status = os.waitpid(self._pid, 0)
        if status:
            raise RuntimeError(f"a child process of the recorder ended with status {status}")
        outcome = pickle.loads(answer)  # noqa: S301 - our own child's
        if isinstance(outcome, ProfinferError):
            raise outcome
        found: T = outcome
        return found
