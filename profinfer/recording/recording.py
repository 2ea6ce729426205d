"""One recording: find the targets, have each recorded, until something ends it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from profinfer.config import Config
from profinfer.engine import target
from profinfer.errors import (
    KernelError,
    ProfinferError,
)
from profinfer.output import Lent
from profinfer.probes.plan import check, make_plan
from profinfer.recording.command_end import CommandEnd
from profinfer.recording.events import Events
from profinfer.recording.family import Family
from profinfer.recording.processes import Processes
from profinfer.recording.recorded import Recorded
from profinfer.recording.recorder import Message, Server, failure
from profinfer.recording.result import Progress, Result, describe_status
from profinfer.recording.signals import EndingSignals

_PATIENCE_S = 20.0
"""Seconds in which one hears of the end of a recorder that has gone."""


class Recording:
    """Records a process, or a command with all that it starts, each process into a capture of its
    own. A context manager: it always detaches."""

    def __init__(
        self, config: Config, captures: Callable[[], Lent], warn: Callable[[str], None],
        say: Callable[[str], None], *, is_shown: bool = False,
    ) -> None:  # fmt: skip
        """`captures`: opens the next file for a recorder to write. `warn` is told what
        will be missing, `say` what becomes of the command. `is_shown`: whether anybody wants to see
        progress."""
        self._config = config
        self._captures = captures
        self._warn = warn
        self._say = say
        self._is_shown = is_shown
        self._stack = contextlib.ExitStack()
        self._command_end: CommandEnd | None = None
        """What is to become of the command."""
        self._said: set[str] = set()
        """What `warn` has been told."""
        self._reason = ""
        """Why recording is to end, once it is."""

    def __enter__(self) -> Recording:
        self._signals = self._stack.enter_context(EndingSignals())
        self._server = self._stack.enter_context(Server())
        self._processes = Processes(
            self._config, self._server, self._captures, self._tell, is_shown=self._is_shown
        )
        self._events = Events(self._signals, self._server, self._processes.recorded)
        return self

    def __exit__(self, _type: object, error: object, _traceback: object) -> None:
        try:
            for each in self._all:
                each.link.close()  # the recorder ends as it should
            if self._command_end and not self._server.link.is_over:
                # Whose engine has not worked yet is ended with an error. And whoever kills a
                # recorder has not asked for the command's end.
                is_vain = isinstance(error, ProfinferError) and not self._all
                is_killed = any(each.status is not None for each in self._all)
                kills = (self._config.kill and not is_killed) or (
                    is_vain and not self._signals.name
                )
                self._command_end.leave(is_killed=kills)
        finally:
            self._stack.close()

    # ---- Before the first record

    def _prepare(self) -> None:
        """Finds the target, launching it where it is a command."""
        config = self._config
        # While the recorder looks at the kernel we look at files.
        self._server.link.tell(
            "means", loader=config.loader, transport=config.transport, attach=config.attach
        )
        if config.counters:
            from profinfer.recording.counting import ask_counters  # here: few ask for any

            self._processes.counters, notes = ask_counters(self._server, config.counters)
            for note in notes:
                self._tell(note)
        if config.pid is None or config.follow:
            self._server.wait("means")  # what cannot be is said before the command runs
        if config.pid is None:
            family = self._processes.family = Family(self._server, config)
            self._command_end = CommandEnd(
                family, config, self._signals, self._following, self._say
            )
        elif config.follow:
            family = self._processes.family = Family(self._server, config)
            self._events.root = os.pidfd_open(family.pid)
            self._stack.callback(os.close, self._events.root)
            for pid in family.follow():
                if objects := family.look(pid, {}):
                    self._processes.attempt(family, pid, objects)
        else:
            objects = target.engine_objects(config.pid)
            plan = make_plan(objects, config.level)
            check(plan, strict=config.strict, needed=config.needed_levels())
            self._processes.record_running(config.pid, objects, self._events)

    def _tell(self, note: str) -> None:
        """Warns, once of each thing."""
        if note not in self._said:
            self._said.add(note)
            self._warn(note)

    @property
    def _all(self) -> list[Recorded]:
        return self._processes.recorded

    @property
    def _family(self) -> Family | None:
        return self._processes.family

    # ---- Recording

    def run(
        self, begin: Callable[[Recorded], object], show: Callable[[Progress], object]
    ) -> Result:
        """Records until something ends it; what came of it. `begin` is called when the probes in a
        process are in place, and `show` with every progress that a recorder tells of."""
        self._prepare()
        while not (self._reason and all(each.is_over for each in self._all)):
            recorded, message = self._events.next()
            if recorded is None:
                self._on_event(message)
            else:
                self._on_recorder(recorded, message, begin, show)
        return self._finish()

    def _on_event(self, message: Message) -> None:
        event, family = message["event"], self._family
        if event == "signal":
            self._end(f"{self._signals.name} received")
        elif event == "server gone":
            self._end("the recorder's server has ended")
        elif event == "root ended":
            self._end("the target ended" if len(self._all) == 1 else "the process ended")
        elif event == "exited" and family:
            family.status = int(message["status"])
            self._end("the target ended" if len(self._all) == 1 else "the command ended")
        elif event == "stopped" and family:
            self._processes.look(family, message, is_ending=bool(self._reason))

    def _on_recorder(
        self, recorded: Recorded, message: Message, begin: Callable[[Recorded], object],
        show: Callable[[Progress], object],
    ) -> None:  # fmt: skip
        event = message["event"]
        if event == "attached":
            if not recorded.is_attached:
                begin(recorded)
            recorded.update(message)
            if self._reason:
                recorded.link.tell("stop", reason=self._reason)
            self._processes.let_go(recorded)
        elif event == "note":
            self._warn(str(message["text"]))  # and again at the end, when more is known
        elif event == "silent":
            if not self._reason:
                recorded.replace(message["symbols"])
        elif event == "stubs":
            if not self._reason:
                recorded.probe_instead(str(message["why"]))
        elif event == "failed":
            error = failure(message)
            self._processes.fail(recorded, error)
            if self._reason and not self._all:
                raise error
        elif event == "gone":
            if not recorded.ended:
                raise self._killed(recorded)
            recorded.link.close()  # of many processes each has one
        else:
            recorded.update(message)
            if event == "progress":
                show(sum((each.progress for each in self._all), Progress()))
            elif event == "over":
                self._on_over(recorded, str(message["reason"]))

    def _on_over(self, recorded: Recorded, reason: str) -> None:
        """A recorder has detached. Of a family only one process may have ended."""
        has_ended = recorded.has_left or reason == "the target ended"
        if self._family and not recorded.stays and has_ended:
            recorded.link.tell("finish")
        else:
            self._end(reason)

    def _end(self, reason: str) -> None:
        """Has every recorder end."""
        if not self._all:
            if self._server.link.is_over or not self._family:
                raise self._server.gone()
            raise self._processes.refused or self._family.nothing()
        self._reason = self._reason or reason
        for each in self._all:
            if each.is_attached and not each.is_over:
                each.link.tell("stop", reason=self._reason)

    def _killed(self, recorded: Recorded) -> KernelError:
        """What to say of a recorder that has gone without a word."""
        while recorded.status is None:
            if self._events.next(_PATIENCE_S)[1]["event"] in ("nothing", "server gone"):
                return self._server.gone()
        return KernelError(
            f"the recorder {describe_status(recorded.status)}",
            "the trace has what it had written by then",
        )

    # ---- The end

    def _following(self, timeout: float | None) -> Message:
        """The next event while the recording ends. What a recorder tells is its last word, and
        nobody else's affair, unless it is gone without one."""
        recorded, message = self._events.next(timeout)
        if recorded is None:
            return message
        if message["event"] == "failed":
            raise failure(message)
        recorded.update(message)
        is_killed = message["event"] == "gone" and not recorded.ended
        return message if is_killed else {"event": "told"}

    def _finish(self) -> Result:
        """The probes are gone: tells the recorders how the command ended, if it has."""
        status: int | None = None
        notes: list[str] = []
        if self._family:
            for each in self._all:
                self._family.go(each.pid)
            if self._command_end:
                self._command_end.leave(is_killed=self._config.kill)
            if self._family.status is not None:
                status = os.waitstatus_to_exitcode(self._family.status)
            notes = self._family.idle({each.pid for each in self._all})
        for each in self._all:
            if not each.ended:
                is_alive = not self._server.link.is_over
                cost = each.planned.cost_at_end(self._server, each.seconds) if is_alive else None
                each.link.tell("finish", command_status=status, notes=notes, hit_cost=cost)
                notes = []
        while left := [each for each in self._all if not each.ended]:
            for each in left:
                if each.link.is_over:
                    raise self._killed(each)
            self._following(None)
        if self._server.link.is_over:
            raise self._server.gone()
        return self._result([each.ended for each in self._all if each.ended])

    def _result(self, ends: list[Message]) -> Result:
        notes = dict.fromkeys(str(note) for end in ends for note in end["notes"])
        return Result(
            self._reason, sum(int(end["records"]) for end in ends),
            sum(int(end["lost"]) for end in ends), max(float(end["seconds"]) for end in ends),
            self._family.status if self._family else None,
            [note for note in notes if note not in self._said],
        )  # fmt: skip
