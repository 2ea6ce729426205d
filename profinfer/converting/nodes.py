"""Which graph an operator record belongs to, which node it ran, and what its slice carries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from profinfer.converting.slices import Columns, Graph
from profinfer.converting.structure import Structure
from profinfer.records.columns import I64, Mask
from profinfer.records.dtypes import Kind


class Nodes:
    """Looks operators up by address in the structures of the graphs that were running."""

    def __init__(
        self,
        columns_of: Callable[[Structure], Columns],
        fused_of: Callable[[int, Structure, int, int], int],
        unknown: tuple[int, int],
    ) -> None:
        """As for Timeline."""
        self._columns_of = columns_of
        self._fused_of = fused_of
        self._unknown = unknown
        self._heads: set[int] = set()
        """Threads that have computed a graph: never another one's workers."""

    def attribute(
        self, graphs: list[Graph], begin: I64, owner: I64, address: npt.NDArray[np.uint64]
    ) -> tuple[I64, I64]:
        """For each operator the index of its graph in `graphs` and of its node, or -1."""
        graph = np.full(len(begin), -1, np.int64)
        node = np.full(len(begin), -1, np.int64)
        heads = {g.thread for g in graphs}
        self._heads |= heads
        own = np.isin(owner, np.fromiter(self._heads, np.int64))
        # What is in no complete structure that ran then is no part of that graph.
        vague = np.array([not (g.structure and g.structure.complete) for g in graphs] + [False])
        for head in heads:
            mine = [i for i, g in enumerate(graphs) if g.thread == head]
            starts = np.array([graphs[i].begin for i in mine], np.int64)
            ends = np.array([graphs[i].end for i in mine], np.int64)
            at = np.searchsorted(starts, begin, "right") - 1
            inside = (at >= 0) & (begin <= ends[at]) & (node < 0)
            # Several threads may compute graphs: a worker belongs to the graph that has its node.
            inside &= ~own | (owner == head)
            candidate = np.where(inside, np.array(mine, np.int64)[at], -1)
            found = _find_nodes(graphs, candidate, address)
            take = inside & ((found >= 0) | ((graph < 0) & vague.take(candidate)))
            graph[take] = candidate[take]
            node[take] = found[take]
        return graph, node

    def look_up(
        self, graphs: list[Graph], graph: I64, node: I64, other: npt.NDArray[np.uint64], begin: I64,
        kind: npt.NDArray[np.uint8],
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32], I64, Mask]:  # fmt: skip
        """Name, tensor, op and filter of each operator."""
        name = np.full(len(graph), self._unknown[0], np.uint32)
        tensor = np.full(len(graph), self._unknown[1], np.uint32)
        op = np.full(len(graph), -1, np.int64)
        keep = np.ones(len(graph), np.bool_)
        for structure, mine in _by_structure(graphs, graph):
            columns = self._columns_of(structure)
            mine = mine.take(np.flatnonzero(node.take(mine) >= 0))
            at = node.take(mine)
            name[mine] = columns.name.take(at)
            tensor[mine] = columns.tensor.take(at)
            op[mine] = columns.op.take(at)
            keep[mine] = columns.keep.take(at)
            fused = mine.take(np.flatnonzero(kind.take(mine) == Kind.FUSED))
            if len(fused):
                last = node.take(fused)
                first = _find(structure.addresses, other.take(fused))
                ts = int(begin[fused[0]])
                self._learn_fused(ts, structure, columns, last, first)
                tensor[fused] = columns.fused_tensor.take(last)
                op[fused] += 1  # its barriers are not those of the plain op
        return name, tensor, op, keep

    def has_twins(self, structure: Structure | None, op: int) -> bool:
        """Whether several nodes of a structure have an op; what they are fused with aside."""
        if structure is None:
            return True
        ops = self._columns_of(structure).op
        return bool(np.count_nonzero(ops == op & ~1) > 1)

    def _learn_fused(
        self, ts: int, structure: Structure, columns: Columns, last: I64, first: I64
    ) -> None:
        for i in np.flatnonzero(columns.fused_first.take(last) != first).tolist():
            node, with_node = int(last[i]), int(first[i])
            if columns.fused_first[node] != with_node:
                columns.fused_first[node] = with_node
                columns.fused_tensor[node] = (
                    self._fused_of(
                        ts, structure, int(structure.order[node]), int(structure.order[with_node])
                    )
                    if with_node >= 0
                    else columns.tensor[node]
                )


def _by_structure(graphs: list[Graph], graph: I64) -> list[tuple[Structure, I64]]:
    """The structures among the graphs of the operators, with the operators of each."""
    structures = {g.structure.id: g.structure for g in graphs if g.structure}
    ids = [g.structure.id if g.structure else 0 for g in graphs]
    number = np.array([*ids, 0], np.int64).take(graph)
    return [(s, np.flatnonzero(number == i)) for i, s in structures.items()]


def _find_nodes(graphs: list[Graph], graph: I64, address: npt.NDArray[np.uint64]) -> I64:
    node = np.full(len(graph), -1, np.int64)
    for structure, mine in _by_structure(graphs, graph):
        node[mine] = _find(structure.addresses, address.take(mine))
    return node


def _find(sorted_addresses: npt.NDArray[np.uint64], wanted: npt.NDArray[np.uint64]) -> I64:
    """Index of each wanted address, -1 where it is not there."""
    if not len(sorted_addresses):
        return np.full(len(wanted), -1, np.int64)
    at = np.minimum(np.searchsorted(sorted_addresses, wanted), len(sorted_addresses) - 1)
    return np.where(sorted_addresses.take(at) == wanted, at, -1)
