"""When the recorder drains: at a fixed interval, and at once when a ring fills up."""

from __future__ import annotations

import time

from profinfer.drain import boot_ns
from profinfer.priority import Priority

_CLOCK_EVERY_NS = 10_000_000_000
_LOOKS, _HURRIED_LOOKS, _FULL = 4, 64, 0.4
"""A ring is looked at so many times between drains, and drained early when as full as this: then
it is looked at more often, until it fills more slowly."""


class Pace:
    """The rhythm of one recording. Use as a context manager: at the end it hurries."""

    def __init__(self, interval: float) -> None:
        """`interval` is the time between drains, in seconds."""
        self._interval = interval
        self._next_drain = time.monotonic() + interval
        self._next_clock = boot_ns() + _CLOCK_EVERY_NS
        self._is_hurried = False
        self._priority = Priority()

    def __enter__(self) -> Pace:
        return self

    def __exit__(self, *_: object) -> None:
        self._priority.set(is_hurried=True)

    @property
    def nap(self) -> float:
        """Seconds until the rings are to be looked at again."""
        return self._interval / (_HURRIED_LOOKS if self._is_hurried else _LOOKS)

    def is_due(self, fill: float, *, at_once: bool) -> bool:
        """Whether to drain now, when the fullest ring is filled by `fill` (0 to 1)."""
        is_filling = fill >= _FULL
        if not (is_filling or at_once or time.monotonic() >= self._next_drain):
            return False
        if is_filling != self._is_hurried:
            self._is_hurried = is_filling
            self._priority.set(is_hurried=is_filling)
        self._next_drain = time.monotonic() + self._interval
        return True

    def is_clock_due(self) -> bool:
        """Whether it is time for another snapshot of the clocks."""
        if boot_ns() < self._next_clock:
            return False
        self._next_clock += _CLOCK_EVERY_NS
        return True
