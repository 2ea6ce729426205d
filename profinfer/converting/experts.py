"""Which experts tokens were sent to: records in, one event per layer and graph out.

A graph's thread reads its ids tensors, so that by the graph's end all of their records are there,
or lost. What the structure lists and no record tells becomes an event as well, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perfetto_protos import trace_pb2 as pb
from profinfer.converting.slices import Graph, Ubatch
from profinfer.converting.structure import Structure, Tensor
from profinfer.records.dtypes import EXPERT_VALUES, EXPERTS_RECORD, EXPERTS_UNREAD, Kind, Records
from profinfer.trace.lanes import Lanes
from profinfer.trace.writer import TraceWriter

_INSTANT = pb.TrackEvent.TYPE_INSTANT
_ROUTED, _IDS = "MUL_MAT_ID", 2
"""The op whose operand with this number are the ids."""
_MOST = 1 << 20
"""Values of a reading that are written; the handlers read no more than a quarter of that."""


@dataclass
class _Reading:
    """The values of one tensor: `used` for each of `rows` tokens, -1 where they are lost."""

    ts: int
    node: int
    used: int
    rows: int
    values: npt.NDArray[np.uint32]
    known: npt.NDArray[np.bool_]
    unread: bool

    @property
    def is_whole(self) -> bool:
        return bool(self.known.all()) and not self.unread


@dataclass(frozen=True)
class _Route:
    """A place in a structure where tokens are sent to experts."""

    node: Tensor
    """The first operator that takes the ids."""
    ids: Tensor | None
    experts: int


class Experts:
    """Writes the events of routing. Does nothing where experts are not recorded."""

    def __init__(
        self, writer: TraceWriter, lanes: Lanes, tensor_of: Callable[[int], Tensor | None], *,
        is_on: bool,
    ) -> None:  # fmt: skip
        self.is_on = is_on
        self._tensor_of = tensor_of
        self._writer = writer
        self._lanes = lanes
        self._waiting: dict[int, list[Records]] = {}
        self._routes: dict[int, list[_Route]] = {}

    def add(self, raw: bytes) -> None:
        """A KIND_EXPERTS or KIND_EXPERT_WEIGHTS record, in whatever order."""
        record = np.frombuffer(raw, EXPERTS_RECORD, 1)
        self._waiting.setdefault(int(record["header"]["tid"][0]), []).append(record)

    def write_ubatches(self, ubatches: Iterable[Ubatch]) -> None:
        """Which tokens the rows of a ubatch's layers are. Those whose logits are not asked for
        end before the last layer's experts."""
        for ubatch in ubatches if self.is_on else ():
            runs = ubatch.runs
            if int(runs["tokens"].sum()) != ubatch.tokens:
                continue  # a record of them was lost
            if ubatch.tokens > _MOST or (runs["outputs"] > runs["tokens"]).any():
                continue  # the record is damaged
            tokens: list[int] = []
            outputs: list[int] | None = []
            for sequence, position, count, asked, last_asked in runs.tolist():
                if asked == count:
                    fresh = range(len(tokens), len(tokens) + count)
                elif asked == last_asked:
                    fresh = range(len(tokens) + count - asked, len(tokens) + count)
                else:
                    outputs = None  # the runs do not say which
                if outputs is not None:
                    outputs += fresh
                tokens += [
                    sequence << 32 | p & 0xFFFFFFFF for p in range(position, position + count)
                ]
            self._writer.event(
                _INSTANT, ubatch.begin, self._lanes.experts_group(), "tokens", "experts.tokens",
                {"ubatch_id": ubatch.id, "tokens": tokens, "outputs": outputs},
            )  # fmt: skip

    def write_graphs(self, graphs: Iterable[Graph], tids: list[int]) -> None:
        """The routing of graphs that have ended, or are not going to."""
        for graph in graphs if self.is_on else ():
            mine, before = self._take(tids[graph.thread], graph)
            for reading in _readings(before, Kind.EXPERTS):
                self._write(reading, None, None, None)
            routes = self._routes_of(graph.structure) if graph.structure else []
            weights = _readings(mine, Kind.EXPERT_WEIGHTS)
            readings = _readings(mine, Kind.EXPERTS)
            seen: set[int] = set()
            for i, reading in enumerate(readings):
                route = _find(graph.structure, routes, reading.node)
                until = readings[i + 1].ts if i + 1 < len(readings) else None
                near = [w for w in weights if w.ts > reading.ts and (until is None or w.ts < until)]
                self._write(reading, near[0] if near else None, graph, route)
                if route:
                    seen.add(route.node.id)
            for route in routes:
                # No token comes to the last layer where no logits are asked for.
                is_empty = route.ids is not None and 0 in route.ids.ne
                if route.node.id not in seen and not is_empty:
                    self._write_missing(graph, route)

    def _take(self, tid: int, graph: Graph) -> tuple[list[Records], list[Records]]:
        """The records of a graph, and older ones of its thread: they belong to a graph whose
        beginning was lost."""
        waiting = self._waiting.pop(tid, [])
        mine: list[Records] = []
        before: list[Records] = []
        rest: list[Records] = []
        for record in waiting:
            ts = int(record["header"]["ts"][0])
            (rest if ts > graph.end else before if ts < graph.begin else mine).append(record)
        if rest:
            self._waiting[tid] = rest
        return mine, before

    def _routes_of(self, structure: Structure) -> list[_Route]:
        """One per ids tensor, in order of execution."""
        routes = self._routes.get(structure.id)
        if routes is None:
            routes, seen = [], set[int]()
            for node in structure.nodes:
                ids = node.sources[_IDS] if len(node.sources) > _IDS else 0
                if node.op == _ROUTED and ids not in seen:
                    seen.add(ids)
                    weight = self._tensor_of(node.sources[0])
                    routes.append(_Route(node, self._tensor_of(ids), weight.ne[2] if weight else 0))
            self._routes[structure.id] = routes
        return routes

    def _write(
        self, reading: _Reading, weights: _Reading | None, graph: Graph | None,
        route: _Route | None,
    ) -> None:  # fmt: skip
        if reading.unread:
            is_large = reading.used * reading.rows > _MOST
            reason = "too many to be read" if is_large else "not in memory that can be read"
            if graph and route:
                self._write_missing(graph, route, reason, reading.ts)
            return
        ids = reading.values.astype(np.int32)
        ids[~reading.known] = -1
        values = None
        if weights and weights.is_whole and weights.values.size == ids.size:
            values = weights.values.view(np.float32).astype(np.float64)
        layer = route.node.identity.layer if route else None
        self._writer.event(
            _INSTANT, reading.ts, self._lanes.experts(layer), "experts", "experts",
            {
                "graph_id": graph.id if graph else None,
                "layer": layer,
                "tensor_id": route.node.id if route else None,
                "experts": route.experts or None if route else None,
                "used": reading.used,
                "rows": reading.rows,
                "complete": reading.is_whole and route is not None,
                "ids": ids,
                "weights": values,
            },
        )  # fmt: skip

    def _write_missing(
        self, graph: Graph, route: _Route, reason: str = "", ts: int | None = None
    ) -> None:
        backend = self._lanes.backend_name(graph.backend)
        if not reason:
            reason = "lost" if backend.startswith("CPU") else f"on a device: {backend}"
        self._writer.event(
            _INSTANT, graph.begin if ts is None else ts,
            self._lanes.experts(route.node.identity.layer), "experts missing", "experts.missing",
            {
                "graph_id": graph.id,
                "layer": route.node.identity.layer,
                "tensor_id": route.node.id,
                "experts": route.experts or None,
                "used": route.ids.ne[0] if route.ids else None,
                "rows": route.ids.ne[1] if route.ids else None,
                "reason": reason,
            },
        )  # fmt: skip


def _readings(records: list[Records], kind: Kind) -> list[_Reading]:
    """The records that belong together, put together, in order of time."""
    found: dict[tuple[int, int], _Reading] = {}
    for row in records:
        record = row[0]
        if record["header"]["kind"] != kind:
            continue
        key = (int(record["header"]["ts"]), int(record["node"]))
        used, rows = int(record["used"]), int(record["tokens"])
        unread = bool(record["header"]["flags"] & EXPERTS_UNREAD)
        reading = found.get(key)
        if reading is None:
            size = 0 if unread else used * rows
            if size > _MOST:
                size, unread = 0, True  # no ids tensor looks like this
            reading = found[key] = _Reading(
                *key, used, rows, np.zeros(size, np.uint32), np.zeros(size, np.bool_), unread
            )
        reading.unread |= unread
        first, count = int(record["first"]), min(int(record["count"]), EXPERT_VALUES)
        if not unread and first < len(reading.known):
            part = slice(first, min(first + count, len(reading.known)))
            reading.values[part] = record["value"][: part.stop - part.start]
            reading.known[part] = True
    return [found[key] for key in sorted(found)]


def _find(structure: Structure | None, routes: list[_Route], address: int) -> _Route | None:
    """The route of the operator at an address."""
    return next((r for r in routes if r.node.address == address), None) if structure else None
