"""TrackEvents by the column: fixed-size packets from numpy arrays, no object per event.

A protobuf varint may be padded (continuation bits set, zero groups), so that all packets of one
kind have one size. A `Template` is that packet as a numpy record: constant bytes, and fields
that are written for all rows at once.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profinfer.trace.varints import varint

Column = npt.NDArray[np.uint64] | npt.NDArray[np.uint32] | int

SEQUENCE_ID = 1
"""One writer, one packet sequence."""

BEGIN, END, INSTANT, COUNTER = 1, 2, 3, 4
"""TrackEvent.Type"""

_U64 = np.uint64


def spread_time(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The low 56 bits of the values as eight varint bytes each, in a little-endian uint64."""
    v = values & _U64((1 << 56) - 1)
    # Halves move apart until each byte holds seven bits: 28 per 32, 14 per 16, 7 per 8.
    for low, gap in (
        (0x000000000FFFFFFF, 4),
        (0x00003FFF00003FFF, 2),
        (0x007F007F007F007F, 1),
    ):
        v = (v & _U64(low)) | ((v & ~_U64(low)) << _U64(gap))
    return v | _U64(0x0080808080808080)


def spread_small(values: Column, width: int) -> npt.NDArray[np.uint32] | int:
    """Values as `width` (2 or 3) varint bytes each, in the low bytes of a uint32."""
    if isinstance(values, int):
        spread = values & 0x7F | (values & 0x3F80) << 1 | (values & 0x1FC000) << 2
        return spread | (0x0080 if width == 2 else 0x8080)
    v = values.astype(np.uint32)
    out = v & np.uint32(0x7F)
    out |= (v & np.uint32(0x3F80)) << np.uint32(1)
    if width == 2:
        return out | np.uint32(0x0080)
    out |= (v & np.uint32(0x1FC000)) << np.uint32(2)
    return out | np.uint32(0x8080)


SMALL_LIMIT = 1 << 21
"""Interned ids and track uuids stay below this."""


@dataclass(frozen=True)
class _Byte:
    """A field of every packet: its tag, and a value below 128."""

    name: str
    tag: bytes

    def width(self, column: Column) -> int:
        """Bytes that each value of a column takes."""
        del column
        return 1

    def put(self, rows: npt.NDArray[np.void], column: Column, width: int) -> None:
        """Writes a column into packets that have room for values of this width."""
        del width
        rows[self.name] = column


class _Small(_Byte):
    """A padded varint below SMALL_LIMIT, of two bytes where they suffice."""

    def width(self, column: Column) -> int:
        return 2 if _largest(column) < 1 << 14 else 3

    def put(self, rows: npt.NDArray[np.void], column: Column, width: int) -> None:
        small = spread_small(column, width)
        rows[self.name] = small & 0xFFFF
        if width == 3:
            rows[self.name + "+"] = small >> 16


class _Wide(_Byte):
    """A padded varint below 2^63, of eight bytes where they suffice."""

    def width(self, column: Column) -> int:
        # Nine bytes of time: up for more than two years.
        return 9 if _largest(column) >> 56 else 8

    def put(self, rows: npt.NDArray[np.void], column: Column, width: int) -> None:
        column = np.asarray(column, _U64)
        rows[self.name] = spread_time(column)
        if width == 9:
            rows[self.name] |= _U64(1 << 63)
            rows[self.name + "+"] = (column >> _U64(56)).astype(np.uint8)


@dataclass(frozen=True)
class _Message:
    """A tag, the length of what follows, and that: known once the widths are."""

    tag: int
    parts: list[_Part]


_Part = bytes | _Byte | _Message
_NUMPY = {1: "u1", 2: "<u2", 3: "<u2", 8: "<u8", 9: "<u8"}
"""By width; of an odd one the last byte is a field of its own."""


def _largest(column: Column) -> int:
    return column if isinstance(column, int) else int(column.max(initial=0))


def _flat(parts: list[_Part], widths: dict[str, int]) -> list[bytes | _Byte]:
    out: list[bytes | _Byte] = []
    for part in parts:
        if isinstance(part, _Message):
            inner = _flat(part.parts, widths)
            size = sum(len(p) if isinstance(p, bytes) else widths[p.name] for p in inner)
            out += [bytes([part.tag]) + varint(size), *inner]
        elif isinstance(part, _Byte):
            out += [part.tag, part]
        else:
            out.append(part)
    return out


class Template:
    """One kind of packet."""

    def __init__(self, event: list[_Part], *, needs_state: bool = True) -> None:
        self._event = event
        self._needs_state = needs_state
        self._counted: dict[int, Template] = {}
        # timestamp, trusted_packet_sequence_id, SEQ_NEEDS_INCREMENTAL_STATE, track_event
        state = b"\x68\x02" if needs_state else b""
        common: list[_Part] = [_Wide("ts", b"\x40"), bytes([0x50, SEQUENCE_ID]) + state]
        self._packet: list[_Part] = [_Message(0x0A, [*common, _Message(0x5A, event)])]
        flat = _flat(self._packet, defaultdict(int))
        self._fields = {part.name: part for part in flat if isinstance(part, _Byte)}
        self._rows: dict[tuple[tuple[str, int], ...], npt.NDArray[np.void]] = {}

    def counted(self, counters: int) -> Template:
        """The same with so many extra counters: columns counter0, value0, counter1 and so on."""
        if counters not in self._counted:
            extra: list[_Part] = []
            for i in range(counters):
                extra += [_Small(f"counter{i}", b"\xf8\x01"), _Wide(f"value{i}", b"\x60")]
            self._counted[counters] = Template(
                [*self._event, *extra], needs_state=self._needs_state
            )
        return self._counted[counters]

    def _row(self, widths: dict[str, int]) -> npt.NDArray[np.void]:
        """The packet with its fields still zero: one row, of as many bytes as the packet has."""
        key = tuple(widths.items())
        row = self._rows.get(key)
        if row is None:
            fields: list[tuple[str, str]] = []
            values: list[bytes | int] = []
            for i, part in enumerate(_flat(self._packet, widths)):
                if isinstance(part, bytes):
                    fields.append((f"_{i}", f"V{len(part)}"))
                    values.append(part)
                    continue
                width = widths[part.name]
                fields.append((part.name, _NUMPY[width]))
                values.append(0)
                if width in (3, 9):
                    fields.append((part.name + "+", "u1"))
                    values.append(0)
            row = self._rows[key] = np.array([tuple(values)], dtype=np.dtype(fields))
        return row

    def encode(self, ts: npt.NDArray[np.uint64], **columns: Column) -> bytes:
        """The packets for `ts` (BOOTTIME ns, shape (n,)) and one column or value per field."""
        columns["ts"] = ts
        fields = self._fields
        widths = {name: fields[name].width(column) for name, column in columns.items()}
        rows = np.repeat(self._row(widths), len(ts))
        for name, column in columns.items():
            fields[name].put(rows, column, widths[name])
        return rows.tobytes()


def array_values(values: npt.NDArray[np.int32] | npt.NDArray[np.float64]) -> bytes:
    """DebugAnnotation.array_values, of numbers, as the bytes that stand in a DebugAnnotation."""
    if values.dtype.kind == "f":
        tag, value = 0x29, values.astype("<f8")  # double_value
        width = 8
    else:
        # int_value; what is negative takes all ten bytes of a varint.
        if values.min(initial=0) < 0:
            return b"".join(_signed(int(v)) for v in values)
        tag, width = 0x20, 5
        v = values.astype(np.uint64)
        value = np.zeros((len(v), 5), np.uint8)
        for i in range(5):
            value[:, i] = (v >> _U64(7 * i)).astype(np.uint8) & 0x7F | (0x80 if i < 4 else 0)
    rows = np.empty((len(values), 3 + width), np.uint8)
    rows[:, :3] = 0x62, 1 + width, tag
    rows[:, 3:] = value.view(np.uint8).reshape(len(values), width)
    return rows.tobytes()


def _signed(value: int) -> bytes:
    """One int_value of array_values."""
    groups = [value >> 7 * i & 0x7F | 0x80 for i in range(9)] + [value >> 63 & 1]
    return bytes([0x62, 11, 0x20, *groups])


ANNOTATIONS = ("tensor", "graph_id", "structure_id", "tid", "address", "file", "offset", "bytes")
"""Names of arguments that templates use, in the order of their interned ids (from 1); the first
is one of older traces: merging/ knows our sequences by it."""


def _annotation(name: str, value: _Byte) -> _Message:
    """TrackEvent.debug_annotations with an interned name."""
    return _Message(0x22, [bytes([0x08, ANNOTATIONS.index(name) + 1]), value])


def _string(name: str, column: str) -> _Message:
    """An annotation with a string_value_iid."""
    return _annotation(name, _Small(column, b"\x88\x01"))


def _named(kind: int, *more: _Part) -> Template:
    """An event with a category and a name."""
    category, name = _Byte("category", b"\x18"), _Small("name", b"\x50")
    return Template([_type(kind), category, _TRACK, name, *more])


def _type(kind: int) -> bytes:
    return bytes([0x48, kind])


_TRACK = _Small("track", b"\x58")
_UINT = b"\x18"
"""Tag of uint_value."""
_FILE = _annotation("file", _Small("file", _UINT))
_OFFSET = _annotation("offset", _Wide("offset", _UINT))

SLICE_END = Template([_type(END), _TRACK], needs_state=False)
# Its operator, as what correlates it with the parts of other threads: the UI gives them one colour,
# and Trace Processor takes it as an argument, of fewer bytes than any other.
OPERATOR_BEGIN = _named(BEGIN, _Small("tensor", b"\xb0\x03"))
NAMED_BEGIN = _named(BEGIN)
NAMED_INSTANT = _named(INSTANT)
GRAPH_BEGIN = _named(
    BEGIN,
    _annotation("graph_id", _Small("graph", _UINT)),
    _annotation("structure_id", _Small("structure", _UINT)),
)
TAKER_BEGIN = _named(BEGIN, _string("tid", "tid"))
FAULT = _named(INSTANT, _annotation("address", _Wide("address", _UINT)), _FILE, _OFFSET)
FILE_READ = _named(INSTANT, _FILE, _OFFSET, _annotation("bytes", _Wide("bytes", _UINT)))
COUNTER_VALUE = Template([_type(COUNTER), _TRACK, _Wide("value", b"\xf0\x01")])

EXTRA_COUNTERS = 8
"""As many Trace Processor takes from one event."""
