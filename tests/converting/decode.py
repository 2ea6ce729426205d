"""Reads a trace with perfetto's own full schema and checks the rules of the format on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

BEGIN, END, INSTANT, COUNTER = 1, 2, 3, 4
BOOTTIME = 6
"""BuiltinClock"""


class Event(NamedTuple):
    """A TrackEvent with everything interned looked up."""

    track: str
    ts: int
    type: int
    name: str
    category: str
    tensor: str
    """The description that the argument `tensor` refers to."""


class Slice(NamedTuple):
    """A begin and its end; -1 when that is missing."""

    track: str
    begin: int
    end: int
    name: str
    category: str
    tensor: str
    depth: int


@dataclass
class Decoded:
    """A whole trace."""

    tracks: dict[int, str] = field(default_factory=dict)
    """Label by uuid."""
    roles: dict[int, str] = field(default_factory=dict)
    """Names of threads that compute, by uuid."""
    events: list[Event] = field(default_factory=list)
    counters: dict[str, float] = field(default_factory=dict)
    """Last value by track."""

    def content(self) -> list[Event]:
        """What the trace says, whatever the order of its packets."""
        return sorted(self.events)

    def slices(self) -> list[Slice]:
        """Slices as Trace Processor builds them: by time, then by the order in the file."""
        open_: dict[str, list[Slice]] = {}
        done: list[Slice] = []
        for event in sorted(self.events, key=lambda e: e.ts):
            stack = open_.setdefault(event.track, [])
            if event.type == BEGIN:
                stack.append(
                    Slice(event.track, event.ts, -1, *event[3:6], len(stack))
                )  # fmt: skip
            elif event.type == END:
                assert stack, f"an end without begin: {event}"
                done.append(stack.pop()._replace(end=event.ts))
        return sorted(done + [s for stack in open_.values() for s in stack])


class _Reader:
    def __init__(self) -> None:
        self.out = Decoded()
        self.names: dict[int, str] = {}
        self.categories: dict[int, str] = {}
        self.annotations: dict[int, str] = {}
        self.strings: dict[int, str] = {}
        self.cleared = False

    def descriptor(self, d: pb.TrackDescriptor) -> None:
        if d.uuid in self.out.tracks:
            # Only of a thread whose role has become known, and once.
            assert self.out.tracks[d.uuid] == f"thread {d.thread.tid}", f"{d.uuid} described twice"
            assert d.uuid not in self.out.roles
            assert d.thread.thread_name.startswith("compute ")
            self.out.roles[d.uuid] = d.thread.thread_name
            return
        if d.HasField("thread"):
            assert not d.HasField("parent_uuid"), "a thread's track is a root"
            label = f"thread {d.thread.tid}"
        elif d.HasField("process"):
            assert not d.HasField("parent_uuid"), "a process's track is a root"
            label = f"process {d.process.pid}"
        else:
            assert d.parent_uuid in self.out.tracks, "a track's parent is described before it"
            label = f"{self.out.tracks[d.parent_uuid]}/{d.name}"
        assert label not in self.out.tracks.values(), f"two tracks {label}"
        self.out.tracks[d.uuid] = label

    def intern(self, data: pb.InternedData) -> None:
        for table, entries in (
            (self.names, data.event_names),
            (self.categories, data.event_categories),
            (self.annotations, data.debug_annotation_names),
        ):
            for entry in entries:
                assert entry.iid
                assert table.setdefault(entry.iid, entry.name) == entry.name
        for entry in data.correlation_id_str:
            text = entry.str.decode()
            assert self.strings.setdefault(entry.iid, text) == text

    def event(self, ts: int, e: pb.TrackEvent) -> None:
        tensor = self.strings[e.correlation_id_str_iid] if e.correlation_id_str_iid else ""
        for annotation in e.debug_annotations:
            assert annotation.name_iid in self.annotations
            assert not annotation.HasField("string_value_iid")
        category = ",".join(self.categories[iid] for iid in e.category_iids)
        name = self.names[e.name_iid] if e.name_iid else ""
        track = self.out.tracks[e.track_uuid]
        if e.type == COUNTER:
            self.out.counters[track] = e.double_counter_value or e.counter_value
        self.out.events.append(Event(track, ts, e.type, name, category, tensor))

    def packet(self, packet: pb.TracePacket) -> None:
        is_thread = packet.HasField("track_descriptor") and packet.track_descriptor.HasField(
            "thread"
        )
        assert packet.trusted_packet_sequence_id == (2 if is_thread else 1)
        if packet.sequence_flags & pb.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED:
            assert self.cleared == bool(packet.previous_packet_dropped), "begun once, or dropped"
            assert packet.trace_packet_defaults.timestamp_clock_id == BOOTTIME
            self.cleared = True
            for table in (self.names, self.categories, self.annotations, self.strings):
                table.clear()
        else:
            assert not packet.previous_packet_dropped
        if packet.sequence_flags & pb.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE:
            assert self.cleared
        if packet.HasField("interned_data"):
            self.intern(packet.interned_data)
        if packet.HasField("track_descriptor"):
            self.descriptor(packet.track_descriptor)
        if packet.HasField("track_event"):
            self.event(packet.timestamp, packet.track_event)


def decode(path: Path) -> Decoded:
    """The trace in the file; AssertionError or KeyError where it breaks a rule."""
    trace = pb.Trace()
    trace.ParseFromString(path.read_bytes())
    reader = _Reader()
    for packet in trace.packet:
        reader.packet(packet)
    return reader.out
