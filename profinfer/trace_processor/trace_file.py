"""What can be said about a trace file before, and beside, parsing it.

Trace Processor takes a trace that stops in the middle of a packet without a word, so whether a
file is whole is found out here.
"""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from pathlib import Path

from profinfer.errors import TraceError
from profinfer.trace_processor import rpc
from profinfer.trace_processor.kinds import kind_of

_PACKET_TAG = 0x0A  # Trace.packet: field 1, length-delimited
_GZIP_MAGIC = b"\x1f\x8b"
_CAPTURE = b"ProfInferRaw"
_READ_BYTES = 1 << 20
_LARGEST = 1 << 30
"""No packet is larger: a length beyond is damage, and must not make us read on for ever."""
_EMBEDDED_BYTES = 850_000_000
"""The embedded Trace Processor takes 4.5 to 5 times a trace's size in memory, of which there are
4 GiB, and what is asked of it needs some, too."""
TOO_LARGE_HINT = (
    "set PROFINFER_TRACE_PROCESSOR to a native trace_processor_shell, which has all the machine's"
    " memory; or record less: --duration, --iterations, --level graph, --scheduler target"
)


def check_readable(path: Path) -> None:
    """Raise `TraceError` unless `path` is a file with something in it that we may read.

    A protobuf trace must also begin with a packet that can be one.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise TraceError(f"{path} is a directory, not a trace", "name the .pftrace file in it")
        if not stat.S_ISREG(status.st_mode):
            raise TraceError(f"{path} is not a regular file", "save the trace to a file first")
        if status.st_size == 0:
            capture = Path(f"{path}.capture")
            hint = (
                f"profinfer convert {capture} {path}"
                if capture.exists()
                else "nothing was recorded into it"
            )
            raise TraceError(f"{path} is empty", hint)
        with path.open("rb") as file:
            head = file.read(_READ_BYTES)
    except OSError as error:
        raise TraceError(f"cannot read {path}: {os.strerror(error.errno or 0)}") from None
    is_packet = head[0] != _PACKET_TAG or _begins_with_packet(head, status.st_size)
    # The UI would take whatever it is given, and only then say that it cannot read it.
    if not is_packet or head.startswith(_CAPTURE):
        raise not_a_trace(path)


def check_held(path: Path) -> None:
    """Raise `TraceError` when the embedded Trace Processor cannot hold the trace: loading it would
    take minutes, and fail."""
    size = path.stat().st_size
    if size > _EMBEDDED_BYTES:
        raise TraceError(
            f"{path} has {size / 1e6:,.0f} MB: the embedded Trace Processor holds about"
            f" {_EMBEDDED_BYTES / 1e6:,.0f} MB",
            TOO_LARGE_HINT,
        )


def not_a_trace(path: Path) -> TraceError:
    """Return the error for a file of another kind."""
    if kind := kind_of(path):
        return TraceError(f"{path} is not a Perfetto trace but {kind[0]}", kind[1])
    return TraceError(
        f"{path} is not a Perfetto trace",
        "profinfer record writes one, and profinfer convert makes one of a raw capture",
    )


def _begins_with_packet(head: bytes, file_size: int) -> bool:
    try:
        size, start = rpc.read_varint(head, 1)
        if start + size > min(len(head), file_size):
            # Cut within its first packet, or that packet is very long: its first tag must do.
            return start >= len(head) or head[start] >= 8
        for _ in rpc.fields(head, start, start + size):
            pass
    except IndexError:
        return file_size < 8
    except ValueError:
        return False
    return True


def is_cut(path: Path) -> bool:
    """Whether the trace in `path` ends before its last packet does.

    True also where the file goes on with something that is no packet, and for a gzip stream
    without its end. False for formats other than Perfetto's own, whose end nothing marks.
    Takes about 0.15 us for each packet. Raises `TraceError` when the file cannot be read or the
    compressed data is damaged.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(2)
            if magic == _GZIP_MAGIC:
                return _gzip_is_cut(path)
            if magic[:1] != bytes([_PACKET_TAG]):
                return False
            left = bytearray(magic)
            is_sound = True
            while is_sound and (piece := file.read(_READ_BYTES)):
                left += piece
                bounds, is_sound = packet_bounds(left)
                del left[: bounds[-1] if bounds else 0]
            return bool(left)
    except OSError as error:
        raise TraceError(f"cannot read {path}: {error.strerror or error}") from None


def _gzip_is_cut(path: Path) -> bool:
    try:
        with gzip.open(path) as file:
            while file.read(_READ_BYTES):
                pass
    except EOFError:
        return True
    except (zlib.error, gzip.BadGzipFile) as error:
        raise TraceError(f"{path} is damaged: {error}", "copy it again from its source") from None
    return False


def packet_bounds(data: bytes | bytearray) -> tuple[list[int], bool]:
    """Begin, content and end of every whole packet, and whether what follows may become one."""
    end = len(data)
    bounds: list[int] = []
    pos = 0
    try:
        while pos < end:
            if data[pos] != _PACKET_TAG:
                return bounds, False
            size = data[pos + 1]
            start = pos + 2
            if size > 0x7F:
                size, start = rpc.read_varint(data, pos + 1)
                if size > _LARGEST:
                    return bounds, False
            if start + size > end:
                break
            bounds += (pos, start, start + size)
            pos = start + size
    except IndexError:
        pass
    except ValueError:
        return bounds, False
    return bounds, True
