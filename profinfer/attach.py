"""Carries out a probe plan in a process: load, attach, detach."""

from __future__ import annotations

from collections.abc import Collection

from profinfer import kernel
from profinfer.errors import ProbeError, TargetError
from profinfer.loader import Loaded
from profinfer.plan import Plan
from profinfer.target import is_alive


class Attachments:
    """The probes that are in place; closing detaches them."""

    def __init__(self, loaded: Loaded, pid: int, *, empty: Collection[str] = ()) -> None:
        """`empty`: handlers to be replaced by one that does nothing (to see what probing costs)."""
        self._loaded = loaded
        self._pid = pid
        self._empty = empty
        self._nothing = kernel.load_nothing() if empty else -1
        self._events: dict[tuple[str, int, str], int] = {}
        self.programs: dict[str, int] = {}
        """The program of each handler that is attached."""

    def attach(self, plan: Plan) -> int:
        """Attaches what is not attached yet; how many. TargetError when the process has ended."""
        before = len(self._events)
        for probe in plan.probes:
            place = probe.place
            key = (place.path, place.offset, probe.handler)
            if key in self._events:
                continue
            program = self._program(probe.handler)
            try:
                self._events[key] = kernel.attach_uprobe(
                    program,
                    place.access,
                    place.offset,
                    self._pid,
                    at_return=probe.at_return,
                )
            except ProbeError:
                if not is_alive(self._pid):
                    raise TargetError(
                        f"process {self._pid} ended while probes were being attached"
                    ) from None
                raise
        return len(self._events) - before

    def _program(self, handler: str) -> int:
        if handler not in self.programs:
            self.programs[handler] = (
                self._nothing if handler in self._empty else self._loaded.program(handler)
            )
        return self.programs[handler]

    def detach(self) -> None:
        """Removes every probe."""
        kernel.close_events(self._events.values())
        self._events.clear()
