"""What one pass over an input finds out: who writes in it, by which clocks, and what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TracePacket

from profinfer.merging import scan, wire
from profinfer.merging.own import Recording, events, is_own
from profinfer.merging.scan import Packets
from profinfer.merging.source import Source

BOOTTIME, MONOTONIC, REALTIME = 6, 3, 1

Snapshot = dict[int, int]
"""Clock id to ns, all read at one time."""


_RARE = (
    scan.CLOCK_SNAPSHOT, scan.SERVICE_EVENT, scan.TRACK_DESCRIPTOR, scan.PACKET_DEFAULTS,
    scan.SYSTEM_INFO, scan.TRACE_STATS,
)  # fmt: skip


@dataclass(frozen=True)
class Track:
    """What a track's descriptor says that it shows: a process, a thread of one, or neither."""

    machine: int = 0
    pid: int | None = None
    tid: int | None = None


@dataclass
class Survey:
    """What has been found in one input."""

    source: Source
    packets: int = 0
    sequences: set[int] = field(default_factory=set)
    machines: set[int] = field(default_factory=set)
    """Ids of other machines in it, as a multi-machine or merged trace has them."""
    clock: int = BOOTTIME
    """Of packets that name none."""
    clocked: dict[int, int] = field(default_factory=dict)
    """Sequences whose packets have a clock by default, and which."""
    snapshots: list[Snapshot] = field(default_factory=list)
    system: str = ""
    """The kernel's name, release, version and machine."""
    first: int | None = None
    """First and last time of a packet in BOOTTIME ns."""
    last: int | None = None
    started: int | None = None
    """When the tracing service began, in BOOTTIME ns."""
    tracks: dict[int, Track] = field(default_factory=dict)
    writers: set[int] = field(default_factory=set)
    """Sequences with interned data."""
    recordings: dict[int, Recording] = field(default_factory=dict)
    """ProfInfer's own, by their sequence."""
    firsts: dict[int, int] = field(default_factory=dict)
    """When the first event on each of their tracks was."""
    stats: dict[int, Any] = field(default_factory=dict)
    """The last TraceStats of each machine (0: its own)."""
    has_ftrace: bool = False

    @property
    def name(self) -> str:
        """How messages call it."""
        return str(self.source.path)


def survey(source: Source) -> Survey:
    """Reads the whole input. TraceError when it cannot be read or is damaged."""
    found = Survey(source)
    try:
        for chunk in source.chunks():
            _add(found, Packets(chunk))
    except wire.DamagedError:
        raise source.damaged("it holds bytes that are no packet") from None
    return found


def parse(packets: Packets, row: int) -> Any:
    """One packet as an object: for those of which there are few."""
    try:
        return TracePacket.FromString(packets.packet(row))
    except ValueError:  # protobuf's DecodeError is one
        raise wire.DamagedError(row) from None


def _add(found: Survey, packets: Packets) -> None:
    found.packets += packets.count
    sequence = packets.column(scan.SEQUENCE_ID).value
    machine = packets.column(scan.MACHINE_ID).value
    found.sequences.update(np.unique(sequence).tolist())
    found.machines.update(np.unique(machine[machine > 0]).tolist())
    found.has_ftrace |= packets.has(scan.FTRACE_EVENTS)
    mask = np.zeros(packets.count, np.bool_)
    for number in _RARE:
        if packets.has(number):
            mask |= packets.column(number).present
    if packets.has(scan.INTERNED_DATA):
        # Of every sequence the first, to see whether it is ours: then all.
        known = np.isin(sequence, [s for s in found.writers if s not in found.recordings])
        mask |= packets.column(scan.INTERNED_DATA).present & ~known
    for row in np.flatnonzero(mask).tolist():
        _add_packet(found, parse(packets, row))
    if found.recordings:
        own = np.isin(sequence, list(found.recordings))
        _add_own(found, packets, np.flatnonzero(own))
    _add_times(found, packets)


def _add_own(found: Survey, packets: Packets, rows: wire.Index) -> None:
    own = events(packets, rows)
    for row in own.rows[own.annotated].tolist():
        packet = parse(packets, row)
        found.recordings[packet.trusted_packet_sequence_id].add_event(packet)
    times = packets.column(scan.TIMESTAMP).value[own.rows]
    order = np.argsort(times, kind="stable")
    tracks, firsts = np.unique(own.track[order], return_index=True)
    for uuid, first in zip(tracks.tolist(), times[order][firsts].tolist(), strict=True):
        found.firsts[uuid] = min(first, found.firsts.get(uuid, first))


def _add_packet(found: Survey, packet: Any) -> None:
    sequence = packet.trusted_packet_sequence_id
    if packet.HasField("interned_data"):
        if sequence not in found.writers:
            found.writers.add(sequence)
            if is_own(packet.interned_data):
                found.recordings[sequence] = Recording()
        if sequence in found.recordings:
            found.recordings[sequence].add_interned(packet.interned_data)
    if packet.HasField("trace_stats"):
        found.stats[packet.machine_id] = packet.trace_stats
    if packet.HasField("track_descriptor"):
        track = packet.track_descriptor
        pid = track.thread.pid if track.HasField("thread") else track.process.pid
        tid = track.thread.tid if track.HasField("thread") else None
        is_root = track.HasField("thread") or track.HasField("process")
        found.tracks[track.uuid] = Track(packet.machine_id, pid, tid) if is_root else Track()
    if packet.trace_packet_defaults.timestamp_clock_id:
        found.clocked[sequence] = packet.trace_packet_defaults.timestamp_clock_id
    if packet.machine_id:
        return
    if packet.HasField("clock_snapshot"):
        _add_snapshot(found, packet.clock_snapshot)
    if packet.HasField("system_info"):
        names = packet.system_info.utsname
        found.system = " ".join((names.sysname, names.release, names.version, names.machine))
    if packet.service_event.tracing_started:
        found.started = packet.timestamp


def _add_snapshot(found: Survey, snapshot: Any) -> None:
    if snapshot.primary_trace_clock:
        found.clock = snapshot.primary_trace_clock
    if not stays(snapshot):
        found.snapshots.append({each.clock_id: each.timestamp for each in snapshot.clocks})


def stays(snapshot: Any) -> bool:
    """Whether a ClockSnapshot must stay where it is: it has clocks of its writer's own."""
    return any(each.clock_id >= 64 or each.unit_multiplier_ns for each in snapshot.clocks)


def _add_times(found: Survey, packets: Packets) -> None:
    column = packets.column(scan.TIMESTAMP)
    clock = packets.column(scan.TIMESTAMP_CLOCK_ID).value
    sequence = packets.column(scan.SEQUENCE_ID).value
    other = [s for s, clock in found.clocked.items() if clock != BOOTTIME]
    default = np.where(np.isin(sequence, other), np.uint64(0), np.uint64(found.clock))
    boot = np.where(clock > 0, clock, default) == BOOTTIME
    boot &= column.present & (packets.column(scan.MACHINE_ID).value == 0)
    if boot.any():
        times = column.value[boot]
        first, last = int(times.min()), int(times.max())
        found.first = first if found.first is None else min(first, found.first)
        found.last = last if found.last is None else max(last, found.last)
