"""Records to slices, by the column. What it returns is plain data; it writes nothing.

An operator begins at its record and ends where its thread's next one begins, or where its graph
ends. Between the two lie the thread's barrier records: the last one is where waiting for the
other threads began (the engine calls the barrier after each node), the ones before it stand
inside the operator (MUL_MAT, for instance). After a graph's last node some engines call the
barrier and some do not: see `_has_outer`.

State from chunk to chunk: graphs and ubatches that are open, and of each thread the records
since its last operator began.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from profinfer.records import RECORD, Kind, Records, join, select
from profinfer.structure import Structure

_INF = np.iinfo(np.int64).max
_COUNTS = 8
"""Barriers per operator that are told apart; more are counted as this many less one."""

I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Columns:
    """Per node of a structure, in order of address: what its slices carry."""

    name: npt.NDArray[np.uint32]
    tensor: npt.NDArray[np.uint32]
    op: npt.NDArray[np.int64]
    """A small number per op name."""
    keep: Mask
    """False when the operator filter excludes it."""
    fused_first: I64
    """The node it was last seen fused with, -1 for none, and `fused_tensor`: what the slices of
    the two carry. Filled in as they are met."""
    fused_tensor: npt.NDArray[np.uint32]


@dataclass(eq=False)
class Graph:
    """One graph_compute call. Times in BOOTTIME ns."""

    id: int
    thread: int
    begin: int
    end: int
    """_INF while it runs."""
    backend: int
    structure: Structure | None
    workers: dict[int, int] = field(default_factory=dict)
    """Thread index to the start of its first operator in this graph."""
    barriers: I64 = field(default_factory=lambda: np.zeros((0, _COUNTS), np.int64))
    """Operators between others, by op and number of barriers."""


@dataclass(eq=False)
class Ubatch:
    """One process_ubatch call; `runs` are rows of TOKEN_RUN."""

    id: int
    thread: int
    begin: int
    end: int
    tokens: int
    context: int
    runs: Records


@dataclass(frozen=True)
class Loss:
    """Records were lost between two times (BOOTTIME ns)."""

    first: int
    last: int
    of_graph: bool
    """Records of where graphs begin and end."""


@dataclass
class Operators:
    """Finished operator slices, one row per operator and thread."""

    thread: I64
    begin: I64
    end: I64
    name: npt.NDArray[np.uint32]
    tensor: npt.NDArray[np.uint32]
    incomplete: Mask
    """A record of it may have been lost: its end or its name is not certain."""

    def take(self, rows: I64) -> Operators:
        """Some of the rows."""
        return Operators(
            self.thread.take(rows),
            self.begin.take(rows),
            self.end.take(rows),
            self.name.take(rows),
            self.tensor.take(rows),
            self.incomplete.take(rows),
        )


@dataclass
class Chunk:
    """What became known with one chunk of records, in order of time within each list."""

    operators: Operators
    open_operators: Operators
    """Only when recording has ended: slices whose end was not seen."""
    waits: tuple[I64, I64, I64]
    """Thread, begin, end of the wait at the barrier after an operator."""
    inside: tuple[I64, I64]
    """Thread and time of barriers inside operators."""
    graphs_begun: list[Graph]
    graphs_ended: list[Graph]
    workers: list[tuple[Graph, int, int]]
    """Graph, thread index and time at which a worker thread began to work on it."""
    ubatches_begun: list[Ubatch]
    ubatches_ended: list[Ubatch]


class Threads:
    """Kernel thread ids as small indices, in order of appearance."""

    def __init__(self) -> None:
        self.tids: list[int] = []
        self._sorted = np.empty(0, np.uint32)
        self._index = np.empty(0, np.int64)

    def index(self, tids: npt.NDArray[np.uint32]) -> I64:
        """Indices of the tids; new ones are added."""
        if not len(tids):
            return np.empty(0, np.int64)
        at = np.searchsorted(self._sorted, tids)
        if len(self._sorted):
            found = self._sorted[np.minimum(at, len(self._sorted) - 1)] == tids
            if bool(found.all()):
                return self._index[at]
        fresh = np.setdiff1d(tids, self._sorted)
        self.tids.extend(fresh.tolist())
        everything = np.array(self.tids, np.uint32)
        self._index = np.argsort(everything, kind="stable")
        self._sorted = everything[self._index]
        return self._index[np.searchsorted(self._sorted, tids)]


class Timeline:
    """Turns chunks of records into slices."""

    def __init__(
        self,
        structure_of: Callable[[int], Structure | None],
        columns_of: Callable[[Structure], Columns],
        fused_of: Callable[[int, Structure, int, int], int],
        unknown: tuple[int, int],
    ) -> None:
        """`fused_of(ts, structure, last, first)` gives the `tensor` value of a fused operator;
        `unknown` are the name and `tensor` value of operators that no structure lists."""
        self._unknown = unknown
        self.threads = Threads()
        self.unattributed = 0
        """Operator records outside every graph seen: recording began or lost records there."""
        self._structure_of = structure_of
        self._columns_of = columns_of
        self._fused_of = fused_of
        self._carry = np.empty(0, RECORD)
        self._graphs: list[Graph] = []
        self._open_graph: dict[int, Graph] = {}
        self._open_ubatch: dict[int, Ubatch] = {}
        self._heads: set[int] = set()
        """Threads that have computed a graph: never another one's workers."""
        self._graph_count = 0
        self._ubatch_count = 0
        self._barriers = np.zeros((0, _COUNTS), np.int64)
        """`Graph.barriers` summed over the graphs that have ended, in that order."""

    def feed(
        self,
        records: Records,
        runs_of: Callable[[int, int], Records],
        losses: list[Loss],
        *,
        last: bool = False,
    ) -> Chunk:
        """Takes the next records: all those older than some time and younger than the last ones.

        `runs_of(tid, ts)` gives the token runs of a ubatch. With `last`, what is unfinished is
        returned as open.
        """
        chunk = Chunk(
            _no_operators(), _no_operators(), (_none(), _none(), _none()), (_none(), _none()),
            [], [], [], [], [],
        )  # fmt: skip
        kind = records["kind"]
        hot = (kind >= Kind.OPERATOR) & (kind <= Kind.BARRIER)
        self._control(select(records, ~hot), runs_of, chunk)
        self._operators(join([self._carry, select(records, hot)]), losses, chunk, last)
        self._graphs = [graph for graph in self._graphs if graph.end == _INF]
        return chunk

    def oldest_open(self, otherwise: int) -> int:
        """Start of the oldest graph or operator that has not ended yet."""
        starts = [graph.begin for graph in self._graphs]
        if len(self._carry):
            starts.append(int(self._carry["ts"].min()))
        return min(starts, default=otherwise)

    # ---- Graphs and ubatches: few, one at a time

    def _control(
        self, records: Records, runs_of: Callable[[int, int], Records], chunk: Chunk
    ) -> None:
        records = select(records, records["kind"] != Kind.NODE)
        records = records.take(np.argsort(records["ts"], kind="stable"))
        threads = self.threads.index(records["tid"]).tolist()
        for record, thread in zip(records.tolist(), threads, strict=True):
            ts, a, b, tid, _, kind, _ = record
            if kind == Kind.GRAPH_BEGIN:
                self._end_graph(thread, ts, chunk)
                self._graph_count += 1
                graph = Graph(
                    self._graph_count, thread, ts, _INF, a, self._structure_of(b) if b else None
                )
                self._open_graph[thread] = graph
                self._graphs.append(graph)
                chunk.graphs_begun.append(graph)
            elif kind == Kind.GRAPH_END:
                self._end_graph(thread, ts, chunk)
            elif kind == Kind.UBATCH_BEGIN:
                self._end_ubatch(thread, ts, chunk)
                self._ubatch_count += 1
                ubatch = Ubatch(self._ubatch_count, thread, ts, _INF, a, b, runs_of(tid, ts))
                self._open_ubatch[thread] = ubatch
                chunk.ubatches_begun.append(ubatch)
            elif kind == Kind.UBATCH_END:
                self._end_ubatch(thread, ts, chunk)

    def _end_graph(self, thread: int, ts: int, chunk: Chunk) -> None:
        graph = self._open_graph.pop(thread, None)
        if graph is not None:
            graph.end = ts
            chunk.graphs_ended.append(graph)

    def _end_ubatch(self, thread: int, ts: int, chunk: Chunk) -> None:
        # A graph cannot outlive its ubatch: its end was lost.
        self._end_graph(thread, ts, chunk)
        ubatch = self._open_ubatch.pop(thread, None)
        if ubatch is not None:
            ubatch.end = ts
            chunk.ubatches_ended.append(ubatch)

    # ---- Operators and barriers: many, by the column

    def _operators(self, records: Records, losses: list[Loss], chunk: Chunk, last: bool) -> None:
        thread = self.threads.index(records["tid"])
        # 16 bits make it a radix sort.
        narrow = np.uint16 if len(self.threads.tids) < 1 << 16 else np.uint32
        order = np.argsort(thread.astype(narrow), kind="stable")
        ts = records["ts"].astype(np.int64).take(order)
        thread = thread.take(order)
        if bool(np.any((np.diff(ts) < 0) & (np.diff(thread) == 0))):
            resort = np.lexsort((ts, thread))  # a thread has moved to another CPU
            order, ts, thread = order.take(resort), ts.take(resort), thread.take(resort)
        kind = records["kind"].take(order)
        at = np.flatnonzero(kind != Kind.BARRIER)
        if not len(at):
            self._carry = np.empty(0, RECORD)
            return
        begin, owner = ts.take(at), thread.take(at)
        rows = order.take(at)
        address, other = records["a"].take(rows), records["b"].take(rows)
        thread_end = np.searchsorted(thread, owner, "right")
        next_at = np.minimum(np.append(at[1:], len(ts)), thread_end)
        barriers = next_at - at - 1
        follows = np.append(owner[1:] == owner[:-1], False)
        next_begin = np.where(follows, np.append(begin[1:], _INF), _INF)

        graph, node = self._attribute(begin, owner, address)
        graph_end = np.array([g.end for g in self._graphs] + [0], np.int64).take(graph)
        end = np.minimum(next_begin, graph_end)
        is_last = graph_end < next_begin
        # A barrier after the end is that of an operator whose own record was lost.
        late = (barriers > 0) & (ts.take(next_at - 1) > end)
        for i in np.flatnonzero(late).tolist():
            barriers[i] = np.searchsorted(ts[at[i] + 1 : next_at[i]], end[i], "right")
            next_at[i] = at[i] + 1 + barriers[i]
        known = graph >= 0
        self.unattributed += int(np.count_nonzero(~known))
        open_now = end == _INF
        done = known & ~open_now
        self._carry = (
            np.empty(0, RECORD) if last else _rows(records, order, at, next_at, open_now & known)
        )
        self._workers(graph, owner, begin, chunk)

        name, tensor, op, keep = self._look_up(graph, node, other, begin, kind[at])
        outer = self._has_outer(graph, op, barriers, is_last, done, chunk)
        until = np.where(open_now, begin, end)
        # Without its node it cannot be matched with the other threads' parts.
        incomplete = _overlaps(begin, until, losses) | (node < 0)
        bounds = [loss for loss in losses if loss.of_graph]
        if bounds:
            # Where a graph's bounds were lost, what follows may belong to another graph.
            graph_begin = np.array([g.begin for g in self._graphs] + [0], np.int64).take(graph)
            incomplete |= _overlaps(graph_begin, until, bounds)
        everything = Operators(owner, begin, end, name, tensor, incomplete)
        shown = np.flatnonzero(done & keep)
        chunk.operators = everything.take(shown)
        waits = shown.take(np.flatnonzero(outer.take(shown)))
        chunk.waits = (owner.take(waits), ts.take(next_at.take(waits) - 1), end.take(waits))
        inside = (barriers - outer).take(shown)
        index = np.repeat(at.take(shown) + 1, inside) + _counting(inside)
        chunk.inside = (thread.take(index), ts.take(index))
        if last:
            left = np.flatnonzero(known & open_now & keep)
            chunk.open_operators = everything.take(left)
            chunk.open_operators.incomplete[:] = True

    def _attribute(
        self, begin: I64, owner: I64, address: npt.NDArray[np.uint64]
    ) -> tuple[I64, I64]:
        """For each operator the index of its graph in self._graphs and of its node, or -1."""
        graph = np.full(len(begin), -1, np.int64)
        node = np.full(len(begin), -1, np.int64)
        heads = {g.thread for g in self._graphs}
        self._heads |= heads
        own = np.isin(owner, np.fromiter(self._heads, np.int64))
        # What is in no complete structure that ran then is no part of that graph.
        vague = np.array(
            [not (g.structure and g.structure.complete) for g in self._graphs] + [False]
        )
        for head in heads:
            mine = [i for i, g in enumerate(self._graphs) if g.thread == head]
            starts = np.array([self._graphs[i].begin for i in mine], np.int64)
            ends = np.array([self._graphs[i].end for i in mine], np.int64)
            at = np.searchsorted(starts, begin, "right") - 1
            inside = (at >= 0) & (begin <= ends[at]) & (node < 0)
            # Several threads may compute graphs: a worker belongs to the graph that has its node.
            inside &= ~own | (owner == head)
            candidate = np.where(inside, np.array(mine, np.int64)[at], -1)
            found = self._find_nodes(candidate, address)
            take = inside & ((found >= 0) | ((graph < 0) & vague.take(candidate)))
            graph[take] = candidate[take]
            node[take] = found[take]
        return graph, node

    def _by_structure(self, graph: I64) -> list[tuple[Structure, I64]]:
        """The structures among the graphs of the operators, with the operators of each."""
        structures = {g.structure.id: g.structure for g in self._graphs if g.structure}
        ids = [g.structure.id if g.structure else 0 for g in self._graphs]
        number = np.array([*ids, 0], np.int64).take(graph)
        return [(s, np.flatnonzero(number == i)) for i, s in structures.items()]

    def _find_nodes(self, graph: I64, address: npt.NDArray[np.uint64]) -> I64:
        node = np.full(len(graph), -1, np.int64)
        for structure, mine in self._by_structure(graph):
            node[mine] = _find(structure.addresses, address.take(mine))
        return node

    def _look_up(
        self, graph: I64, node: I64, other: npt.NDArray[np.uint64], begin: I64,
        kind: npt.NDArray[np.uint8],
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32], I64, Mask]:  # fmt: skip
        """Name, tensor, op and filter of each operator."""
        name = np.full(len(graph), self._unknown[0], np.uint32)
        tensor = np.full(len(graph), self._unknown[1], np.uint32)
        op = np.full(len(graph), -1, np.int64)
        keep = np.ones(len(graph), np.bool_)
        for structure, mine in self._by_structure(graph):
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

    def _has_outer(
        self, graph: I64, op: I64, barriers: I64, is_last: Mask, done: Mask, chunk: Chunk
    ) -> Mask:
        """Whether the last barrier of each operator stands after it, not inside it.

        True between nodes. After a graph's last node the engine may not call the barrier: then
        the operator has one barrier less than most others with the same op, in this graph and
        those that ended before it.
        """
        outer = barriers > 0
        count = np.minimum(barriers, _COUNTS - 1)
        between = np.flatnonzero(done & ~is_last & (op >= 0))
        ops = int(op.max(initial=-1)) + 1
        key = (graph.take(between) * ops + op.take(between)) * _COUNTS + count.take(between)
        times = np.bincount(key, minlength=len(self._graphs) * ops * _COUNTS)
        for entry, seen in zip(
            self._graphs, times.reshape(len(self._graphs), ops, _COUNTS), strict=True
        ):
            entry.barriers = _added(entry.barriers, seen)
        index = {id(entry): i for i, entry in enumerate(self._graphs)}
        final = np.flatnonzero(is_last & done & outer)
        for entry in chunk.graphs_ended:
            self._barriers = _added(self._barriers, entry.barriers)
            for i in final[graph.take(final) == index[id(entry)]].tolist():
                usual = self._barriers[op[i]] if 0 <= op[i] < len(self._barriers) else None
                outer[i] = usual is None or not usual.any() or count[i] >= int(np.argmax(usual))
        return outer

    def _workers(self, graph: I64, owner: I64, begin: I64, chunk: Chunk) -> None:
        first = np.append(True, (graph[1:] != graph[:-1]) | (owner[1:] != owner[:-1]))
        for i in np.flatnonzero(first & (graph >= 0)).tolist():
            entry, thread = self._graphs[int(graph[i])], int(owner[i])
            if thread != entry.thread and thread not in entry.workers:
                entry.workers[thread] = int(begin[i])
                chunk.workers.append((entry, thread, int(begin[i])))


def _none() -> I64:
    return np.empty(0, np.int64)


def _no_operators() -> Operators:
    u4 = np.empty(0, np.uint32)
    return Operators(_none(), _none(), _none(), u4, u4, np.empty(0, np.bool_))


def _find(sorted_addresses: npt.NDArray[np.uint64], wanted: npt.NDArray[np.uint64]) -> I64:
    """Index of each wanted address, -1 where it is not there."""
    if not len(sorted_addresses):
        return np.full(len(wanted), -1, np.int64)
    at = np.minimum(np.searchsorted(sorted_addresses, wanted), len(sorted_addresses) - 1)
    return np.where(sorted_addresses.take(at) == wanted, at, -1)


def _counting(counts: I64) -> I64:
    """0, 1, ... for each run of `counts`."""
    ends = np.cumsum(counts)
    return np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - counts, counts)


def _rows(records: Records, order: I64, at: I64, next_at: I64, which: Mask) -> Records:
    """The records from each chosen operator up to the next one."""
    chosen = [order[a:b] for a, b in zip(at[which].tolist(), next_at[which].tolist(), strict=True)]
    return records.take(np.concatenate(chosen)) if chosen else np.empty(0, RECORD)


def _overlaps(begin: I64, end: I64, losses: list[Loss]) -> Mask:
    """Whether a loss falls into [begin, end]."""
    hit = np.zeros(len(begin), np.bool_)
    for loss in losses:
        hit |= (begin <= loss.last) & (end >= loss.first)
    return hit


def _added(a: I64, b: I64) -> I64:
    """The sum of two tables, the shorter one continued with zeros."""
    if len(a) < len(b):
        a, b = b, a
    total = a.copy()
    total[: len(b)] += b
    return total
