"""A small trace with every kind of track that profinfer writes."""

from __future__ import annotations

from pathlib import Path

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TracePacket, TrackEvent

PID = 1000
START = 10_000_000_000
OPERATORS = ("attn_norm-0", "Qcur-0", "kq-0", "ffn_gate-0")
SEQUENCE = 7


class _Writer:
    def __init__(self) -> None:
        self.trace = Trace()

    def packet(self) -> TracePacket:
        packet: TracePacket = self.trace.packet.add()
        packet.trusted_packet_sequence_id = SEQUENCE
        return packet

    def track(self, uuid: int, parent: int = 0, name: str = "") -> TracePacket:
        packet = self.packet()
        packet.track_descriptor.uuid = uuid
        if parent:
            packet.track_descriptor.parent_uuid = parent
        if name:
            packet.track_descriptor.name = name
        return packet

    def event(self, uuid: int, time: int, kind: int, name: str = "") -> TrackEvent:
        packet = self.packet()
        packet.timestamp = START + time
        event: TrackEvent = packet.track_event
        event.track_uuid = uuid
        event.type = kind
        if name:
            event.name = name
        return event


def write(path: Path) -> Path:
    """Two threads that run the same four operators eight times, a counter, and a sequence."""
    writer = _Writer()
    first = writer.track(1)
    first.sequence_flags = TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
    first.track_descriptor.process.pid = PID
    first.track_descriptor.process.process_name = "llama-bench"
    for thread in range(2):
        descriptor = writer.track(10 + thread).track_descriptor.thread
        descriptor.pid, descriptor.tid = PID, PID + thread
        descriptor.thread_name = "llama-bench" if thread == 0 else f"worker-{thread}"
    writer.track(20, 1, "lost records").track_descriptor.counter.unit_name = "records"
    writer.track(30, 1, "sequence 0")

    token = 1_000_000
    for index in range(8):
        start = index * token
        writer.event(30, start, TrackEvent.TYPE_SLICE_BEGIN, "prefill" if index < 2 else "decode")
        writer.event(20, start, TrackEvent.TYPE_COUNTER).counter_value = index % 3
        for thread in range(2):
            uuid = 10 + thread
            writer.event(uuid, start, TrackEvent.TYPE_SLICE_BEGIN, "graph")
            for place, name in enumerate(OPERATORS):
                begin = start + 10_000 + place * 230_000
                event = writer.event(uuid, begin, TrackEvent.TYPE_SLICE_BEGIN, name)
                event.categories.append("operator")
                for key, value in (("op", "MUL_MAT"), ("shape", "[2048, 1]"), ("type", "f32")):
                    note = event.debug_annotations.add()
                    note.name, note.string_value = key, value
                writer.event(uuid, begin + 200_000, TrackEvent.TYPE_SLICE_END)
            writer.event(uuid, start + 950_000, TrackEvent.TYPE_SLICE_END)
        writer.event(30, start + 990_000, TrackEvent.TYPE_SLICE_END)
    path.write_bytes(writer.trace.SerializeToString())
    return path
