"""How fast tokens come: from the beginning of a decoding step on, the tokens that the user got by
it over the time until the next one begins (docs/requests.md).

A step whose requests all end with it lasts until it has been computed; then the rate is 0, as it is
in prefill, and where records were lost: tokens that are not complete are not counted. Of a
verification of drafts they are counted by the positions of the next step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from profinfer.requests.portions import Portion


class MicroBatch(Protocol):
    """Times in BOOTTIME ns."""

    begin: int
    end: int
    """Later than any time until it is known."""


class TokenRate:
    """Is told what was computed, in order, and gives the rates that this makes known: when, tokens
    per second."""

    def __init__(self) -> None:
        self._last: tuple[Sequence[MicroBatch], Sequence[Portion]] | None = None
        self._lost: set[tuple[int, int]] = set()
        self._given = (0, 0.0)
        """The last rate."""

    def lose(self, first: int, last: int) -> None:
        """Records may be missing between these times."""
        self._lost.add((first, last))

    def batch(
        self, ubatches: Sequence[MicroBatch], portions: Sequence[Portion]
    ) -> Iterator[tuple[int, float]]:
        """What was computed in one call, with its requests; the one before it is done with."""
        if ubatches and any(portion.phase != "draft" for portion in portions):
            yield from self.finish(portions, min(ubatch.begin for ubatch in ubatches))
            self._last = ubatches, portions

    def finish(
        self, following: Sequence[Portion] = (), now: int = 0
    ) -> Iterator[tuple[int, float]]:
        """Nothing comes after the last one but `following`, computed `now`."""
        if self._last is None:
            return
        ubatches, portions = self._last
        self._last = None
        tokens, goes_on = _gained(portions, following)
        begin = min(ubatch.begin for ubatch in ubatches)
        until = now if goes_on else max(ubatch.end for ubatch in ubatches)
        if not begin < until < _NEVER:
            return  # computed at the same time as others, or its end is not known
        self._lost = {lost for lost in self._lost if lost[1] >= begin}
        if any(first <= until for first, _ in self._lost):
            tokens = 0
        yield from self._give(begin, tokens * 1e9 / (until - begin))
        if not goes_on:
            yield from self._give(until, 0.0)

    def _give(self, ts: int, rate: float) -> Iterator[tuple[int, float]]:
        if ts >= self._given[0] and rate != self._given[1]:
            self._given = ts, rate
            yield self._given


_NEVER = 1 << 62


def _gained(portions: Sequence[Portion], following: Sequence[Portion]) -> tuple[int, bool]:
    """The tokens that these gave, and whether a request of them goes on in the next ones."""
    after = {(each.context, each.sequence): each for each in following}
    tokens, goes_on = 0, False
    for portion in portions:
        if portion.phase != "decode":
            continue
        next_one = after.get((portion.context, portion.sequence))
        if next_one and next_one.request is portion.request:
            goes_on = True
            got = next_one.position + next_one.shift - portion.position
            tokens += min(max(1, got), max(1, portion.outputs))
        else:
            tokens += min(1, portion.outputs)
    return tokens, goes_on
