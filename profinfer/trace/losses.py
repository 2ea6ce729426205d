"""What did not fit into the rings: when that was, and how a trace says so.

A loss is said in Perfetto's own terms (a packet that restates the sequence's state, TraceStats),
as a mark with its window, and as counters: one of everything, and one per CPU and kind that has
lost something.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perfetto_protos import trace_pb2 as pb
from profinfer.records.capture import ANY_CPU, LOSS_ENTRY
from profinfer.records.dtypes import (
    FIRST_SCHEDULER_KIND,
    RECORD,
    WIDE_KINDS,
    WIDE_SIZE,
    Kind,
    Records,
    SchedulerKind,
)
from profinfer.trace.lanes import Lanes
from profinfer.trace.writer import TraceWriter

_MAX_CPUS = 1 << 16
_BESIDE_SLICES = (Kind.COUNTERS, Kind.FAULT, Kind.FILE_READ, Kind.CALL)
"""A reading of the counters, a fault, a read or a call is missing by itself."""


@dataclass(frozen=True)
class Loss:
    """Records were lost between two times (BOOTTIME ns)."""

    first: int
    last: int
    kind: int


@dataclass(frozen=True)
class Gap:
    """Between two times switches are missing."""

    first: int
    last: int
    left: int
    """Thread that was switched to before."""
    found: int
    """Thread that is switched from after."""


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
        # Of the scheduler's rings; last, what was skipped on any CPU.
        self._scheduler_records: npt.NDArray[np.int64] = np.zeros(cpus + 1, np.int64)
        self.has_scheduler = False
        """Whether there are rings of the scheduler."""
        self.windows: list[Loss] = []
        """Of the engine's records."""
        self._scheduler_windows: list[tuple[int, Loss]] = []
        self._fresh: set[int] = set()
        writer.counter(start, lanes.lost, 0)

    @property
    def total_of_slices(self) -> int:
        """Records of the engine lost so far that slices are made of."""
        return sum(
            lost
            for (_, kind), lost in self._lost.items()
            if kind < FIRST_SCHEDULER_KIND and kind not in _BESIDE_SLICES
        )

    @property
    def of_slices(self) -> list[Loss]:
        """The windows in which such records were lost."""
        return [loss for loss in self.windows if loss.kind not in _BESIDE_SLICES]

    def count(self, records: Records) -> None:
        """Records that came through the rings of the CPUs."""
        self._records[:-1] += self._by_cpu(records)

    def _by_cpu(self, records: Records) -> npt.NDArray[np.int64]:
        return np.bincount(records["cpu"], minlength=self._cpus)[: self._cpus]

    def count_wide(self, data: bytes) -> None:
        """Records that came through the structure ring."""
        self._records[-1] += len(data) // WIDE_SIZE

    def count_scheduler(self, records: Records) -> None:
        """Records that came through the scheduler's rings."""
        self._scheduler_records[:-1] += self._by_cpu(records)

    def add(self, data: bytes) -> None:
        """The LOSS_ENTRYs of one frame."""
        entries = np.frombuffer(data, LOSS_ENTRY)
        # What is missing of the scheduler the bundles say (`has_fresh`).
        if bool(np.any(entries["kind"] < FIRST_SCHEDULER_KIND)):
            self._writer.dropped()
        for entry in entries[np.argsort(entries["last_ts"], kind="stable")].tolist():
            cpu, kind, lost, first, last = entry
            if kind < FIRST_SCHEDULER_KIND:
                self.windows.append(Loss(first, last, kind))
            else:
                self._scheduler_windows.append((cpu, Loss(first, last, kind)))
                self._fresh |= set(range(self._cpus)) if cpu == ANY_CPU else {cpu}
            self._write(cpu, kind, lost - self._lost.get((cpu, kind), 0), first, last)
        self.write_stats()

    def _write(self, cpu: int, kind: int, fresh: int, first: int, last: int) -> None:
        writer, lanes = self._writer, self._lanes
        where = None if cpu == ANY_CPU else cpu
        counter = lanes.loss_counter(where, _NAMES.get(kind, str(kind)))
        if (cpu, kind) not in self._lost:
            writer.counter(max(self._start, first), counter, 0)
        self._lost[cpu, kind] = self._lost.get((cpu, kind), 0) + fresh
        self._mark(where, kind, fresh, first, last)
        writer.counter(last, counter, self._lost[cpu, kind])
        writer.counter(last, lanes.lost, sum(self._lost.values()))

    def _mark(
        self, cpu: int | None, kind: int, lost: int, first: int, last: int, **more: int
    ) -> None:
        self._writer.event(
            pb.TrackEvent.TYPE_INSTANT, last, self._lanes.loss, "records lost",
            "loss" if kind < FIRST_SCHEDULER_KIND else "loss.scheduler",
            {"cpu": cpu, "kind": _NAMES.get(kind, str(kind)), "lost": lost, "first_ts": first,
             "last_ts": last, **more},
        )  # fmt: skip

    def forget(self, before: int) -> None:
        """Drops the windows that ended before a time."""
        self.windows = [loss for loss in self.windows if loss.last >= before]

    # ---- Of the scheduler

    def has_fresh(self, cpu: int) -> bool:
        """Whether the scheduler's records of a CPU have had losses since this was last asked."""
        found = cpu in self._fresh
        self._fresh.discard(cpu)
        return found

    def last_switch(self, cpu: int, after: int, before: int) -> int | None:
        """When a switch was last lost on a CPU between two times; None when none is known of."""
        times = [
            loss.last
            for where, loss in self._scheduler_windows
            if where == cpu and loss.kind == SchedulerKind.SWITCH and after < loss.last < before
        ]
        return max(times, default=None)

    def add_gap(self, cpu: int, gap: Gap) -> None:
        """A switch is missing on a CPU. Where no loss explains it the kernel did not run the
        program and did not say so: at least one record. It went through no ring and is in no sum.
        """
        for where, loss in self._scheduler_windows:
            if where in (cpu, ANY_CPU) and loss.first <= gap.last and loss.last >= gap.first:
                return
        self._scheduler_windows.append((cpu, Loss(gap.first, gap.last, SchedulerKind.SWITCH)))
        self._mark(
            cpu, SchedulerKind.SWITCH, 1, gap.first, gap.last,
            left_tid=gap.left, found_tid=gap.found,
        )  # fmt: skip

    def forget_scheduler(self, switched: dict[int, int]) -> None:
        """Drops the windows that ended before the last switch of their CPU, whose times are given:
        what a loss did shows in the first switch after it."""
        if not self._scheduler_windows:
            return
        oldest = min(switched.values(), default=0)
        self._scheduler_windows = [
            (cpu, loss)
            for cpu, loss in self._scheduler_windows
            if loss.last >= (oldest if cpu == ANY_CPU else switched.get(cpu, 0))
        ]

    def write_stats(self) -> None:
        """What the rings have carried and lost until now: those of the CPUs, the one for structure
        and, of the scheduler, those of the CPUs and what was skipped on any; last, where any have
        lost something, those of threads, whose records count as their CPUs'."""
        lost = [0] * (self._cpus + 1)
        beside = 0
        scheduler = [0] * (self._cpus + 1)
        for (cpu, kind), count in self._lost.items():
            if kind >= FIRST_SCHEDULER_KIND:
                scheduler[min(cpu, self._cpus)] += count
            elif kind in WIDE_KINDS:
                lost[self._cpus] += count
            elif cpu <= self._cpus:
                lost[cpu] += count
            else:
                beside += count
        sizes = [RECORD.itemsize] * self._cpus
        rings = [*zip([*sizes, WIDE_SIZE], self._records.tolist(), lost, strict=True)]
        if self.has_scheduler:
            counts = self._scheduler_records.tolist()
            rings += zip([*sizes, RECORD.itemsize], counts, scheduler, strict=True)
        if beside:
            rings.append((RECORD.itemsize, 0, beside))
        self._writer.stats(rings)


_NAMES = {int(kind): kind.name.lower() for kind in (*Kind, *SchedulerKind)}
