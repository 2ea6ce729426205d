"""One recording: find the target, describe and plan, have it recorded until something ends it."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from profinfer.config import Config
from profinfer.engine import target
from profinfer.engine.stubs import read_redirection
from profinfer.engine.target import ObjectFinder
from profinfer.errors import KernelError, PrivilegeError, TargetError
from profinfer.kernel import features
from profinfer.output import Lent
from profinfer.probes.plan import Plan, check, make_plan
from profinfer.recording.command_end import CommandEnd
from profinfer.recording.launch import Launched, describe_status
from profinfer.recording.planned import Planned
from profinfer.recording.recorder import Link, Message, Server, failure, pair
from profinfer.recording.result import Progress, Result
from profinfer.recording.signals import EndingSignals

_PATIENCE_S = 20.0
"""Seconds in which one hears of the end of a recorder that has gone."""
_FILES = 1024
"""Descriptors: an engine may consist of dozens of files."""


def check_privileges() -> None:
    """PrivilegeError naming what is missing."""
    missing = features.missing_capabilities()
    if missing:
        raise PrivilegeError(
            f"recording needs {', '.join(missing)}, which this process lacks",
            "run it as root: sudo profinfer record ...",
        )


def allow_files() -> None:
    """Lets this process have as many files open as it may need. A recorder that runs already, and
    what it launches, keep what they were given."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _FILES:
        return
    for limits in ((_FILES, max(hard, _FILES)), (hard, hard)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            return


class Recording:
    """Records one target into a capture. A context manager: it always detaches."""

    def __init__(
        self, config: Config, capture: Lent, warn: Callable[[str], None],
        say: Callable[[str], None], *, is_shown: bool = False,
    ) -> None:  # fmt: skip
        """`capture`: the file that the recorder is to write. `warn` is told what
        will be missing, `say` what becomes of the command. `is_shown`: whether anybody wants to see
        progress."""
        self._config = config
        self._capture = capture
        self._warn = warn
        self._say = say
        self._is_shown = is_shown
        self._stack = contextlib.ExitStack()
        self._launched: Launched | None = None
        self._link: Link | None = None
        self._finder = ObjectFinder()
        self._counters: dict[str, Any] | None = None
        self._said: list[str] = []
        """What `warn` has been told."""
        self._held: list[int] = []
        """Processes that stand still until new probes are in place."""
        self._is_attached = False
        self._recorder = 0
        """The process that records."""
        self._recorder_status: int | None = None
        """Wait status once it has ended."""
        self._end: CommandEnd | None = None
        """What is to become of the command."""
        self._began = 0.0

    def __enter__(self) -> Recording:
        self._signals = self._stack.enter_context(EndingSignals())
        self._server = self._stack.enter_context(Server())
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._link:
                self._link.close()  # the recorder ends as it should
                self._link = None
            # Whoever kills the recorder has not asked for the command's end.
            if self._end and not self._server.link.is_over:
                self._end.leave(is_killed=self._config.kill and self._recorder_status is None)
        finally:
            self._stack.close()

    # ---- What is told meanwhile

    def _next(self, timeout: float | None = None) -> Message:
        """The next event: of the recording's socket ("from": "recording"), of the server, or that a
        signal came or (after `timeout` seconds) nothing. Waits without waking up in between."""
        if self._server.events:
            return self._server.events.popleft()
        poll = select.poll()
        links = [link for link in (self._link, self._server.link) if link and not link.is_over]
        for fd in (self._signals.fileno(), *(link.fileno() for link in links)):
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(None if timeout is None else timeout * 1e3)}
        for link in links:
            if link.fileno() not in ready:
                continue
            message = link.next()
            if link is self._link:
                return {**(message or {"event": "gone"}), "from": "recording"}
            if message is None:
                return {"event": "server gone"}
            if "answer" in message:
                return {"event": "answered"}
            if message["event"] == "failed":
                raise failure(message)
            if message["event"] == "recorder_exited" and message["pid"] == self._recorder:
                self._recorder_status = int(message["status"])
            return message
        if self._signals.fileno() in ready:
            self._signals.clear()
            return {"event": "signal"}
        return {"event": "nothing"}

    @property
    def pid(self) -> int:
        """The process that is recorded, once it is known."""
        return self._planned.pid

    @property
    def plan(self) -> Plan:
        """Its probes."""
        return self._planned.plan

    # ---- Before the first record

    def prepare(self) -> None:
        """Finds the target, launching it where it is a command, and plans. Nothing is attached
        yet."""
        config = self._config
        # While the recorder looks at the kernel we look at files.
        self._server.link.tell(
            "means", loader=config.loader, transport=config.transport, attach=config.attach
        )
        if config.counters:
            self._ask_counters()
        if config.pid is None:
            self._server.wait("means")  # what cannot be is said before the command runs
            self._launched = Launched(self._server, config)
            self._end = CommandEnd(self._launched, config, self._signals, self._next, self._say)
            pid, objects = self._launched.wait_for_engine(self._finder, self._next)
        else:
            pid, objects = config.pid, target.engine_objects(config.pid)
            plan = make_plan(objects, config.level)
            check(plan, strict=config.strict, needed=config.needed_levels())
        self._planned = Planned(config, self._server, pid, objects, self._counters)
        for note in self._planned.left_out:
            self._warn(note)

    def _ask_counters(self) -> None:
        """Says which of the counters cannot be had, before anything begins."""
        from profinfer.kernel.counters import want
        from profinfer.kernel.pmus import read_pmus
        from profinfer.kernel.presets import cpu_models

        wanted = want(self._config.counters, read_pmus(), cpu_models())
        self._counters = wanted.to_json()
        answer = self._server.ask("counters", **self._counters)
        self._said = [str(note) for note in answer["notes"]]
        if not answer["events"]:
            reasons = "; ".join(note.removeprefix("not counted: ") for note in self._said)
            raise KernelError(
                f"none of the counters can be counted here: {reasons}",
                "profinfer doctor shows what can be; or record without --counters",
            )
        for note in self._said:
            self._warn(note)

    # ---- Recording

    def run(self, begin: Callable[[], object], show: Callable[[Progress], None]) -> Result:
        """Has it recorded until something ends it; what came of it. `begin` is called when all
        probes are in place, and `show` with every progress that the recorder tells of."""
        self._start()
        while True:
            message = self._next()
            event = message["event"]
            if message.get("from") != "recording":
                self._on_server_event(message)
            elif event == "attached":
                if not self._is_attached:
                    begin()
                self._let_go()
                self._stop()
            elif event == "progress":
                show(Progress(**{f.name: message[f.name] for f in fields(Progress)}))
            elif event == "note":
                self._warn(str(message["text"]))
            elif event == "over":
                self._finish(str(message["reason"]))
            elif event == "ended":
                if self._server.link.is_over:
                    raise self._server.gone()
                return self._result(message)
            elif event == "failed":
                raise failure(message)
            elif event == "gone":
                raise self._killed()

    def _start(self) -> None:
        config = self._config
        self._link, theirs = pair()
        plan = self._planned.file()
        first, last = config.iteration_range()
        try:
            answer = self._server.ask(
                "record", [theirs.fileno(), plan, self._capture.fileno()],
                pid=self.pid, output=str(self._capture.path), level=config.level,
                duration=config.duration or 0.0, poll=config.poll,
                iterations=[first, last] if last else None,
                ring_size=config.ring_bytes(), scheduler_ring_size=config.scheduler_ring_bytes(),
                structure_ring_size=config.structure_ring_bytes(), scheduler=config.scheduler,
                faults=config.faults, block_io=config.block_io, evict=config.evict,
                experts=config.experts, expert_weights=config.expert_weights,
                empty_handlers=config.empty_handlers, transport=config.transport,
                attach=config.attach, loader=config.loader, means=self._planned.means,
                progress=self._is_shown,
            )  # fmt: skip
        finally:
            theirs.close()
            os.close(plan)
        self._recorder = int(answer["pid"])
        if self._launched:
            self._held.append(self.pid)

    def _killed(self) -> KernelError:
        """What to say of a recorder that has gone without a word."""
        while self._recorder_status is None:
            if self._next(_PATIENCE_S)["event"] in ("nothing", "server gone"):
                return self._server.gone()
        return KernelError(
            f"the recorder {describe_status(self._recorder_status)}",
            "the trace has what it had written by then",
        )

    def _stop(self) -> None:
        """What a signal asks for; not before the recorder listens."""
        if self._signals.name and self._is_attached and self._link:
            self._link.tell("stop", reason=f"{self._signals.name} received")

    def _let_go(self) -> None:
        """Probes are in place: what waited for them goes on."""
        self._is_attached = True
        self._began = self._began or time.monotonic()
        for pid in self._held:
            if self._launched:
                self._launched.go(pid)
        self._held.clear()

    def _on_server_event(self, message: Message) -> None:
        if message["event"] == "signal":
            self._stop()
        elif message["event"] == "server gone" and self._link:
            self._link.tell("stop", reason="the recorder's server has ended")  # and write the end
        elif message["event"] == "exited" and self._launched:
            self._launched.status = int(message["status"])
        elif message["event"] == "stopped" and self._launched and self._link:
            pid = int(message["pid"])
            plan = self._new_plan(pid)
            if plan is None:
                self._launched.go(pid)
                return
            self._held.append(pid)
            self._link.tell("more", [plan])
            os.close(plan)

    def _new_plan(self, pid: int) -> int | None:
        """One with what the target has loaded meanwhile; None when it has loaded nothing new."""
        # When it is killed meanwhile, the recorder will notice.
        with contextlib.suppress(TargetError):
            if pid == self.pid and not read_redirection(pid).changing:
                return self._planned.file() if self._planned.has_more(self._finder) else None
        return None

    def _finish(self, reason: str) -> None:
        """The probes are gone: tells the recorder how the command ended, if it has."""
        self._let_go()
        status: int | None = None
        if self._launched and self._end:
            if reason == "the target ended":
                self._end.outlive(self.pid, self._began)
            if not (self._link and self._link.is_over):
                self._end.leave(is_killed=self._config.kill)
            if self._launched.status is not None:
                status = os.waitstatus_to_exitcode(self._launched.status)
        if self._link and self._link.is_over:
            raise self._killed()
        if self._link:
            self._link.tell("finish", command_status=status)

    def _result(self, message: Message) -> Result:
        return Result(
            str(message["reason"]), int(message["records"]), int(message["lost"]),
            float(message["seconds"]), self._launched.status if self._launched else None,
            [note for note in message["notes"] if note not in self._said],
        )  # fmt: skip
