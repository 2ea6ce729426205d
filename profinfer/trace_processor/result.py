"""The result of a query: columns in, plain Python values out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from profinfer.trace.varints import decode
from profinfer.trace_processor import rpc

Value: TypeAlias = int | float | str | bytes | None
Array: TypeAlias = npt.NDArray[Any]

# Cell types, and the fields of a batch, in protos/.../trace_processor.proto.
_NULL, _VARINT, _FLOAT, _STRING, _BLOB = 1, 2, 3, 4, 5
_CELLS, _VARINTS, _FLOATS, _BLOBS, _STRINGS = 1, 2, 3, 4, 5
_NAME, _ERROR = 1, 2


class Result:
    """A table: `columns` are its names, iteration gives its rows as tuples.

    A value is an int, a float, a str, bytes or None (NULL).
    """

    def __init__(self, columns: list[str], arrays: list[Array]) -> None:
        self.columns = columns
        self._arrays = arrays

    def __len__(self) -> int:
        return len(self._arrays[0]) if self._arrays else 0

    def __iter__(self) -> Iterator[tuple[Value, ...]]:
        return iter(zip(*(array.tolist() for array in self._arrays), strict=True))

    def rows(self) -> list[tuple[Value, ...]]:
        """Return all rows."""
        return list(self)

    def column(self, which: str | int) -> Array:
        """Return one column, by name or position, with one element for each row.

        The dtype is int64 or float64 where every value is an integer or a float, else object
        (as when there are NULLs). Raises `KeyError` for an unknown name.
        """
        if isinstance(which, str):
            if which not in self.columns:
                raise KeyError(which)
            which = self.columns.index(which)
        return self._arrays[which]


def parse(messages: Sequence[bytes]) -> tuple[Result, str]:
    """Parse the replies to one query into its result and Trace Processor's error text, or ''."""
    columns: list[str] = []
    error = ""
    batches: list[tuple[bytes, int, int]] = []
    for message in messages:
        for number, _, start, stop in rpc.fields(message):
            if number != rpc.RPC_QUERY_RESULT:
                continue
            for inner, wire, first, last in rpc.fields(message, start, stop):
                if wire != 2:
                    continue
                if inner == _NAME:
                    columns.append(message[first:last].decode("utf-8", "replace"))
                elif inner == _ERROR:
                    error = message[first:last].decode("utf-8", "replace")
                elif inner == rpc.QUERY_RESULT_BATCH:
                    batches.append((message, first, last))
    parts: list[list[Array]] = [[] for _ in columns]
    for message, first, last in batches:
        for part, array in zip(
            parts, _parse_batch(message, first, last, len(columns)), strict=False
        ):
            part.append(array)
    return Result(columns, [_join(part) for part in parts]), error


def _join(parts: list[Array]) -> Array:
    if not parts:
        return np.empty(0, object)
    if len({part.dtype for part in parts}) > 1:
        # Otherwise numpy would turn integers into floats beside floats.
        parts = [part.astype(object) for part in parts]
    return np.concatenate(parts)


def _parse_batch(message: bytes, start: int, stop: int, width: int) -> list[Array]:
    """Return one array for each column, or none where the batch has no cells."""
    octets = np.frombuffer(message, np.uint8)
    types: Array = np.empty(0, np.uint8)
    values: dict[int, Array] = {}
    blobs: list[bytes] = []
    for number, wire, first, last in rpc.fields(message, start, stop):
        if wire != 2:
            continue
        if number == _CELLS:
            types = octets[first:last]  # packed enum values, each below 128: a byte each
        elif number == _VARINTS:
            values[_VARINT] = decode(octets[first:last])[0].view(np.int64)
        elif number == _FLOATS:
            values[_FLOAT] = np.frombuffer(message, "<f8", (last - first) // 8, first)
        elif number == _STRINGS:
            # Each string ends in NUL, so the split leaves one empty string too many.
            strings = message[first:last].decode("utf-8", "replace").split("\0")[:-1]
            values[_STRING] = _objects(strings)
        elif number == _BLOBS:
            blobs.append(message[first:last])
    if not len(types) or not width:
        return []
    values[_BLOB] = _objects(blobs)
    # Which of its type's values a cell is: the values of a type come in the cells' order.
    position = np.empty(len(types), np.int64)
    for kind in (_VARINT, _FLOAT, _STRING, _BLOB):
        mask = types == kind
        position[mask] = np.arange(np.count_nonzero(mask))
    return [_column(types[i::width], position[i::width], values) for i in range(width)]


def _column(types: Array, position: Array, values: dict[int, Array]) -> Array:
    first = int(types[0])
    if first != _NULL and bool((types == first).all()):
        return values[first][position]
    column = np.empty(len(types), object)
    for kind, source in values.items():
        mask = types == kind
        column[mask] = source[position[mask]]
    return column


def _objects(items: Sequence[object]) -> Array:
    array = np.empty(len(items), object)
    array[:] = items
    return array
