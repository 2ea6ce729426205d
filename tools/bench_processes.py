"""All processes of one recording: whichever there are, by a mark in their environment."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

_MARK = "PROFINFER_BENCH"
_numbers = itertools.count()


class Family:
    """`profinfer record` and whatever it starts, but what it records.

    A mark in the environment is inherited by whoever is started, also in a session of its own.
    """

    def __init__(self) -> None:
        self._mark = f"{os.getpid()}.{next(_numbers)}"
        self.pids: set[int] = set()
        """Those that were seen so far."""

    @property
    def environment(self) -> dict[str, str]:
        """What it is started with."""
        return {**os.environ, _MARK: self._mark}

    @staticmethod
    def unmarked(command: list[str]) -> list[str]:
        """A command for it to launch, which is not of the family."""
        return ["env", "-u", _MARK, *command]

    def look(self) -> list[int]:
        """Who is there now."""
        wanted = f"{_MARK}={self._mark}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue  # gone meanwhile
        self.pids |= set(found)
        return found

    def cpu_s(self) -> Mapping[int, float]:
        """CPU time of each process until now, all of its threads, also those that ended."""
        times = {}
        for pid in self.look():
            try:
                times[pid] = time.clock_gettime(~pid << 3 | 2)  # the CPU clock of another process
            except OSError:
                continue
        return times

    def peaks_mb(self) -> dict[str, float]:
        """Peak resident set of each process until now; the greatest where several have a name."""
        peaks: dict[str, float] = defaultdict(float)
        for pid in self.look():
            try:
                text = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            name, size = re.search(r"Name:\s+(.+)", text), re.search(r"VmHWM:\s+(\d+) kB", text)
            if name and size:
                peaks[name[1]] = max(peaks[name[1]], int(size[1]) / 1e3)
        return peaks


def spent(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """CPU seconds between two looks."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())
