"""What handlers cost: runs and run time of each program, as the kernel counts them.

Counting costs more than a handler itself (two clock readings per run), so it is on until there is
something to go by, and from then on in one interval of eight.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from profinfer import kernel
from profinfer.records import Kind

_ENOUGH = 20_000
"""Records after which a sample will do."""
_EVERY = 8

_RECORD_OF = {
    "on_operator": Kind.OPERATOR,
    "on_fused": Kind.FUSED,
    "on_barrier": Kind.BARRIER,
    "on_ubatch": Kind.UBATCH_BEGIN,
    "on_ubatch_return": Kind.UBATCH_END,
}
"""Handlers that make one record of this kind per run."""


class HandlerStats:
    """Switches the kernel's counting on and off; `close` leaves it as it was."""

    def __init__(self) -> None:
        self._ticks = 0
        self._fd: int | None = kernel.enable_stats()

    def tick(self, records: int) -> None:
        """Call it at every drain, with the records drained so far."""
        self._ticks += 1
        wanted = records < _ENOUGH or self._ticks % _EVERY == 0
        if wanted and self._fd is None:
            self._fd = kernel.enable_stats()
        elif not wanted:
            self.close()

    def close(self) -> None:
        """Ends the counting."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


@dataclass(frozen=True)
class EventProgram:
    """A program at an event of the kernel's own, which every process may bring about."""

    fd: int
    event: str
    runs: int | None
    """While it was recorded; None where not every run makes a record."""


def event_programs_json(programs: Mapping[str, EventProgram]) -> list[dict[str, object]]:
    """For the trace, as `handlers_json`: what these cost whoever ran into them."""
    out: list[dict[str, object]] = []
    for name, program in programs.items():
        timed = kernel.program_stats(program.fd)
        out.append(
            {
                "program": name,
                "event": program.event,
                "runs": program.runs,
                "timed_runs": timed.runs,
                "timed_ns": timed.run_ns,
            }
        )
    return out


def handlers_json(
    programs: Mapping[str, int], emitted: list[int], empty: Collection[str]
) -> list[dict[str, object]]:
    """For the trace: of each handler the runs that were timed and their time in ns; and all its
    runs while recording was on, where each makes one record. `emitted`: records by kind, drained
    or lost. `empty`: handlers that were replaced and made none."""
    out: list[dict[str, object]] = []
    for handler, program in programs.items():
        timed = kernel.program_stats(program)
        kind = None if handler in empty else _RECORD_OF.get(handler)
        out.append(
            {
                "handler": handler,
                "runs": None if kind is None else emitted[kind],
                "timed_runs": timed.runs,
                "timed_ns": timed.run_ns,
            }
        )
    return out
