"""The byte stream that every Trace Processor speaks: framing, and who carries it.

Requests and replies are `TraceProcessorRpc` messages, each wrapped as field 1 of a
`TraceProcessorRpcStream`. The embedded WebAssembly build and a native `trace_processor_shell`
differ only in the `Transport` that moves these bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from profinfer.trace.varints import varint

# A `TraceProcessorRpcStream.msg` tag: field 1, length-delimited.
FRAME_TAG = 0x0A

# Field numbers used below, from protos/perfetto/trace_processor/trace_processor.proto.
RPC_QUERY_RESULT = 203
QUERY_RESULT_BATCH = 3
BATCH_IS_LAST = 6

# `request = TPM_APPEND_TRACE_DATA`, then the tag of `append_trace_data` (field 101).
_APPEND_PREFIX = b"\x10\x01\xaa\x06"


class Transport(Protocol):
    """Carries requests to one Trace Processor and its replies back."""

    kind: str
    """`wasm`, or the path of the native shell."""

    chunk_bytes: int
    """How many bytes of trace one append request should carry."""

    def exchange(
        self, *parts: bytes | bytearray | memoryview, until_last_batch: bool, timeout: float | None
    ) -> list[bytes]:
        """Send one framed request, in pieces, and return its serialised replies.

        `until_last_batch` says that the reply is a query's, in several messages. `timeout` is
        in seconds. Raises `TraceProcessorError` when the Trace Processor dies, which it also
        does when the time is over: it then cannot be used any more.
        """
        ...

    def close(self) -> None:
        """Release everything; a second call does nothing."""
        ...


def append_header(size: int) -> bytes:
    """Return what stands in front of `size` bytes of trace in an append request.

    The trace bytes follow it as they are: they need not be copied into a message first.
    """
    body = _APPEND_PREFIX + varint(size)
    return bytes([FRAME_TAG]) + varint(len(body) + size) + body


def read_varint(data: bytes | bytearray | memoryview, pos: int) -> tuple[int, int]:
    """Return the varint at `pos` and the position after it.

    Raises `IndexError` where the data ends within it and `ValueError` past ten bytes.
    """
    value = shift = 0
    while True:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
        shift += 7
        if shift > 63:
            raise ValueError("a varint of more than ten bytes")


def fields(
    data: bytes | bytearray | memoryview, pos: int = 0, end: int | None = None
) -> Iterator[tuple[int, int, int, int]]:
    """Walk one message's fields: (number, wire type, start, stop).

    For a varint (wire type 0), `start` is its value and `stop` the position after it;
    otherwise the field's bytes are `data[start:stop]`. Raises `ValueError` or `IndexError`
    where the bytes are not a message.
    """
    end = len(data) if end is None else end
    while pos < end:
        key, pos = read_varint(data, pos)
        wire = key & 7
        if wire == 0:
            start, pos = read_varint(data, pos)
        elif wire == 2:
            size, start = read_varint(data, pos)
            pos = start + size
        elif wire in (1, 5):
            start = pos
            pos += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if pos > end or key < 8:
            raise ValueError("a field reaches past its message's end or has number 0")
        yield key >> 3, wire, start, pos


def unframe(stream: bytearray) -> list[bytes]:
    """Cut the whole messages off the front of `stream` and return them without their frames.

    What is left in `stream` is the beginning of a message. Raises `ValueError` when the stream
    is not one of framed messages.
    """
    messages = []
    pos = 0
    while pos < len(stream):
        if stream[pos] != FRAME_TAG:
            raise ValueError(f"byte {stream[pos]:#04x} where a reply should start")
        try:
            size, start = read_varint(stream, pos + 1)
        except IndexError:
            break
        if start + size > len(stream):
            break
        messages.append(bytes(memoryview(stream)[start : start + size]))
        pos = start + size
    del stream[:pos]
    return messages


def ends_query(message: bytes) -> bool:
    """Whether a reply is the last one to a query (or no part of a query's result at all)."""
    is_result = False
    for number, _, start, stop in fields(message):
        if number != RPC_QUERY_RESULT:
            continue
        is_result = True
        for inner, _, first, last in fields(message, start, stop):
            if inner == QUERY_RESULT_BATCH and any(
                field == BATCH_IS_LAST and value
                for field, wire, value, _ in fields(message, first, last)
                if wire == 0
            ):
                return True
    return not is_result
