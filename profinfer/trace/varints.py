"""Protobuf varints: one, or by the column as the content of a packed repeated field."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from profinfer.records.columns import I64, U64


def varint(value: int) -> bytes:
    """One number, not below 0."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def sizes(values: U64) -> I64:
    """How many bytes each value takes."""
    size = np.ones(len(values), np.int64)
    for shift in range(7, 64, 7):
        size += values >= np.uint64(1 << shift)
    return size


def encode(values: I64 | U64) -> bytes:
    """All of them, one after another, each in as few bytes as it takes (ten when below 0)."""
    v = values.view(np.uint64)
    length = sizes(v)
    ends = np.cumsum(length)
    out = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    starts = ends - length
    for k in range(int(length.max(initial=0))):
        rows = np.flatnonzero(length > k)
        byte = (v[rows] >> np.uint64(7 * k)).astype(np.uint8) & np.uint8(0x7F)
        more = (length[rows] > k + 1).astype(np.uint8) << np.uint8(7)
        out[starts[rows] + k] = byte | more
    return out.tobytes()


def decode(octets: npt.NDArray[np.uint8]) -> tuple[U64, I64]:
    """The values that stand one after another in these bytes, and where the last byte of each is.
    What ends within a value ends before it; of one of more than ten bytes ten count."""
    ends = np.flatnonzero(octets < 0x80)
    starts = np.append(0, ends + 1)[:-1]
    length = ends - starts + 1
    out = np.zeros(len(ends), np.uint64)
    for k in range(min(int(length.max(initial=0)), 10)):
        # Ever fewer values are as long as this.
        longer = np.flatnonzero(length > k)
        piece = octets[starts[longer] + k] & 0x7F
        out[longer] |= piece.astype(np.uint64) << np.uint64(7 * k)
    return out, ends
