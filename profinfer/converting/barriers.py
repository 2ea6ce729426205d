"""Where an engine calls the barrier: after an operator, inside it, after a graph's last node."""

from __future__ import annotations

import numpy as np

from profinfer.converting.slices import BARRIER_COUNTS, INF, Graph
from profinfer.records.columns import I64, Mask


class BarrierHabits:
    """Learns from the operators between others how many barriers an op has."""

    def __init__(self) -> None:
        self._seen = np.zeros((0, BARRIER_COUNTS), np.int64)
        """`Graph.barriers` summed over the graphs that have ended, in that order."""

    def has_outer(
        self, graphs: list[Graph], ended: list[Graph], graph: I64, op: I64, barriers: I64,
        is_last: Mask, done: Mask, incomplete: Mask,
    ) -> tuple[Mask, I64]:  # fmt: skip
        """Whether the last barrier of each operator stands after it, not inside it; and how many
        operators that were not seen could turn a guess: INF where it is none, -1 where it was
        made without any example.

        True between nodes. After a graph's last node the engine may not call the barrier: then
        the operator has one barrier less than most others with the same op, in this graph and
        those that ended before it. `graph` is an index into `graphs`; `ended` are those that
        have ended in this chunk. Nothing is learnt from incomplete operators.
        """
        outer = barriers > 0
        margin = np.full(len(barriers), INF, np.int64)
        count = np.minimum(barriers, BARRIER_COUNTS - 1)
        between = np.flatnonzero(done & ~is_last & ~incomplete & (op >= 0))
        ops = int(op.max(initial=-1)) + 1
        key = (graph.take(between) * ops + op.take(between)) * BARRIER_COUNTS
        times = np.bincount(
            key + count.take(between), minlength=len(graphs) * ops * BARRIER_COUNTS
        ).reshape(len(graphs), ops, BARRIER_COUNTS)
        for entry, seen in zip(graphs, times, strict=True):
            entry.barriers = _added(entry.barriers, seen)
        index = {id(entry): i for i, entry in enumerate(graphs)}
        final = np.flatnonzero(is_last & done & outer)
        for entry in ended:
            self._seen = _added(self._seen, entry.barriers)
            for i in final[graph.take(final) == index[id(entry)]].tolist():
                margin[i] = -1
                if 0 <= op[i] < len(self._seen) and self._seen[op[i]].any():
                    usual = self._seen[op[i]]
                    outer[i] = count[i] >= int(np.argmax(usual))
                    second, first = np.sort(usual)[-2:].tolist()
                    margin[i] = first - second
        return outer, margin


def _added(a: I64, b: I64) -> I64:
    """The sum of two tables, the shorter one continued with zeros."""
    if len(a) < len(b):
        a, b = b, a
    total = a.copy()
    total[: len(b)] += b
    return total
