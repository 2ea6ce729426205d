"""What is measured while recording is on and off in turn (`record --alternate`): one process, the
same memory, half a second apart. What drifts favours neither.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from profinfer.records.capture import FrameKind, read_capture

Times = npt.NDArray[np.int64]
_LEAST = 2
"""Of what is timed, in a phase that counts."""
_SETTLED_NS = 20_000_000
"""After a switch: instructions were written, and other CPUs told of it."""


@dataclasses.dataclass(frozen=True)
class Phase:
    """In which nothing was switched."""

    start: int
    end: int
    is_on: bool


@dataclasses.dataclass(frozen=True)
class Interval:
    """A median, and within what it is with 95 %, by ranks; without a width where there are too
    few."""

    middle: float
    low: float = -math.inf
    high: float = math.inf

    @property
    def width(self) -> float:
        return self.high - self.low

    def describe(self, digits: int) -> str:
        """Middle and bounds."""
        middle, low, high = (f"{x:.{digits}f}" for x in (self.middle, self.low, self.high))
        return f"{middle} ({low}..{high})" if math.isfinite(self.width) else f"{middle} (too few)"


def phases(capture: Path) -> list[Phase]:
    """Of a recording that was whole: from when it was off for the first time."""
    end = next(f for f in read_capture(capture) if f.kind == FrameKind.END)
    times = [int(time) for time in end.json()["turns"]]
    # Until, from, until, from, ...: the first "until" ends what nobody knows the beginning of.
    spans = zip(times[1::2], times[2::2], strict=False)
    return [Phase(start, end, bool(i % 2)) for i, (start, end) in enumerate(spans)]


def durations(
    starts: Times, ends: Times, found: Sequence[Phase],
    middle: Callable[[Times], np.floating[Any]] = np.mean,
) -> list[float | None]:  # fmt: skip
    """The mean duration, in ns, of what lies within each phase; None where that is too little."""
    means: list[float | None] = []
    for phase in found:
        within = (starts >= phase.start + _SETTLED_NS) & (ends <= phase.end)
        taken = (ends - starts)[within]
        means.append(float(middle(taken)) if len(taken) >= _LEAST else None)
    return means


def tokens(requests: Iterable[Sequence[int]]) -> tuple[Times, Times]:
    """From one token to the next of the same request."""
    parts = [np.array(times, np.int64) for times in requests]
    return (
        np.concatenate([times[:-1] for times in parts]),
        np.concatenate([times[1:] for times in parts]),
    )


def logarithms(means: Sequence[float | None], found: Sequence[Phase]) -> list[float]:
    """Of off : on, one for each three phases: the middle one against those around it. No phase is
    in two of them, so that they are independent."""
    logs = []
    for i in range(0, len(means) - 2, 3):
        before, middle, after = means[i : i + 3]
        if before and middle and after:
            log = (math.log(before) + math.log(after)) / 2 - math.log(middle)
            logs.append(log if found[i + 1].is_on else -log)
    return logs


def interval(values: Iterable[float]) -> Interval:
    """By ranks: what else a machine does makes some of them wrong by any amount."""
    found = sorted(values)
    count = len(found)
    middle = statistics.median(found) if found else math.nan
    # So many to either side that the median lies beyond them with 2.5 % at most.
    rank, tail = 0, 1
    while 40 * tail <= 2**count:
        rank += 1
        tail += math.comb(count, rank)
    return Interval(middle, found[rank - 1], found[-rank]) if rank else Interval(middle)


def ratio(logs: Iterable[float]) -> Interval:
    """The speed with recording over the speed without."""
    found = interval(logs)
    return Interval(*(math.exp(x) for x in (found.middle, found.low, found.high)))
