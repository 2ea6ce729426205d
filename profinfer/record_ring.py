"""The rings of records: arrays that the handlers fill and this side drains, both through memory.

bpf/records.h says how they are shared. A BPF ring buffer does the same with two helper calls per
record, which cost more than the rest of a handler; a mapped array costs one atomic instruction.
"""

from __future__ import annotations

import mmap

import numpy as np

from profinfer.errors import KernelError
from profinfer.records import RECORD, RING_HEAD
from profinfer.ring import Drained

_MARKS = 256
TRIES = 20
"""A record takes well below a microsecond: when it is unfinished at every look, its task has been
preempted."""


class RecordRings:
    """The mapped rings of all CPUs; `drain` takes from one of them."""

    def __init__(self, heads_fd: int, slots_fd: int, cpus: int, size: int) -> None:
        """`size`: bytes of each ring."""
        try:
            self._head_map = mmap.mmap(heads_fd, whole_pages(cpus * RING_HEAD.itemsize))
            self._slot_map = mmap.mmap(slots_fd, whole_pages(cpus * size))
        except OSError as error:
            raise KernelError(
                f"cannot map the rings ({cpus} x {size} bytes): {error.strerror}",
                "choose a smaller --ring-size",
            ) from None
        self.cpus = cpus
        self._count = size // RECORD.itemsize
        self._heads = np.frombuffer(self._head_map, RING_HEAD, cpus)
        self._words = memoryview(self._head_map).cast("Q")
        slots = np.frombuffer(self._slot_map, RECORD, cpus * self._count)
        self._slots = slots.reshape(cpus, self._count)

    def fill(self) -> float:
        """How full the fullest ring is, between 0 and 1."""
        # Asked many times a second: on two numbers numpy takes far longer than Python.
        words = self._words
        step = RING_HEAD.itemsize // 8
        waiting = (words[i] - words[i + 1] for i in range(0, self.cpus * step, step))
        return max(waiting) / self._count

    def drain(self, cpu: int) -> Drained:
        """Takes every record up to now out of the ring of `cpu`, as far as they are finished."""
        head = self._heads[cpu : cpu + 1]
        taken, until = int(head["taken"][0]), int(head["next"][0])
        parts = []
        stalls = 0
        while taken < until:
            lap, at = divmod(taken, self._count)
            rows = self._slots[cpu, at : at + until - taken]
            unfinished = np.flatnonzero(rows["mark"] != (lap + 1) % _MARKS)
            finished = int(unfinished[0]) if len(unfinished) else len(rows)
            parts.append(rows[:finished].view(np.uint8).reshape(finished, RECORD.itemsize))
            taken += finished
            if len(unfinished):
                stalls += 1
                if stalls == TRIES:
                    break
        data = np.concatenate(parts) if parts else np.empty((0, RECORD.itemsize), np.uint8)
        head["taken"] = taken
        return Drained(data, taken < until)

    def close(self) -> None:
        """Unmaps the rings."""
        self._words.release()
        del self._heads, self._slots
        self._head_map.close()
        self._slot_map.close()


def whole_pages(size: int) -> int:
    """`size` rounded up to pages."""
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
