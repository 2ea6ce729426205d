"""What is probed: which handler runs at which function of an engine, and for which level."""

from __future__ import annotations

from typing import NamedTuple


class Point(NamedTuple):
    """A function and its handler."""

    level: str
    handler: str
    symbol: str
    """A regular expression that a function's whole name matches."""
    at_return: bool = False
    required: bool = True
    """Without any required point of a level, the level cannot be recorded."""


_PROCESS_UBATCH = r"_ZN13llama_context14process_ubatchE\w+"
POINTS = (
    Point("token", "on_ubatch", _PROCESS_UBATCH),
    Point("token", "on_ubatch_return", _PROCESS_UBATCH, at_return=True),
    Point("graph", "on_backend_graph", "ggml_backend_graph_compute_async"),
    Point("graph", "on_backend_graph_return", "ggml_backend_graph_compute_async", at_return=True),
    Point("graph", "on_cpu_graph", "ggml_graph_compute"),
    Point("graph", "on_cpu_graph_return", "ggml_graph_compute", at_return=True),
    Point("graph", "on_rebuild", "ggml_backend_sched_alloc_graph", required=False),
    Point("operator", "on_operator", "ggml_cpu_extra_compute_forward"),
    Point("operator", "on_fused", "ggml_compute_forward_rms_norm_mul_fused", required=False),
    Point("barrier", "on_barrier", "ggml_barrier"),
)

REQUIRED = frozenset(point.handler for point in POINTS if point.required)
"""Of these each level needs one at least."""
SYMBOLS = {
    point.symbol: any(p.at_return for p in POINTS if p.symbol == point.symbol) for point in POINTS
}
"""The functions' names, and whether their returns are probed, too."""
HOT_HANDLERS = ("on_operator", "on_fused", "on_barrier")
"""What runs for every operator: the audit library (audit/) puts stubs before their functions."""
REDIRECTED = frozenset(point.symbol for point in POINTS if point.handler in HOT_HANDLERS)
"""Those functions."""
WORK = (
    "llama_decode", "llama_encode",
    "ggml_new_graph_custom", "ggml_graph_plan", "ggml_backend_sched_alloc_graph",
    "ggml_backend_graph_compute",
)  # fmt: skip
"""Where an engine begins to work. Each stands before the probed ones: no graph is computed that was
not made, and no micro-batch processed that nobody has asked for."""
ARGUMENTS = {"ggml_barrier": 1}
"""How many arguments of a function its handlers look at, where these are few."""
