"""The .pftrace file: tracks, interned data and rare packets by protobuf, the rest by template.

Bytes are appended as they come, whole packets at a time: whatever kills the recorder, the file
is a valid trace up to the last append.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from perfetto_protos import trace_pb2 as pb
from profinfer.errors import OutputError
from profinfer.output import Output
from profinfer.records.columns import I64, U64
from profinfer.trace.interned import Interned
from profinfer.trace.packets import (
    ANNOTATIONS,
    SEQUENCE_ID,
    SMALL_LIMIT,
    Column,
    Template,
    array_values,
)

Arguments = Mapping[str, object]
"""None is left out; lists, tuples and dicts may nest; arrays are of one dimension."""

_REMEMBERED = 1 << 16
"""Encoded arguments that are kept for reuse."""

_DROPPED = pb.TracePacket.DATA_LOSS_PRESENT | pb.TracePacket.DATA_LOSS_SMB_FULL
"""A ring that the producer shares with us was full."""

_THREADS_SEQUENCE_ID = SEQUENCE_ID + 1
"""Trace Processor takes a thread that a sequence describes for the one that writes it, and so for
one that exists at the time of each of its events."""

_CLOCKS = (pb.BUILTIN_CLOCK_BOOTTIME, pb.BUILTIN_CLOCK_MONOTONIC, pb.BUILTIN_CLOCK_REALTIME)


class TraceWriter:
    """Packets in, bytes appended. Times are BOOTTIME ns; tracks are named by small uuids."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._pending: list[bytes] = []
        self._interned = interned = Interned()
        self.name = interned.names.id
        """Interned id of an event name: valid in packets added after the call; so the others."""
        self.category = interned.categories.id
        self.string = interned.strings.id
        """Of an argument's string value."""
        self.correlation = interned.correlations.id
        """Of what a slice has in common with others."""
        self.kernel_symbol = interned.kernel_symbols.id
        """Of a function of the kernel."""
        self._encoded: dict[tuple[str, object], bytes] = {}
        self._tracks = 0
        packet = self._cleared()
        packet.first_packet_on_sequence = True
        for name in ANNOTATIONS:
            self._interned.annotations.id(name)
        self._add(packet)

    # Tracks

    def _new_track(self) -> tuple[pb.TracePacket, pb.TrackDescriptor]:
        self._tracks += 1
        if self._tracks >= SMALL_LIMIT:
            raise OutputError("more than two million tracks in one trace")
        return self._track_packet(self._tracks)

    def _track_packet(self, uuid: int) -> tuple[pb.TracePacket, pb.TrackDescriptor]:
        packet = self._packet()
        packet.track_descriptor.uuid = uuid
        return packet, packet.track_descriptor

    def process_track(self, pid: int, name: str, command: list[str]) -> int:
        """The target's process track; its uuid."""
        packet, track = self._new_track()
        track.process.pid = pid
        track.process.process_name = name
        track.process.cmdline.extend(command)
        track.child_ordering = pb.TrackDescriptor.EXPLICIT
        self._add(packet)
        return int(track.uuid)

    def thread_track(
        self, pid: int, tid: int, name: str, since: int | None = None, *, uuid: int = 0
    ) -> int:
        """A thread's track, which is a root (no parent); its uuid. Without a name it bears the one
        that the scheduler's events give it. `since`: when that thread began, if the trace says so:
        described before, it would be taken for another one of the same number. `uuid`: of one that
        has been described, and gets a name."""
        packet, track = self._new_track() if not uuid else self._track_packet(uuid)
        packet.trusted_packet_sequence_id = _THREADS_SEQUENCE_ID
        if since is not None:
            packet.timestamp = since
        track.thread.pid = pid
        track.thread.tid = tid
        if name:
            track.thread.thread_name = name
        self._add(packet)
        return int(track.uuid)

    def track(
        self, name: str, parent: int, rank: int = 0, description: str = "", unit: str | None = None,
        multiplier: int = 1, scale: str = "",
    ) -> int:  # fmt: skip
        """A named track below another; with a unit, a counter track, whose values are written
        divided by the multiplier, and drawn to one scale with those that name the same `scale` (in
        UIs that we do not serve: those beside it). Its uuid."""
        packet, track = self._new_track()
        track.name = name
        if parent:
            track.parent_uuid = parent
        track.sibling_order_rank = rank
        if description:
            track.description = description
        if unit is not None:
            track.counter.unit_name = unit
            if multiplier != 1:
                track.counter.unit_multiplier = multiplier
            if scale:
                track.counter.y_axis_share_key = scale
        else:
            track.child_ordering = pb.TrackDescriptor.EXPLICIT
        self._add(packet)
        return int(track.uuid)

    # Events

    def event(
        self, kind: pb.TrackEvent.Type, ts: int, track: int, name: str, category: str,
        args: Arguments,
    ) -> None:  # fmt: skip
        """A rare event of TrackEvent.Type `kind` with any arguments."""
        packet = self._event(kind, ts, track)
        event = packet.track_event
        event.name_iid = self.name(name)
        event.category_iids.append(self.category(category))
        event.MergeFromString(
            b"".join([self._annotation(k, v) for k, v in args.items() if v is not None])
        )
        self.flush_interned()
        self._add(packet)

    def end(self, ts: int, track: int) -> None:
        """Ends the innermost open slice of a track."""
        self._add(self._event(pb.TrackEvent.TYPE_SLICE_END, ts, track))

    def counter(self, ts: int, track: int, value: float) -> None:
        """A value of a counter track."""
        packet = self._event(pb.TrackEvent.TYPE_COUNTER, ts, track)
        if isinstance(value, int):
            packet.track_event.counter_value = value
        else:
            packet.track_event.double_counter_value = value
        self._add(packet)

    def rows(self, template: Template, ts: I64 | U64, **columns: Column) -> None:
        """Packets of one kind, for each time one, with a column or value per field; whatever they
        refer to must have been interned."""
        if len(ts):
            self.encoded(template.encode(ts.astype(np.uint64), **columns))

    def encoded(self, packets: bytes) -> None:
        """Packets made elsewhere; as above."""
        if packets:
            self.flush_interned()
            self._pending.append(packets)

    def clocks(self, ts: tuple[int, int, int]) -> None:
        """One reading of BOOTTIME, MONOTONIC and REALTIME, taken together, in ns."""
        packet = self._packet()
        packet.clock_snapshot.primary_trace_clock = pb.BUILTIN_CLOCK_BOOTTIME
        for clock, value in zip(_CLOCKS, ts, strict=True):
            packet.clock_snapshot.clocks.add(clock_id=clock, timestamp=value)
        self._add(packet)

    def process_tree(
        self, ts: int, processes: Sequence[tuple[int, int, str, bool]],
        threads: Sequence[tuple[int, int, str]],
    ) -> None:  # fmt: skip
        """Processes and threads as tasks.Tasks holds them, as they were at a time."""
        packet = self._packet()
        packet.timestamp = ts
        for pid, parent, name, is_comm in processes:
            process = packet.process_tree.processes.add(pid=pid, ppid=parent, cmdline=[name])
            if is_comm:
                process.cmdline_is_comm = True
        for tid, pid, name in threads:
            packet.process_tree.threads.add(tid=tid, tgid=pid, name=name)
        self._add(packet)

    def system(self, uname: Mapping[str, str], cpus: int, page_size: int) -> None:
        """The machine the trace was recorded on."""
        packet = self._packet()
        for name in ("sysname", "version", "release", "machine"):
            setattr(packet.system_info.utsname, name, uname[name])
        packet.system_info.num_cpus = cpus
        packet.system_info.page_size = page_size
        self._add(packet)

    def flush_interned(self) -> None:
        """Writes the strings that are new, ahead of the packets that use them."""
        if not self._interned.is_fresh:
            return
        packet = self._packet()
        packet.sequence_flags = pb.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
        self._interned.write(packet.interned_data)
        self._add(packet)

    # Losses

    def dropped(self) -> None:
        """Says that records are missing here. What follows can be read without what came before:
        every string so far is stated again, under its old id."""
        packet = self._cleared()
        packet.previous_packet_dropped = _DROPPED
        self._interned.restate()
        self._interned.write(packet.interned_data)
        self._add(packet)

    def stats(self, rings: Sequence[tuple[int, int, int]]) -> None:
        """Of each ring the bytes of a record, the records that went through it so far, and those
        that did not fit into it. Our sequence is fed from all of them: its own number comes after
        theirs."""
        packet = self._packet()
        for size, count, lost in rings:
            packet.trace_stats.buffer_stats.add(
                bytes_written=size * count, bytes_read=size * count,
                chunks_written=count, chunks_read=count,
                chunks_discarded=lost, trace_writer_packet_loss=lost,
            )  # fmt: skip
        packet.trace_stats.writer_stats.add(sequence_id=SEQUENCE_ID, buffer=len(rings))
        self._add(packet)

    def flush(self) -> None:
        """Appends everything added so far to the file."""
        pending, self._pending = self._pending, []
        self._output.append(b"".join(pending))

    # Packets

    @staticmethod
    def _packet() -> pb.TracePacket:
        return pb.TracePacket(trusted_packet_sequence_id=SEQUENCE_ID)

    def _cleared(self) -> pb.TracePacket:
        packet = self._packet()
        packet.sequence_flags = pb.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
        packet.trace_packet_defaults.timestamp_clock_id = pb.BUILTIN_CLOCK_BOOTTIME
        return packet

    def _event(self, kind: pb.TrackEvent.Type, ts: int, track: int) -> pb.TracePacket:
        packet = self._packet()
        packet.timestamp = ts
        packet.sequence_flags = pb.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
        packet.track_event.type = kind
        packet.track_event.track_uuid = track
        return packet

    def _annotation(self, key: str, value: object) -> bytes:
        """One argument as it stands in a TrackEvent; what repeats is made once."""
        repeats = not isinstance(value, list | dict | np.ndarray)
        encoded = self._encoded.get((key, value)) if repeats else None
        if encoded is not None:
            return encoded
        event = pb.TrackEvent()
        annotation = event.debug_annotations.add()
        annotation.name_iid = self._interned.annotations.id(key)
        self._set(annotation, value)
        encoded = event.SerializeToString()
        if repeats:
            if len(self._encoded) >= _REMEMBERED:
                self._encoded.clear()
            self._encoded[key, value] = encoded
        return encoded

    def _set(self, annotation: pb.DebugAnnotation, value: object) -> None:
        if isinstance(value, np.ndarray):
            annotation.MergeFromString(array_values(value))
        elif isinstance(value, bool):
            annotation.bool_value = value
        elif isinstance(value, int):
            if value < 1 << 63:
                annotation.int_value = value
            else:
                annotation.uint_value = value
        elif isinstance(value, float):
            annotation.double_value = value
        elif value is None:
            annotation.string_value = "none"
        elif isinstance(value, Mapping):
            for key, item in value.items():
                entry = annotation.dict_entries.add()
                entry.name = str(key)
                self._set(entry, item)
        elif isinstance(value, list | tuple):
            for item in value:
                self._set(annotation.array_values.add(), item)
        else:
            annotation.string_value = str(value)

    def _add(self, packet: pb.TracePacket) -> None:
        trace = pb.Trace()
        trace.packet.append(packet)
        self._pending.append(trace.SerializeToString())
