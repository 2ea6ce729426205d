"""How long a target's threads stood in line for a CPU while they were recorded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class RunDelay:
    """Adds up what the kernel says of each thread: time in which it could have run and did not.

    The recorder is one of those that may have stood in their way, for as long as it ran itself.
    """

    def __init__(self, pid: int) -> None:
        self._tasks = Path(f"/proc/{pid}/task")
        self._first: dict[int, int] = {}
        self._last: dict[int, int] = {}

    def look(self, tids: Iterable[int]) -> None:
        """Reads on. A thread counts from the first look at it to the last one before its end."""
        for tid in tids:
            try:
                text = (self._tasks / str(tid) / "schedstat").read_text()
            except OSError:  # it has ended, or the kernel has no CONFIG_SCHED_INFO
                continue
            waited = int(text.split()[1])
            self._first.setdefault(tid, waited)
            self._last[tid] = waited

    @property
    def seconds(self) -> float | None:
        """Sum over the threads; None when nothing could be read."""
        if not self._last:
            return None
        return (sum(self._last.values()) - sum(self._first.values())) / 1e9
