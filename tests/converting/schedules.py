"""Random schedules of an engine, with what a perfect trace of them would say."""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hypothesis import strategies as st

from profinfer.records.dtypes import Kind
from tests.captures import BASE, CONTEXT, CPUS, MAIN, Capture, Operator, Run, Shape, T

SECOND = 200
"""The thread that computes graphs of a second context."""


class Span(NamedTuple):
    """Something with a begin and an end, in BOOTTIME ns."""

    tid: int
    begin: int
    end: int
    name: str = ""


@dataclass(repr=False)
class Schedule:
    """A capture and the truth about it."""

    capture: Capture = field(default_factory=Capture)
    operators: list[Span] = field(default_factory=list)
    waits: list[Span] = field(default_factory=list)
    """After operators that are not the last of their graph."""
    graphs: list[Span] = field(default_factory=list)
    ubatches: list[Span] = field(default_factory=list)
    last_operators: set[tuple[int, int]] = field(default_factory=set)
    """(tid, begin) of the last one of each graph: whether it waits afterwards is a guess."""

    def __repr__(self) -> str:
        return repr(self.capture)

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(repr(self))  # hypothesis would print every field


class _Engine:
    """One llama_context: the thread that computes its graphs, its workers, its tensors."""

    def __init__(self, rng: random.Random, schedule: Schedule, head: int, threads: int) -> None:
        self.rng = rng
        self.schedule = schedule
        self.head = head
        self.tids = [head + i for i in range(threads)]
        self.shapes: dict[int, tuple[Shape, list[T]]] = {}
        self.final_barrier = rng.random() < 0.5
        self.inside = {name: rng.randrange(3) for name in "abcdefgh"}
        self.now = 1000 * rng.randrange(1, 5)

    def step(self) -> int:
        self.now += self.rng.choice((1, 2, 50, 1000, 40_000))
        return self.now

    def tensors(self, variant: int, nodes: int) -> list[T]:
        """The same addresses whatever the variant: engines build graph after graph in one place."""
        first = self.head << 20
        out = [T(f"w-{self.head}", type="q4_K", ne=(256, 2, 1, 1), address=first)]
        for i in range(nodes):
            op = "MUL_MAT" if i in (0, nodes - 1) else self.rng.choice(("MUL_MAT", "ADD", "VIEW"))
            name = f"{'abcdefgh'[i]}-{variant}"
            sources = (out[0].name, out[-1].name)
            out.append(
                T(name, op, sources, ne=(variant + 1, 1, 1, 1), address=first + 512 * i + 64)
            )
        return out

    def graph(self, variant: int, nodes: int) -> None:
        if variant not in self.shapes:
            tensors = self.tensors(variant, nodes)
            shape = self.schedule.capture.structure(
                self.step(), tensors, tid=self.head, cgraph=self.head + variant
            )
            self.shapes[variant] = shape, [t for t in tensors if t.op not in ("NONE", "VIEW")]
            self.now += 2 * len(tensors) + 2
        shape, tensors = self.shapes[variant]
        begin = self.step()
        threads: dict[int, list[Operator]] = {tid: [] for tid in self.tids}
        times = dict.fromkeys(self.tids, begin)
        for tensor in tensors:
            last = tensor is tensors[-1]
            for tid in self.tids:
                times[tid] += self.rng.choice((1, 3, 700, 20_000))
                operator: list[Any] = [tensor.name, times[tid]]
                for _ in range(self.inside[tensor.name[0]]):
                    times[tid] += self.rng.choice((1, 40, 5000))
                    operator.append(times[tid])
                if not last or self.final_barrier:
                    times[tid] += self.rng.choice((1, 40, 5000))
                    operator.append(times[tid])
                threads[tid].append(tuple(operator))
            if not last:
                together = max(times.values())
                times = {tid: together + self.rng.choice((0, 2, 90)) for tid in self.tids}
        self.now = max(times.values()) + self.rng.choice((1, 30, 4000))
        self.schedule.capture.graph(shape, begin, self.now, threads, tid=self.head)
        self.schedule.graphs.append(Span(self.head, BASE + begin, BASE + self.now))
        for tid, operators in threads.items():
            ends = [o[1] for o in operators[1:]] + [self.now]
            for i, (ran, end) in enumerate(zip(operators, ends, strict=True)):
                span = Span(tid, BASE + ran[1], BASE + end, ran[0])
                self.schedule.operators.append(span)
                if i == len(operators) - 1:
                    self.schedule.last_operators.add((tid, span.begin))
                else:
                    wait = Span(tid, BASE + ran[-1], BASE + end, "barrier")
                    self.schedule.waits.append(wait)

    def ubatch(self, sizes: list[tuple[int, int]], runs: list[Run]) -> None:
        begin = self.step()
        for variant, nodes in sizes:
            self.graph(variant, nodes)
        end = self.step()
        context = CONTEXT + self.head
        self.schedule.capture.ubatch(begin, end, runs, tid=self.head, context=context)
        self.schedule.ubatches.append(Span(self.head, BASE + begin, BASE + end))


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """Engines with some threads, ubatches with some graphs, graphs with some nodes."""
    rng = draw(st.randoms(use_true_random=False))
    schedule = Schedule()
    every = draw(st.sampled_from((0, 1, 700, 50_000)))
    schedule.capture.cpu = _migrating(every)
    heads = [MAIN, SECOND][: draw(st.integers(1, 2))]
    for head in heads:
        engine = _Engine(rng, schedule, head, draw(st.integers(1, 4)))
        nodes = {variant: draw(st.integers(3, 8)) for variant in range(3)}
        position = 0
        for _ in range(draw(st.integers(1, 3))):
            graphs = draw(st.lists(st.integers(0, 2), max_size=3))
            tokens = draw(st.integers(1, 5))
            sequences = draw(st.integers(0, 2))
            runs = [(s, position, tokens, 1, 1) for s in range(sequences)]
            position += tokens
            engine.ubatch([(variant, nodes[variant]) for variant in graphs], runs)
    return schedule


def _migrating(every: int) -> Any:
    """A CPU for a thread at a time: another one every so many ns."""

    def cpu(tid: int, ts: int) -> int:
        return zlib.crc32(f"{tid} {ts // every}".encode()) % CPUS if every else tid % CPUS

    return cpu


@st.composite
def drains(draw: st.DrawFn, schedule: Schedule) -> list[tuple[int, int]]:
    """When the recorder looked: (horizon, time)."""
    end = schedule.capture.end()
    stamps = sorted(row.ts for row in schedule.capture.records)
    chosen = draw(st.lists(st.sampled_from(stamps), max_size=12)) if stamps else []
    out: list[tuple[int, int]] = []
    for time in sorted(chosen):
        time += draw(st.integers(0, 1))
        hold = draw(st.sampled_from((0, 1, 1000, 200_000)))
        horizon = max(time - hold, out[-1][0] if out else 0)
        out.append((horizon, min(time, end)))
    return out


@st.composite
def lossy(draw: st.DrawFn) -> Schedule:
    """A schedule some of whose records did not fit into the rings."""
    schedule = draw(schedules())
    capture = schedule.capture
    stamps = sorted({(row.ts, row.tid, row.kind) for row in capture.records})
    gone = set[tuple[int, int, int]]()
    hot = [s for s in stamps if s[2] != Kind.NODE]
    control = [s for s in hot if s[2] >= Kind.GRAPH_BEGIN]
    if hot:
        gone |= draw(st.sets(st.sampled_from(hot), max_size=4))
        first = draw(st.integers(0, len(hot) - 1))
        gone |= set(hot[first : first + draw(st.integers(0, 40))])
    if control:
        gone |= draw(st.sets(st.sampled_from(control), max_size=4))
    capture.lose(lambda row: (row.ts, row.tid, row.kind) in gone)
    return schedule
