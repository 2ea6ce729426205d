"""When the kernel lets go of a thread: long after its number may have become another one's."""

from __future__ import annotations

import numpy as np

from profinfer.records.dtypes import Records, SchedulerKind, select


class ThreadEnds:
    """Tells whose end a record of one is, from the order of starts, exits and ends."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        """Numbers of threads whose start was seen, and not their exit."""
        self._left: set[int] = set()
        """Of those that have exited."""
        self._late: dict[int, int] = {}
        """How many ends are to come of threads whose number has been given away, by number."""

    def without_late(self, records: Records) -> Records:
        """Records in order of time, without the ends of threads whose number is another one's by
        then: a reader would take them for that one's."""
        kind = records["kind"]
        of_ends = np.flatnonzero(
            (kind == SchedulerKind.NEWTASK)
            | (kind == SchedulerKind.EXIT)
            | (kind == SchedulerKind.FREE)
        )
        late = [
            row
            for row, (_, a, _, tid, _, what, _) in zip(
                of_ends.tolist(), records[of_ends].tolist(), strict=True
            )
            if self._is_late(what, a & 0xFFFFFFFF if what == SchedulerKind.NEWTASK else tid)
        ]
        if not late:
            return records
        kept = np.ones(len(records), np.bool_)
        kept[late] = False
        return select(records, kept)

    def _is_late(self, kind: int, tid: int) -> bool:
        if kind == SchedulerKind.NEWTASK:
            if tid in self._left:
                self._left.remove(tid)
                self._late[tid] = self._late.get(tid, 0) + 1
            self._running.add(tid)
        elif kind == SchedulerKind.EXIT:
            self._running.discard(tid)
            self._left.add(tid)
        elif self._late.get(tid):
            self._late[tid] -= 1
            return True
        elif tid in self._running:
            return True
        else:
            self._left.discard(tid)
        return False
