"""Which ftrace events two traces of one boot both have, and whose count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import FtraceEvent

from profinfer.merging import ftrace, scan, wire
from profinfer.merging.ftrace import Coverage, Doubles
from profinfer.merging.groups import Group
from profinfer.merging.scan import Packets
from profinfer.merging.source import Source
from profinfer.merging.survey import Survey


@dataclass(frozen=True)
class Overlap:
    """Events of `poorer` that `richer` has, too: they are taken from there."""

    poorer: Survey
    richer: Survey
    doubles: Doubles
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
            f"from {self.richer.name} while it recorded, as the richer one ({self.why})"
        )


def find_doubles(groups: Sequence[Group]) -> list[Overlap]:
    """For each boot, what its poorer inputs have in common with a richer one."""
    overlaps = []
    for group in groups:
        members = [member for member in group.members if member.has_ftrace]
        if len(members) < 2:
            continue
        found = [(_coverage(member), member) for member in members]
        found.sort(key=lambda pair: pair[0].richness, reverse=True)
        for i, (poorer, member) in enumerate(found):
            for richer, other in found[:i]:
                doubles = _common(poorer, richer)
                if doubles:
                    overlaps.append(Overlap(member, other, doubles, _reason(poorer, richer)))
    return overlaps


def _coverage(member: Survey) -> Coverage:
    """Reads the ftrace events of an input."""
    coverage = Coverage()
    source = Source(member.source.path)
    try:
        for chunk in source.chunks():
            packets = Packets(chunk)
            if packets.has(scan.FTRACE_EVENTS):
                rows = packets.column(scan.FTRACE_EVENTS).rows
                rows = rows[packets.column(scan.MACHINE_ID).value[rows] == 0]
                nested = packets.nested(scan.FTRACE_EVENTS, rows)
                coverage.add(ftrace.read(packets.data, *nested))
    except wire.DamagedError:
        raise source.damaged("its ftrace events cannot be read") from None
    return coverage


def _common(poorer: Coverage, richer: Coverage) -> Doubles | None:
    kinds = poorer.kinds & richer.kinds
    spans = {
        cpu: span
        for cpu, span in richer.spans.items()
        if cpu in poorer.spans
        and poorer.spans[cpu][0] <= span[1]
        and span[0] <= poorer.spans[cpu][1]
    }
    return Doubles(frozenset(kinds), spans) if kinds and spans else None


def _reason(poorer: Coverage, richer: Coverage) -> str:
    if len(richer.kinds) != len(poorer.kinds):
        return f"{len(richer.kinds)} kinds of events against {len(poorer.kinds)}"
    rates = [each.richness[1] * 1e9 for each in (richer, poorer)]
    return f"{rates[0]:.0f} events per second and CPU against {rates[1]:.0f}"
