"""Frames to trace: the one way in which a .pftrace is made, live and from a raw capture."""

from __future__ import annotations

import fnmatch
import re
from typing import Any

import numpy as np

from perfetto_protos import trace_pb2 as pb
from profinfer.converting.calls import Calls
from profinfer.converting.counter_tracks import NOTHING_COUNTED, CounterTracks
from profinfer.converting.experts import Experts
from profinfer.converting.memory_events import MemoryEvents
from profinfer.converting.models import describe_model
from profinfer.converting.sequences import Sequences
from profinfer.converting.slices import Chunk, Columns, Graph, Operators
from profinfer.converting.structure import Fused, Structure, Structures, Tensor
from profinfer.converting.timeline import Timeline
from profinfer.describing.layout import Layout
from profinfer.errors import ProbeError, TraceError
from profinfer.records.capture import Frame, FrameKind
from profinfer.records.dtypes import RECORD, WIDE_HEADER, Kind, join, select
from profinfer.records.wide import WideQueue
from profinfer.scheduling.scheduler import Scheduling
from profinfer.trace import packets
from profinfer.trace.lanes import Lanes
from profinfer.trace.losses import Losses
from profinfer.trace.roles import Roles
from profinfer.trace.writer import Arguments, TraceWriter

_INSTANT = pb.TrackEvent.TYPE_INSTANT
_UNKNOWN = "operator of an unknown graph"
_ALL = np.uint64((1 << 64) - 1)


class Converter:
    """Takes frames in order and writes the trace as it goes."""

    def __init__(self, writer: TraceWriter) -> None:
        self._writer = writer
        self._started = False
        self._pending = np.empty(0, RECORD)
        self._wide = WideQueue()
        self._columns: dict[int, Columns] = {}
        self._op_numbers: dict[str, int] = {}
        self._records = 0
        self._structure_ts = 0
        self._rate: tuple[int, int] | None = None

    def feed(self, frame: Frame) -> None:
        """Takes one frame. TraceError when it cannot be what a recorder wrote."""
        try:
            self._feed(frame)
        except (ArithmeticError, AttributeError, LookupError, ProbeError, RecursionError, TypeError,
                ValueError) as error:  # fmt: skip
            raise TraceError(
                f"a {frame.kind.name} frame of the capture is damaged: {error!r}"
            ) from error

    def cut(self) -> None:
        """No frame comes after these, and none was the end: writes what was kept back."""
        if self._started:
            self._sequences.finish("the recording was cut within it")
            self._writer.flush()

    def _feed(self, frame: Frame) -> None:
        if frame.kind == FrameKind.START:
            self._start(frame.ts, frame.json())
            self._writer.flush()
            return
        if not self._started:
            raise TraceError("the capture does not begin with a START frame")
        if frame.kind == FrameKind.CLOCK:
            boot, mono, real = np.frombuffer(frame.data, "<u8").tolist()
            self._writer.clocks((boot, mono, real))
        elif frame.kind == FrameKind.NAMES:
            self._lanes.add_thread_names({int(k): str(v) for k, v in frame.json().items()})
        elif frame.kind == FrameKind.BACKENDS:
            self._lanes.add_backend_names({int(k): str(v) for k, v in frame.json().items()})
        elif frame.kind == FrameKind.WIDE:
            self._wide.add(frame.data)
            self._losses.count_wide(frame.data)
        elif frame.kind == FrameKind.LOSS:
            self._losses.add(frame.data)
        elif frame.kind == FrameKind.RECORDS:
            self._feed_records(frame.ts, frame.data, last=False)
        elif frame.kind == FrameKind.SCHEDULER:
            self._scheduler().feed(frame.ts, frame.data)
        elif frame.kind == FrameKind.TASKS:
            self._scheduler().add_tasks(frame.ts, frame.json())
        elif frame.kind == FrameKind.MAPPINGS:
            self._memory.mappings(frame.ts, frame.json())
        elif frame.kind == FrameKind.MODELS:
            self._memory.models(frame.ts, frame.json())
        elif frame.kind == FrameKind.MODEL:
            self._memory.models(frame.ts, [describe_model(frame.data)])
        elif frame.kind == FrameKind.END:
            self._end(frame.ts, frame.json())
        self._writer.flush()

    # ---- Start and end

    def _start(self, ts: int, start: dict[str, Any]) -> None:
        layout = Layout.from_dict(start["layout"])
        config = start["config"]
        writer = self._writer
        writer.system(start["uname"], int(start["cpus"]), int(start["page_size"]))
        target = start["target"]
        self._lanes = Lanes(
            writer, int(target["pid"]), str(target["name"]), list(target["command"])
        )
        self._roles = Roles(self._lanes)
        self._losses = Losses(writer, self._lanes, int(start["cpus"]), ts)
        self._scheduling: Scheduling | None = None
        if start.get("scheduler"):
            self._losses.has_scheduler = True
            self._scheduling = Scheduling(
                writer, self._lanes, self._losses, int(target["pid"]),
                str(start["uname"]["machine"]), str(start["scheduler"]["mode"]),
            )  # fmt: skip
        self._structures = Structures(layout, self._tensor, self._structure, self._fused)
        self._experts = Experts(
            writer, self._lanes, self._structures.tensor, is_on=bool(config.get("experts"))
        )
        self._memory = MemoryEvents(writer, self._lanes, int(start["page_size"]))
        plan = start.get("plan", {})
        self._calls = Calls(writer, self._lanes, plan)
        steps = [str(name) for name in plan.get("steps", ())]
        self._sequences = Sequences(self._lanes, writer, steps, self._calls.probed)
        unknown = (writer.name(_UNKNOWN), writer.correlation(f"{_UNKNOWN}  #0"))
        self._timeline = Timeline(
            self._lanes.threads, self._structures.get, self._columns_of, self._fused_of, unknown
        )
        self._counters = CounterTracks(writer, self._lanes, start.get("counters", NOTHING_COUNTED))
        self._name_globs = [str(g) for g in config["operator_names"]]
        self._op_globs = [str(g) for g in config["operator_ops"]]
        names = ("operator", "operator.incomplete", "barrier", "barrier.inside", "graph",
                 "graph.worker", "backend")  # fmt: skip
        self._categories = {name: writer.category(name) for name in names}
        self._barrier_name = writer.name("barrier")
        writer.event(_INSTANT, ts, self._lanes.recorder, "recording started", "recording", start)
        self._started = True

    def _end(self, ts: int, end: dict[str, Any]) -> None:
        if self._scheduling:
            self._scheduling.feed(None, b"")
            end = {**end, "scheduler_records": self._scheduling.records}
        self._feed_records(ts, b"", last=True)
        self._sequences.finish()
        self._experts.write_graphs(self._timeline.open_graphs, self._lanes.threads.tids)
        end = {**end, "records": self._records, "unattributed": self._timeline.unattributed,
               "threads": self._lanes.own_names()}  # fmt: skip
        self._losses.write_stats()
        self._writer.event(_INSTANT, ts, self._lanes.recorder, "recording ended", "recording", end)

    def _scheduler(self) -> Scheduling:
        if self._scheduling is None:
            raise ValueError("the START frame says nothing of the scheduler")
        return self._scheduling

    # ---- Records

    def _feed_records(self, horizon: int, data: bytes, *, last: bool) -> None:
        fresh = np.frombuffer(data, RECORD)
        if len(fresh) and int(fresh["ts"].max()) >> 63:
            raise ValueError("a time beyond 2^63")
        self._records += len(fresh)
        self._losses.count(fresh)
        if self._scheduling:
            self._scheduling.see(fresh)
        everything = join([self._pending, fresh])
        old = everything["ts"] < (_ALL if last else horizon)
        ready, self._pending = select(everything, old), select(everything, ~old)
        of_memory = (ready["kind"] == Kind.FAULT) | (ready["kind"] == Kind.FILE_READ)
        self._memory.feed(select(ready, of_memory), horizon, last=last)
        if bool(of_memory.any()):
            ready = select(ready, ~of_memory)
        count = len(ready)
        newest = int(ready["ts"].max()) if count else 0
        ready = self._counters.take(ready)
        nodes = select(ready, ready["kind"] == Kind.NODE)
        if len(nodes):
            self._structures.add_nodes(nodes[np.argsort(nodes["ts"], kind="stable")])
        calls = []
        for kind, raw in self._wide.take(None if last else horizon):
            if kind == Kind.TENSOR:
                self._structures.add_tensor(raw)
            elif kind == Kind.STRUCTURE:
                structure = self._structures.add_structure(raw)
                self._backend(structure, raw)
            elif kind == Kind.CALL:
                calls.append(self._calls.read(raw))
            else:
                self._experts.add(raw)
        losses = self._losses
        chunk = self._timeline.feed(
            ready, self._wide.runs, losses.of_slices, calls=calls, lost=losses.total_of_slices,
            last=last,
        )  # fmt: skip
        self._write(chunk)
        if count:
            self._recording_rate(newest, count)
            # A loss window is done with once everything older has been written.
            oldest = self._timeline.oldest_open(horizon)
            losses.forget(oldest)
            self._counters.forget(oldest)

    def _recording_rate(self, ts: int, count: int) -> None:
        since, total = self._rate or (ts, 0)
        total += count
        if ts - since >= 1_000_000_000:
            rate = total * 1_000_000_000 // (ts - since)
            self._writer.counter(ts, self._lanes.rate, rate)
            since, total = ts, 0
        self._rate = (since, total)

    def _write(self, chunk: Chunk) -> None:
        """Ends before begins: where both have one timestamp on a track, the file's order counts.
        Ends bear no name, so that among themselves their order does not matter."""
        tids = self._lanes.threads.tids
        # Tracks are named in order of what begins, however the records were cut into chunks.
        self._roles.add(
            (graph.thread for graph in chunk.graphs_begun),
            ((begin, thread, graph.workers) for graph, thread, begin in chunk.workers),
        )
        for ubatch in chunk.ubatches_begun:
            for sequence in sorted(set(ubatch.runs["sequence"].tolist())):
                self._lanes.sequence(ubatch.context, sequence)
        for graph in chunk.graphs_begun:
            graph.lane = self._lanes.backend(graph)
        self._write_ends(chunk)
        self._experts.write_graphs(chunk.graphs_ended, tids)
        self._calls.write(chunk.calls)
        self._calls.write(chunk.parts)
        self._sequences.write(chunk, self._losses.windows)
        self._experts.write_ubatches(chunk.ubatches_begun)
        self._write_graphs(chunk)
        self._write_operators(chunk.operators)
        self._write_operators(chunk.open_operators)
        thread, begin, _ = chunk.waits
        self._counters.waits(
            packets.NAMED_BEGIN, thread, begin, track=self._tracks(thread),
            name=self._barrier_name, category=self._categories["barrier"],
        )  # fmt: skip
        thread, ts = chunk.inside
        self._writer.rows(
            packets.NAMED_INSTANT, ts, track=self._tracks(thread), name=self._barrier_name,
            category=self._categories["barrier.inside"],
        )  # fmt: skip

    def _write_ends(self, chunk: Chunk) -> None:
        operators = chunk.operators
        self._counters.ends(packets.SLICE_END, operators, track=self._tracks(operators.thread))
        times = [chunk.waits[2]]
        tracks = [self._tracks(chunk.waits[0])]
        for graph in chunk.graphs_ended:
            ended = [*graph.workers, graph.thread]
            tracks.append(self._tracks(np.array(ended, np.int64)))
            tracks.append(np.array([graph.lane], np.uint64))
            times.append(np.full(len(ended) + 1, graph.end, np.int64))
        self._writer.rows(packets.SLICE_END, np.concatenate(times), track=np.concatenate(tracks))

    def _write_graphs(self, chunk: Chunk) -> None:
        rows: list[tuple[int, int, int, int, int, int]] = []

        def add(graph: Graph, begin: int, track: int, category: str) -> None:
            structure = graph.structure.id if graph.structure else 0
            name = self._writer.name(f"graph {self._lanes.backend_name(graph.backend)}")
            rows.append((begin, track, self._categories[category], name, graph.id, structure))

        for graph in chunk.graphs_begun:
            add(graph, graph.begin, self._lanes.thread(graph.thread), "graph")
            add(graph, graph.begin, graph.lane, "backend")
        for graph, thread, begin in chunk.workers:
            add(graph, begin, self._lanes.thread(thread), "graph.worker")
        if rows:
            ts, track, category, name, number, structure = np.array(rows, np.uint64).T
            self._writer.rows(
                packets.GRAPH_BEGIN, ts, track=track, category=category, name=name, graph=number,
                structure=structure,
            )  # fmt: skip

    def _write_operators(self, operators: Operators) -> None:
        whole, part = self._categories["operator"], self._categories["operator.incomplete"]
        self._counters.begins(
            packets.OPERATOR_BEGIN,
            operators,
            track=self._tracks(operators.thread),
            name=operators.name,
            tensor=operators.tensor,
            category=np.where(operators.incomplete, part, whole),
        )

    def _tracks(self, threads: Any) -> Any:
        return self._lanes.thread_tracks()[threads]

    # ---- Structure

    def _columns_of(self, structure: Structure) -> Columns:
        columns = self._columns.get(structure.id)
        if columns is None:
            nodes = [structure.nodes[i] for i in structure.order.tolist()]
            columns = Columns(
                np.array([self._writer.name(t.name) for t in nodes], np.uint32),
                np.array([self._writer.correlation(t.description) for t in nodes], np.uint32),
                np.array([self._op_number(t) for t in nodes], np.int64),
                np.array([self._is_wanted(t) for t in nodes], np.bool_),
                np.full(len(nodes), -1, np.int64),
                np.zeros(len(nodes), np.uint32),
            )
            self._columns[structure.id] = columns
        return columns

    def _op_number(self, tensor: Tensor) -> int:
        if tensor.op == "?":
            return -2  # its record was lost
        # Even numbers: the odd ones are for the fused operators that end in such a node.
        return 2 * self._op_numbers.setdefault(tensor.op, len(self._op_numbers))

    def _is_wanted(self, tensor: Tensor) -> bool:
        return _matches(tensor.name, self._name_globs) and _matches(tensor.op, self._op_globs)

    def _fused_of(self, ts: int, structure: Structure, last: int, first: int) -> int:
        return self._writer.correlation(
            self._structures.fused(ts, structure, last, first).description
        )

    def _describe(self, ts: int, name: str, category: str, args: Arguments) -> None:
        # One per ns: instants at one time would nest, thousands deep.
        self._structure_ts = max(ts, self._structure_ts + 1)
        self._writer.event(
            _INSTANT, self._structure_ts, self._lanes.structure, name, category, args
        )

    def _tensor(self, ts: int, t: Tensor) -> None:
        self._describe(
            ts, t.name, "structure.tensor",
            {
                "tensor_id": t.id, "description": t.description, "op": t.op, "type": t.type,
                "kind": t.kind, "layer": t.identity.layer, "module": t.identity.module,
                "label": t.identity.label, "identity": t.identity.key, "bytes": t.bytes, "ne": t.ne,
                "nb": t.nb, "src": t.sources or None, "view_src": t.view_src or None,
                "address": t.address, "data": t.data or None, "buffer": t.buffer,
            },
        )  # fmt: skip

    def _structure(self, ts: int, s: Structure) -> None:
        self._describe(
            ts, f"structure {s.id}", "structure.graph",
            {
                "structure_id": s.id, "cgraph": s.cgraph, "complete": s.complete,
                "model": s.model, "node_count": len(s.nodes), "nodes": [t.id for t in s.nodes],
            },
        )  # fmt: skip

    def _backend(self, structure: Structure, raw: bytes) -> None:
        own_name = self._structures.backend_name(structure)
        known = self._lanes.add_backend(structure.backend, raw, own_name)
        if known is not None and structure.backend:
            args: Arguments = {"backend": structure.backend, **known}
            ts = int(np.frombuffer(raw, WIDE_HEADER, 1)[0]["ts"])
            self._describe(ts, known["name"], "structure.backend", args)

    def _fused(self, ts: int, f: Fused) -> None:
        self._describe(
            ts, f.op, "structure.fused",
            {
                "description": f.description, "op": f.op, "tensor_id": f.tensor,
                "fused_tensor_id": f.with_tensor,
            },
        )  # fmt: skip


def _matches(text: str, globs: list[str]) -> bool:
    """Whether text matches one of the globs; with none, everything does."""
    return not globs or any(re.match(fnmatch.translate(g), text) for g in globs)
