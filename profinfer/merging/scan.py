"""Which packet of a chunk has which field, and where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from profinfer.merging import wire
from profinfer.merging.source import Chunk

# TracePacket's field numbers (protos/perfetto/trace/trace_packet.proto).
FTRACE_EVENTS = 1
CHROME_EVENTS = 5
CLOCK_SNAPSHOT = 6
TIMESTAMP = 8
SEQUENCE_ID = 10
TRACK_EVENT = 11
INTERNED_DATA = 12
TRACE_STATS = 35
SYSTEM_INFO = 45
COMPRESSED_PACKETS = 50
CHROME_METADATA = 51
TIMESTAMP_CLOCK_ID = 58
PACKET_DEFAULTS = 59
TRACK_DESCRIPTOR = 60
SERVICE_EVENT = 69
MACHINE_ID = 98
REMOTE_CLOCK_SYNC = 107
TRACE_PROVENANCE = 124

_WANTED = (
    FTRACE_EVENTS, CHROME_EVENTS, CLOCK_SNAPSHOT, TIMESTAMP, SEQUENCE_ID, TRACK_EVENT,
    INTERNED_DATA, TRACE_STATS, SYSTEM_INFO, COMPRESSED_PACKETS, CHROME_METADATA,
    TIMESTAMP_CLOCK_ID, PACKET_DEFAULTS, TRACK_DESCRIPTOR, SERVICE_EVENT, MACHINE_ID,
    REMOTE_CLOCK_SYNC, TRACE_PROVENANCE,
)  # fmt: skip
_LIMIT = max(_WANTED) + 1


@dataclass(frozen=True)
class Column:
    """One field of every packet; where a packet has it twice, the last, which is the one that
    counts. Positions are 0 where it is absent."""

    value: wire.Values
    tag: wire.Index
    at: wire.Index
    stop: wire.Index

    @property
    def present(self) -> wire.Mask:
        """Which packets have it."""
        return self.at > 0

    @property
    def rows(self) -> wire.Index:
        """The packets that have it."""
        return np.flatnonzero(self.at)


class Packets:
    """A chunk with the fields of its packets."""

    def __init__(self, chunk: Chunk) -> None:
        """wire.DamagedError for the first packet that is none."""
        self.chunk = chunk
        self.data = chunk.data
        self.count = len(chunk.head)
        self._columns: dict[int, Column] = {}
        for step in wire.walk(chunk.data, chunk.start, chunk.end):
            seen = np.bincount(np.minimum(step.number, _LIMIT), minlength=_LIMIT)
            for number in _WANTED:
                if seen[number]:
                    self._store(number, step, step.number == number)
        if COMPRESSED_PACKETS in self._columns:
            raise wire.DamagedError(int(self.column(COMPRESSED_PACKETS).rows[0]))

    def _store(self, number: int, step: wire.Step, mask: wire.Mask) -> None:
        column = self._columns.get(number)
        if column is None:
            column = self._columns[number] = self._absent()
        rows = step.rows[mask]
        column.value[rows] = step.value[mask]
        column.tag[rows] = step.tag[mask]
        column.at[rows] = step.at[mask]
        column.stop[rows] = step.stop[mask]

    def _absent(self) -> Column:
        values = np.zeros(self.count, np.uint64)
        return Column(values, *(np.zeros(self.count, np.int64) for _ in range(3)))

    def has(self, number: int) -> bool:
        """Whether any packet has the field."""
        return number in self._columns

    def column(self, number: int) -> Column:
        """A field of every packet; of those that `_WANTED` lists."""
        return self._columns.get(number) or self._absent()

    def content(self, number: int, row: int) -> bytes:
        """The content of a length-delimited field of one packet."""
        column = self._columns[number]
        return self.data[column.at[row] : column.stop[row]].tobytes()

    def packet(self, row: int) -> bytes:
        """One packet's content."""
        return self.data[self.chunk.start[row] : self.chunk.end[row]].tobytes()

    def whole(self, first: int, last: int) -> bytes:
        """The packets [first, last) as they stand in the trace."""
        return self.data[self.chunk.head[first] : self.chunk.end[last - 1]].tobytes()

    def nested(self, number: int, rows: wire.Index) -> tuple[wire.Index, wire.Index]:
        """Begin and end of a field's content in the packets that `rows` names."""
        column = self.column(number)
        return column.at[rows], column.stop[rows]
