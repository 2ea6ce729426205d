"""Carries out a probe plan in a process: load, attach, detach."""

from __future__ import annotations

import os
from pathlib import Path

from profinfer import kernel
from profinfer.errors import ProbeError, TargetError
from profinfer.loader import Loaded
from profinfer.plan import Plan
from profinfer.target import EngineObject, is_alive


class Attachments:
    """The probes that are in place; closing detaches them."""

    def __init__(self, loaded: Loaded, pid: int, programs: dict[str, str] | None = None) -> None:
        """`programs` replaces handlers by others (benchmarks: the empty one)."""
        self._loaded = loaded
        self._pid = pid
        self._programs = programs or {}
        self._events: dict[tuple[str, int, str], int] = {}

    def attach(self, plan: Plan, objects: list[EngineObject]) -> int:
        """Attaches what is not attached yet; how many. TargetError when the process has ended."""
        access: dict[str, Path] = {item.path: item.access for item in objects}
        before = len(self._events)
        for probe in plan.probes:
            key = (str(probe.object), probe.offset, probe.handler)
            if key in self._events or probe.object not in access:
                continue
            program = self._loaded.program(self._programs.get(probe.handler, probe.handler))
            try:
                self._events[key] = kernel.attach_uprobe(
                    program,
                    access[probe.object],
                    probe.offset,
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

    def detach(self) -> None:
        """Removes every probe."""
        for event in self._events.values():
            os.close(event)
        self._events.clear()
