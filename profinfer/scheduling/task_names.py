"""Names of threads at any time of a recording: they change, and thread ids come back."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from profinfer.records.columns import I64
from profinfer.records.dtypes import Records

UNKNOWN = "?"


class TaskNames:
    """Numbers of names, by thread and time. Time only goes forward."""

    def __init__(self) -> None:
        self.texts = [UNKNOWN]
        """By number."""
        self._numbers = {UNKNOWN: 0}
        self._now: dict[int, int] = {}
        self._tid = self._ts = self._number = np.empty(0, np.int64)

    def number(self, text: str) -> int:
        """The number of a name."""
        found = self._numbers.get(text)
        if found is None:
            found = self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return found

    def add_known(self, names: Iterable[tuple[int, str]]) -> None:
        """Names of threads of whose naming no record has told."""
        for tid, text in names:
            self._now.setdefault(tid, self.number(text))

    def begin(self, namings: Records) -> None:
        """Takes the records of names given, in order of time, that the look-ups up to `end` are to
        know of."""
        self._tid = namings["tid"].astype(np.int64)
        self._ts = namings["ts"].astype(np.int64)
        raw = np.stack([namings["a"], namings["b"]], axis=1).astype("<u8")
        texts = [_text(row.tobytes()) for row in raw]
        self._number = np.array([self.number(text) for text in texts], np.int64)

    def at(self, tid: I64, ts: I64) -> I64:
        """The number of each thread's name at a time."""
        tids, index = np.unique(tid, return_inverse=True)
        now = np.array([self._now.get(t, 0) for t in tids.tolist()], np.int64)
        numbers = now[index]
        if not len(self._tid):
            return numbers
        # Both in one order, where each look-up stands behind the last naming of its thread.
        named = len(self._tid)
        both = np.concatenate([self._tid, tid])
        is_look = np.arange(len(both)) >= named
        order = np.lexsort((is_look, np.concatenate([self._ts, ts]), both))
        place = np.where(order < named, np.arange(len(order)), -1)
        last = order[np.maximum(np.maximum.accumulate(place), 0)]
        found = (last < named) & (both[last] == both[order]) & (order >= named)
        numbers[order[found] - named] = self._number[last[found]]
        return numbers

    def end(self) -> None:
        """Everything up to now has been looked up."""
        self._now.update(zip(self._tid.tolist(), self._number.tolist(), strict=True))
        self._tid = self._ts = self._number = np.empty(0, np.int64)


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "replace")
