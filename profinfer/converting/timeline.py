"""Records to slices, by the column. What it returns is plain data; it writes nothing.

An operator begins at its record and ends where its thread's next one begins, or where its graph
ends. Between the two lie the thread's barrier records: the last one is where waiting for the
other threads began (the engine calls the barrier after each node), the ones before it stand
inside the operator (MUL_MAT, for instance). After a graph's last node some engines call the
barrier and some do not: see barriers.py.

State from chunk to chunk: graphs and ubatches that are open, and of each thread the records
since its last operator began.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from profinfer.converting.barriers import BarrierHabits
from profinfer.converting.calls import Asked
from profinfer.converting.nodes import Nodes
from profinfer.converting.slices import INF, Call, Chunk, Columns, Graph, Operators, Ubatch
from profinfer.converting.structure import Structure
from profinfer.records.columns import I64, Mask
from profinfer.records.dtypes import RECORD, Kind, Records, join, select
from profinfer.trace.losses import Loss
from profinfer.trace.threads import Threads

_BOUNDS = (Kind.GRAPH_BEGIN, Kind.GRAPH_END, Kind.UBATCH_BEGIN)
"""What begins or ends a graph: a ubatch that begins ends the graph before it."""


class Timeline:
    """Turns chunks of records into slices."""

    def __init__(
        self,
        threads: Threads,
        structure_of: Callable[[int], Structure | None],
        columns_of: Callable[[Structure], Columns],
        fused_of: Callable[[int, Structure, int, int], int],
        unknown: tuple[int, int],
    ) -> None:
        """`fused_of(ts, structure, last, first)` gives the `tensor` value of a fused operator;
        `unknown` are the name and `tensor` value of operators that no structure lists."""
        self._threads = threads
        self.unattributed = 0
        """Operator records outside every graph seen: recording began or lost records there."""
        self._incomplete = 0
        """Operators of which something may be missing."""
        self._structure_of = structure_of
        self._nodes = Nodes(columns_of, fused_of, unknown)
        self._carry = np.empty(0, RECORD)
        self._graphs: list[Graph] = []
        self._open_graph: dict[int, Graph] = {}
        self._open_ubatch: dict[int, Ubatch] = {}
        self._graph_count = 0
        self._ubatch_count = 0
        self._barriers = BarrierHabits()
        self._asked = Asked()

    def feed(
        self,
        records: Records,
        runs_of: Callable[[int, int], Records],
        losses: list[Loss],
        *,
        calls: list[Call] | None = None,
        lost: int = 0,
        last: bool = False,
    ) -> Chunk:
        """Takes the next records: all those older than some time and younger than the last ones.

        `runs_of(tid, ts)` gives the token runs of a ubatch; `calls` are those of the same time, in
        order; `lost` is how many records have been lost so far. With `last`, what is unfinished
        is returned as open.
        """
        chunk = Chunk(
            _no_operators(), _no_operators(), (_none(), _none(), _none()), (_none(), _none()),
            [], [], [], [], [], [],
        )  # fmt: skip
        kind = records["kind"]
        hot = (kind >= Kind.OPERATOR) & (kind <= Kind.BARRIER)
        self._control(select(records, ~hot), runs_of, calls or [], chunk)
        if last:
            chunk.calls += self._asked.finish()
        self._operators(join([self._carry, select(records, hot)]), losses, chunk, lost, last)
        self._graphs = [graph for graph in self._graphs if graph.end == INF]
        return chunk

    def oldest_open(self, otherwise: int) -> int:
        """Start of the oldest graph or operator that has not ended yet."""
        starts = [graph.begin for graph in self._graphs]
        if len(self._carry):
            starts.append(int(self._carry["ts"].min()))
        return min(starts, default=otherwise)

    @property
    def open_graphs(self) -> list[Graph]:
        """Those that have not ended."""
        return list(self._open_graph.values())

    # ---- Graphs and ubatches: few, one at a time

    def _control(
        self, records: Records, runs_of: Callable[[int, int], Records], told: list[Call],
        chunk: Chunk,
    ) -> None:  # fmt: skip
        records = select(records, records["kind"] != Kind.NODE)
        records = records.take(np.argsort(records["ts"], kind="stable"))
        threads = self._threads.index(records["tid"], records["ts"]).tolist()
        calls = deque(told)
        for record, thread in zip(records.tolist(), threads, strict=True):
            ts, a, b, tid, _, kind, _ = record
            while calls and calls[0].told < ts:
                self._tell(calls.popleft(), chunk)
            if kind == Kind.GRAPH_BEGIN:
                self._end_graph(thread, ts, chunk)
                self._graph_count += 1
                graph = Graph(
                    self._graph_count, thread, ts, INF, a, self._structure_of(b) if b else None
                )
                self._open_graph[thread] = graph
                self._graphs.append(graph)
                chunk.graphs_begun.append(graph)
            elif kind == Kind.GRAPH_END:
                self._end_graph(thread, ts, chunk)
            elif kind == Kind.UBATCH_BEGIN:
                self._end_ubatch(thread, ts, chunk)
                self._ubatch_count += 1
                tokens, step, graph_type = a & 0xFFFFFFFF, a >> 32 & 0xFFFF, a >> 48
                runs = runs_of(tid, ts)
                ubatch = Ubatch(self._ubatch_count, thread, ts, INF, tokens, b, runs, step)
                ubatch.graph_type = graph_type - 1 if graph_type else None
                self._open_ubatch[thread] = ubatch
                self._asked.begun(ubatch)
                chunk.ubatches_begun.append(ubatch)
            elif kind == Kind.UBATCH_END:
                self._end_ubatch(thread, ts, chunk)
        for call in calls:
            self._tell(call, chunk)

    def _tell(self, told: Call, chunk: Chunk) -> None:
        if told.is_part:
            chunk.parts.append(told)
            return
        for call in self._asked.tell(told):
            self._end_call(call, chunk)
            chunk.calls.append(call)

    def _end_call(self, call: Call, chunk: Chunk) -> None:
        """What is open within it has ended by now: its end was lost."""
        ubatch, graph = self._open_ubatch.get(call.thread), self._open_graph.get(call.thread)
        if ubatch and call.begin < ubatch.begin < call.end:
            self._end_ubatch(call.thread, call.end, chunk)
        elif graph and call.begin < graph.begin < call.end:
            self._end_graph(call.thread, call.end, chunk)

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

    def _operators(
        self, records: Records, losses: list[Loss], chunk: Chunk, lost: int, last: bool
    ) -> None:
        thread = self._threads.index(records["tid"], records["ts"])
        # 16 bits make it a radix sort.
        narrow = np.uint16 if len(self._threads.tids) < 1 << 16 else np.uint32
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
        next_begin = np.where(follows, np.append(begin[1:], INF), INF)

        graph, node = self._nodes.attribute(self._graphs, begin, owner, address)
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
        open_now = end == INF
        done = known & ~open_now
        self._carry = (
            np.empty(0, RECORD) if last else _rows(records, order, at, next_at, open_now & known)
        )
        self._workers(graph, owner, begin, chunk)

        name, tensor, op, keep = self._nodes.look_up(
            self._graphs, graph, node, other, begin, kind[at]
        )
        until = np.where(open_now, begin, end)
        # Without its node, or its op, it cannot be matched with the other threads' parts.
        incomplete = _overlaps(begin, until, losses) | (op < 0)
        bounds = [loss for loss in losses if loss.kind in _BOUNDS]
        if bounds:
            # Where a graph's bounds were lost, what follows may belong to another graph.
            graph_begin = np.array([g.begin for g in self._graphs] + [0], np.int64).take(graph)
            incomplete |= _overlaps(graph_begin, until, bounds)
        self._incomplete += int(np.count_nonzero(done & incomplete))
        outer, margin = self._barriers.has_outer(
            self._graphs, chunk.graphs_ended, graph, op, barriers, is_last, done, incomplete
        )
        # Records lost anywhere before may have been of operators that would have told otherwise.
        missing = lost and lost + self.unattributed + self._incomplete
        for i in np.flatnonzero(margin <= missing).tolist() if missing else ():
            structure = self._graphs[int(graph[i])].structure
            incomplete[i] |= bool(margin[i] >= 0) or self._nodes.has_twins(structure, int(op[i]))
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
