"""Carries out a probe plan in a process: load, attach, detach."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from profinfer import kernel, uprobes
from profinfer.errors import ProbeError, TargetError
from profinfer.loaded import Loaded
from profinfer.plan import Plan
from profinfer.target import is_alive
from profinfer.uprobes import Way


class Attachments:
    """The probes that are in place; closing detaches them."""

    def __init__(self, loaded: Loaded, pid: int, way: Way, *, empty: Collection[str] = ()) -> None:
        """`way`: what the programs were loaded for. `empty`: handlers to be replaced by one that
        does nothing (to see what probing costs)."""
        self._loaded = loaded
        self._pid = pid
        self._way = way
        self._empty = empty
        self._nothing = kernel.load_nothing(way.attach_type) if empty else -1
        self._placed: set[tuple[str, int, str]] = set()
        self._attached: list[int] = []
        self.programs: dict[str, int] = {}
        """The program of each handler that is attached."""

    def attach(self, plan: Plan) -> int:
        """Attaches what is not attached yet; how many. TargetError when the process has ended."""
        before = len(self._placed)
        # What is attached together is taken away together.
        groups: dict[tuple[str, bool, Path], list[int]] = defaultdict(list)
        for probe in plan.probes:
            place = probe.place
            key = (place.path, place.offset, probe.handler)
            if key not in self._placed:
                self._placed.add(key)
                groups[probe.handler, probe.at_return, place.access].append(place.offset)
        for (handler, at_return, path), offsets in groups.items():
            try:
                self._attached += self._way.attach(
                    self._program(handler), path, offsets, self._pid, at_return=at_return
                )
            except ProbeError:
                if not is_alive(self._pid):
                    raise TargetError(
                        f"process {self._pid} ended while probes were being attached"
                    ) from None
                raise
        return len(self._placed) - before

    def _program(self, handler: str) -> int:
        if handler not in self.programs:
            self.programs[handler] = (
                self._nothing if handler in self._empty else self._loaded.program(handler)
            )
        return self.programs[handler]

    def detach(self) -> None:
        """Removes every probe."""
        uprobes.close(self._attached)
        self._attached.clear()
        self._placed.clear()
