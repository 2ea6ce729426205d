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
class _Small:
    """A one-byte tag and a padded varint below SMALL_LIMIT, of two bytes where they suffice."""

    name: str
    tag: int


@dataclass(frozen=True)
class _Wide:
    """A one-byte tag and a padded varint below 2^63, of eight bytes where they suffice."""

    name: str
    tag: int


@dataclass(frozen=True)
class _Byte:
    """A one-byte value below 128."""

    name: str


def _message(tag: int, parts: list[_Part]) -> list[_Part]:
    """A length-delimited field."""
    return [_Length(tag, parts)]


@dataclass(frozen=True)
class _Length:
    """A tag, the length of what follows, and that: known once the widths are."""

    tag: int
    parts: list[_Part]


_Leaf = bytes | _Small | _Wide | _Byte
_Part = _Leaf | _Length


def _flat(parts: list[_Part], widths: dict[str, int]) -> list[_Leaf]:
    out: list[_Leaf] = []
    for part in parts:
        if isinstance(part, _Length):
            inner = _flat(part.parts, widths)
            out += [_length(part.tag, _size(inner, widths)), *inner]
        else:
            out.append(part)
    return out


def _length(tag: int, size: int) -> bytes:
    return bytes([tag, size] if size < 128 else [tag, size & 0x7F | 0x80, size >> 7])


def _size(parts: list[_Leaf], widths: dict[str, int]) -> int:
    return sum(
        len(p) if isinstance(p, bytes) else 1 if isinstance(p, _Byte) else 1 + widths[p.name]
        for p in parts
    )


class Template:
    """One kind of packet."""

    def __init__(self, event: list[_Part], *, needs_state: bool) -> None:
        self._event = event
        self._needs_state = needs_state
        self._counted: dict[int, Template] = {}
        tail: list[_Part] = [_Wide("ts", 0x40)]  # timestamp
        tail.append(bytes([0x50, SEQUENCE_ID]))  # trusted_packet_sequence_id
        if needs_state:
            tail.append(b"\x68\x02")  # SEQ_NEEDS_INCREMENTAL_STATE
        self._packet: list[_Part] = [*tail, *_message(0x5A, event)]  # track_event
        flat = _flat(self._packet, defaultdict(int))
        self._wide = {part.name for part in flat if isinstance(part, _Wide)}
        self._rows: dict[tuple[tuple[str, int], ...], npt.NDArray[np.void]] = {}

    def counted(self, counters: int) -> Template:
        """The same with so many extra counters: columns counter0, value0, counter1 and so on."""
        if counters not in self._counted:
            extra: list[_Part] = []
            for i in range(counters):
                # The second byte of the tag goes with the value.
                extra += [b"\xf8", _Small(f"counter{i}", 0x01), _Wide(f"value{i}", 0x60)]
            self._counted[counters] = Template(
                [*self._event, *extra], needs_state=self._needs_state
            )
        return self._counted[counters]

    def _row(self, widths: dict[str, int]) -> npt.NDArray[np.void]:
        """The packet with its fields still zero: one row, of as many bytes as the packet has."""
        key = tuple(widths.items())
        row = self._rows.get(key)
        if row is None:
            tail = _flat(self._packet, widths)
            fields: list[tuple[str, str]] = []
            values: list[bytes | int] = []
            for i, part in enumerate([_length(0x0A, _size(tail, widths)), *tail]):  # Trace.packet
                constant = part if isinstance(part, bytes) else b""
                if isinstance(part, _Small | _Wide):
                    constant = bytes([part.tag])
                if constant:
                    fields.append((f"_{i}", f"V{len(constant)}"))
                    values.append(constant)
                if isinstance(part, _Byte):
                    fields.append((part.name, "u1"))
                    values.append(0)
                elif not isinstance(part, bytes):
                    width = widths[part.name]
                    low = "<u8" if width >= 8 else "<u2"
                    fields.append((part.name, low))
                    values.append(0)
                    if width % 2:
                        fields.append((part.name + "+", "u1"))
                        values.append(0)
            row = self._rows[key] = np.array([tuple(values)], dtype=np.dtype(fields))
        return row

    def encode(self, ts: npt.NDArray[np.uint64], **columns: Column) -> bytes:
        """The packets for `ts` (BOOTTIME ns, shape (n,)) and one column or value per field."""
        columns["ts"] = ts
        spread = {name: column for name, column in columns.items() if name != "category"}
        widths = {name: self._width(name, column) for name, column in spread.items()}
        rows = np.repeat(self._row(widths), len(ts))
        for name, column in spread.items():
            if name in self._wide:
                _put_wide(rows, name, np.asarray(column, np.uint64), widths[name])
                continue
            small = spread_small(column, widths[name])
            rows[name] = small & 0xFFFF
            if widths[name] == 3:
                rows[name + "+"] = small >> 16
        if "category" in columns:
            rows["category"] = columns["category"]
        return rows.tobytes()

    def _width(self, name: str, column: Column) -> int:
        if name in self._wide:
            # Nine bytes of time: up for more than two years.
            return 9 if _largest(column) >> 56 else 8
        return 2 if _largest(column) < 1 << 14 else 3


def _put_wide(
    rows: npt.NDArray[np.void], name: str, column: npt.NDArray[np.uint64], width: int
) -> None:
    rows[name] = spread_time(column)
    if width == 9:
        rows[name] |= _U64(1 << 63)
        rows[name + "+"] = (column >> _U64(56)).astype(np.uint8)


def _largest(column: Column) -> int:
    return column if isinstance(column, int) else int(column.max(initial=0))


def _type(kind: int) -> bytes:
    return bytes([0x48, kind])


def _annotation(name_iid: int, value: list[_Part]) -> list[_Part]:
    """TrackEvent.debug_annotations with an interned name."""
    return _message(0x22, [bytes([0x08, name_iid]), *value])


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


_CATEGORY: list[_Part] = [b"\x18", _Byte("category")]
_TRACK, _NAME = _Small("track", 0x58), _Small("name", 0x50)

# Interned ids of the annotation names that templates use; trace.py defines them.
ANNOTATION_TENSOR, ANNOTATION_GRAPH, ANNOTATION_STRUCTURE, ANNOTATION_TID = 1, 2, 3, 4
ANNOTATION_ADDRESS, ANNOTATION_FILE, ANNOTATION_OFFSET, ANNOTATION_BYTES = 5, 6, 7, 8

SLICE_END = Template([_type(END), _TRACK], needs_state=False)

OPERATOR_BEGIN = Template(
    [
        _type(BEGIN),
        *_CATEGORY,
        _TRACK,
        _NAME,
        # string_value_iid is field 17: two bytes of tag, the second one goes with the value.
        *_annotation(ANNOTATION_TENSOR, [b"\x88", _Small("tensor", 0x01)]),
    ],
    needs_state=True,
)

NAMED_BEGIN = Template([_type(BEGIN), *_CATEGORY, _TRACK, _NAME], needs_state=True)

NAMED_INSTANT = Template([_type(INSTANT), *_CATEGORY, _TRACK, _NAME], needs_state=True)

GRAPH_BEGIN = Template(
    [
        _type(BEGIN),
        *_CATEGORY,
        _TRACK,
        _NAME,
        *_annotation(ANNOTATION_GRAPH, [_Small("graph", 0x18)]),
        *_annotation(ANNOTATION_STRUCTURE, [_Small("structure", 0x18)]),
    ],
    needs_state=True,
)

COUNTER_VALUE = Template(
    # counter_value is field 30.
    [_type(COUNTER), _TRACK, b"\xf0", _Wide("value", 0x01)],
    needs_state=True,
)

EXTRA_COUNTERS = 8
"""As many Trace Processor takes from one event."""

FAULT = Template(
    [
        _type(INSTANT),
        *_CATEGORY,
        _TRACK,
        _NAME,
        *_annotation(ANNOTATION_ADDRESS, [_Wide("address", 0x18)]),
        *_annotation(ANNOTATION_FILE, [_Small("file", 0x18)]),
        *_annotation(ANNOTATION_OFFSET, [_Wide("offset", 0x18)]),
    ],
    needs_state=True,
)

FILE_READ = Template(
    [
        _type(INSTANT),
        *_CATEGORY,
        _TRACK,
        _NAME,
        *_annotation(ANNOTATION_FILE, [_Small("file", 0x18)]),
        *_annotation(ANNOTATION_OFFSET, [_Wide("offset", 0x18)]),
        *_annotation(ANNOTATION_BYTES, [_Wide("bytes", 0x18)]),
    ],
    needs_state=True,
)

TAKER_BEGIN = Template(
    [
        _type(BEGIN),
        *_CATEGORY,
        _TRACK,
        _NAME,
        *_annotation(ANNOTATION_TID, [b"\x88", _Small("tid", 0x01)]),
    ],
    needs_state=True,
)
