"""Where an engine begins to work: by then it has loaded what it needs."""

from __future__ import annotations

from profinfer.binaries.elf import Elf
from profinfer.engine.description import describe

_GRAPH_FUNCTIONS = ("ggml_backend_graph_compute_async", "ggml_graph_compute")
"""A graph is one of the first two arguments of each, and of those where work begins."""


def work_places(elf: Elf) -> list[int]:
    """Offsets of these functions in the file. TargetError when it is damaged."""
    return list(describe(elf).work)


def graph_places(elf: Elf) -> list[int]:
    """The same of functions that are given a graph. TargetError when it is damaged."""
    found = [f.offset for name in _GRAPH_FUNCTIONS for f in describe(elf).named(name)]
    return sorted({*work_places(elf), *found})
