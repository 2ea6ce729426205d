"""The kernel's perf buffers, mapped and drained in bulk: no callback and no object per record.

Layout (include/uapi/linux/perf_event.h): a page of which data_head (at 1024) is written by the
kernel and data_tail (at 1032) by us, then 2^n pages of data, in which records wrap around. Each has
an 8-byte header: u32 type, u16 misc, u16 size. What BPF sends is a SAMPLE: u32 length, the bytes,
padding to 8. A LOST says how many the kernel has dropped before it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import struct

import numpy as np
import numpy.typing as npt

from profinfer import kernel
from profinfer.errors import KernelError
from profinfer.ring import Drained

_PAGE = mmap.PAGESIZE
_HEAD, _TAIL = 1024 // 8, 1032 // 8
_LOST, _SAMPLE = 2, 9
_NOT_MISC = np.uint64(0xFFFF_0000_FFFF_FFFF)
"""Of a header: all but the field between type and size."""
_SOFTWARE, _BPF_OUTPUT, _RAW = 1, 10, 1 << 10
_WATERMARK = 1 << 14
"""Bit of perf_event_attr's flags."""

Bytes = npt.NDArray[np.uint8]


class _Buffer:
    """The buffer of one CPU."""

    def __init__(self, cpu: int, size: int, *, wakeups: bool) -> None:
        attr = bytearray(128)
        struct.pack_into("<IIQQQ", attr, 0, _SOFTWARE, 128, _BPF_OUTPUT, 1, _RAW)
        if not wakeups:
            # One in a buffer's length is the least that can be asked for.
            struct.pack_into("<QI", attr, 40, _WATERMARK, size)
        else:
            struct.pack_into("<QI", attr, 40, 0, 1)
        self.fd = kernel.perf_event(bytes(attr), -1, cpu, f"a perf buffer for CPU {cpu}")
        try:
            self._map = mmap.mmap(self.fd, _PAGE + size)
        except OSError as error:
            os.close(self.fd)
            raise KernelError(
                f"cannot map a perf buffer of {size} bytes: {error.strerror}",
                "choose a smaller --ring-size, or raise kernel.perf_event_mlock_kb",
            ) from None
        kernel.perf_enable(self.fd)
        # Not by struct, which goes byte by byte: the kernel must see the whole of a position.
        self._words = memoryview(self._map).cast("Q")
        self._data = np.frombuffer(self._map, np.uint8, size, _PAGE)
        self._size = size
        self._tail = 0

    def fill(self) -> float:
        return (self._words[_HEAD] - self._tail) / self._size

    def take(self) -> Bytes:
        """Everything in it, as one piece."""
        head = self._words[_HEAD]
        start, count = self._tail % self._size, head - self._tail
        found = np.concatenate(
            [self._data[start : start + count], self._data[: max(0, start + count - self._size)]]
        )
        self._tail = head
        self._words[_TAIL] = head
        return found

    def close(self) -> None:
        self._words.release()
        del self._data
        self._map.close()
        os.close(self.fd)


class PerfBuffers:
    """The consumer of a PERF_EVENT_ARRAY whose records all have `record_size` bytes."""

    def __init__(
        self, map_fd: int, cpus: int, size: int, record_size: int, *, wakeups: bool = False
    ) -> None:
        """`size`: bytes of each CPU's buffer, a power of two of whole pages. With `wakeups` the
        kernel says when there is something: see `poll_fd`."""
        self._sample = sample_dtype(record_size)
        self._buffers: dict[int, _Buffer] = {}
        self._poll = select.epoll()
        self.lost = 0
        """Records that the kernel says it has dropped, as far as drained."""
        try:
            for cpu in online_cpus(cpus):
                buffer = self._buffers[cpu] = _Buffer(cpu, size, wakeups=wakeups)
                kernel.map_update(map_fd, struct.pack("<I", cpu), struct.pack("<I", buffer.fd))
                if wakeups:
                    self._poll.register(buffer.fd, select.EPOLLIN)
        except BaseException:
            self.close()
            raise

    @property
    def poll_fd(self) -> int:
        """Readable (epoll) when there is something."""
        return self._poll.fileno()

    def fill(self) -> float:
        """How full the fullest buffer is, between 0 and 1."""
        return max((buffer.fill() for buffer in self._buffers.values()), default=0.0)

    def drain_cpu(self, cpu: int) -> Bytes:
        """Takes every record out of the buffer of `cpu`; shape (records, record size)."""
        # Of a CPU that is offline there is none: a handler that ran there would count a loss.
        raw = self._buffers[cpu].take() if cpu in self._buffers else np.empty(0, np.uint8)
        data, lost = parse(raw, self._sample)
        self.lost += lost
        return data

    def drain(self) -> Drained:
        """Takes every record out of all buffers."""
        return Drained(np.concatenate([self.drain_cpu(cpu) for cpu in self._buffers]), False)

    def close(self) -> None:
        """Unmaps them. The kernel's own reference goes with the map of events."""
        for buffer in self._buffers.values():
            buffer.close()
        self._buffers = {}
        with contextlib.suppress(ValueError):
            self._poll.close()


def sample_dtype(record_size: int) -> np.dtype[np.void]:
    """A SAMPLE whose record has `record_size` bytes."""
    size = 8 + -(-(4 + record_size) // 8) * 8
    return np.dtype(
        {
            "names": ["header", "record"],
            "formats": ["<u8", f"V{record_size}"],
            "offsets": [0, 12],
            "itemsize": size,
        }
    )


def parse(data: Bytes, sample: np.dtype[np.void]) -> tuple[Bytes, int]:
    """The records of whole samples, and how many the kernel says were lost between them."""
    parts, lost, at = [], 0, 0
    stride, record_size = sample.itemsize, sample["record"].itemsize
    header = np.uint64(_SAMPLE | stride << 48)
    while at < len(data):
        rows = data[at : at + (len(data) - at) // stride * stride].view(sample)
        other = np.flatnonzero(rows["header"] & _NOT_MISC != header)
        count = int(other[0]) if len(other) else len(rows)
        parts.append(rows["record"][:count])
        at += count * stride
        if at < len(data):
            kind, _, size, _, dropped = struct.unpack("<IHHQQ", data[at : at + 24].tobytes())
            lost += dropped if kind == _LOST else 0
            at += size
    records = np.concatenate(parts) if parts else np.empty(0, f"V{record_size}")
    return records.view(np.uint8).reshape(len(records), record_size), lost


def online_cpus(cpus: int) -> list[int]:
    """Those of the first `cpus` that are running now."""
    found: list[int] = []
    with open("/sys/devices/system/cpu/online") as file:
        for part in file.read().strip().split(","):
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
    return [cpu for cpu in found if cpu < cpus]
