"""The second pass: an input's packets as they stand in the merged trace.

Nearly all packets are changed by the column: in place (a varint may be padded), or by fields that
are put after theirs (the last one counts). The few others go through `edit`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TracePacket

from profinfer.merging import ftrace, scan, wire
from profinfer.merging.edit import Editor
from profinfer.merging.ftrace import Doubles
from profinfer.merging.numbering import Numbers
from profinfer.merging.own import events
from profinfer.merging.scan import Packets
from profinfer.merging.source import Chunk
from profinfer.merging.survey import Survey, parse
from profinfer.trace.varints import field, sizes, varint

_RARE = (scan.CLOCK_SNAPSHOT, scan.SERVICE_EVENT, scan.TRACE_STATS, scan.TRACK_DESCRIPTOR)
_TRACK_FIELDS = (11, 31, 45)
"""Of TrackEvent: track_uuid, extra_counter_track_uuids, extra_double_counter_track_uuids."""

Suffixes = tuple[npt.NDArray[np.uint8], wire.Index]
"""Bytes to put after each packet's fields (rows, padded), and how many of them."""


class Rewriter:
    """Rewrites one input, chunk by chunk, in order.

    Every packet gets a sequence id that no other writer has; one of another machine also that
    machine's id and, where it names no clock, its own.
    """

    def __init__(
        self, survey: Survey, numbers: Numbers, machine: int, doubles: Sequence[Doubles],
        *, several_ftrace: bool,
    ) -> None:  # fmt: skip
        """Ftrace events among `doubles` are left out. `several_ftrace`: other inputs have some."""
        self._survey = survey
        self._numbers = numbers
        self._machine = machine
        self._doubles = doubles
        self._several_ftrace = several_ftrace
        self._editor = Editor(survey, numbers, machine)
        self.left_out = 0
        """Ftrace events that were among the doubles."""

    def rewrite(self, chunk: Chunk) -> bytes:
        """The chunk's packets. wire.DamagedError where one of them is none."""
        packets = Packets(chunk)
        uuids, wide = self._uuids(packets)
        replaced = self._thinned(packets)
        for row in np.flatnonzero(wide | self._rare(packets)).tolist():
            replaced[row] = self._editor.edit(parse(packets, row))
        for step, values in uuids:
            wire.overwrite(packets.data, step.at, step.stop, values)
        return _assembled(packets, replaced, self._suffixes(packets))

    def _rare(self, packets: Packets) -> wire.Mask:
        """Packets that are parsed and written anew."""
        mask = np.zeros(packets.count, np.bool_)
        numbers = [*_RARE]
        numbers += [scan.PACKET_DEFAULTS] if self._numbers.tracks else []
        numbers += [scan.TRACE_PROVENANCE] if self._numbers.sequences else []
        for number in numbers:
            if packets.has(number):
                mask |= packets.column(number).present
        if self._numbers.shifts:
            own = np.isin(packets.column(scan.SEQUENCE_ID).value, list(self._numbers.shifts))
            mask |= own & packets.column(scan.INTERNED_DATA).present
            found = events(packets, np.flatnonzero(own))
            mask[found.rows[found.annotated]] = True
        return mask

    def _thinned(self, packets: Packets) -> dict[int, bytes]:
        """Packets with ftrace events, without those that a richer input has, too."""
        if not (self._several_ftrace and packets.has(scan.FTRACE_EVENTS)):
            return {}
        rows = packets.column(scan.FTRACE_EVENTS).rows
        rows = rows[packets.column(scan.MACHINE_ID).value[rows] == 0]
        bundles = ftrace.read(packets.data, *packets.nested(scan.FTRACE_EVENTS, rows))
        # "Complete from here on" is true of this input's events only, and Perfetto's UI would hide
        # what is older in any of them.
        wire.overwrite(packets.data, *bundles.starts, np.zeros(len(bundles.starts[0]), np.uint64))
        drop = np.zeros(len(bundles.kind), np.bool_)
        for each in self._doubles:
            drop |= each.mask(bundles)
        self.left_out += int(drop.sum())
        replaced = {}
        column = packets.column(scan.FTRACE_EVENTS)
        for i in np.unique(bundles.bundle[drop]).tolist():
            row = int(rows[i])
            # Only what is beside the bundle is parsed.
            begin, end = int(packets.chunk.start[row]), int(packets.chunk.end[row])
            before, after = int(column.tag[row]), int(column.stop[row])
            rest = packets.data[begin:before].tobytes() + packets.data[after:end].tobytes()
            bundle = ftrace.without(packets.data, bundles, i, drop)
            content = self._editor.finish(TracePacket.FromString(rest))
            replaced[row] = field(1, content + field(scan.FTRACE_EVENTS, bundle))
        return replaced

    def _uuids(self, packets: Packets) -> tuple[list[tuple[wire.Step, wire.Values]], wire.Mask]:
        """Where events refer to tracks whose uuid changes, and the new ones; and the packets in
        which that cannot be done in place."""
        wide = np.zeros(packets.count, np.bool_)
        found: list[tuple[wire.Step, wire.Values]] = []
        if not (self._numbers.tracks and packets.has(scan.TRACK_EVENT)):
            return found, wide
        old = np.array(sorted(self._numbers.tracks), np.uint64)
        new = np.array([self._numbers.tracks[uuid] for uuid in old.tolist()], np.uint64)
        rows = packets.column(scan.TRACK_EVENT).rows
        for step in wire.walk(packets.data, *packets.nested(scan.TRACK_EVENT, rows)):
            refers = np.isin(step.number, _TRACK_FIELDS)
            wide[rows[step.rows[refers & (step.wire == wire.BYTES)]]] = True
            at = np.minimum(np.searchsorted(old, step.value), len(old) - 1)
            each = step.where(refers & (step.wire == wire.VARINT) & (old[at] == step.value))
            if each is not None:
                values = new[np.searchsorted(old, each.value)]
                found.append((each, values))
                wide[rows[each.rows[sizes(values) > each.stop - each.at]]] = True
        return found, wide

    def _suffixes(self, packets: Packets) -> Suffixes | None:
        """Sequence ids that do not fit into the place of the old ones, machines and clocks."""
        parts: list[tuple[wire.Mask, bytes]] = []
        sequence = packets.column(scan.SEQUENCE_ID)
        for old, new in self._numbers.sequences.items():
            rows = np.flatnonzero(sequence.value == old)
            if len(rows):
                values = np.full(len(rows), new, np.uint64)
                fits = wire.overwrite(packets.data, sequence.at[rows], sequence.stop[rows], values)
                mask = np.zeros(packets.count, np.bool_)
                mask[rows[~fits]] = True
                parts.append((mask, varint(scan.SEQUENCE_ID << 3) + varint(new)))
        if self._editor.adds_clock:
            mask = packets.column(scan.TIMESTAMP).present & ~np.isin(
                sequence.value, list(self._survey.clocked)
            )
            for number in (scan.TIMESTAMP_CLOCK_ID, scan.CHROME_EVENTS, scan.CHROME_METADATA):
                mask &= ~packets.column(number).present
            parts.append((mask, varint(scan.TIMESTAMP_CLOCK_ID << 3) + varint(self._survey.clock)))
        if self._machine:
            mask = np.ones(packets.count, np.bool_)
            parts.append((mask, varint(scan.MACHINE_ID << 3) + varint(self._machine)))
        parts = [(mask, text) for mask, text in parts if mask.any()]
        if not parts:
            return None
        suffixes = np.zeros((packets.count, sum(len(text) for _, text in parts)), np.uint8)
        size = np.zeros(packets.count, np.int64)
        for mask, text in parts:
            rows = np.flatnonzero(mask)
            for i, byte in enumerate(text):
                suffixes[rows, size[rows] + i] = byte
            size[rows] += len(text)
        return suffixes, size


def _assembled(packets: Packets, replaced: dict[int, bytes], suffixes: Suffixes | None) -> bytes:
    """The packets in their order, some in their new form."""
    parts = []
    done = 0
    for row in [*sorted(replaced), packets.count]:
        if row > done:
            parts.append(
                _lengthened(packets, done, row, suffixes) if suffixes else packets.whole(done, row)
            )
        if row < packets.count:
            parts.append(replaced[row])
        done = row + 1
    return b"".join(parts)


def _lengthened(packets: Packets, first: int, last: int, suffixes: Suffixes) -> bytes:
    """The packets [first, last) with their suffixes."""
    start, end = packets.chunk.start[first:last], packets.chunk.end[first:last]
    text, extra = suffixes[0][first:last], suffixes[1][first:last]
    size = end - start + extra
    header = 1 + sizes(size.astype(np.uint64))
    content = np.cumsum(header + size) - size  # where each content begins
    out = np.zeros(int((header + size).sum()), np.uint8)
    out[content - header] = 0x0A  # Trace.packet
    wire.overwrite(out, content - header + 1, content, size.astype(np.uint64))
    _, source = wire.spread(start, end)
    _, target = wire.spread(content, content + (end - start))
    out[target] = packets.data[source]
    for i in range(text.shape[1]):
        rows = extra > i
        out[content[rows] + (end - start)[rows] + i] = text[rows, i]
    return out.tobytes()
