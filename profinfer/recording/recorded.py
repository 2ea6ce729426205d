"""One process that is recorded: its plan, its capture, and the socket of who records it."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import fields

from profinfer.config import Config
from profinfer.engine.stubs import read_redirection
from profinfer.engine.target import ObjectFinder
from profinfer.errors import TargetError
from profinfer.output import Lent
from profinfer.probes.plan import Plan
from profinfer.recording.planned import Planned
from profinfer.recording.recorder import Message, Server, pair
from profinfer.recording.result import Progress


class Recorded:
    """From the order to record it to the last word about it."""

    def __init__(
        self, config: Config, server: Server, planned: Planned, capture: Lent, *,
        is_first: bool, stays: bool, is_shown: bool,
    ) -> None:  # fmt: skip
        """Has it recorded into `capture`. `is_first`: what belongs to the whole machine is
        recorded with it; the others' recorders look at the scheduler for their own threads only.
        `stays`: its recorder goes on when it has ended, until it is told to `stop`."""
        self.planned = planned
        self.capture = capture
        self.stays = stays
        self.is_attached = False
        self.is_over = False
        """Whether the probes are gone."""
        self.has_left = False
        """Whether the process is another program now."""
        self.ended: Message | None = None
        """The last word of its recorder."""
        self.progress = Progress()
        self.seconds = 0.0
        """From the first probe to the last, once these are gone."""
        self._began = time.monotonic()
        self.status: int | None = None
        """The recorder's wait status once it has ended."""
        self.link, theirs = pair()
        scheduler = config.scheduler
        if not is_first and scheduler in ("auto", "system"):
            scheduler = "auto-target"
        plan = planned.file()
        first, last = config.iteration_range()
        try:
            answer = server.ask(
                "record", [theirs.fileno(), plan, capture.fileno()],
                pid=self.pid, output=str(capture.path), level=config.level,
                duration=config.duration or 0.0, poll=config.poll,
                iterations=[first, last] if last else None,
                ring_size=config.ring_bytes(), scheduler_ring_size=config.scheduler_ring_bytes(),
                structure_ring_size=config.structure_ring_bytes(), scheduler=scheduler,
                faults=config.faults, block_io=config.block_io, evict=config.evict,
                experts=config.experts, expert_weights=config.expert_weights,
                empty_handlers=config.empty_handlers, alternate=config.alternate,
                transport=config.transport, attach=config.attach, loader=config.loader,
                means=planned.means, progress=is_shown, stays=stays,
            )  # fmt: skip
        finally:
            theirs.close()
            os.close(plan)
        self.recorder = int(answer["pid"])
        """The process that records."""

    @property
    def pid(self) -> int:
        """The process that is recorded."""
        return self.planned.pid

    @property
    def plan(self) -> Plan:
        """Its probes."""
        return self.planned.plan

    def update(self, message: Message) -> None:
        """Takes what an event tells of it."""
        if message["event"] == "attached":
            if not self.is_attached:
                self._began = time.monotonic()
            self.is_attached = True
        elif message["event"] == "progress":
            self.progress = Progress(**{f.name: message[f.name] for f in fields(Progress)})
        elif message["event"] == "over":
            self.is_over = True
            self.seconds = time.monotonic() - self._began
        elif message["event"] == "ended":
            self.ended = message

    def leave(self) -> None:
        """The process is another program now: nothing in it is probed any more."""
        self.has_left = True
        if not self.ended:
            self.link.tell("leave")

    def fail(self) -> None:
        """Its recorder has failed after it had begun: what it has written stays."""
        self.is_over = self.has_left = True
        self.stays = False
        self.ended = {"records": self.progress.records, "lost": self.progress.lost,
                      "seconds": self.progress.seconds, "notes": []}  # fmt: skip
        self.link.close()

    def more(self, finder: ObjectFinder) -> bool:
        """Has places probed that were not there before, if the process has loaded any: whether it
        has. Of one that is killed meanwhile the recorder will notice it."""
        with contextlib.suppress(TargetError):
            if not read_redirection(self.pid).changing and self.planned.has_more(finder):
                self._send_plan()
                return True
        return False

    def replace(self, silent: list[str]) -> None:
        """Has others probed in the place of functions that are not called, if there are any."""
        with contextlib.suppress(TargetError):
            if self.planned.replace(silent):
                self._send_plan()

    def probe_instead(self, why: str) -> None:
        """Has probed what stubs cannot record any longer."""
        with contextlib.suppress(TargetError):
            self.planned.probe_instead(why)
            self._send_plan()

    def _send_plan(self) -> None:
        plan = self.planned.file()
        self.link.tell("more", [plan])
        os.close(plan)
