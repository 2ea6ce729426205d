"""What a recording tells its caller, while it runs and when it has ended."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Result:
    """How a recording ended."""

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
    """Of the capture."""
