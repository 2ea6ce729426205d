"""Readings of the counters, kept until the slices that begin or end with them are written.

A reading is the row of records that follows an operator, a barrier or a graph's end, with its time
and thread (bpf/records.h). Where not all of it arrived it is as if it had not been made; so it is
with those of a new generation up to the next beginning of an operator: what was counted before is
not all the thread's own, and nothing in the trace shall be the difference between the two.
"""

from __future__ import annotations

import numpy as np

from profinfer.records.columns import I64, U64, Mask
from profinfer.records.dtypes import COUNTER_GENERATION, COUNTER_UNKNOWN, Records
from profinfer.trace.threads import Threads

UNKNOWN = 0
"""In the place of a value that could not be read: all others are above it."""


class Readings:
    """Values by thread and time."""

    def __init__(self, records: int, columns: int) -> None:
        """`records` make one reading of `columns` values: CPU time in ns, the counters, then ns in
        which each group on a PMU was not counted."""
        self._records = records
        self._columns = columns
        self._thread: I64 = np.empty(0, np.int64)
        self._ts: I64 = np.empty(0, np.int64)
        self.values: I64 = np.empty((0, columns), np.int64)
        """Shape (readings, columns), by thread and time. A thread's begin at 1, or where they are
        first known: only differences mean anything."""
        self._last: dict[tuple[int, int], tuple[int, int]] = {}
        """Of a thread's column the last value as it came, and as it stands here."""
        self._generation: dict[int, int] = {}
        """The last one of each thread."""
        self._dropping: set[int] = set()
        """Threads in whose next readings a generation goes on that has begun within an operator."""

    def add(self, records: Records, bounds: Records, threads: Threads) -> None:
        """Takes the next records: those of one reading in order, none without the others. `bounds`:
        the records at which operators begin or graphs end."""
        thread = threads.index(records["tid"], records["ts"])
        ts = records["ts"].astype(np.int64)
        order = np.lexsort((ts, thread))
        thread, ts = thread.take(order), ts.take(order)
        new = np.append(True, (np.diff(thread) != 0) | (np.diff(ts) != 0))[: len(ts)]
        first = np.flatnonzero(new)
        whole = np.diff(np.append(first, len(ts))) == self._records
        first = first[whole]
        rows = order.take((first[:, None] + np.arange(self._records)).ravel())
        pairs = np.stack([records["a"].take(rows), records["b"].take(rows)], axis=1)
        raw = pairs.reshape(len(first), 2 * self._records)[:, : self._columns]
        # Where the CPU time is unknown all is: the kernel could not make the reading.
        is_read = raw[:, 0] != COUNTER_UNKNOWN
        first, raw = first[is_read], raw[is_read]
        thread, ts = thread.take(first), ts.take(first)
        generation = raw[:, 0] >> np.uint64(COUNTER_GENERATION)
        raw[:, 0] &= np.uint64((1 << COUNTER_GENERATION) - 1)
        values = self._rebased(thread, raw)
        values[self._is_dropped(thread, ts, generation.astype(np.int64), bounds, threads)] = UNKNOWN
        self._keep(thread, ts, values)

    def _is_dropped(
        self, thread: I64, ts: I64, generation: I64, bounds: Records, threads: Threads
    ) -> Mask:
        """Which of the readings, ordered by thread and time, are of no use."""
        dropped = np.zeros(len(thread), np.bool_)
        bound_thread = threads.index(bounds["tid"], bounds["ts"])
        bound_ts = bounds["ts"].astype(np.int64)
        for number in sorted(set(thread.tolist())):
            begin, end = np.searchsorted(thread, [number, number + 1]).tolist()
            mine = generation[begin:end]
            before = np.append(np.int64(self._generation.get(number, int(mine[0]))), mine[:-1])
            self._generation[number] = int(mine[-1])
            its = np.sort(bound_ts[bound_thread == number])
            at = np.searchsorted(its, ts[begin:end])
            is_bound = np.append(its, -1)[at] == ts[begin:end]
            # The place of the last change up to each reading, and of the last bound before it.
            change, bound = (0, -1) if number in self._dropping else (-1, 0)
            place = np.arange(1, len(mine) + 1)
            changes = np.maximum.accumulate(np.where(before != mine, place, change))
            bounds_to = np.maximum.accumulate(np.where(is_bound, place, bound))
            dropped[begin:end] = changes > np.append(np.int64(bound), bounds_to[:-1])
            self._dropping.discard(number)
            if changes[-1] > bounds_to[-1]:
                self._dropping.add(number)
        return dropped

    def _keep(self, thread: I64, ts: I64, values: I64) -> None:
        thread, ts = np.append(self._thread, thread), np.append(self._ts, ts)
        values = np.concatenate([self.values, values])
        order = np.lexsort((ts, thread))
        self._thread, self._ts = thread.take(order), ts.take(order)
        self.values = values.take(order, axis=0)

    def _rebased(self, thread: I64, raw: U64) -> I64:
        """Each thread's values from 1 on; they never go back, even where its number is another
        thread's from some time on."""
        values = np.full(raw.shape, UNKNOWN, np.int64)
        ends = np.flatnonzero(np.append(np.diff(thread) != 0, True))[: len(thread)] + 1
        for begin, end in zip([0, *ends.tolist()], ends.tolist(), strict=False):
            for column in range(self._columns):
                part = raw[begin:end, column]
                known = np.flatnonzero(part != COUNTER_UNKNOWN)
                if len(known):
                    key = (int(thread[begin]), column)
                    values[begin + known, column] = self._continued(key, part.take(known))
        return values

    def _continued(self, key: tuple[int, int], part: U64) -> I64:
        came, stands = self._last.get(key, (int(part[0]), 1))
        values = part.astype(np.int64)
        steps = np.maximum(values - np.append(np.int64(came), values[:-1]), 0)
        found: I64 = stands + np.cumsum(steps)
        self._last[key] = (int(part[-1]), int(found[-1]))
        return found

    def find(self, thread: I64, ts: I64) -> I64:
        """For each thread and time the row of `values`, -1 where there is none."""
        found = np.full(len(ts), -1, np.int64)
        for number in set(thread.tolist()):
            begin, end = np.searchsorted(self._thread, [number, number + 1]).tolist()
            mine = np.flatnonzero(thread == number)
            at = begin + np.searchsorted(self._ts[begin:end], ts.take(mine))
            hit = np.flatnonzero(at < end)
            hit = hit[self._ts.take(at.take(hit)) == ts.take(mine.take(hit))]
            found[mine.take(hit)] = at.take(hit)
        return found

    def forget(self, before: int) -> None:
        """Drops those older than a time."""
        kept = np.flatnonzero(self._ts >= before)
        self._thread, self._ts = self._thread.take(kept), self._ts.take(kept)
        self.values = self.values.take(kept, axis=0)
