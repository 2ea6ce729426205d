"""A command that is launched, and stopped whenever it or its children load something, until an
engine has appeared in one of them."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
from collections.abc import Callable

from profinfer.config import Config
from profinfer.engine.stubs import read_redirection, with_audit
from profinfer.engine.target import EngineObject, ObjectFinder
from profinfer.engine.work import work_places
from profinfer.errors import TargetError
from profinfer.probes.plan import check, make_plan
from profinfer.recording.recorder import Message, Server


class Launched:
    """The command. `pid` is its own process."""

    def __init__(self, server: Server, config: Config) -> None:
        """Starts it; it stands still before its first instruction. TargetError when it cannot."""
        self._server = server
        self._config = config
        audit = with_audit(os.environ.get("LD_AUDIT", "")) if config.redirect else ""
        user = _account(config.user) if config.user else None
        answer = server.ask(
            "launch", argv=config.command, audit=audit, user=user, loader=config.loader
        )
        self.pid = int(answer["pid"])
        self.status: int | None = None
        """Wait status once it has ended."""
        self._watched: set[tuple[int, tuple[str, int]]] = set()
        """Files in processes that are stopped when they are about to work."""

    def go(self, pid: int) -> None:
        """Lets a stopped process go on."""
        self._server.link.tell("go", pid=pid)

    def terminate(self) -> None:
        """Ends the command, for whoever asked for that: SIGTERM, and SIGKILL after five seconds."""
        self._server.link.tell("terminate")

    def _watch_work(self, pid: int, objects: list[EngineObject]) -> None:
        """Has a process stopped, too, when the engine that it holds so far is about to work: what
        is not there then does not come."""
        for item in objects:
            offsets = work_places(item.elf)
            if not offsets or (pid, item.identity) in self._watched:
                continue
            self._watched.add((pid, item.identity))
            with contextlib.suppress(OSError), item.access.open("rb") as file:
                self._server.link.tell("watch_work", [file.fileno()], pid=pid, offsets=offsets)

    def wait_for_engine(
        self, finder: ObjectFinder, following: Callable[[], Message]
    ) -> tuple[int, list[EngineObject]]:
        """Waits until a process of the command's family holds all that the plan needs, or is about
        to work with what it has, and lets go of the others. That process, which stands still, and
        its engine's objects. `following`: the next event. TargetError when the command ends before,
        or a signal comes; ProbeError when what the plan cannot do without is not there."""
        has_engine = False
        name = self._config.command[0]
        while True:
            message = following()
            if message["event"] == "signal":
                raise TargetError(f"interrupted before {name} loaded any ggml code")
            if message["event"] == "server gone":
                raise self._server.gone()
            if message["event"] == "exited":
                self.status = int(message["status"])
                before = "it loaded any ggml or llama.cpp code"
                if has_engine:
                    before = "the engine in it had anything to compute"
                raise TargetError(
                    f"{name} {describe_status(self.status)} before {before}",
                    "record the process that runs the model; profinfer doctor FILE looks into one",
                )
            if message["event"] != "stopped":
                continue
            pid = int(message["pid"])
            with contextlib.suppress(TargetError):
                # While the loader changes its list, an object is mapped but has no stubs yet;
                # the next stop comes before any of its code runs.
                objects = [] if read_redirection(pid).changing else finder.find(pid)
                plan = make_plan(objects, self._config.level) if objects else None
                has_engine |= plan is not None
                if plan and (not plan.missing or message.get("at_work")):
                    needed = self._config.needed_levels()
                    check(plan, strict=self._config.strict, needed=needed)
                    self._server.link.tell("keep", pid=pid)
                    return pid, objects
                self._watch_work(pid, objects)
            self.go(pid)


def describe_status(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        names = {known.value: known.name for known in signal.Signals}  # not of real-time ones
        return f"was ended by {names.get(number, f'signal {number}')}"
    return f"exited with status {os.waitstatus_to_exitcode(status)}"


def _account(user: str) -> dict[str, object]:
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise TargetError(f"there is no user {user}") from None
    groups = os.getgrouplist(user, entry.pw_gid)
    return {"uid": entry.pw_uid, "gid": entry.pw_gid, "groups": groups}
