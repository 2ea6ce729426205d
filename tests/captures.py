"""Captures made by hand: a schedule in, the frames that a recorder would have written out.

    capture = Capture()
    shape = capture.structure(1_000, [T("a-0", "ADD", ("x", "y")), T("x"), T("y")])
    capture.ubatch(5_000, 90_000, [(0, 0, 3, 1, 1)])
    capture.graph(shape, 10_000, 80_000, {MAIN: [("a-0", 20_000, 70_000)]})
    convert(capture.frames(), path)

Times are ns after BASE. An operator is (name, begin, *barrier entries); "a+b" is a fused one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from profinfer.converting.converter import Converter
from profinfer.engine.adapter_file import CALL_ROLES
from profinfer.output import Output
from profinfer.records.capture import LOSS_ENTRY, MAGIC, Frame, FrameKind, json_frame, pack
from profinfer.records.dtypes import (
    CALL_RECORD,
    COUNTER_UNKNOWN,
    EXPERT_VALUES,
    EXPERTS_RECORD,
    RECORD,
    RUNS,
    STRUCTURE_RECORD,
    SWITCH_FROM_TARGET,
    SWITCH_HAS_CALL,
    SWITCH_HAS_THROTTLED_TIME,
    SWITCH_THROTTLED,
    SWITCH_THROTTLED_TIME,
    SWITCH_TO_TARGET,
    TENSOR_RECORD,
    THROTTLED_UNIT,
    TOKENS_RECORD,
    WIDE_SIZE,
    Kind,
    SchedulerKind,
)
from profinfer.trace.writer import TraceWriter

BASE = 1_000_000_000_000
"""When the recording starts; BOOTTIME ns."""

PID = MAIN = 100
WORKER = 101
CONTEXT = 0x7000
CPUS = 4

OPS = (
    "NONE", "ADD", "MUL", "RMS_NORM", "MUL_MAT", "VIEW", "RESHAPE", "UNARY", "GLU", "SOFT_MAX",
    "MUL_MAT_ID",
)  # fmt: skip
TYPES = (("f32", 1, 4), None, ("f16", 1, 2), ("q4_K", 256, 144))
SPARE = 50_000_000
"""The recording ends this long after its last record."""

_HOT = {"operator": ["on_operator"], "barrier": ["on_operator", "on_barrier"]}
"""Handlers of operators and barriers, by level."""

Operator = tuple[Any, ...]
"""(name, begin, *entries into the barrier)"""

Run = tuple[int, int, int, int, int]
"""(sequence, position, tokens, outputs, last output)"""


def layout() -> dict[str, object]:
    """A made-up engine, as a START frame describes it."""
    return {
        "tensor": {
            "type": 0, "ne": 16, "nb": 48, "op": 80, "op_params": 84, "op_params_size": 64,
            "src": 152, "max_src": 10, "data": 248, "name": 256, "name_size": 64, "size": 336,
            "flags": 148, "view_src": 232, "view_offs": 240, "buffer": 8,
        },
        "cgraph": {"n_nodes": 4, "nodes": 16},
        "backend": None,
        "ubatch": None,
        "ops": list(OPS),
        "unary_ops": ["ABS", "SILU"],
        "glu_ops": ["REGLU", "SWIGLU"],
        "types": [t and dict(zip(("name", "block_size", "type_size"), t, strict=True))
                  for t in TYPES],
        "version": "1.2.3",
        "notes": [],
    }  # fmt: skip


@dataclass(frozen=True)
class T:
    """A tensor: a node where it has an op, else a weight, cache or input."""

    name: str
    op: str = "NONE"
    src: tuple[str, ...] = ()
    ne: tuple[int, int, int, int] = (4, 1, 1, 1)
    type: str = "f32"
    view: str = ""
    param: int = 0
    """The first of op_params: which UNARY or GLU."""
    buffer: int = 0x5000
    address: int = 0
    """0: one per name."""
    data: int = 0
    """Where its elements lie; 0: in the struct."""


class Row(NamedTuple):
    """A record of a per-CPU ring."""

    ts: int
    a: int
    b: int
    tid: int
    cpu: int
    kind: int
    flags: int = 0


@dataclass(frozen=True)
class Shape:
    """A structure that was captured: what graphs refer to."""

    key: int
    tensors: Mapping[str, int]
    """Address by name."""


@dataclass(repr=False)
class Capture:
    """Collects records; `frames` makes a recording of them."""

    level: str = "barrier"
    cpu: Callable[[int, int], int] = lambda tid, _ts: tid % CPUS
    """The CPU on which a thread is at a time."""
    with_experts: bool = False
    names: Sequence[str] = ()
    """The operator filter."""
    records: list[Row] = field(default_factory=list)
    wide: list[tuple[int, bytes]] = field(default_factory=list)
    lost: list[Row] = field(default_factory=list)
    """Records for which there was no room; see `lose`."""
    threads: dict[int, str] = field(default_factory=lambda: {MAIN: "engine", WORKER: "worker"})
    backends: dict[int, str] = field(default_factory=dict)
    at_start: dict[str, Any] = field(default_factory=dict)
    """What the START frame says on top of, or instead of, `start`."""
    at_end: dict[str, Any] = field(default_factory=dict)
    """What the END frame says on top of its reason."""
    scheduler: str = ""
    """How the scheduler is recorded: "", system or target."""
    calls: bool = True
    """Whether the kernel tells in which system call a thread blocks."""
    throttling: str = "task"
    """Of what it tells that it is throttled: task, queue, or none."""
    strangers: dict[int, str] = field(default_factory=dict)
    """Names of processes that are not the target's, each with one thread."""
    scheduled: list[Row] = field(default_factory=list)
    """Records of the scheduler's rings."""
    unscheduled: list[Row] = field(default_factory=list)
    """Those for which there was no room."""
    extra: list[Frame] = field(default_factory=list)
    """Frames of other kinds, fed ahead of the records of the drain in whose time they fall."""
    probed_calls: Sequence[str] = ()
    """Calls that would have been seen, beside those that are made."""
    _callers: list[tuple[int, int]] = field(default_factory=list)
    _called: list[tuple[str, tuple[str, ...], str]] = field(default_factory=list)
    _parts: set[int] = field(default_factory=set)
    _addresses: dict[str, int] = field(default_factory=dict)
    _sent: dict[int, bytes] = field(default_factory=dict)

    def __repr__(self) -> str:
        rows = [(row, "") for row in self.records] + [(row, " LOST") for row in self.lost]
        return "".join(
            f"\n  {row.ts - BASE:>8} tid {row.tid} cpu {row.cpu} {Kind(row.kind).name} "
            f"{row.a:#x} {row.b:#x}{lost}"
            for row, lost in sorted(rows)
        )

    def add(self, kind: Kind, at: int, tid: int, a: int = 0, b: int = 0) -> None:
        """One record."""
        ts = BASE + at
        self.records.append(Row(ts, a, b, tid, self.cpu(tid, ts), kind))

    # ---- What happens in the engine

    def structure(
        self, at: int, tensors: Sequence[T], *, tid: int = MAIN, cgraph: int = 0x9000,
        backend: int = 0, nodes: int | None = None,
    ) -> Shape:  # fmt: skip
        """The walk through a graph: nodes in order, whatever has no op are their sources.

        `nodes`: how many the graph says it has, when not all were seen.
        """
        addresses = {t.name: t.address or self._address(t.name) for t in tensors}
        ts = BASE + at
        found = 0
        for tensor in tensors:
            ts += 1
            if tensor.op != "NONE":
                found += 1
                row = Row(ts, addresses[tensor.name], BASE + at, tid, self.cpu(tid, ts), Kind.NODE)
                self.records.append(row)
            body = self._tensor(tensor, addresses)
            if self._sent.get(addresses[tensor.name]) != body:
                self._sent[addresses[tensor.name]] = body
                record = np.frombuffer(body, TENSOR_RECORD).copy()
                self._add_wide(record, Kind.TENSOR, ts, tid)
        record = np.zeros(1, STRUCTURE_RECORD)
        record["structure"], record["cgraph"], record["backend"] = BASE + at, cgraph, backend
        record["backend_name_fn"] = backend
        record["nodes"] = found if nodes is None else nodes
        self._add_wide(record, Kind.STRUCTURE, ts + 1, tid)
        return Shape(BASE + at, addresses)

    def graph(
        self, shape: Shape | None, begin: int, end: int | None,
        threads: Mapping[int, Sequence[Operator]], *, tid: int = MAIN, backend: int = 0,
    ) -> None:  # fmt: skip
        """One graph_compute call; `end` None: recording ended within it."""
        self.add(Kind.GRAPH_BEGIN, begin, tid, backend, shape.key if shape else 0)
        for worker, operators in threads.items():
            for name, start, *barriers in operators:
                first, plus, last = name.rpartition("+")
                of = shape.tensors if shape else self._addresses
                if plus:
                    self.add(Kind.FUSED, start, worker, of[last], of[first])
                else:
                    self.add(Kind.OPERATOR, start, worker, of[last] if of else 1)
                for entry in barriers:
                    self.add(Kind.BARRIER, entry, worker, 0xB000)
        if end is not None:
            self.add(Kind.GRAPH_END, end, tid)

    def ubatch(
        self, begin: int, end: int | None, runs: Sequence[Run] = (), *, tid: int = MAIN,
        context: int = CONTEXT, graph_type: int | None = None,
    ) -> None:  # fmt: skip
        """One process_ubatch call."""
        said = 0 if graph_type is None else graph_type + 1
        tokens = sum(run[2] for run in runs)
        self.add(Kind.UBATCH_BEGIN, begin, tid, tokens | said << 48, context)
        for first in range(0, len(runs), RUNS):
            some = runs[first : first + RUNS]
            record = np.zeros(1, TOKENS_RECORD)
            record["first"], record["runs"] = first, len(some)
            record["run"][0, : len(some)] = list(some)
            self._add_wide(record, Kind.TOKENS, BASE + begin, tid)
        if end is not None:
            self.add(Kind.UBATCH_END, end, tid)

    def call(
        self, name: str, begin: int, end: int, arguments: Mapping[str, int], *, result: int = 0,
        kind: str = "number", tid: int = MAIN, is_lost: bool = False, is_part: bool = False,
    ) -> None:  # fmt: skip
        """One call of the engine's own interface, or one part of a step; `arguments` by role, in
        order."""
        number = self._call_number(name, tuple(arguments), kind)
        if is_part:
            self._parts.add(number)
        record = np.zeros(1, CALL_RECORD)
        values = [value & (1 << 64) - 1 for value in arguments.values()]
        record["began"], record["result"], record["number"] = BASE + begin, result, number
        record["argument"][0, : len(values)] = values
        if is_lost:
            ts = BASE + end
            self.lost.append(Row(ts, 0, 0, tid, self.cpu(tid, ts), Kind.CALL))
        else:
            self._callers.append((BASE + end, tid))
            self._add_wide(record, Kind.CALL, BASE + end, tid)

    def _call_number(self, name: str, roles: tuple[str, ...] = (), kind: str = "") -> int:
        if (name, roles, kind) not in self._called:
            self._called.append((name, roles, kind))
        return self._called.index((name, roles, kind))

    def count(
        self, tid: int, readings: Mapping[int, Sequence[int | None]], events: Sequence[Any] = ()
    ) -> None:
        """Readings of the counters by time: CPU time, values, what each group has missed; None for
        what nobody knows. `events`: what the START frame says, if not yet said."""
        if events:
            leaders = [i for i, e in enumerate(events) if e["leader"] == e["name"]]
            records = (1 + len(events) + len(leaders) + 1) // 2
            self.at_start["counters"] = {
                "events": list(events), "leaders": leaders, "records": records, "notes": []
            }  # fmt: skip
        for at, reading in readings.items():
            values = [COUNTER_UNKNOWN if value is None else value for value in reading]
            values += [0] * (len(values) % 2)
            for a, b in zip(values[::2], values[1::2], strict=True):
                self.add(Kind.COUNTERS, at, tid, a, b)

    # ---- What happens in the kernel

    def switch(
        self, at: int, cpu: int, prev: int, following: int, state: int = 0, call: int | None = None,
        *, throttled: bool = False, count: int | None = None,
    ) -> None:  # fmt: skip
        """A context switch. `state` of `prev`, as sched_switch reports it: 0 runs on, 0x100
        preempted, 1 sleeps, 2 uninterruptible. `call`: the system call it is in, -1 for none.
        `count`: for how long the quota has kept the CPU from the group, all in all."""
        b = throttled << SWITCH_THROTTLED
        if count is not None:
            b |= 1 << SWITCH_HAS_THROTTLED_TIME | count >> THROTTLED_UNIT << SWITCH_THROTTLED_TIME
            b &= (1 << 64) - 1
        if prev in self.threads:
            b |= 1 << SWITCH_FROM_TARGET
            if call is not None:
                b |= 1 << SWITCH_HAS_CALL | call & 0xFFFFFFFF
        if self.scheduler == "target" and following in self.threads:
            b |= 1 << SWITCH_TO_TARGET
        a = following | state << 32 | 120 << 48
        self.scheduled.append(Row(BASE + at, a, b, prev, cpu, SchedulerKind.SWITCH))

    def waking(
        self, at: int, cpu: int, by: int, tid: int, on: int, *, throttled: bool = False
    ) -> None:
        """A thread on `cpu` wakes another one, which is to run `on` a CPU."""
        a, b = tid | on << 32 | 120 << 48, throttled << SWITCH_THROTTLED
        self.scheduled.append(Row(BASE + at, a, b, by, cpu, SchedulerKind.WAKING))

    def unschedule(self, which: Callable[[Row], bool]) -> None:
        """There was no room for these records of the scheduler."""
        self.unscheduled += [row for row in self.scheduled if which(row)]
        self.scheduled = [row for row in self.scheduled if not which(row)]

    def experts(
        self, shape: Shape, node: str, at: int, ids: Sequence[Sequence[float]], *, tid: int = MAIN,
        kind: Kind = Kind.EXPERTS, lost: Sequence[int] = (), flags: int = 0,
    ) -> None:  # fmt: skip
        """What the router chose, a row per token; `lost`: those of its records are missing."""
        form = "<i4" if kind == Kind.EXPERTS else "<f4"
        values = np.array(ids, form).reshape(-1).view("<u4")
        for number, first in enumerate(range(0, max(len(values), 1), EXPERT_VALUES)):
            part = values[first : first + EXPERT_VALUES]
            record = np.zeros(1, EXPERTS_RECORD)
            record["node"], record["source"] = shape.tensors[node], shape.tensors[node] + 1
            record["used"], record["tokens"] = len(ids[0]) if len(ids) else 0, len(ids)
            record["first"], record["count"] = first, len(part)
            record["value"][0, : len(part)] = part
            if number in lost:
                self.lost.append(Row(BASE + at, 0, 0, tid, self.cpu(tid, BASE + at), kind))
            else:
                self._add_wide(record, kind, BASE + at, tid, flags)

    def lose(self, which: Callable[[Row], bool]) -> None:
        """There was no room for these records."""
        self.lost += [row for row in self.records if which(row)]
        self.records = [row for row in self.records if not which(row)]

    def _address(self, name: str) -> int:
        return self._addresses.setdefault(name, 0x10_0000 + 0x200 * len(self._addresses))

    def _tensor(self, t: T, addresses: Mapping[str, int]) -> bytes:
        record = np.zeros(1, TENSOR_RECORD)
        record["address"] = addresses[t.name]
        record["data"], record["buffer"] = t.data or addresses[t.name] + 0x100, t.buffer
        record["view_src"] = addresses[t.view] if t.view else 0
        record["ne"] = t.ne
        _, block, size = next(info for info in TYPES if info and info[0] == t.type)
        strides = [size, t.ne[0] // block * size]
        record["nb"] = [*strides, strides[1] * t.ne[1], strides[1] * t.ne[1] * t.ne[2]]
        record["src"][0, : len(t.src)] = [addresses[s] if s else 0 for s in t.src]
        record["op_params"][0, 0] = t.param
        record["type"] = [info and info[0] for info in TYPES].index(t.type)
        record["op"] = OPS.index(t.op)
        record["name"] = t.name.encode()
        return record.tobytes()

    def _add_wide(self, record: Any, kind: Kind, ts: int, tid: int, flags: int = 0) -> None:
        record["header"] = (ts, tid, self.cpu(tid, ts), kind, flags)
        self.wide.append((ts, record.tobytes().ljust(WIDE_SIZE, b"\0")))

    # ---- What the recorder makes of it

    def end(self) -> int:
        """When recording ends."""
        rows = self.records + self.lost + self.scheduled + self.unscheduled
        return max([BASE, *(row.ts for row in rows), *(ts for ts, _ in self._callers)]) + SPARE

    def frames(
        self, drains: Iterable[tuple[int, int]] = (), *, ended: bool = True, started: int = BASE
    ) -> list[Frame]:
        """The recording. Drains are (horizon, time), in order: everything older than `time` is
        taken, and everything older than `horizon` was there. One at the end is added."""
        start = self.start() | self.at_start
        frames = [json_frame(FrameKind.START, started, start), self._clock(started)]
        if self.scheduler:
            frames.append(json_frame(FrameKind.TASKS, started, self._tasks(started)))
        before, named = 0, set[int]()
        read = dict.fromkeys(range(CPUS), 0)
        counts: dict[tuple[int, int], int] = {}
        for horizon, time in [*drains, (self.end(), self.end())]:
            # Ring by ring: within a frame only the records of one CPU are in order. Some rings
            # were read a little later than others.
            rows = []
            for cpu in range(CPUS):
                until = max(read[cpu], horizon if cpu % 2 else time)
                mine = (row for row in self.records if row.cpu == cpu)
                due = [row for row in mine if read[cpu] <= row.ts < until]
                rows += sorted(due, key=lambda row: (row.ts, row.kind))
                read[cpu] = until
            callers = {tid for ts, tid in self._callers if before <= ts < time}
            fresh = ({row.tid for row in rows} | callers) - named
            if fresh:
                named |= fresh
                names = {tid: self.threads.get(tid, f"thread {tid}") for tid in sorted(fresh)}
                frames.append(json_frame(FrameKind.NAMES, horizon, names))
            if not before and self.backends:
                frames.append(json_frame(FrameKind.BACKENDS, horizon, self.backends))
            if self.scheduler:
                frames += self._losses(before or started, time, counts, self.unscheduled)
                some = [row for row in self.scheduled if before <= row.ts < time]
                data = np.array(some, RECORD).tobytes()
                frames.append(Frame(FrameKind.SCHEDULER, horizon, data))
            wide = b"".join(data for ts, data in self.wide if before <= ts < time)
            if wide:
                frames.append(Frame(FrameKind.WIDE, horizon, wide))
            frames += self._losses(before or started, time, counts, self.lost)
            frames += [frame for frame in self.extra if before <= frame.ts < time]
            frames.append(Frame(FrameKind.RECORDS, horizon, np.array(rows, RECORD).tobytes()))
            before = time
        if ended:
            frames.append(self._clock(self.end()))
            end = {"reason": "the target ended"} | self.at_end
            frames.append(json_frame(FrameKind.END, self.end(), end))
        return frames

    def _tasks(self, since: int) -> dict[str, Any]:
        processes = [(PID, 1, "engine", False)]
        processes += [(pid, 1, f"/bin/{name}", False) for pid, name in self.strangers.items()]
        threads = [(tid, PID, name) for tid, name in self.threads.items()]
        threads += [(pid, pid, name) for pid, name in self.strangers.items()]
        return {"since": since, "processes": processes, "threads": threads}

    @staticmethod
    def _losses(
        since: int, until: int, counts: dict[tuple[int, int], int], lost: Iterable[Row]
    ) -> list[Frame]:
        last: dict[tuple[int, int], int] = {}
        for row in lost:
            if since <= row.ts < until:
                key = (row.cpu, row.kind)
                counts[key] = counts.get(key, 0) + 1
                last[key] = max(last.get(key, 0), row.ts)
        entries = [(cpu, kind, counts[cpu, kind], min(since, ts), ts)
                   for (cpu, kind), ts in sorted(last.items())]  # fmt: skip
        data = np.array(entries, LOSS_ENTRY).tobytes()
        return [Frame(FrameKind.LOSS, until, data)] if entries else []

    def start(self) -> dict[str, Any]:
        """What the START frame says."""
        for name in self.probed_calls:
            if name not in {called for called, _, _ in self._called}:
                self._call_number(name)
        scheduler = {
            "mode": self.scheduler, "system_calls": self.calls, "blocked_reasons": False,
            "throttling": self.throttling, "throttled_time": self.throttling == "task",
        }  # fmt: skip
        return ({"scheduler": scheduler} if self.scheduler else {}) | {
            "profinfer": "0",
            "target": {"pid": PID, "name": "engine", "command": ["engine", "-m", "model"]},
            "layout": layout(),
            "plan": {
                "level": self.level,
                "probes": [
                    *({"handler": name} for name in _HOT.get(self.level, ())),
                    *({"handler": f"on_call_{i}"} for i in range(len(self._called))),
                ],
                "missing": {},
                "calls": [
                    {
                        "name": name,
                        "result": kind,
                        "arguments": [
                            (role, at + 1, CALL_ROLES[role]) for at, role in enumerate(roles)
                        ],
                        **({"part": True} if number in self._parts else {}),
                    }
                    for number, (name, roles, kind) in enumerate(self._called)
                ],
            },
            "config": {
                "level": self.level,
                "operator_names": list(self.names),
                "operator_ops": [],
                "experts": self.with_experts,
            },
            "uname": {"sysname": "Linux", "version": "#1", "release": "6.1", "machine": "x86_64"},
            "cpus": CPUS,
            "page_size": 4096,
        }

    @staticmethod
    def _clock(ts: int) -> Frame:
        return Frame(FrameKind.CLOCK, ts, np.array([ts, ts + 7, ts + 11], "<u8").tobytes())


def convert(frames: Iterable[Frame], path: Path) -> Path:
    """Makes the trace of the frames."""
    output = Output(path, force=True)
    try:
        converter = Converter(TraceWriter(output))
        last = None
        for frame in frames:
            converter.feed(frame)
            last = frame.kind
        if last != FrameKind.END:
            converter.cut()
    finally:
        output.close()
    return path


def write_capture(frames: Iterable[Frame], path: Path) -> Path:
    """Writes the frames as `record --raw` does."""
    path.write_bytes(MAGIC + b"".join(pack(frame) for frame in frames))
    return path
