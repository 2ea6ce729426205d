"""Where a running process has a graph that it computes, without stopping it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle

from profinfer.engine import target
from profinfer.engine.target import EngineObject
from profinfer.engine.work import graph_places
from profinfer.errors import ProbeError, TargetError
from profinfer.recording.recorder import Server

_SECONDS = 1
"""How long each look takes at most."""


def graph_looks(server: Server, pid: int, objects: list[EngineObject]) -> Iterator[Sequence[int]]:
    """The first two arguments with which it enters a function that is given a graph, look by look;
    none, when it has entered none for a second. TargetError when the process ends, ProbeError when
    there is no such function."""
    places = [(item, offsets) for item in objects if (offsets := graph_places(item.elf))]
    if not places:
        raise ProbeError("no function is known that is given a graph: none can be looked at")
    for item, offsets in cycle(places):
        if target.is_ending(pid):
            raise TargetError(f"process {pid} ended before it had computed a graph")
        with item.access.open("rb") as file:
            answer = server.ask(
                "graph_look", [file.fileno()], pid=pid, offsets=offsets, seconds=_SECONDS
            )
        yield [int(value) for value in answer.get("arguments", ())]
