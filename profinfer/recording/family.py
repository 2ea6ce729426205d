"""The family: a launched command, or a process that runs already, with all that it starts. Its
processes stand still whenever an engine may have appeared in one, until somebody has looked."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from profinfer.binaries.elf import Elf
from profinfer.built import AUDIT
from profinfer.config import Config
from profinfer.engine.adapter import adapters
from profinfer.engine.stubs import read_redirection, with_audit
from profinfer.engine.target import EngineObject, ObjectFinder, process_name
from profinfer.engine.work import graph_places, work_places
from profinfer.errors import GraphNeeded, TargetError
from profinfer.probes.plan import make_plan
from profinfer.recording.recorder import Message, Server
from profinfer.recording.result import describe_status

_GRAPHS = 32
"""So often a process is stopped when it works, to find a graph that tells its engine's layout."""


class Family:
    """Of one recording."""

    def __init__(self, server: Server, config: Config) -> None:
        """Starts the command, which stands still before its first instruction, or, with --follow,
        belongs to the process. TargetError when it cannot."""
        self._server = server
        self._config = config
        self.finder = ObjectFinder()
        self.is_command = config.pid is None
        self.status: int | None = None
        """Wait status of the command once it has ended."""
        self._watched: dict[int, set[tuple[str, int]]] = {}
        """By process: the files in it that it is stopped at when it is about to work."""
        self._watched_everywhere: set[tuple[tuple[str, int], tuple[int, ...]]] = set()
        self._sees_forks = True
        """Whether what a process with an engine forks is stopped when it begins. Where this kernel
        cannot, the engine's files are watched."""
        self._forked: set[int] = set()
        """Whom it is enough to record when they work: they hold what their parent holds."""
        self._in_vain: dict[int, int] = {}
        """By process: how often it was stopped when it worked and no graph told its layout."""
        self.holders: dict[int, str] = {}
        """Names of processes that hold an engine, by PID."""
        self.pid = config.pid or self._launch()
        """The process that it begins with."""

    def _launch(self) -> int:
        config = self._config
        audit = with_audit(os.environ.get("LD_AUDIT", "")) if config.probes != "direct" else ""
        user = _account(config.user) if config.user else None
        answer = self._server.ask(
            "launch", argv=config.command, audit=audit, user=user, loader=config.loader, **_marks()
        )
        self._sees_forks = bool(answer["forks"])
        return int(answer["pid"])

    def follow(self) -> list[int]:
        """The processes that it has now; they, and all that they start, belong to it from now
        on."""
        known: set[int] = set()
        while fresh := {self.pid, *_descendants(self.pid)} - known:
            answer = self._server.ask(
                "follow", pids=sorted(fresh), loader=self._config.loader, **_marks()
            )
            self._sees_forks = bool(answer["forks"])
            known |= fresh
        return sorted(known)

    def go(self, pid: int) -> None:
        """Lets a stopped process go on."""
        self._server.link.tell("go", pid=pid)

    def terminate(self) -> None:
        """Ends the command, for whoever asked for that: SIGTERM, and SIGKILL after five seconds."""
        self._server.link.tell("terminate")

    def settle(self, pid: int, objects: Sequence[EngineObject] = ()) -> None:
        """What becomes of a process is decided: it is not stopped any more when it works; what it
        forks, with these objects, is."""
        if not self._sees_forks:
            self._watch_work(pid, objects)
        self._watched.pop(pid, None)
        self._server.link.tell("settle", pid=pid)

    def look(self, pid: int, why: Message) -> list[EngineObject]:
        """The engine's objects of a process that has been stopped (`why`: as the event says), or
        runs (`why` is empty), if it is to be recorded now: it holds all that a plan needs, or is
        about to work with what it has."""
        if why.get("after_exec") or why.get("forked"):
            self._watched.pop(pid, None)
            self._forked.discard(pid)
            self.holders.pop(pid, None)
        if why.get("forked"):
            self._forked.add(pid)
        with contextlib.suppress(TargetError):
            # While the loader changes its list, an object is mapped but has no stubs yet; the next
            # stop comes before any of its code runs.
            objects = [] if read_redirection(pid).changing else self.finder.find(pid)
            if not objects:
                return []
            self.holders.setdefault(pid, process_name(pid))
            is_whole = not make_plan(objects, self._config.level).missing
            if why.get("at_work") or (is_whole and pid not in self._forked):
                return objects
            self._watch_work(pid, objects)
        return []

    def await_graph(self, pid: int, objects: Sequence[EngineObject], error: GraphNeeded) -> None:
        """Lets a process go on until it has a graph to compute. The error, once that was tried
        often enough."""
        self._in_vain[pid] = self._in_vain.get(pid, -1) + 1
        if self._in_vain[pid] > _GRAPHS:
            raise error
        if not self._in_vain[pid]:
            self._watched.pop(pid, None)
            self._watch_work(pid, objects, graph_places)
        self.go(pid)

    def nothing(self) -> TargetError:
        """What to say when nothing of it was recorded."""
        name = self._config.command[0] if self.is_command else process_name(self.pid)
        if self.status is None:
            return TargetError(f"interrupted before {name} loaded any ggml code")
        before = "it loaded any ggml or llama.cpp code"
        if self.holders:
            before = "the engine in it had anything to compute"
        return TargetError(
            f"{name} {describe_status(self.status)} before {before}",
            "record the process that runs the model; profinfer doctor FILE looks into one",
        )

    def idle(self, recorded: set[int]) -> list[str]:
        """Which processes hold, or held, an engine that was never about to work."""
        return [
            f"{name} ({pid}) holds an engine and has computed nothing: it was not recorded"
            for pid, name in self.holders.items()
            if pid not in recorded
        ]

    def _watch_work(
        self, pid: int, objects: Sequence[EngineObject],
        places: Callable[[Elf], list[int]] = work_places,
    ) -> None:  # fmt: skip
        """Has a process stopped, too, when the engine that it holds so far is about to work: what
        is not there then does not come."""
        watched = self._watched.setdefault(pid, set())
        for item in objects:
            if item.identity in watched or not (offsets := places(item.elf)):
                continue
            watched.add(item.identity)
            everywhere = not self._sees_forks
            if everywhere:
                key = (item.identity, tuple(offsets))
                offsets = [] if key in self._watched_everywhere else offsets
                self._watched_everywhere.add(key)
            with contextlib.suppress(OSError), item.access.open("rb") as file:
                self._server.link.tell(
                    "watch_work", [file.fileno()], pid=pid, offsets=offsets, everywhere=everywhere
                )


def _marks() -> dict[str, Any]:
    """Processes that have mapped nothing with these words pass without our being asked; the audit
    library has them, too."""
    return {"marks": adapters().words, "pass_over": str(AUDIT)}


def _descendants(pid: int) -> set[int]:
    """Of a process, as far as /proc shows them."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(ValueError, OSError, IndexError):
            # The name, in parentheses, may hold anything.
            rest = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            parents[int(entry.name)] = int(rest[1])
    found: set[int] = set()
    fresh = {pid}
    while fresh:
        fresh = {each for each, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return found


def _account(user: str) -> dict[str, object]:
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise TargetError(f"there is no user {user}") from None
    groups = os.getgrouplist(user, entry.pw_gid)
    return {"uid": entry.pw_uid, "gid": entry.pw_gid, "groups": groups}
