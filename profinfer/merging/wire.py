"""Protobuf by the column: the fields of many messages in one buffer, read and changed at once.

`walk` steps through all messages together, one field of each at a time, so that the work in Python
goes with the number of fields of a message, not with the number of messages. Positions are byte
offsets into the buffer, which must be padded: `PADDING` bytes follow the last message.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profinfer.trace.varints import decode

Bytes = npt.NDArray[np.uint8]
Index = npt.NDArray[np.int64]
Values = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

PADDING = 16
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class DamagedError(ValueError):
    """Bytes that are no message; `row` says which of the messages."""

    def __init__(self, row: int) -> None:
        super().__init__(f"message {row} is damaged")
        self.row = row


@dataclass(frozen=True)
class Step:
    """One field of each message that has one left; all arrays have one entry per such message."""

    rows: Index
    """Which message."""
    number: Index
    wire: Index
    value: Values
    """Of a varint, else 0."""
    tag: Index
    """Where the field begins."""
    at: Index
    """Where its value, or its content, begins."""
    stop: Index

    def of(self, number: int, wire: int) -> Step | None:
        """Only the fields with this number and wire type, if there are any."""
        return self.where((self.number == number) & (self.wire == wire))

    def where(self, mask: Mask) -> Step | None:
        """Only some of the fields, if there are any."""
        if not mask.any():
            return None
        return Step(
            self.rows[mask], self.number[mask], self.wire[mask], self.value[mask],
            self.tag[mask], self.at[mask], self.stop[mask],
        )  # fmt: skip


def pad(data: bytes | bytearray | memoryview) -> Bytes:
    """A copy of `data` with PADDING zeros after it."""
    out = np.zeros(len(data) + PADDING, np.uint8)
    out[: len(data)] = np.frombuffer(data, np.uint8)
    return out


def varints(data: Bytes, at: Index) -> tuple[Values, Index]:
    """The varints that begin at `at`, and where each of them ends.

    One of more than ten bytes ends past its tenth: whoever uses it finds what follows damaged.
    """
    byte = data[at]
    value = (byte & 0x7F).astype(np.uint64)
    stop = at + 1
    rows = np.flatnonzero(byte >= 0x80)
    shift = 7
    while len(rows) and shift < 70:
        byte = data[stop[rows]]
        value[rows] |= (byte & 0x7F).astype(np.uint64) << np.uint64(shift)
        stop[rows] += 1
        rows = rows[byte >= 0x80]
        shift += 7
    return value, stop


def walk(data: Bytes, start: Index, end: Index) -> Iterator[Step]:
    """Every field of the messages data[start:end]. DamagedError for the first that is none."""
    rows = np.arange(len(start), dtype=np.int64)
    pos = start
    limit = np.uint64(len(data))
    while True:
        live = pos < end
        if not live.all():
            rows, pos, end = rows[live], pos[live], end[live]
        if not len(rows):
            return
        key, at = varints(data, pos)
        number, wire = (key >> np.uint64(3)).astype(np.int64), (key & np.uint64(7)).astype(np.int64)
        value = np.zeros(len(rows), np.uint64)
        stop = at.copy()
        stop[wire == FIXED64] += 8
        stop[wire == FIXED32] += 4
        plain = np.flatnonzero(wire == VARINT)
        if len(plain):
            value[plain], stop[plain] = varints(data, at[plain])
        sized = np.flatnonzero(wire == BYTES)
        if len(sized):
            size, at[sized] = varints(data, at[sized])
            stop[sized] = at[sized] + np.minimum(size, limit).astype(np.int64)
        bad = (stop > end) | (number == 0) | (wire == 3) | (wire == 4) | (wire > 5)
        if bad.any():
            raise DamagedError(int(rows[bad][0]))
        yield Step(rows, number, wire, value, pos, at, stop)
        pos = stop


def overwrite(data: Bytes, at: Index, stop: Index, values: Values) -> Mask:
    """Puts varints in the place of others, padded to their width, where they fit: a mask."""
    width = stop - at
    fits: Mask = (width >= 10) | ((values >> np.minimum(7 * width, 63).astype(np.uint64)) == 0)
    at, width, values = at[fits], width[fits], values[fits]
    for i in range(int(width.max(initial=0))):
        rows = width > i
        byte = (values[rows] >> np.uint64(7 * i)) & np.uint64(0x7F)
        more = np.where(width[rows] > i + 1, np.uint64(0x80), np.uint64(0))
        data[at[rows] + i] = (byte | more).astype(np.uint8)
    return fits


def packed(data: Bytes, at: Index, stop: Index) -> tuple[Values, Index]:
    """The values of packed fields, one field after the other, and which field each is of."""
    row, byte_at = spread(at, stop)
    values, ends = decode(data[byte_at])
    return values, row[ends]


def spread(at: Index, stop: Index) -> tuple[Index, Index]:
    """Every position of the ranges [at, stop), and which range each is of."""
    width = stop - at
    row = np.repeat(np.arange(len(at)), width)
    first = np.cumsum(width) - width
    return row, np.arange(int(width.sum())) - first[row] + at[row]
