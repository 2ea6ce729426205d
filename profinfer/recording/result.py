"""What a recording tells its caller, while it runs and when it has ended."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field


@dataclass
class Result:
    """How a recording ended; the numbers are of all its processes."""

    reason: str
    records: int = 0
    lost: int = 0
    seconds: float = 0.0
    command_status: int | None = None
    """Wait status of the launched command."""
    notes: list[str] = field(default_factory=list)
    """What a reader has to know beside the losses."""


@dataclass
class Progress:
    """What a live line shows; in all so far."""

    seconds: float = 0.0
    tokens: int = 0
    records: int = 0
    lost: int = 0
    bytes: int = 0
    """Of the captures."""

    def __add__(self, other: Progress) -> Progress:
        """Of two processes at the same time."""
        return Progress(
            max(self.seconds, other.seconds), self.tokens + other.tokens,
            self.records + other.records, self.lost + other.lost, self.bytes + other.bytes,
        )  # fmt: skip


def describe_status(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        names = {known.value: known.name for known in signal.Signals}  # not of real-time ones
        return f"was ended by {names.get(number, f'signal {number}')}"
    return f"exited with status {os.waitstatus_to_exitcode(status)}"
