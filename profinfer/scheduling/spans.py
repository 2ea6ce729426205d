"""Stretches of time of threads: what begins of each, and the first thing after it that ends it."""

from __future__ import annotations

import numpy as np

from profinfer.records.columns import I64


class Spans:
    """Matches begins and ends, thread by thread, from chunk to chunk."""

    def __init__(self) -> None:
        self._open: dict[int, int] = {}

    def feed(
        self, begin_tid: I64, begin_ts: I64, end_tid: I64, end_ts: I64
    ) -> tuple[I64, I64, I64]:
        """Takes what begins and what may end something; of each span that has ended its thread,
        begin and end. Of a span that has not ended when the thread's next one begins the end was
        lost: it ends there."""
        tids, starts, times = [], [], []
        for tid in sorted({*self._open, *begin_tid.tolist()}):
            begins = begin_ts[begin_tid == tid]
            if tid in self._open:
                begins = np.append(np.int64(self._open[tid]), begins)
            ends = np.sort(end_ts[end_tid == tid])
            at = np.searchsorted(ends, begins, "right")
            ended = at < len(ends)
            end = ends[at[ended]]
            # All but the last begin have a next one; the last may stay open.
            following = np.append(begins[1:], np.iinfo(np.int64).max)
            until = np.full(len(begins), np.iinfo(np.int64).max)
            until[ended] = end
            until = np.minimum(until, following)
            if until[-1] == np.iinfo(np.int64).max:
                self._open[tid] = int(begins[-1])
                until = until[:-1]
            else:
                self._open.pop(tid, None)
            tids.append(np.full(len(until), tid, np.int64))
            starts.append(begins[: len(until)])
            times.append(until)
        none = np.empty(0, np.int64)
        tid, begin, end = (np.concatenate([none, *parts]) for parts in (tids, starts, times))
        return tid, begin, end
