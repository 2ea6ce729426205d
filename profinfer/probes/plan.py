"""The probe plan: which handler runs at which offset of which file. Pure data, printable.

Levels include the ones before them. A level whose required probe point is in none of the
target's objects is left out, with what was looked for and what was found instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import chain

from profinfer.binaries.elf import Elf
from profinfer.config import LEVELS
from profinfer.engine.adapter import adapters
from profinfer.engine.adapter_file import Function, Point
from profinfer.engine.description import describe
from profinfer.engine.target import EngineObject
from profinfer.errors import ProbeError
from profinfer.probes.placement import Place, Placer


@dataclass(frozen=True)
class Probe:
    """One probe."""

    symbol: str
    handler: str
    level: str
    at_return: bool
    required: bool
    """Without any required probe of a level, the level cannot be recorded."""
    found_by: str
    """How the function was found; see naming.py."""
    place: Place

    def to_json(self) -> dict[str, object]:
        """For the trace's metadata."""
        place = asdict(self.place)
        del place["access"]
        return {
            "object": place.pop("path"), "symbol": self.symbol, "handler": self.handler,
            "level": self.level, "at_return": self.at_return,
            "found_by": self.found_by, **place,
        }  # fmt: skip

    def describe(self) -> str:
        """One line."""
        name = self.symbol + (" (return)" if self.at_return else "")
        handler = self.handler
        if call := adapters().call_of(handler):
            handler += f" ({call.name})"
        found_by = f" [{self.found_by}]" if self.found_by != "symbol" else ""
        return f"{self.level:9} {handler:24} {name}  {self.place.describe()}{found_by}"


@dataclass(frozen=True)
class Plan:
    """The probes, and for each level that cannot be had the reason."""

    level: str
    probes: tuple[Probe, ...]
    missing: dict[str, str]
    silent: frozenset[str] = frozenset()
    """Functions that are there and not called: others are probed instead, where there are any."""
    notes: tuple[str, ...] = ()
    """Which others."""

    def to_json(self) -> dict[str, object]:
        """For the trace's metadata."""
        return {
            "level": self.level,
            "probes": [p.to_json() for p in self.probes],
            "missing": self.missing,
            "steps": [step.name for step in adapters().steps],
            "calls": [call.to_json() for call in adapters().calls],
        }

    def describe(self) -> str:
        """One line per probe, aligned."""
        lines = [p.describe() for p in self.probes]
        lines += [f"{level:9} not available: {reason}" for level, reason in self.missing.items()]
        return "\n".join(lines)


def _choose(
    point: Point, item: EngineObject, silent: AbstractSet[str]
) -> tuple[tuple[Function, ...], tuple[str, ...]]:
    """The first of a point's alternatives that an object has, but for those that are not called, if
    it has another; and the names of these."""
    passed_over: tuple[str, ...] = ()
    chosen: tuple[Function, ...] = ()
    for alternative in point.alternatives:
        names = _names(alternative, item)
        if not names:
            continue
        if chosen:  # and there is another
            passed_over += _names(chosen, item)
        chosen = alternative
        if not silent & {*names}:
            break
    return chosen, passed_over


def _names(alternative: Iterable[Function], item: EngineObject) -> tuple[str, ...]:
    description = describe(item.elf)
    found = (f.name for wanted in alternative for f in description.named(wanted.symbol))
    return tuple(dict.fromkeys(found))  # copies bear its name


def _find(
    point: Point, objects: Iterable[EngineObject], placer: Placer | None, silent: AbstractSet[str],
    notes: list[str],
) -> list[Probe]:  # fmt: skip
    found = []
    for item in objects:
        chosen, passed_over = _choose(point, item, silent)
        if passed_over:
            names = ", ".join(_names(chosen, item))
            notes.append(
                f"level {point.level}: {', '.join(passed_over)} is not called, so {names} is probed"
            )
        for wanted in chosen:
            handler = adapters().handler(point, wanted)
            handlers = [(handler, False)]
            if at_return := adapters().at_return(point, wanted):
                handlers.append((at_return, True))
            for function in describe(item.elf).named(wanted.symbol):
                places = (
                    placer.places(item, function)
                    if placer
                    else (Place(item.path, item.access, function.offset),)
                )
                found += [
                    Probe(
                        function.name,
                        name,
                        point.level,
                        at_return,
                        point.required,
                        function.found_by,
                        place,
                    )
                    for name, at_return in handlers
                    for place in places
                ]
    return found


@lru_cache(maxsize=8)  # a command is looked at whenever it has loaded something
def _similar(wanted: str, files: tuple[Elf, ...]) -> str:
    import difflib  # here: as a rule nothing is missing

    names = {name for elf in files for name in elf.symbols.names()}
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.6)
    return f"found instead: {', '.join(near)}" if near else "found nothing similar"


def _reasons(wanted: Iterable[str], objects: Iterable[EngineObject]) -> str:
    """Why functions without symbols were not found, where they were looked for otherwise."""
    found = [
        f"{name}: {why}"
        for item in objects
        for name, why in describe(item.elf).unfound.items()
        if any(re.fullmatch(symbol, name) for symbol in wanted)
    ]
    return "; ".join(dict.fromkeys(found))


def make_plan(
    objects: list[EngineObject], level: str, placer: Placer | None = None,
    silent: frozenset[str] = frozenset(),
) -> Plan:  # fmt: skip
    """The probes for `level` and those before it, at the functions' symbols or where `placer`
    puts them; where there is an alternative not at `silent` ones, which are not called. Does not
    raise for what is missing: see `Plan.missing`."""
    probes: list[Probe] = []
    missing: dict[str, str] = {}
    notes: list[str] = []
    for name in LEVELS[: LEVELS.index(level) + 1]:
        points = [p for p in adapters().points if p.level == name]
        found = [p for point in points for p in _find(point, objects, placer, silent, notes)]
        if any(probe.required for probe in found):
            probes += found
        else:
            missing[name] = _missing(name, objects)
    return Plan(level, tuple(probes), missing, silent, tuple(notes))


def _missing(level: str, objects: list[EngineObject]) -> str:
    """What of a level was looked for: what the families have that are there; where none has it,
    what others know it by."""
    there = {family for item in objects for family in describe(item.elf).families}
    points = [(a.family, point) for a in adapters().known for point in a.points]
    points = [(family, point) for family, point in points if point.level == level]
    wanted = [
        function.symbol
        for family, point in points
        if family in there
        for function in chain.from_iterable(point.alternatives)
        if function.call is None
    ] or [
        function.symbol
        for _, point in points
        if point.required
        for function in point.alternatives[0]
    ]
    readable = [re.split(r"E?\\w|[.(\[]", symbol)[0] or symbol for symbol in wanted]
    similar = _reasons(wanted, objects)
    similar = similar or _similar(readable[0], tuple(item.elf for item in objects))
    return f"no {', '.join(readable)}; {similar}"


def check(plan: Plan, *, strict: bool, needed: Mapping[str, str] | None = None) -> list[str]:
    """What to say of the levels that are left out. ProbeError when none is left, when one is left
    out that something else needs (`needed`: which option needs which level), and in any case when
    that is not to be (`strict`)."""
    for level, reason in plan.missing.items():
        missing = f"level {level} has no probe point in the target's libraries: {reason}"
        if not plan.probes:
            raise ProbeError(missing, "profinfer doctor shows what the libraries contain")
        if option := (needed or {}).get(level):
            raise ProbeError(f"{option} needs what this engine does not have: {missing}")
        if strict:
            raise ProbeError(missing, "without --strict the levels are recorded that there are")
    return [f"level {level} is left out: {reason}" for level, reason in plan.missing.items()]
