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
class _Byte:
    """A one-byte value below 128."""

    name: str


def _message(tag: int, parts: list[_Part]) -> list[_Part]:
    """A length-delimited field, of fewer than 128 bytes."""
    return [_Length(tag, parts)]


@dataclass(frozen=True)
class _Length:
    """A tag, the length of what follows, and that: known once the widths are."""

    tag: int
    parts: list[_Part]


_Part = bytes | _Small | _Byte | _Length


def _flat(parts: list[_Part], widths: dict[str, int]) -> list[bytes | _Small | _Byte]:
    out: list[bytes | _Small | _Byte] = []
    for part in parts:
        if isinstance(part, _Length):
            inner = _flat(part.parts, widths)
            out += [bytes([part.tag, _size(inner, widths)]), *inner]
        else:
            out.append(part)
    return out


def _size(parts: list[bytes | _Small | _Byte], widths: dict[str, int]) -> int:
    return sum(
        len(p) if isinstance(p, bytes) else 1 + widths[p.name] if isinstance(p, _Small) else 1
        for p in parts
    )


class Template:
    """One kind of packet."""

    def __init__(self, event: list[_Part], *, needs_state: bool) -> None:
        self._tail: list[_Part] = [bytes([0x50, SEQUENCE_ID])]  # trusted_packet_sequence_id
        if needs_state:
            self._tail.append(b"\x68\x02")  # SEQ_NEEDS_INCREMENTAL_STATE
        self._tail += _message(0x5A, event)  # track_event
        self._rows: dict[tuple[bool, tuple[tuple[str, int], ...]], npt.NDArray[np.void]] = {}

    def _row(self, is_late: bool, widths: dict[str, int]) -> npt.NDArray[np.void]:
        """The packet with its fields still zero: one row, of as many bytes as the packet has."""
        key = (is_late, tuple(widths.items()))
        row = self._rows.get(key)
        if row is None:
            tail = _flat(self._tail, widths)
            # Trace.packet, TracePacket.timestamp
            head = bytes([0x0A, 9 + is_late + _size(tail, widths), 0x40])
            fields: list[tuple[str, str]] = [("_head", "V3"), ("ts", "<u8")]
            values: list[bytes | int] = [head, 0]
            if is_late:
                fields.append(("ninth", "u1"))
                values.append(0)
            for i, part in enumerate(tail):
                constant = part if isinstance(part, bytes) else b""
                if isinstance(part, _Small):
                    constant = bytes([part.tag])
                if constant:
                    fields.append((f"_{i}", f"V{len(constant)}"))
                    values.append(constant)
                if isinstance(part, _Small):
                    low = [(part.name, "<u2"), (part.name + "+", "u1")]
                    fields += low[: widths[part.name] - 1]
                    values += [0] * (widths[part.name] - 1)
                elif isinstance(part, _Byte):
                    fields.append((part.name, "u1"))
                    values.append(0)
            row = self._rows[key] = np.array([tuple(values)], dtype=np.dtype(fields))
        return row

    def encode(self, ts: npt.NDArray[np.uint64], **columns: Column) -> bytes:
        """The packets for `ts` (BOOTTIME ns, shape (n,)) and one column or value per field."""
        small = {name: column for name, column in columns.items() if name != "category"}
        widths = {name: 2 if _largest(c) < 1 << 14 else 3 for name, c in small.items()}
        is_late = bool(len(ts)) and bool(int(ts.max()) >> 56)
        rows = np.repeat(self._row(is_late, widths), len(ts))
        rows["ts"] = spread_time(ts)
        if is_late:
            # Up for more than two years: timestamps take nine bytes.
            rows["ts"] |= _U64(1 << 63)
            rows["ninth"] = (ts >> _U64(56)).astype(np.uint8)
        for name, column in small.items():
            spread = spread_small(column, widths[name])
            rows[name] = spread & 0xFFFF
            if widths[name] == 3:
                rows[name + "+"] = spread >> 16
        if "category" in columns:
            rows["category"] = columns["category"]
        return rows.tobytes()


def _largest(column: Column) -> int:
    return column if isinstance(column, int) else int(column.max(initial=0))


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
