"""Machines that tests share: each boots once, does all that its tests ask of it, and is gone.

A test is parametrized with a Task and asks for what has come of it:

    @pytest.mark.parametrize("task", [Task("arm64-6.1", "greeting", greet)], ids=str)
    def test_greeting(task: Task, machines: Machines) -> None:
        assert machines.result(task).output == "hello\\n"

Tasks of one kernel run one after the other on one machine, each in a folder of its own, those of
the tests that are to be run and no others. Machines run side by side, in the order of their tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any, TypeVar

from tests.emulated.initramfs import Content
from tests.emulated.machine import MachineError, Result, boot

T = TypeVar("T")

SIDE_BY_SIDE = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
"""Another worker's tests have the other half of this machine."""
TASK_TIMEOUT = 500

# What a task left running would take time from the next one's.
TASK = """
printf '\\n{mark}\\n'
mkdir -p /left/{name}
cd /left/{name}
ps -o pid >/tmp/before
timeout {timeout} sh /tasks/{name}
echo $? >/left/{name}.status
ps -o pid >/tmp/after
kill -9 $(grep -vxFf /tmp/before /tmp/after) 2>/dev/null
rm -rf /tmp/*
"""


class Workshop:
    """Makes what several tasks need, each thing once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Any] = {}
        self._locks: dict[str, Lock] = {}
        self._lock = Lock()

    def once(self, name: str, make: Callable[[Path], T]) -> T:
        """What `make` makes in a new folder."""
        with self._lock:
            lock = self._locks.setdefault(name, Lock())
        with lock:
            if name not in self._made:
                folder = self._folder / name
                folder.mkdir(0o755)  # nobody else plans for another processor
                self._made[name] = make(folder)
            made: T = self._made[name]
            return made


@dataclass(frozen=True)
class Work:
    """A shell command, the files that it needs at absolute paths, and a disk, /dev/vda."""

    command: str
    files: Mapping[str, Content] = field(default_factory=dict)
    disk: Path | None = None


@dataclass(frozen=True)
class Setting:
    """What kind of machine is needed. Tasks with the same one share it, where they may."""

    megabytes: int = 1024
    count_instructions: bool = False
    timeout: float = 1000
    alone: str = ""
    """A name of the only task on that machine."""


USUAL = Setting()
COUNTING = Setting(count_instructions=True)


@dataclass(frozen=True)
class Task:
    """Something to be done under a kernel. `make` is called before the machine boots."""

    kernel: str
    name: str
    make: Callable[[Workshop, Task], Work]
    setting: Setting = USUAL

    def __str__(self) -> str:
        return self.kernel


class Machines:
    """Machines for all tasks, booted as soon as there is a place for them."""

    def __init__(self, tasks: Iterable[Task], workshop: Workshop) -> None:
        self._workshop = workshop
        self._stop = Event()
        self._pool = ThreadPoolExecutor(SIDE_BY_SIDE)
        shared: dict[tuple[str, Setting], list[Task]] = {}
        for task in dict.fromkeys(tasks):
            shared.setdefault((task.kernel, task.setting), []).append(task)
        self._booted = {key: self._pool.submit(self._boot, all_) for key, all_ in shared.items()}

    def close(self) -> None:
        """Ends what has booted; the others need not."""
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)

    def result(self, task: Task) -> Result:
        """What a task has left behind; raises what kept its machine from doing it."""
        booted: Future[dict[str, Result | BaseException]]
        booted = self._booted[task.kernel, task.setting]
        found = booted.result()[task.name]
        if isinstance(found, BaseException):
            raise found
        return found

    def _boot(self, tasks: list[Task]) -> dict[str, Result | BaseException]:
        """Each task's result, or what went wrong."""
        found: dict[str, Result | BaseException] = {}
        made: dict[str, Work] = {}
        for task in tasks:
            try:
                made[task.name] = task.make(self._workshop, task)
            except BaseException as error:  # a test that is skipped, too: it is told so
                found[task.name] = error
        if not made:
            return found
        kernel, setting = tasks[0].kernel, tasks[0].setting
        files: dict[str, Content] = {}
        for name, work in made.items():
            for path, content in work.files.items():
                assert files.setdefault(path, content) == content, f"{path} is two files"
            files[f"/tasks/{name}"] = work.command.encode()
        command = "".join(
            TASK.format(name=name, mark=_mark(name), timeout=TASK_TIMEOUT) for name in made
        )
        disks = list(dict.fromkeys(work.disk for work in made.values() if work.disk))
        assert len(disks) <= 1, "whose is /dev/vda?"
        try:
            result = boot(
                kernel, command, files, disks=disks, megabytes=setting.megabytes,
                timeout=setting.timeout, count_instructions=setting.count_instructions,
                stop=self._stop,
            )  # fmt: skip
        except MachineError as error:
            return found | dict.fromkeys(made, error)
        return found | {name: _part(result, name) for name in made}


def _part(whole: Result, name: str) -> Result:
    """What one task has left."""
    prefix = f"{name}/"
    files = {
        path.removeprefix(prefix): data
        for path, data in whole.files.items()
        if path.startswith(prefix)
    }
    _, _, said = whole.output.partition(f"\n{_mark(name)}\n")
    said, _, _ = said.partition(f"\n{_mark('')}")
    return Result(said, int(whole.files[f"{name}.status"]), files, whole.console)


def _mark(name: str) -> str:
    """The line before what a task has said."""
    return f"=== task {name}"
