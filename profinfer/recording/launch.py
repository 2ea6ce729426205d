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
from profinfer.errors import TargetError
from profinfer.probes.plan import Plan, check, make_plan
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

    def go(self, pid: int) -> None:
        """Lets a stopped process go on."""
        self._server.link.tell("go", pid=pid)

    def terminate(self) -> None:
        """Ends the command: SIGTERM, and SIGKILL after five seconds."""
        self._server.link.tell("terminate")

    def wait_for_engine(
        self, finder: ObjectFinder, following: Callable[[], Message]
    ) -> tuple[int, list[EngineObject]]:
        """Waits until a process of the command's family holds all that the plan needs, and lets go
        of the others. That process, which stands still, and its engine's objects. `following`: the
        next event. TargetError when the command ends before, or a signal comes; ProbeError when it
        ends with an engine that lacks what the plan needs."""
        last: Plan | None = None
        name = self._config.command[0]
        while True:
            message = following()
            if message["event"] == "signal":
                raise TargetError(f"interrupted before {name} loaded any ggml code")
            if message["event"] == "server gone":
                raise self._server.gone()
            if message["event"] == "exited":
                self.status = int(message["status"])
                if last and last.missing:
                    check(last, best_effort=False)
                raise TargetError(
                    f"{name} {describe_status(self.status)} before it loaded any ggml or llama.cpp"
                    " code",
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
                last = plan or last
                usable = plan is not None and plan.probes
                if plan and (not plan.missing or (self._config.best_effort and usable)):
                    self._server.link.tell("keep", pid=pid)
                    return pid, objects
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
