"""TrackEvents by the column: fixed-size packets from numpy arrays, no object per event.

A protobuf varint may be padded (continuation bits set, zero groups), so that all packets of one
kind have one size. A `Template` is that packet as a numpy record: constant bytes, and fields
that are written for all rows at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.uint64] | npt.NDArray[np.uint32] | int

SEQUENCE_ID = 1
"""One writer, one packet sequence."""

BEGIN, END, INSTANT = 1, 2, 3
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


def spread_small(values: Column, tag: int) -> npt.NDArray[np.uint32] | int:
    """A one-byte tag and 21-bit values as three varint bytes, in a little-endian uint32."""
    if isinstance(values, int):
        v = values
        return tag | (v & 0x7F | 0x80) << 8 | (v >> 7 & 0x7F | 0x80) << 16 | (v >> 14 & 0x7F) << 24
    a = values.astype(np.uint32)
    out = (a & np.uint32(0x7F)) << np.uint32(8)
    out |= (a & np.uint32(0x3F80)) << np.uint32(9)
    out |= (a & np.uint32(0x1FC000)) << np.uint32(10)
    out |= np.uint32(tag | 0x80 << 8 | 0x80 << 16)
    return out


SMALL_LIMIT = 1 << 21
"""Interned ids and track uuids stay below this."""


@dataclass(frozen=True)
class _Small:
    """A field of 1 + 3 bytes: its tag and a padded varint below SMALL_LIMIT."""

    name: str
    tag: int


@dataclass(frozen=True)
class _Byte:
    """A one-byte value below 128."""

    name: str


_Part = bytes | _Small | _Byte


def _size(parts: list[_Part]) -> int:
    return sum(len(p) if isinstance(p, bytes) else 4 if isinstance(p, _Small) else 1 for p in parts)


def _message(tag: int, parts: list[_Part]) -> list[_Part]:
    """A length-delimited field; all our messages are shorter than 128 bytes."""
    return [bytes([tag, _size(parts)]), *parts]


class Template:
    """One kind of packet."""

    def __init__(self, event: list[_Part], *, needs_state: bool) -> None:
        tail: list[_Part] = [bytes([0x50, SEQUENCE_ID])]  # trusted_packet_sequence_id
        if needs_state:
            tail.append(b"\x68\x02")  # SEQ_NEEDS_INCREMENTAL_STATE
        tail += _message(0x5A, event)  # track_event
        self.tags = {p.name: p.tag for p in tail if isinstance(p, _Small)}
        self._row = self._make_row(tail, b"")
        self._late_row = self._make_row(tail, b"\0")
        self.size = self._row.dtype.itemsize
        """Bytes per packet."""

    @staticmethod
    def _make_row(tail: list[_Part], ninth: bytes) -> npt.NDArray[np.void]:
        # Trace.packet, TracePacket.timestamp
        head = bytes([0x0A, 9 + len(ninth) + _size(tail), 0x40])
        fields: list[tuple[str, str]] = [("_0", "V3"), ("ts", "<u8")]
        values: list[bytes | int] = [head, 0]
        if ninth:
            fields.append(("ninth", "u1"))
            values.append(0)
        for i, part in enumerate(tail, 1):
            if isinstance(part, bytes):
                fields.append((f"_{i}", f"V{len(part)}"))
                values.append(part)
            else:
                fields.append((part.name, "<u4" if isinstance(part, _Small) else "u1"))
                values.append(0)
        return np.array([tuple(values)], dtype=np.dtype(fields))

    def encode(self, ts: npt.NDArray[np.uint64], **columns: Column) -> bytes:
        """The packets for `ts` (BOOTTIME ns, shape (n,)) and one column or value per field."""
        if len(ts) and int(ts.max()) >> 56:
            # Up for more than two years: timestamps take nine bytes.
            rows = np.repeat(self._late_row, len(ts))
            rows["ts"] = spread_time(ts) | _U64(1 << 63)
            rows["ninth"] = (ts >> _U64(56)).astype(np.uint8)
        else:
            rows = np.repeat(self._row, len(ts))
            rows["ts"] = spread_time(ts)
        for name, column in columns.items():
            tag = self.tags.get(name)
            rows[name] = column if tag is None else spread_small(column, tag)
        return rows.tobytes()


def _type(kind: int) -> bytes:
    return bytes([0x48, kind])


def _annotation(name_iid: int, value: list[_Part]) -> list[_Part]:
    """TrackEvent.debug_annotations with an interned name."""
    return _message(0x22, [bytes([0x08, name_iid]), *value])


_CATEGORY: list[_Part] = [b"\x18", _Byte("category")]
_TRACK, _NAME = _Small("track", 0x58), _Small("name", 0x50)

# Interned ids of the annotation names that templates use; trace.py defines them.
ANNOTATION_TENSOR, ANNOTATION_GRAPH, ANNOTATION_STRUCTURE = 1, 2, 3

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
