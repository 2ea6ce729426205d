"""A trace as a stream of whole packets: from a file, from gzip, from compressed packets in it."""

from __future__ import annotations

import os
import zlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from profinfer.errors import TraceError
from profinfer.merging import wire
from profinfer.trace_processor.trace_file import check_readable, not_a_trace, packet_bounds

_PIECE = 2 << 20
_GZIP = b"\x1f\x8b"
_DEFLATED, _ZSTD = 0x9203, 0xAA08  # tags of compressed_packets and zstd_compressed_packets
_AGAIN = "copy it again from its source"


@dataclass(frozen=True)
class Chunk:
    """Some whole packets, one after the other: each at data[head:end], its content from start."""

    data: wire.Bytes
    head: wire.Index
    start: wire.Index
    end: wire.Index


class Source:
    """One input. TraceError when it cannot be read or is no trace of Perfetto's."""

    def __init__(self, path: Path) -> None:
        check_readable(path)
        self.path = path
        self._begun = False
        self.cut = False
        """Whether it ends within a packet, or goes on with something that is none: known once all
        chunks have been read."""

    def chunks(self) -> Iterator[Chunk]:
        """All packets up to the last whole one, those in compressed packets in their place."""
        try:
            with self.path.open("rb", buffering=0) as file:
                head = file.read(2)
                file.seek(0)
                pieces = iter(lambda: file.read(_PIECE), b"")
                if head == _GZIP:
                    pieces = self._gunzip(pieces)
                left = yield from self._packets(pieces)
                self.cut |= left
            if not self._begun:
                raise TraceError(f"{self.path} ends within its first packet", _AGAIN)
        except OSError as error:
            raise TraceError(f"cannot read {self.path}: {os.strerror(error.errno or 0)}") from None

    def damaged(self, what: str) -> TraceError:
        """The error for bytes that are not what they should be."""
        return TraceError(f"{self.path} is damaged: {what}", _AGAIN)

    def _gunzip(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        stream = zlib.decompressobj(wbits=31)
        for piece in pieces:
            left = piece
            while left:
                if stream.eof:
                    if left[:2] != _GZIP:
                        self.cut |= bool(left.strip(b"\0"))
                        return
                    stream = zlib.decompressobj(wbits=31)
                yield from self._inflate(stream, left)
                left = stream.unused_data
        self.cut |= not stream.eof

    def _inflate(self, stream: zlib._Decompress, data: bytes) -> Iterator[bytes]:
        try:
            while data:
                yield stream.decompress(data, _PIECE)
                data = stream.unconsumed_tail
        except zlib.error as error:
            raise self.damaged(str(error)) from None

    def _packets(self, pieces: Iterable[bytes]) -> Generator[Chunk, None, bool]:
        """Chunks of whole packets; returns whether something is left that is none."""
        left = bytearray()
        for piece in pieces:
            left += piece
            bounds, sound = packet_bounds(left)
            if bounds:
                yield from self._expand(bytes(left[: bounds[-1]]), bounds)
                del left[: bounds[-1]]
            self._begun |= bool(bounds)
            if not sound:
                if not self._begun:
                    raise not_a_trace(self.path)
                break
        return bool(left)

    def _expand(self, data: bytes, bounds: list[int]) -> Iterator[Chunk]:
        padded = wire.pad(data)
        head, start, end = np.array(bounds, np.int64).reshape(-1, 3).T
        tags = padded[start].astype(np.int64) << 8 | padded[start + 1]
        if (tags == _ZSTD).any():
            raise TraceError(
                f"{self.path} is compressed with Zstandard, which is not supported",
                "record with compression_type: COMPRESSION_TYPE_DEFLATE, or without compression",
            )
        done = 0
        for row in [*np.flatnonzero(tags == _DEFLATED).tolist(), len(head)]:
            if row > done:
                yield Chunk(padded, head[done:row], start[done:row], end[done:row])
            if row < len(head):
                size, content = wire.varints(padded, start[row : row + 1] + 2)
                at = int(content[0])
                yield from self._deflated(data[at : at + int(size[0])])
            done = row + 1

    def _deflated(self, content: bytes) -> Iterator[Chunk]:
        stream = zlib.decompressobj()
        left = yield from self._packets(self._inflate(stream, content))
        if left or not stream.eof:
            raise self.damaged("a compressed packet ends within a packet")
