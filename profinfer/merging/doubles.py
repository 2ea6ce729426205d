"""Which ftrace events two traces of one boot both have, and whose count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import FtraceEvent

from profinfer.merging import ftrace, scan, wire
from profinfer.merging.ftrace import APART_NS, SCHED_SWITCH, Bundles, Coverage, Doubles, Switch
from profinfer.merging.groups import Group
from profinfer.merging.scan import Packets
from profinfer.merging.source import Source
from profinfer.merging.survey import Survey

_ALIKE = 0.01
"""Two recorders of the same events differ by less: at the ends, and where events were lost."""


@dataclass(frozen=True)
class Overlap:
    """Events of `poorer` that `richer` has, too: they are taken from there."""

    poorer: Survey
    richer: Survey
    doubles: Doubles
    starts: Doubles
    """First switches of `richer` that only say who was running already, which `poorer` has told."""
    why: str

    def __str__(self) -> str:
        known = FtraceEvent.DESCRIPTOR.fields_by_number
        kinds = sorted(
            known[kind].name if kind in known else f"event {kind}" for kind in self.doubles.kinds
        )
        listed = ", ".join(kinds[:6]) + (f" and {len(kinds) - 6} more" if len(kinds) > 6 else "")
        cpus = ", ".join(map(str, sorted(self.doubles.spans)))
        return (
            f"both {self.poorer.name} and {self.richer.name} have {listed} on CPU {cpus}: taken "
            f"from {self.richer.name} while it recorded, as the richer one: {self.why}"
        )


@dataclass(eq=False)
class _Input:
    """One that has ftrace events."""

    survey: Survey
    coverage: Coverage
    wins: int = 0
    """Than how many others it is richer."""


def find_doubles(groups: Sequence[Group]) -> list[Overlap]:
    """For each boot, what its poorer inputs have in common with a richer one."""
    overlaps = []
    for group in groups:
        inputs = [_Input(each, _coverage(each)) for each in group.members if each.has_ftrace]
        counts: dict[tuple[_Input, _Input], tuple[int, int]] = {}
        for a, b in combinations(inputs, 2):
            shared = _shared(a.coverage, b.coverage)
            if shared:
                counts[a, b] = (_count(a.survey, shared), _count(b.survey, shared))
                _richer(a, b, counts[a, b]).wins += 1
        # In this order of all, no event is left out everywhere.
        order = sorted(inputs, key=lambda each: each.wins, reverse=True)
        for (a, b), (of_a, of_b) in counts.items():
            turned = order.index(b) < order.index(a)
            richer, poorer = (b, a) if turned else (a, b)
            more, less = (of_b, of_a) if turned else (of_a, of_b)
            overlaps.append(
                Overlap(
                    poorer.survey, richer.survey, _doubles(poorer.coverage, richer.coverage),
                    _starts(poorer, richer),
                    f"{more:,} of these events against {less:,} while both recorded, of "
                    f"{len(richer.coverage.kinds)} kinds of events against "
                    f"{len(poorer.coverage.kinds)}",
                )
            )  # fmt: skip
    return overlaps


def _richer(a: _Input, b: _Input, counts: tuple[int, int]) -> _Input:
    """By the events that both could have; where they have as many, by the kinds of events."""
    if abs(counts[0] - counts[1]) > _ALIKE * max(counts):
        return a if counts[0] > counts[1] else b
    return a if len(a.coverage.kinds) >= len(b.coverage.kinds) else b


def _bundles(member: Survey) -> Iterator[Bundles]:
    """The ftrace events of an input."""
    source = Source(member.source.path)
    try:
        for chunk in source.chunks():
            packets = Packets(chunk)
            if packets.has(scan.FTRACE_EVENTS):
                rows = packets.column(scan.FTRACE_EVENTS).rows
                rows = rows[packets.column(scan.MACHINE_ID).value[rows] == 0]
                yield ftrace.read(packets.data, *packets.nested(scan.FTRACE_EVENTS, rows))
    except wire.DamagedError:
        raise source.damaged("its ftrace events cannot be read") from None


def _coverage(member: Survey) -> Coverage:
    coverage = Coverage()
    for bundles in _bundles(member):
        coverage.add(bundles)
    return coverage


def _count(member: Survey, doubles: Doubles) -> int:
    """How many of these events it has."""
    return sum(int(doubles.mask(bundles).sum()) for bundles in _bundles(member))


def _shared(a: Coverage, b: Coverage) -> Doubles | None:
    """The kinds of events that both have, on the CPUs and while both have any."""
    spans = {
        cpu: (max(a.spans[cpu][0], b.spans[cpu][0]), min(a.spans[cpu][1], b.spans[cpu][1]))
        for cpu in a.spans.keys() & b.spans.keys()
    }
    spans = {cpu: (first, last) for cpu, (first, last) in spans.items() if first <= last}
    kinds = frozenset(a.kinds & b.kinds)
    return Doubles(kinds, spans) if kinds and spans else None


def _doubles(poorer: Coverage, richer: Coverage) -> Doubles:
    """What is left out of the poorer one: all that the richer one was there to record."""
    cpus = poorer.spans.keys() & richer.spans.keys()
    return Doubles(
        frozenset(poorer.kinds & richer.kinds),
        {cpu: richer.spans[cpu] for cpu in cpus},
        {cpu: richer.switches[cpu] for cpu in cpus & richer.switches.keys()},
    )


def _starts(poorer: _Input, richer: _Input) -> Doubles:
    """A recorder that begins with who is running may claim that before nobody was. Left out where
    the other has known it to run, and goes on."""
    first = {
        cpu: ends[0]
        for cpu, ends in richer.coverage.switches.items()
        if cpu in poorer.coverage.spans and poorer.coverage.spans[cpu][1] >= ends[0][0]
    }
    running: dict[int, Switch] = {}
    for bundles in _bundles(poorer.survey) if first else ():
        cpu = bundles.cpu[bundles.bundle]
        for each, (ts, _) in first.items():
            mask = (cpu == each) & (bundles.kind == SCHED_SWITCH) & (bundles.ts < ts - APART_NS)
            rows = np.flatnonzero(mask)
            if len(rows):
                last = rows[bundles.ts[rows].argmax()]
                found = (int(bundles.ts[last]), int(bundles.next[last]))
                running[each] = max(running.get(each, found), found)
    same = {cpu: each for cpu, each in first.items() if cpu in running}
    same = {cpu: each for cpu, each in same.items() if running[cpu][1] == each[1]}
    return Doubles(frozenset({SCHED_SWITCH}), {}, {cpu: (each, each) for cpu, each in same.items()})
