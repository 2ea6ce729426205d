"""Frames: what the recorder drains, and the only thing that the trace is made from.

A raw capture is the frames of a recording in a file, so `convert` and `record` run the same
code on the same bytes. bpf/capture_format.h says what stands in it, for both ends.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np

from profinfer.errors import TraceError
from profinfer.records.dtypes import RECORD, WIDE_SIZE

FORMAT, _OLDEST = 3, 1
"""CAPTURE_FORMAT, and the oldest one that can be read."""
_NAME = b"ProfInferRaw\0\0\0"
MAGIC = _NAME + bytes([FORMAT])
_HEADER = struct.Struct("<IIQQ")
_MAX_FRAME = 1 << 30


class FrameKind(IntEnum):
    """What a frame's bytes are."""

    START = 1
    """JSON: target, layout, plan, configuration, machine, versions."""
    CLOCK = 2
    """3 x u64: BOOTTIME, MONOTONIC, REALTIME, taken together."""
    NAMES = 3
    """JSON: {tid: thread name} of threads not named before."""
    WIDE = 4
    """Records of the structure ring."""
    LOSS = 5
    """LOSS_ENTRY: every (cpu, kind) whose count has grown."""
    RECORDS = 6
    """Records of all rings; ts: nothing older than this can come any more."""
    BACKENDS = 7
    """JSON: {address of get_name: backend name} of backends not named before."""
    END = 8
    """JSON: why recording ended, totals, exit status."""
    SCHEDULER = 9
    """Records of the scheduler's rings; ts: nothing older than this can come any more."""
    TASKS = 10
    """JSON: processes and threads of the machine (tasks.c); with "since" in the first one: from
    when on the scheduler is recorded."""
    MAPPINGS = 20
    """JSON: what the target has mapped since the last look, and mappings that are gone. When it is
    much, several frames of one time are one look."""
    MODELS = 21
    """JSON: the tensors of the GGUF files that it had mapped, or why they cannot be told. Only
    captures of before have it."""
    MODEL = 22
    """u32: bytes of the JSON text that follows, which names a GGUF file that the target had mapped;
    then the file's header (models.py)."""


LOSS_ENTRY = np.dtype(
    [("cpu", "<u4"), ("kind", "<u4"), ("lost", "<u8"), ("first_ts", "<u8"), ("last_ts", "<u8")]
)
"""`lost` in all so far; the last ones between the two times. A program that the kernel has skipped
has no `cpu`: ANY_CPU."""

ANY_CPU = 0xFFFFFFFF


@dataclass(frozen=True)
class Frame:
    """One frame."""

    kind: FrameKind
    ts: int
    data: bytes

    def json(self) -> Any:
        """The bytes as JSON; TraceError when they are not."""
        try:
            return json.loads(self.data)
        except ValueError:
            raise TraceError(f"a {self.kind.name} frame of the capture is damaged") from None


def json_frame(kind: FrameKind, ts: int, value: object) -> Frame:
    """A frame of JSON."""
    return Frame(kind, ts, json.dumps(value).encode())


def pack(frame: Frame) -> bytes:
    """A frame as it stands in a capture."""
    return _HEADER.pack(frame.kind, 0, frame.ts, len(frame.data)) + frame.data


def read_capture(path: Path) -> Iterator[Frame]:
    """The whole frames of a capture, in order. TraceError when it is not one.

    A capture that ends within a frame (its recorder was killed) ends before that frame.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise TraceError(f"cannot read {path}: {error.strerror}") from None
    with file:
        size = os.fstat(file.fileno()).st_size
        _check_format(path, file.read(len(MAGIC)))
        while len(head := file.read(_HEADER.size)) == _HEADER.size:
            kind, _, ts, length = _HEADER.unpack(head)
            if length > _MAX_FRAME or kind not in FrameKind.__members__.values():
                raise TraceError(f"{path} is damaged at byte {file.tell() - _HEADER.size}")
            if file.tell() + length > size:
                return
            data = file.read(length)
            _check(path, kind, length)
            yield Frame(FrameKind(kind), ts, data)


def _check_format(path: Path, magic: bytes) -> None:
    if magic[:-1] != _NAME:
        raise TraceError(f"{path} is not a raw capture", "record --raw FILE makes one")
    if not _OLDEST <= magic[-1] <= FORMAT:
        raise TraceError(
            f"{path} is a raw capture of format {magic[-1]}; this profinfer reads {_OLDEST} to"
            f" {FORMAT}",
            "convert it with the version of profinfer that has recorded it",
        )


def _check(path: Path, kind: int, length: int) -> None:
    sizes = {
        FrameKind.CLOCK: 24,
        FrameKind.WIDE: WIDE_SIZE,
        FrameKind.LOSS: LOSS_ENTRY.itemsize,
        FrameKind.RECORDS: RECORD.itemsize,
        FrameKind.SCHEDULER: RECORD.itemsize,
    }
    size = sizes.get(FrameKind(kind))
    if size and length % size:
        raise TraceError(f"{path}: a {FrameKind(kind).name} frame has {length} bytes")
