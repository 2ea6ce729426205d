"""Threads that compute graphs are named by what they do: "compute 0" calls, the others help it.

The number is the thread's place in the first graph that it was seen in: workers by when they began.
Engines that start workers for each graph thus have as many names as a graph has workers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import count

from profinfer.trace.lanes import Lanes


class Roles:
    """Names threads when they first compute."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._places: dict[int, int] = {}
        """By thread."""

    def add(
        self, callers: Iterable[int], workers: Iterable[tuple[int, int, Collection[int]]]
    ) -> None:
        """Threads that called graphs, and those that began to help: when, which, and all of them
        that have begun to help with the same graph."""
        for thread in callers:
            if thread not in self._places:
                self._name(thread, 0)
        for _, thread, others in sorted(workers, key=lambda worker: worker[0]):
            if thread not in self._places:
                taken = {self._places.get(other) for other in others}
                self._name(thread, next(place for place in count(1) if place not in taken))

    def _name(self, thread: int, place: int) -> None:
        self._places[thread] = place
        self._lanes.name_thread(thread, f"compute {place}")
