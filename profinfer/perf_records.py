"""Records that come through perf buffers: which of a CPU's are complete, and since when.

A handler takes its time, may then be preempted, and sends its record when others have sent younger
ones. So each counts itself in before it takes the time and out after it has sent (bpf/perf.h): when
nobody is in, everything older than that moment lies in the buffer or has been counted as lost.
"""

from __future__ import annotations

import mmap

import numpy as np

from profinfer.errors import KernelError
from profinfer.perf_buffer import PerfBuffers
from profinfer.record_ring import TRIES, whole_pages
from profinfer.records import RING_HEAD
from profinfer.ring import Drained


class PerfRecords:
    """The perf buffers of RECORD of all CPUs; `drain` takes from one of them."""

    def __init__(self, heads_fd: int, buffers: PerfBuffers, cpus: int) -> None:
        try:
            self._head_map = mmap.mmap(
                heads_fd, whole_pages(cpus * RING_HEAD.itemsize), prot=mmap.PROT_READ
            )
        except OSError as error:
            raise KernelError(f"cannot map the counts of handlers: {error.strerror}") from None
        self.cpus = cpus
        self._heads = np.frombuffer(self._head_map, RING_HEAD, cpus)
        self._buffers = buffers

    @property
    def lost(self) -> int:
        """Records that the kernel says it has dropped, as far as drained."""
        return self._buffers.lost

    def fill(self) -> float:
        """How full the fullest buffer is, between 0 and 1."""
        return self._buffers.fill()

    def drain(self, cpu: int) -> Drained:
        """Takes every record out of the buffer of `cpu`; `stopped` when an older one than those may
        still be under way."""
        stopped = not self._is_quiet(cpu)
        return Drained(self._buffers.drain_cpu(cpu), stopped)

    def _is_quiet(self, cpu: int) -> bool:
        for _ in range(TRIES):
            # In this order: whoever is in at the first reading makes the second one larger.
            ended = int(self._heads["ended"][cpu])
            if int(self._heads["next"][cpu]) == ended:
                return True
        return False

    def close(self) -> None:
        """Unmaps everything."""
        del self._heads
        self._head_map.close()
        self._buffers.close()
