"""Which processes are recorded: of a family, or one."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from profinfer.config import Config
from profinfer.engine import target
from profinfer.engine.target import EngineObject
from profinfer.errors import GraphNeeded, OutputError, ProbeError, ProfinferError, TargetError
from profinfer.output import Lent
from profinfer.recording.events import Events
from profinfer.recording.family import Family
from profinfer.recording.graph_looks import graph_looks
from profinfer.recording.planned import Planned
from profinfer.recording.recorded import Recorded
from profinfer.recording.recorder import Message, Server


class Processes:
    """Has processes recorded, each by a recorder and into a capture of its own."""

    def __init__(
        self, config: Config, server: Server, captures: Callable[[], Lent],
        tell: Callable[[str], None], *, is_shown: bool,
    ) -> None:  # fmt: skip
        """`captures`: opens the next file for a recorder to write. `tell` is told what will be
        missing. `is_shown`: whether anybody wants to see progress."""
        self._config = config
        self._server = server
        self._captures = captures
        self._tell = tell
        self._is_shown = is_shown
        self._id = secrets.token_hex(8)
        """In each capture."""
        self._means: Message | None = None
        self.counters: dict[str, Any] | None = None
        """What is counted, where anything is."""
        self.family: Family | None = None
        """Whose they are, unless it is one alone."""
        self.recorded: list[Recorded] = []
        self.refused: ProfinferError | None = None
        """Why a process was not recorded."""

    def attempt(
        self, family: Family, pid: int, objects: list[EngineObject], arguments: Sequence[int] = ()
    ) -> None:
        """Has a process of the family recorded, if it can be; else it goes on."""
        try:
            try:
                self._record(pid, objects, arguments)
            except GraphNeeded as error:
                family.await_graph(pid, objects, error)
        except (ProbeError, TargetError) as error:
            self._leave_out(family, pid, error)

    def record_running(self, pid: int, objects: list[EngineObject], events: Events) -> None:
        """Has a process recorded as soon as it has computed what its engine's layout is inferred
        from, where that is needed."""
        looks = graph_looks(self._server, pid, objects)
        arguments: Sequence[int] = ()
        while True:
            try:
                self._record(pid, objects, arguments)
                return
            except GraphNeeded as error:
                self._tell(f"waiting for process {pid} to compute a graph: {error.message}")
                arguments = next(looks)
            if events.next(0)[1]["event"] == "signal":
                raise TargetError(f"interrupted before process {pid} had computed a graph")

    def look(self, family: Family, message: Message, *, is_ending: bool) -> None:
        """A process of the family stands where it may have become another program, or have loaded
        an engine. `is_ending`: the recording."""
        pid = int(message["pid"])
        recorded = next((x for x in self.recorded if x.pid == pid and not x.has_left), None)
        if recorded and (recorded.ended or message["after_exec"] or message["forked"]):
            recorded.leave()
            recorded = None
        if recorded and not is_ending:
            if not recorded.more(family.finder):
                family.go(pid)
        elif not is_ending and (objects := family.look(pid, message)):
            self.attempt(family, pid, objects, message.get("arguments", ()))
        else:
            family.go(pid)

    def let_go(self, recorded: Recorded) -> None:
        """The probes in a process are in place: it goes on."""
        if self.family:
            self.family.settle(recorded.pid, recorded.planned.objects)
            self.family.go(recorded.pid)

    def fail(self, recorded: Recorded, error: ProfinferError) -> None:
        """The recorder of a process has failed: what is left of the recording. The error, where
        that is nothing."""
        family = self.family
        is_only = self._config.strict or self.recorded == [recorded]
        if not family or isinstance(error, OutputError) or (recorded.is_attached and is_only):
            raise error
        if recorded.is_attached:
            recorded.fail()
        else:
            self.recorded.remove(recorded)
            recorded.link.close()
        self._leave_out(family, recorded.pid, error, had_begun=recorded.is_attached)

    def _record(self, pid: int, objects: list[EngineObject], arguments: Sequence[int]) -> None:
        planned = Planned(
            self._config, self._server, pid, objects, self.counters, self._ask_means, arguments,
            self._id,
        )  # fmt: skip
        for note in planned.left_out:
            self._tell(note)
        is_first = not any(each.stays for each in self.recorded)
        recorded = Recorded(
            self._config, self._server, planned, self._captures(), is_first=is_first,
            stays=is_first and self.family is not None, is_shown=self._is_shown,
        )  # fmt: skip
        self.recorded.append(recorded)

    def _ask_means(self) -> Message:
        self._means = self._means or self._server.answer("means")
        return self._means

    def _leave_out(
        self, family: Family, pid: int, error: ProfinferError, *, had_begun: bool = False
    ) -> None:  # fmt: skip
        """A process of the family goes on unrecorded. The error, where it is the first of them and
        nothing else is recorded, or all are wanted; nothing is to be said of one that has ended
        meanwhile."""
        if not target.is_ending(pid):
            if self._config.strict or (pid == family.pid and not self.recorded):
                raise error
            self.refused = error
            what = "is recorded no further" if had_begun else "is not recorded"
            self._tell(f"{target.process_name(pid)} ({pid}) {what}: {error.message}")
        family.settle(pid)
        family.go(pid)
