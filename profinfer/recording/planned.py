"""What is recorded of a process, and how: planned anew when the process has loaded more."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from profinfer.config import Config
from profinfer.describing.describe import describe_process
from profinfer.engine import target
from profinfer.engine.backends import backend_of_file
from profinfer.engine.description import describe
from profinfer.engine.stubs import read_redirection
from profinfer.engine.target import EngineObject, ObjectFinder
from profinfer.errors import ProbeError, TargetError
from profinfer.probes.hitcost import hit_cost, hit_cost_now
from profinfer.probes.metadata import start_json
from profinfer.probes.placement import COUNTED, DIRECT, SENT_ON, STUB, Placer
from profinfer.probes.plan import check, make_plan
from profinfer.probes.plan_file import live_plan
from profinfer.recording.recorder import Message, Server

HOT_LEVELS = ("operator", "barrier")
"""Of whose probes the cost of a hit matters: it is measured for each recording."""

DRIFT_S = 5.0
"""Of recording, after which it is measured once more."""


@contextlib.contextmanager
def _unless_it_ends(pid: int) -> Iterator[None]:
    """Nothing else is to be said of a process that ends while it is looked at."""
    try:
        yield
    except (TargetError, ProbeError):
        if target.is_ending(pid):
            raise TargetError(f"process {pid} ended before it was probed") from None
        raise


class Planned:
    """The plan for one process."""

    def __init__(
        self, config: Config, server: Server, pid: int, objects: list[EngineObject],
        counters: dict[str, Any] | None, means: Callable[[], Message],
        arguments: Sequence[int] = (), recording: str = "",
    ) -> None:  # fmt: skip
        """`objects`: of the engine, as mapped now; `means`: what `server` answers to that, which
        takes it a while; `arguments`: with which it is about to work; `recording`: by what its
        captures are known. TargetError, or ProbeError where a level that is wanted has no probe
        point, GraphNeeded as `describe_process` has it."""
        self.pid = pid
        self._config = config
        self.objects = objects
        self._counters = counters
        self._recording = recording
        self._silent: frozenset[str] = frozenset()
        try:
            with _unless_it_ends(pid):
                self._layout = describe_process(pid, objects, arguments)
        except ProbeError as error:
            raise type(error)(
                f"the engine of process {pid} gives no layout: {error.message}", error.hint
            ) from None
        self.means = means()
        self._cost = hit_cost(server.ask, self.means["attach"])
        self._placer = Placer(self._cost, pid, sends_on=config.experts)
        self._cannot_record = self._ask_stubs(server)
        with _unless_it_ends(pid):
            self._place()
        self._cost = hit_cost_now(server.ask, self.means["attach"], self._hot_sites(), self._cost)
        self.left_out = check(self.plan, strict=config.strict, needed=config.needed_levels())
        self.left_out += self._say_probed()
        """What to say of levels that this engine does not have, and of what stubs cannot record."""

    def _hot_sites(self) -> set[str]:
        return {
            p.place.site
            for p in self.plan.probes
            if p.level in HOT_LEVELS and p.place.via in (STUB, DIRECT)
        }

    def cost_at_end(self, server: Server, seconds: float) -> dict[str, Any] | None:
        """What a hit costs now that the recording has lasted so long: a machine's neighbours come
        and go. None where it was too short for that, or nothing hot is probed."""
        sites = self._hot_sites()
        if seconds < DRIFT_S or not sites:
            return None
        now = hit_cost_now(server.ask, self.means["attach"], sites, self._cost)
        return {
            "sites": {site: now.sites.get(site) for site in sites},
            "intervals": {site: now.intervals[site] for site in sites & now.intervals.keys()},
        }

    def _place(self) -> None:
        if self._config.probes != "direct":
            self._placer.redirection = read_redirection(self.pid)
        self._placer.takes_stubs = self._config.probes == "stub"
        if self._config.by_stubs:
            self._placer.record_by_stubs(self._cannot_record)
        self.plan = make_plan(self.objects, self._config.level, self._placer, self._silent)

    def _ask_stubs(self, server: Server) -> str:
        """Why stubs cannot record what is wanted, or on this machine; of the process itself its
        redirection tells."""
        if not self._config.by_stubs:
            return ""
        if self._config.counters:
            return COUNTED
        with _unless_it_ends(self.pid):
            redirection = read_redirection(self.pid)
        if redirection.user:
            return "another recording uses them"
        return str(server.ask("ticks")["problem"]) if redirection.library else ""

    def _say_probed(self) -> list[str]:
        """What is probed although stubs were to record it. ProbeError where that is not to be."""
        whys = {x.place.why: x.symbol for x in self.plan.probes if x.place.why not in ("", SENT_ON)}
        if self._config.probes != "recording":
            return []
        said = [f"process {self.pid}: {symbol} is probed: {why}" for why, symbol in whys.items()]
        if said and self._config.strict:
            raise ProbeError(said[0], "without --strict it is recorded by probes")
        return said

    def has_more(self, finder: ObjectFinder) -> bool:
        """Looks again: whether there are places for probes that were not there before, or files by
        which backends are named. TargetError when the process has ended."""
        before, named = {*self.plan.probes}, self._named()
        self.objects = finder.find(self.pid)
        self._place()
        return not {*self.plan.probes} <= before or not self._named() <= named

    def _named(self) -> set[str]:
        """Files that a backend's functions may be in."""
        files = ((item.path, item.elf) for item in self.objects)
        return {path for path, elf in files if describe(elf).backends or backend_of_file(path)}

    def replace(self, silent: Collection[str]) -> bool:
        """Plans others in the place of functions that are not called; whether there are any."""
        before = self.plan.probes
        self._silent |= {*silent}
        self._place()
        return self.plan.probes != before

    def probe_instead(self, why: str) -> None:
        """Plans probes where stubs have recorded so far."""
        self._cannot_record = why
        self._placer.give_up_recording()
        self._place()

    def file(self) -> int:
        """The plan, in a file without a name; the caller closes it. TargetError when the process
        has ended."""
        with _unless_it_ends(self.pid):
            plan = self._json()
        file = os.memfd_create("profinfer-plan", os.MFD_CLOEXEC)
        with open(file, "wb", closefd=False) as stream:
            stream.write(json.dumps(plan).encode())
        os.lseek(file, 0, os.SEEK_SET)
        return file

    def _json(self) -> dict[str, Any]:
        redirection = self._placer.redirection
        start = start_json(self.objects, self._layout, self.plan, self._config, self._cost)
        start["redirection"] = redirection.reason or "on"
        start["recording_stubs"] = self._placer.say_stubs()
        start["recording"] = self._recording
        calls = self._placer.calls(self.objects)
        plan = live_plan(self.objects, self.plan, self._layout, start, redirection, calls)
        if stubs := self._placer.stubs_of(x.place for x in self.plan.probes):
            plan |= {"stub_page": redirection.page, "stubs": stubs}
        if self._counters:
            plan["counters"] = self._counters
        return plan
