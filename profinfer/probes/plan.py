"""The probe plan: which handler runs at which offset of which file. Pure data, printable.

Levels include the ones before them. A level whose required probe point is in none of the
target's objects is reported with what was looked for and what was found instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from profinfer.config import LEVELS
from profinfer.engine.description import describe
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
    place: Place

    def to_json(self) -> dict[str, object]:
        """For the trace's metadata."""
        place = asdict(self.place)
        del place["access"]
        return {
            "object": place.pop("path"), "symbol": self.symbol, "handler": self.handler,
            "level": self.level, "at_return": self.at_return, **place,
        }  # fmt: skip

    def describe(self) -> str:
        """One line."""
        name = self.symbol + (" (return)" if self.at_return else "")
        return f"{self.level:9} {self.handler:24} {name}  {self.place.describe()}"


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
                Probe(function.name, point.handler, point.level, point.at_return, place)
                for place in places
            ]
    return found


def _similar(point: Point, objects: Iterable[EngineObject]) -> str:
    import difflib  # here: as a rule nothing is missing

    names = {name for item in objects for name in item.elf.symbols.names()}
    wanted = point.symbol.replace(r"E\w+", "")
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.6)
    return f"found instead: {', '.join(near)}" if near else "found nothing similar"


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
            missing[name] = f"no {looked}; {_similar(first, objects)}"
    return Plan(level, tuple(probes), missing)


def check(plan: Plan, *, best_effort: bool) -> None:
    """ProbeError when a level is missing, unless whatever works will do; or when nothing works."""
    if plan.missing and not (best_effort and plan.probes):
        level, reason = next(iter(plan.missing.items()))
        raise ProbeError(
            f"level {level} has no probe point in the target's libraries: {reason}",
            "--best-effort goes on with the levels that work"
            if plan.probes
            else "profinfer doctor shows what the libraries contain",
        )
