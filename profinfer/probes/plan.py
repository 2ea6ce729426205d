"""The probe plan: which handler runs at which offset of which file. Pure data, printable.

Levels include the ones before them. A level whose required probe point is in none of the
target's objects is left out, with what was looked for and what was found instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache

from profinfer.config import LEVELS
from profinfer.engine.description import describe
from profinfer.engine.elf import Elf
from profinfer.engine.points import POINTS, REQUIRED, Point
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
        found_by = f" [{self.found_by}]" if self.found_by != "symbol" else ""
        return f"{self.level:9} {self.handler:24} {name}  {self.place.describe()}{found_by}"


@dataclass(frozen=True)
class Plan:
    """The probes, and for each level that cannot be had the reason."""

    level: str
    probes: tuple[Probe, ...]
    missing: dict[str, str]

    def to_json(self) -> dict[str, object]:
        """For the trace's metadata."""
        return {
            "level": self.level,
            "probes": [p.to_json() for p in self.probes],
            "missing": self.missing,
        }

    def describe(self) -> str:
        """One line per probe, aligned."""
        lines = [p.describe() for p in self.probes]
        lines += [f"{level:9} not available: {reason}" for level, reason in self.missing.items()]
        return "\n".join(lines)


def _find(point: Point, objects: Iterable[EngineObject], placer: Placer | None) -> list[Probe]:
    found = []
    for item in objects:
        for function in describe(item.elf).named(point.symbol):
            places = (
                placer.places(item, function)
                if placer
                else (Place(item.path, item.access, function.offset),)
            )
            found += [
                Probe(function.name, point.handler, point.level, point.at_return,
                      function.found_by, place)
                for place in places
            ]  # fmt: skip
    return found


@lru_cache(maxsize=8)  # a command is looked at whenever it has loaded something
def _similar(wanted: str, files: tuple[Elf, ...]) -> str:
    import difflib  # here: as a rule nothing is missing

    names = {name for elf in files for name in elf.symbols.names()}
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.6)
    return f"found instead: {', '.join(near)}" if near else "found nothing similar"


def _reasons(points: Iterable[Point], objects: Iterable[EngineObject]) -> str:
    """Why functions without symbols were not found, where they were looked for otherwise."""
    found = [
        f"{name}: {why}" for item in objects for name, why in describe(item.elf).unfound.items()
        if any(re.fullmatch(point.symbol, name) for point in points)
    ]  # fmt: skip
    return "; ".join(dict.fromkeys(found))


def make_plan(objects: list[EngineObject], level: str, placer: Placer | None = None) -> Plan:
    """The probes for `level` and those before it, at the functions' symbols or where `placer`
    puts them. Does not raise for what is missing: see `Plan.missing`."""
    probes: list[Probe] = []
    missing: dict[str, str] = {}
    for name in LEVELS[: LEVELS.index(level) + 1]:
        points = [p for p in POINTS if p.level == name]
        found = [probe for point in points for probe in _find(point, objects, placer)]
        if REQUIRED & {probe.handler for probe in found}:
            probes += found
        else:
            first = next(p for p in points if p.required)
            looked = ", ".join(sorted({p.symbol.replace(r"E\w+", "") for p in points}))
            wanted = first.symbol.replace(r"E\w+", "")
            similar = _reasons(points, objects)
            similar = similar or _similar(wanted, tuple(item.elf for item in objects))
            missing[name] = f"no {looked}; {similar}"
    return Plan(level, tuple(probes), missing)


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
