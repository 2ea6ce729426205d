"""What did not fit into the rings: when that was, and how a trace says so.

A loss is said in Perfetto's own terms (a packet that restates the sequence's state, TraceStats),
as a mark with its window, and as counters: one of everything, and one per CPU and kind that has
lost something.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from perfetto_protos import trace_pb2 as pb
from profinfer.capture import LOSS_ENTRY
from profinfer.lanes import Lanes
from profinfer.records import RECORD, WIDE_SIZE, Kind, Records
from profinfer.slices import Loss
from profinfer.trace_writer import BufferStats, TraceWriter

_MAX_CPUS = 1 << 16


class Losses:
    """Counts what went through the rings and what was lost; keeps the windows still needed."""

    def __init__(self, writer: TraceWriter, lanes: Lanes, cpus: int, start: int) -> None:
        """`start` is when recording began, in BOOTTIME ns."""
        if not 0 < cpus <= _MAX_CPUS:
            raise ValueError(f"a machine with {cpus} CPUs")
        self._writer = writer
        self._lanes = lanes
        self._cpus = cpus
        self._start = start
        self._lost: dict[tuple[int, int], int] = {}
        # The structure ring comes last.
        self._records: npt.NDArray[np.int64] = np.zeros(cpus + 1, np.int64)
        self.windows: list[Loss] = []
        writer.counter(start, lanes.lost, 0)

    @property
    def total(self) -> int:
        """Records lost so far, of all kinds."""
        return sum(self._lost.values())

    def count(self, records: Records) -> None:
        """Records that came through the rings of the CPUs."""
        self._records[:-1] += np.bincount(records["cpu"], minlength=self._cpus)[: self._cpus]

    def count_wide(self, data: bytes) -> None:
        """Records that came through the structure ring."""
        self._records[-1] += len(data) // WIDE_SIZE

    def add(self, data: bytes) -> None:
        """The LOSS_ENTRYs of one frame."""
        self._writer.dropped()
        entries = np.frombuffer(data, LOSS_ENTRY)
        for entry in entries[np.argsort(entries["last_ts"], kind="stable")].tolist():
            cpu, kind, lost, first, last = entry
            self.windows.append(Loss(first, last, kind))
            self._write(cpu, kind, lost - self._lost.get((cpu, kind), 0), first, last)
        self.write_stats()

    def _write(self, cpu: int, kind: int, fresh: int, first: int, last: int) -> None:
        writer, lanes = self._writer, self._lanes
        name = Kind(kind).name.lower() if kind in Kind.__members__.values() else str(kind)
        counter = lanes.loss_counter(cpu, name)
        if (cpu, kind) not in self._lost:
            writer.counter(max(self._start, first), counter, 0)
        self._lost[cpu, kind] = self._lost.get((cpu, kind), 0) + fresh
        writer.event(
            pb.TrackEvent.TYPE_INSTANT, last, lanes.loss, "records lost", "loss",
            {"cpu": cpu, "kind": name, "lost": fresh, "first_ts": first, "last_ts": last},
        )  # fmt: skip
        writer.counter(last, counter, self._lost[cpu, kind])
        writer.counter(last, lanes.lost, self.total)

    def forget(self, before: int) -> None:
        """Drops the windows that ended before a time."""
        self.windows = [loss for loss in self.windows if loss.last >= before]

    def write_stats(self) -> None:
        """What the rings have carried and lost until now."""
        lost = [0] * (self._cpus + 1)
        for (cpu, kind), count in self._lost.items():
            at = self._cpus if kind >= Kind.TENSOR else cpu
            if at <= self._cpus:
                lost[at] += count
        sizes = [RECORD.itemsize] * self._cpus + [WIDE_SIZE]
        self._writer.stats(
            [
                BufferStats(size * count, count, missing)
                for size, count, missing in zip(sizes, self._records.tolist(), lost, strict=True)
            ]
        )
