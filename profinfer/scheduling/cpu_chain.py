"""The switches of one CPU as a chain: who ran when, without a break.

Each switch says who ran and who runs next. Where the two do not fit together, a switch is missing
between them: then a stand-in thread ran, one of a CPU's own, of which nothing is claimed. In a
recording of the target's switches only it stands for every other thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from profinfer.records.columns import I64
from profinfer.trace.losses import Gap

STAND_IN = 5_000_000
"""Thread id of CPU 0's stand-in, CPU 1's is the next; above every real one (Linux: 2^22)."""
SLEEPING, UNKNOWN = 1, 0xFF
"""States: of a stand-in that is left, and of a thread of which nothing is known. That is every
state at once, which no switch reports: Trace Processor has no word for a state that is unknown,
and counts a value without a meaning as an error of the trace. It writes the first three: SDT."""
PRIORITY = 120


def stand_in_name(cpu: int) -> str:
    """What a CPU's stand-in is called."""
    return f"(not recorded, CPU {cpu})"


@dataclass
class Links:
    """Switches of a CPU in order of time."""

    ts: I64
    prev: I64
    """Thread that ran."""
    state: I64
    """Its state, as the tracepoint reports it."""
    next: I64
    prio: I64

    def insert(self, at: list[int], rows: list[tuple[int, int, int, int, int]]) -> Links:
        """With rows (in the order of the fields) before some of its own."""
        extra = np.array(rows, np.int64).T
        columns = zip(self.columns(), extra, strict=True)
        return Links(*(np.insert(old, at, new) for old, new in columns))

    def columns(self) -> tuple[I64, I64, I64, I64, I64]:
        """The fields."""
        return self.ts, self.prev, self.state, self.next, self.prio


class CpuChain:
    """What is known of a CPU from chunk to chunk."""

    def __init__(self, cpu: int) -> None:
        self.cpu = cpu
        self.stand_in = STAND_IN + cpu
        self.running: int | None = None
        """The thread that the last switch put there; None before the first one."""
        self.last_ts = 0
        """Its time."""

    def join(
        self, links: Links, seen: Links, resumed: Callable[[int, int], int | None]
    ) -> tuple[Links, list[Gap]]:
        """The switches with stand-ins where some are missing, and where that is. Something is
        running. `seen`: when which thread was seen to run here (`ts` and `prev`); `resumed(after,
        before)` gives the time of the last switch that is known to have been lost between two."""
        gaps: list[Gap] = []
        if not len(links.ts):
            return links, gaps
        expected = np.append(np.int64(self.running or 0), links.next[:-1])
        at: list[int] = []
        rows: list[tuple[int, int, int, int, int]] = []
        for i in np.flatnonzero(links.prev != expected).tolist():
            after = int(links.ts[i - 1]) if i else self.last_ts
            before = int(links.ts[i])
            left, found = int(expected[i]), int(links.prev[i])
            gaps.append(Gap(after, before, left, found))
            between = (seen.ts > after) & (seen.ts < before)
            leaves = int(seen.ts[between & (seen.prev == left)].max(initial=after)) + 1
            comes = resumed(after, before)
            if comes is None:
                comes = int(seen.ts[between & (seen.prev == found)].min(initial=before)) - 1
            leaves = min(leaves, before)
            if left != self.stand_in:
                at.append(i)
                rows.append((leaves, left, UNKNOWN, self.stand_in, PRIORITY))
            if found != self.stand_in:
                at.append(i)
                rows.append((max(leaves, comes), self.stand_in, SLEEPING, found, PRIORITY))
        self.running, self.last_ts = int(links.next[-1]), int(links.ts[-1])
        return (links.insert(at, rows) if at else links), gaps

    def start(self, ts: int, tid: int) -> None:
        """A thread is known to have run since a time."""
        self.running, self.last_ts = tid, ts
