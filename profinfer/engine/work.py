"""Where an engine begins to work: by then it has loaded what it needs."""

from __future__ import annotations

from profinfer.engine.description import describe
from profinfer.engine.elf import Elf

_FUNCTIONS = (
    "llama_decode", "llama_encode",
    "ggml_new_graph_custom", "ggml_graph_plan", "ggml_backend_sched_alloc_graph",
    "ggml_backend_graph_compute",
)  # fmt: skip
"""Each stands before the probed ones: no graph is computed that was not made, and no micro-batch
processed that nobody has asked for."""


_GRAPH_FUNCTIONS = (
    "ggml_backend_sched_alloc_graph", "ggml_backend_sched_graph_compute_async",
    "ggml_backend_graph_compute", "ggml_backend_graph_compute_async",
    "ggml_graph_plan", "ggml_graph_compute",
)  # fmt: skip
"""A graph is one of the first two arguments of each."""


def work_places(elf: Elf) -> list[int]:
    """Offsets of these functions in the file. TargetError when it is damaged."""
    symbols = [symbol for name in _FUNCTIONS if (symbol := elf.symbols.get(name))]
    return [elf.file_offset(symbol.value) for symbol in symbols]


def graph_places(elf: Elf) -> list[int]:
    """The same of functions that are given a graph, with or without symbols."""
    symbols = {name: elf.symbols.get(name) for name in _GRAPH_FUNCTIONS}
    named = {name: elf.file_offset(s.value) for name, s in symbols.items() if s}
    found = {f.name: f.offset for name in _GRAPH_FUNCTIONS for f in describe(elf).named(name)}
    return sorted({*(found | named).values()})
