"""What stands before and after the inputs' packets in a merged trace."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import (
    TracePacket,
    TraceStats,
    TrackEvent,
)

from profinfer.merging.groups import Group
from profinfer.merging.numbering import Numbering
from profinfer.merging.survey import BOOTTIME, MONOTONIC, Snapshot, Survey
from profinfer.trace.varints import field

_TRACK = 0x70726F66696E6572
"""Our track's uuid; a merged trace that is merged again has it already, which is right."""

_TOGETHER_NS = 1_000_000


def head(groups: Sequence[Group], numbering: Numbering) -> bytes:
    """The clocks of all machines, and what was merged."""
    sequence = numbering.new_sequence()
    packets = [TracePacket(first_packet_on_sequence=True)]
    for group in groups:
        if group.machine:
            packets.append(_clock_sync(group))
        packets += _snapshots(group)
    started = _started(groups)
    if started is not None:
        packets.append(TracePacket(timestamp=started))
        packets[-1].service_event.tracing_started = True
    packets += _notes(groups)
    for packet in packets:
        packet.trusted_packet_sequence_id = sequence
    return _encoded(packets)


def _snapshots(group: Group) -> Iterable[Any]:
    """The clock snapshots of a boot, in order of time for each set of clocks: Trace Processor
    believes no BOOTTIME before the last one."""
    sets: dict[tuple[int, ...], list[Snapshot]] = {}
    for snapshot in group.snapshots:
        sets.setdefault(tuple(snapshot), []).append(snapshot)
    for clocks, snapshots in sets.items():
        key = next((c for c in (BOOTTIME, MONOTONIC) if c in clocks), clocks[0])
        last: Snapshot = {}
        for snapshot in sorted(snapshots, key=lambda s: s[key]):
            # Of two looks at one time, each clock's jitter may make one of them run backwards.
            together = last and snapshot[key] - last[key] < _TOGETHER_NS
            if together and any(snapshot[clock] < last[clock] for clock in clocks):
                continue
            last = snapshot
            packet = TracePacket()
            if group.machine:
                packet.machine_id = group.machine
            packet.clock_snapshot.primary_trace_clock = BOOTTIME
            for clock, value in snapshot.items():
                packet.clock_snapshot.clocks.add(clock_id=clock, timestamp=value)
            yield packet


def _clock_sync(group: Group) -> Any:
    """Relates a machine's BOOTTIME to the host's. Trace Processor takes the mean over pairs of
    readings less than 30 s apart: here, one pair twice."""
    packet = TracePacket(machine_id=group.machine)
    theirs = max(group.first, 1, 1 - group.shift.ns)
    for _ in range(2):
        synced = packet.remote_clock_sync.synced_clocks.add()
        synced.client_clocks.clocks.add(clock_id=BOOTTIME, timestamp=theirs)
        synced.host_clocks.clocks.add(clock_id=BOOTTIME, timestamp=theirs + group.shift.ns)
    return packet


def _started(groups: Sequence[Group]) -> int | None:
    """When the first of several recordings with ftrace events began, in the host's BOOTTIME ns;
    None when that is not known of all. Older ftrace events do not count."""
    starts = [
        None if member.started is None else member.started + group.shift.ns
        for group in groups
        for member in group.members
        if member.has_ftrace
    ]
    known = [start for start in starts if start is not None]
    return min(known) if known and len(known) == len(starts) else None


def _notes(groups: Sequence[Group]) -> list[Any]:
    """What was merged, and how it was placed in time, for whoever reads the trace."""
    descriptor = TracePacket()
    descriptor.track_descriptor.uuid = _TRACK
    descriptor.track_descriptor.name = "ProfInfer merge"
    packets = [descriptor]
    for group in groups:
        for member in group.members:
            packet = TracePacket(timestamp=(member.first or 0) + group.shift.ns)
            packet.timestamp_clock_id = BOOTTIME
            event = packet.track_event
            event.type = TrackEvent.TYPE_INSTANT
            event.track_uuid = _TRACK
            event.name = member.source.path.name
            event.categories.append("merge")
            event.debug_annotations.add(name="machine", int_value=group.machine)
            event.debug_annotations.add(name="placed", string_value=group.why[member.name])
            event.debug_annotations.add(name="shift_ns", int_value=group.shift.ns)
            event.debug_annotations.add(name="off_ns", int_value=group.shift.off_ns)
            event.debug_annotations.add(name="cut", bool_value=member.source.cut)
            packets.append(packet)
    return packets


def tail(groups: Sequence[Group], numbering: Numbering) -> bytes:
    """The losses of all inputs: each buffer keeps its own line, after those of the inputs before.

    Trace Processor counts by a buffer's place in the list, and a later list replaces an earlier
    one: every machine's packet has all buffers.
    """
    total = TraceStats()
    writers: dict[int, list[Any]] = {}
    for group in groups:
        for member in group.members:
            _add_member(total, writers, group, member, numbering)
    sequence = numbering.new_sequence()
    packets = []
    for machine in sorted(writers):
        packet = TracePacket(trace_stats=total, trusted_packet_sequence_id=sequence)
        if machine:
            packet.machine_id = machine
        packet.trace_stats.writer_stats.extend(writers[machine])
        total.ClearField("final_flush_outcome")  # is counted, not replaced
        packets.append(packet)
    return _encoded(packets)


def _add_member(
    total: Any, writers: dict[int, list[Any]], group: Group, member: Survey, numbering: Numbering
) -> None:
    if not member.stats:
        return
    base = len(total.buffer_stats)
    main = member.stats[min(member.stats)]
    _add_numbers(total, main)
    total.final_flush_outcome = max(total.final_flush_outcome, main.final_flush_outcome)
    if main.HasField("filter_stats"):
        discarded = [*total.filter_stats.bytes_discarded_per_buffer]
        _add_numbers(total.filter_stats, main.filter_stats)
        discarded += [0] * (base - len(discarded))
        total.filter_stats.bytes_discarded_per_buffer[:] = [
            *discarded, *main.filter_stats.bytes_discarded_per_buffer
        ]  # fmt: skip
    every = [stats for stats in member.stats.values()]
    total.buffer_stats.extend(max((stats.buffer_stats for stats in every), key=len))
    sequences = numbering.inputs[member.name].sequences
    for machine, stats in member.stats.items():
        mine = writers.setdefault(machine or group.machine, [])
        for writer in stats.writer_stats:
            number = sequences.get(writer.sequence_id, writer.sequence_id)
            mine.append(TraceStats.WriterStats(sequence_id=number, buffer=base + writer.buffer))
            # A writer's buffer may be none of those that are listed: nobody else's either.
            while len(total.buffer_stats) <= base + writer.buffer:
                total.buffer_stats.add()


def _add_numbers(total: Any, part: Any) -> None:
    """Sums what a message holds in plain numbers."""
    for descriptor, value in part.ListFields():
        if descriptor.name != "final_flush_outcome" and isinstance(value, int):
            setattr(total, descriptor.name, getattr(total, descriptor.name) + value)


def _encoded(packets: Iterable[Any]) -> bytes:
    return b"".join(field(1, packet.SerializeToString()) for packet in packets)
