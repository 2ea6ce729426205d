"""Packets of which there are few, parsed and written anew for the merged trace."""

from __future__ import annotations

from typing import Any

from profinfer.merging.numbering import Numbers
from profinfer.merging.own import renumber_interned
from profinfer.merging.survey import BOOTTIME, Survey, stays
from profinfer.trace.varints import field

_LIFECYCLE = ("tracing_started", "all_data_sources_started", "tracing_disabled",
              "all_data_sources_flushed", "read_tracing_buffers_completed")  # fmt: skip
"""Service events about one recording. From the last two Trace Processor concludes that nothing
older follows, from the first that older ftrace events do not count."""

_STATE = ("interned_data", "trace_packet_defaults", "sequence_flags", "incremental_state_cleared",
          "previous_packet_dropped", "first_packet_on_sequence")  # fmt: skip
"""What a packet may say of its sequence, whatever else is in it."""


class Editor:
    """Edits the packets of one input."""

    def __init__(self, survey: Survey, numbers: Numbers, machine: int) -> None:
        self._survey = survey
        self._numbers = numbers
        self._machine = machine
        self.adds_clock = bool(machine) or survey.clock != BOOTTIME
        """Whether times without a clock must say that they are the input's own."""

    def edit(self, packet: Any) -> bytes:
        """The packet as a field of the merged trace; b"" when nothing is left of it."""
        data = packet.WhichOneof("data")
        sequence = packet.trusted_packet_sequence_id
        shifts = self._numbers.shifts.get(sequence, {})
        if data == "clock_snapshot" and not packet.machine_id:
            if stays(packet.clock_snapshot):
                packet.clock_snapshot.ClearField("primary_trace_clock")
            else:
                packet.ClearField(data)  # all inputs' stand before everything else
        elif data == "service_event":
            if any(getattr(packet.service_event, name) for name in _LIFECYCLE):
                packet.ClearField(data)
        elif data == "trace_stats":
            packet.ClearField(data)  # all inputs' stand at the end
        elif data == "track_descriptor":
            self._edit_descriptor(packet)
        elif data == "trace_provenance":
            for buffer in packet.trace_provenance.buffers:
                for each in buffer.sequences:
                    each.id = self._numbers.sequences.get(each.id, each.id)
        elif data == "track_event":
            self._edit_tracks(packet.track_event)
            if shifts:
                self._survey.recordings[sequence].renumber(packet.track_event, shifts)
        if packet.HasField("trace_packet_defaults"):
            self._edit_tracks(packet.trace_packet_defaults.track_event_defaults)
        if packet.HasField("interned_data") and shifts:
            renumber_interned(packet.interned_data, shifts)
        if data and packet.WhichOneof("data") is None:
            if not any(packet.HasField(name) for name in _STATE):
                return b""
            packet.ClearField("timestamp")
        return field(1, self.finish(packet))

    def finish(self, packet: Any) -> bytes:
        """The packet's content with what every packet of this input gets: see Rewriter."""
        sequence = packet.trusted_packet_sequence_id
        if (
            self.adds_clock and packet.HasField("timestamp")
            and not packet.HasField("timestamp_clock_id") and sequence not in self._survey.clocked
            and packet.WhichOneof("data") not in ("chrome_events", "chrome_metadata")
        ):  # fmt: skip
            packet.timestamp_clock_id = self._survey.clock
        if sequence in self._numbers.sequences:
            packet.trusted_packet_sequence_id = self._numbers.sequences[sequence]
        if self._machine:
            packet.machine_id = self._machine
        content: bytes = packet.SerializeToString()
        return content

    def _edit_descriptor(self, packet: Any) -> None:
        track = packet.track_descriptor
        if track.uuid in self._numbers.described:
            packet.ClearField("track_descriptor")
            return
        recording = self._survey.recordings.get(packet.trusted_packet_sequence_id)
        if recording and not packet.HasField("timestamp"):
            # Without one Trace Processor takes the latest time in all that stands before; and a
            # thread that is described before a system trace lets it begin would be two.
            packet.timestamp = self._survey.firsts.get(track.uuid, recording.start)
            packet.timestamp_clock_id = BOOTTIME
        if recording and track.HasField("thread"):
            # On the events' own sequence it would be taken for the thread that writes them all.
            packet.trusted_packet_sequence_id = self._numbers.descriptors
        track.uuid = self._uuid(track.uuid)
        if track.HasField("parent_uuid"):
            track.parent_uuid = self._uuid(track.parent_uuid)

    def _edit_tracks(self, event: Any) -> None:
        if event.HasField("track_uuid"):
            event.track_uuid = self._uuid(event.track_uuid)
        for extra in (event.extra_counter_track_uuids, event.extra_double_counter_track_uuids):
            extra[:] = [self._uuid(uuid) for uuid in extra]

    def _uuid(self, uuid: int) -> int:
        return self._numbers.tracks.get(uuid, uuid)
