"""The paper's figures (arXiv 2601.20755) by their numbers there, and the report's statistics."""

from __future__ import annotations

from collections.abc import Mapping

from profinfer.drawing import operators, steps, tokens
from profinfer.drawing.figure import Figure, of_each

FIGURES: Mapping[int, Figure] = {
    3: Figure(
        "Probes, and what they cost",
        "hits whose cost was measured: a recording with its end",
        ("overhead",),
        tokens.overhead,
    ),
    4: Figure(
        "A layer as a graph",
        "level graph or above, of an engine on the CPU, and Graphviz",
        ("dag",),
        of_each(steps.graph),
        steps.draw_graph,
    ),
    5: Figure(
        "Threads along the time of one token",
        "level operator or barrier",
        ("proftime",),
        of_each(steps.steps),
    ),
    6: Figure(
        "Imbalance of the threads by operator",
        "two threads or more at level barrier",
        ("stalls", "imbalance"),
        of_each(operators.imbalance),
    ),
    7: Figure(
        "Backends taking turns",
        "a decoded token that several backends computed",
        ("backends",),
        of_each(tokens.turns),
    ),
    8: Figure(
        "Work by op in prefill and decode",
        "level operator or barrier",
        ("work",),
        of_each(operators.ops),
    ),
    9: Figure(
        "Attention against the growing KV cache",
        "tokens decoded one sequence at a time, at level operator or barrier",
        ("kv_growth",),
        of_each(tokens.growth),
    ),
    10: Figure(
        "Operator time against M·N·K",
        "matrix products at level operator or barrier",
        ("products",),
        of_each(operators.products),
    ),
    11: Figure(
        "Stalls, bytes and waiting by number of threads",
        "recordings with different numbers of threads at level operator or barrier",
        ("threads",),
        operators.threads,
        operators.counters,
    ),
    12: Figure(
        "Placements on backends",
        "tokens that several backends computed, in one trace or in several",
        ("backends",),
        tokens.placements,
    ),
    13: Figure(
        "Experts by token and layer",
        "a mixture of experts recorded with --experts (and --faults)",
        ("expert_map",),
        of_each(steps.experts),
    ),
}

STATISTICS: Mapping[str, Figure] = {
    "tokens": Figure(
        "Time per token", "decoded tokens", ("pace",), of_each(tokens.pace)
    ),
    "ttft": Figure(
        "Time to the first token",
        "requests recorded from their beginning",
        ("requests",),
        of_each(tokens.first_tokens),
    ),
    "op": FIGURES[8],
    "module": Figure(
        "Work by part of the model",
        "level operator or barrier",
        ("hotspots",),
        of_each(operators.modules),
    ),
    "layer": Figure(
        "Work by layer", "level operator or barrier", ("work",), of_each(operators.layers)
    ),
    "roofline": Figure(
        "Roofline of matrix products",
        "matrix products at level operator or barrier",
        ("products",),
        of_each(operators.roofline),
    ),
}  # fmt: skip
"""What the report shows beside the figures."""
