"""Protobuf varints by the column: the bytes of a packed repeated field from a numpy array."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def varint(value: int) -> bytes:
    """One number, not below 0."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varints(values: npt.NDArray[np.int64]) -> bytes:
    """All of them, one after another, each in as few bytes as it takes (ten when below 0)."""
    v = values.astype(np.int64).view(np.uint64)
    length = np.ones(len(v), np.int64)
    for shift in range(7, 64, 7):
        length += v >= np.uint64(1 << shift)
    ends = np.cumsum(length)
    out = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    starts = ends - length
    for k in range(int(length.max(initial=0))):
        rows = np.flatnonzero(length > k)
        byte = (v[rows] >> np.uint64(7 * k)).astype(np.uint8) & np.uint8(0x7F)
        more = (length[rows] > k + 1).astype(np.uint8) << np.uint8(7)
        out[starts[rows] + k] = byte | more
    return out.tobytes()


def field(tag: int, content: bytes) -> bytes:
    """A length-delimited field of a message: `tag` is its one-byte tag."""
    return bytes([tag]) + varint(len(content)) + content
