"""Threads by number and start: the number of one that has ended comes back as a later one's."""

from __future__ import annotations

from bisect import insort

import numpy as np
import numpy.typing as npt

from profinfer.records.columns import I64

_NONE = -1


class Threads:
    """Small indices of the target's threads, in order of appearance. That a number has become
    another thread's only the scheduler's records tell: without them it is one thread."""

    def __init__(self) -> None:
        self.tids: list[int] = []
        """By index."""
        self.since: list[int | None] = []
        """When it began, None where that is not known, by index."""
        self._starts: dict[int, list[int]] = {}
        self._indices: dict[tuple[int, int], int] = {}
        """By number and how many starts of that number there were before."""
        self._sorted = np.empty(0, np.uint32)
        """Numbers met; of each the last start and the index of the thread that began there."""
        self._last = self._current = np.empty(0, np.int64)

    def begin(self, tid: int, ts: int) -> None:
        """A thread begins: what comes from then on is its own. Before any of it is asked for."""
        insort(self._starts.setdefault(tid, []), ts)
        at = int(np.searchsorted(self._sorted, tid))
        if at < len(self._sorted) and self._sorted[at] == tid:
            self._last[at], self._current[at] = self._starts[tid][-1], _NONE

    def index(self, tids: npt.NDArray[np.uint32], ts: npt.NDArray[np.uint64] | I64) -> I64:
        """Indices of threads that ran at these times; new ones are added."""
        if not len(tids):
            return np.empty(0, np.int64)
        at = self._places(tids)
        found = self._current.take(at)
        is_old = ts.astype(np.int64) < self._last.take(at)
        if bool(is_old.any()):
            self._find_old(np.flatnonzero(is_old), tids, ts, found)
        unmet = np.flatnonzero(found == _NONE)
        if len(unmet):
            for place in np.unique(at.take(unmet), return_index=True)[0].tolist():
                tid = int(self._sorted[place])
                self._current[place] = self._index(tid, len(self._starts.get(tid, ())))
            found[unmet] = self._current.take(at.take(unmet))
        return found

    def _places(self, tids: npt.NDArray[np.uint32]) -> I64:
        """Where numbers stand among those that were met."""
        at = np.searchsorted(self._sorted, tids)
        if len(self._sorted):
            is_met = self._sorted.take(np.minimum(at, len(self._sorted) - 1)) == tids
            if bool(is_met.all()):
                return at
        # Not by numpy's set functions: they import 30 ms' worth of modules at the first call.
        new = sorted(set(tids.tolist()) - set(self._sorted.tolist()))
        where = np.searchsorted(self._sorted, np.array(new, np.uint32))
        self._sorted = np.insert(self._sorted, where, new)
        self._last = np.insert(self._last, where, [self._starts.get(tid, [0])[-1] for tid in new])
        self._current = np.insert(self._current, where, np.int64(_NONE))
        return np.searchsorted(self._sorted, tids)

    def _find_old(
        self, rows: I64, tids: npt.NDArray[np.uint32], ts: npt.NDArray[np.uint64] | I64, found: I64
    ) -> None:
        """Fills in those of the rows that are older than the last start of their number."""
        rows = rows.take(np.argsort(tids.take(rows), kind="stable"))
        mine = tids.take(rows)
        bounds = np.flatnonzero(np.append(True, mine[1:] != mine[:-1]))
        for part in np.split(rows, bounds[1:]):
            tid = int(tids[part[0]])
            before = np.searchsorted(
                np.array(self._starts[tid], np.int64), ts.take(part).astype(np.int64), "right"
            )
            for starts in sorted(set(before.tolist())):
                found[part[before == starts]] = self._index(tid, starts)

    def _index(self, tid: int, starts: int) -> int:
        """The index of the thread that began with a number's last one of so many starts."""
        found = self._indices.get((tid, starts))
        if found is None:
            found = self._indices[tid, starts] = len(self.tids)
            self.tids.append(tid)
            self.since.append(self._starts[tid][starts - 1] if starts else None)
        return found
