"""BPF ring buffers, mapped and drained in bulk: no callback and no object per record.

Layout (kernel/bpf/ringbuf.c): consumer position in the page at 0 (writable); producer position
in the page after it, then the data. Each record has an 8-byte header: length with the busy bit
(31) and the discard bit (30), page offset. The kernel offers the data twice in a row, so that no
record wraps; every page mapped counts as ours, so that we take one and join the ends ourselves.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profinfer.errors import KernelError

_PAGE = mmap.PAGESIZE
_HEADER = 8


@dataclass(frozen=True)
class Drained:
    """Whole records without their headers, and whether an unfinished one stopped the drain."""

    data: npt.NDArray[np.uint8]
    """Shape (records, record size)."""
    stopped: bool


class Ring:
    """The consumer of one ring whose records all have `record_size` bytes (a multiple of 8)."""

    def __init__(self, fd: int, size: int, record_size: int) -> None:
        try:
            self._consumer = mmap.mmap(fd, _PAGE, mmap.MAP_SHARED)
            self._producer = mmap.mmap(
                fd, _PAGE + size, mmap.MAP_SHARED, mmap.PROT_READ, offset=_PAGE
            )
        except OSError as error:
            raise KernelError(f"cannot map a BPF ring buffer: {error.strerror}") from None
        self._mask = size - 1
        self._stride = record_size + _HEADER
        # Not by struct, which goes byte by byte: the kernel must see the whole of a position.
        self._taken = memoryview(self._consumer).cast("Q")
        self._position = self._taken[0]
        self._head = np.frombuffer(self._producer, "<u8", 1)
        self._data = np.frombuffer(self._producer, "u1", size, _PAGE)

    def drain(self) -> Drained:
        """Takes every committed record up to now out of the ring."""
        head = int(self._head[0])
        start = self._position & self._mask
        count = (head - self._position) // self._stride
        if count <= 0:
            return Drained(np.empty((0, self._stride - _HEADER), np.uint8), False)
        end = start + count * self._stride
        flat = self._data[start:end]
        if end > self._mask + 1:
            flat = np.concatenate([flat, self._data[: end & self._mask]])
        rows = flat.reshape(count, self._stride)
        busy = np.flatnonzero(rows[:, 3] & 0x80)
        if len(busy):
            count = int(busy[0])
            rows = rows[:count]
        copy = np.ascontiguousarray(rows[:, _HEADER:])
        self._position += count * self._stride
        self._taken[0] = self._position
        return Drained(copy, bool(len(busy)))

    def close(self) -> None:
        """Unmaps the ring."""
        self._taken.release()
        del self._head, self._data
        self._producer.close()
        self._consumer.close()
