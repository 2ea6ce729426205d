"""Processes and threads of the machine, as /proc tells of them: names and who belongs to whom."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_MAX_NAME = 256
_KWORKER = re.compile(r"kworker/u?\d+:\d+[HI]?(?=[-+])")
"""What follows is what it works on at the moment, and no part of its name."""


@dataclass
class Tasks:
    """Some of them; for the trace."""

    processes: list[tuple[int, int, str, bool]] = field(default_factory=list)
    """(process id, its parent's, name, whether that is only the main thread's name)."""
    threads: list[tuple[int, int, str]] = field(default_factory=list)
    """(thread id, process id, name)."""

    def to_json(self) -> dict[str, Any]:
        """For a frame."""
        return {"processes": self.processes, "threads": self.threads}

    def add_process(self, pid: int) -> None:
        """A process with all its threads; nothing when it has ended."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            stat = _read(f"/proc/{pid}/stat")
            parent = int(stat.rpartition(")")[2].split()[1])
            # The program only: what else stands on a stranger's command line is not ours to tell.
            program = _read(f"/proc/{pid}/cmdline").partition("\0")[0][:_MAX_NAME]
            name = program or _name(pid, pid)
            self.processes.append((pid, parent, name, not program))
            for tid in map(int, os.listdir(f"/proc/{pid}/task")):
                self.add_thread(pid, tid)

    def add_thread(self, pid: int, tid: int) -> None:
        """A thread; nothing when it has ended."""
        with contextlib.suppress(OSError):
            self.threads.append((tid, pid, _name(pid, tid)))


def everything() -> Tasks:
    """All that there are now."""
    tasks = Tasks()
    for name in os.listdir("/proc"):
        if name.isdigit():
            tasks.add_process(int(name))
    return tasks


def some(tids: Iterable[int]) -> Tasks:
    """The processes of these threads, as far as they live: each once, with all its threads."""
    tasks = Tasks()
    seen: set[int] = set()
    for tid in tids:
        with contextlib.suppress(OSError, ValueError, StopIteration):
            lines = _read(f"/proc/{tid}/status").splitlines()
            pid = int(next(line for line in lines if line.startswith("Tgid:")).split()[1])
            if pid not in seen:
                seen.add(pid)
                tasks.add_process(pid)
    return tasks


def _name(pid: int, tid: int) -> str:
    name = _read(f"/proc/{pid}/task/{tid}/comm").rstrip("\n")
    match = _KWORKER.match(name)
    return match[0] if match else name


def _read(path: str) -> str:
    with Path(path).open("rb") as file:
        return file.read(4096).decode("utf-8", "replace")
