"""Where a probe sits: on a NOP stub before the function, or on its cheapest entry instruction.

A function of which any call might not pass a stub has its probe in the function itself: the
counts must be the same wherever the probe is. So has one in which a hit is cheaper than on its
stub, by what was measured on this machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from profinfer.binaries.elf import Elf
from profinfer.binaries.sites import Site, cheapest, entry_sites
from profinfer.engine.adapter import adapters
from profinfer.engine.audit_library import OPERATORS, SENT_ON_AT, STUB_SIZE, STUBS_SYMBOL
from profinfer.engine.description import Function
from profinfer.engine.stubs import Redirection, Stub, bypasses
from profinfer.engine.target import EngineObject
from profinfer.probes.hitcost import HitCost

STUB, DIRECT, RECORDING = "stub", "direct", "recording"
SENT_ON = "operators that choose or weigh experts: these are read in the kernel"
"""Why a stub that records is probed as well."""
COUNTED = "counters are read in the kernel"
"""Why none records where some are asked for."""
_ENDBR = 4
"""Bytes of the one instruction that may stand before a function's first."""


@dataclass(frozen=True)
class Place:
    """One address for a probe."""

    path: str
    """The file, as the target sees it."""
    access: Path
    """The very inode, for the kernel."""
    offset: int
    """In the file, bytes."""
    via: str = DIRECT
    """STUB, DIRECT, or RECORDING: nothing is probed, the stub writes the records itself."""
    site: str = ""
    """Kind of the probed instruction (see sites.py)."""
    hit_ns: float | None = None
    """Measured cost of a hit there with an empty handler, ns."""
    why: str = ""
    """Why it is not a stub, or none that records, where one was looked for."""

    def describe(self) -> str:
        """The address, and what is known of it."""
        cost = f", {self.hit_ns / 1000:.2f} us" if self.hit_ns is not None else ""
        kind = ", ".join(filter(None, (self.via, self.site)))
        site = f"  {kind}{cost}" if self.site or self.via == RECORDING else ""
        return f"{self.path}+{self.offset:#x}{site}" + (f" ({self.why})" if self.why else "")


@dataclass(frozen=True)
class Call:
    """A word in the process's memory by which a function is called that has its probe on a stub."""

    name: str
    path: str
    """Of the object that calls it."""
    address: int
    values: tuple[int, ...]
    """What it may hold."""


_Key: TypeAlias = tuple[str, tuple[int, ...], str, int]


def _key(item: EngineObject, function: Function) -> _Key:
    return item.path, item.bases, function.name, function.value


def _bearing(function: Function) -> list[Site]:
    """The kernel turns a NOP of five bytes into a call, which writes below the stack pointer: only
    at the very beginning can a function have nothing there."""
    return [site for site in function.sites if site.kind != "nop5" or site.offset <= _ENDBR]


class Placer:
    """Chooses places in one process."""

    def __init__(
        self,
        cost: HitCost | None,
        pid: int,
        *,
        ranks: Mapping[str, float] | None = None,
        sends_on: bool = False,
    ) -> None:
        """`cost`: None before it is known, or where it cannot be: then `ranks` (ranks.py) stand
        for it. `sends_on`: stubs that record leave some operators to a probe (SENT_ON)."""
        self._cost = cost
        self._ranks = ranks
        self._pid = pid
        self._sends_on = sends_on
        self.why_probed: str | None = ""
        """Why stubs are probed and do not record by themselves, where that is to be said; None:
        they do record."""
        self._recording: dict[int, int] = {}
        """Stubs that are to record: their numbers by offset."""
        self.takes_stubs = False
        """Whether stubs are probed whatever that costs."""
        self.redirection = Redirection(None)
        """What the audit library does in the process; set anew when its objects change."""
        self._stub_sites: dict[int, Site] = {}
        # A choice stays: a function probed in two ways would be counted twice.
        self._places: dict[_Key, tuple[Place, ...]] = {}
        self._stubs: list[tuple[EngineObject, Function, dict[int, Stub]]] = []

    def record_by_stubs(self, problem: str) -> None:
        """Stubs are to record by themselves, unless the process has a reason against it, or there
        is this one."""
        cannot = self.redirection.cannot_record or problem
        self.why_probed = f"its stubs cannot record: {cannot}" if cannot else None

    def say_stubs(self) -> str:
        """Whether they record, or why not."""
        if self.redirection.reason or self.why_probed == "":
            return self.redirection.reason or "they are not to record"
        return self.why_probed or "on"

    def _ns(self, kind: str) -> float | None:
        return self._cost.sites.get(kind) if self._cost else None

    def _costs(self) -> Mapping[str, float]:
        if self._cost is None:
            return self._ranks or {}
        known = self._cost.sites
        # What the kernel refuses must not be taken for what it single-steps.
        return {kind: math.inf if ns is None else ns for kind, ns in known.items()}

    def places(self, item: EngineObject, function: Function) -> tuple[Place, ...]:
        """Where the calls of a function are seen, each once; nowhere if no instruction at its
        entry can bear a probe."""
        key = _key(item, function)
        if key not in self._places:
            stubs: dict[int, Stub] = {}
            why = ""
            if function.name in adapters().redirected and not function.is_copy:
                stubs, why = self._find_stubs(item, function)
            if stubs and self.why_probed is not None and not self.takes_stubs:
                why = self._why_in_function(function)
            if stubs and not why:
                self._stubs.append((item, function, stubs))
                self._places[key] = tuple(x for stub in stubs.values() for x in self._at_stub(stub))
            else:
                self._places[key] = self._direct(item, function, why)
        return self._places[key]

    def _find_stubs(self, item: EngineObject, function: Function) -> tuple[dict[int, Stub], str]:
        """The stubs that every call passes, by the load address of each copy of the object; or why
        there are none."""
        if not self.redirection.stubs:
            return {}, self.redirection.reason
        found = {}
        for base in item.bases:
            stub = self.redirection.stubs.get((base, function.name))
            if stub is None:
                return {}, "the audit library does not redirect it"
            if function.problem:
                return {}, f"whether calls pass the stub cannot be read: {function.problem}"
            why = bypasses(self._pid, base, function.words, stub)
            if why:
                return {}, why
            found[base] = stub
        if function.direct is not None:
            return {}, f"called without the linkage table, at {function.direct:#x} for one"
        return found, ""

    def _at_stub(self, stub: Stub) -> tuple[Place, ...]:
        library = self.redirection.library
        if library is None:
            raise ValueError("a stub without its library")
        if self.why_probed is not None:
            return (self._on_stub(library, stub, 0, self.why_probed),)
        self._recording[stub.offset] = stub.index
        path, cost = self.redirection.path, self._ns(RECORDING)
        recording = Place(path, library, stub.offset, RECORDING, hit_ns=cost)
        if not self._sends_on or stub.function != OPERATORS:
            return (recording,)
        return recording, self._on_stub(library, stub, SENT_ON_AT, SENT_ON)

    def _on_stub(self, library: Path, stub: Stub, start: int, why: str) -> Place:
        """On the cheapest NOP from byte `start` of a stub on."""
        site = self._site_on_stubs(library, start)
        offset = stub.offset + start + site.offset
        path, cost = self.redirection.path, self._ns(site.kind)
        return Place(path, library, offset, STUB, site.kind, cost, why)

    def _site_on_stubs(self, library: Path, start: int) -> Site:
        if start not in self._stub_sites:
            elf = Elf(library)
            code = elf.symbols[STUBS_SYMBOL]
            code = code._replace(value=code.value + start, size=STUB_SIZE - start)
            self._stub_sites[start] = cheapest(entry_sites(elf, code), self._costs())
        return self._stub_sites[start]

    def _why_in_function(self, function: Function) -> str:
        """Why one that has a stub is probed in itself: a hit costs less there, and by more than
        either measurement may be wrong. Empty where that is not so, or not known."""
        library, sites = self.redirection.library, _bearing(function)
        if self._cost is None or library is None or not sites:
            return ""
        found = []
        for site in (self._site_on_stubs(library, 0), cheapest(sites, self._costs())):
            ns, interval = self._ns(site.kind), self._cost.intervals.get(site.kind)
            if ns is None or interval is None:
                return ""
            found.append((f"{site.kind}, {ns / 1000:.2f} us", interval))
        (stub, (low, _)), (direct, (_, high)) = found
        why = f"a hit is cheaper here ({direct}) than on its stub ({stub})"
        return "; ".join(filter(None, (self.why_probed, why))) if high < low else ""

    def stubs_of(self, places: Iterable[Place]) -> list[int]:
        """The numbers of the stubs that are to record at a plan's places."""
        return sorted({self._recording[x.offset] for x in places if x.via == RECORDING})

    def give_up_recording(self) -> None:
        """Stubs that were to record get their places anew."""
        self._places = {
            key: places
            for key, places in self._places.items()
            if all(place.via != RECORDING for place in places)
        }
        self._recording.clear()
        self._stubs = [
            (item, function, stubs)
            for item, function, stubs in self._stubs
            if _key(item, function) in self._places
        ]

    def _direct(self, item: EngineObject, function: Function, why: str) -> tuple[Place, ...]:
        """The one place in the function itself; none where it has no instruction for a probe."""
        sites = _bearing(function)
        if not sites:
            return ()
        costs = self._costs()
        site = cheapest(sites, costs) if costs else sites[0]
        offset = function.offset + site.offset
        place = Place(item.path, item.access, offset, DIRECT, site.kind, self._ns(site.kind), why)
        return (place,)

    def calls(self, objects: list[EngineObject]) -> list[Call]:
        """The words by which functions are called that have their probes on stubs. What leads
        elsewhere once the loader has bound them passes by, and makes a wrong count. `objects`:
        those of the process that are mapped still."""
        mapped = {(item.path, base) for item in objects for base in item.bases}
        return [
            Call(function.name, item.path, base + word.offset, word.values(base, stub.address))
            for item, function, stubs in self._stubs
            for base, stub in stubs.items()
            if (item.path, base) in mapped
            for word in function.words
        ]
