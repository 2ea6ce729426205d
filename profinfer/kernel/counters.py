"""What `--counters` asks for: events and presets, in groups."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from profinfer.errors import UsageError
from profinfer.kernel.perf_events import Event, MissingEvent, Source, parse_event
from profinfer.kernel.pmus import Pmus
from profinfer.kernel.presets import Preset, presets
from profinfer.records.limits import COUNTER_MAX

_ROLES = {
    "cycles": "cycles", "cpu-cycles": "cycles", "cpu_cycles": "cycles",
    "instructions": "instructions", "inst_retired": "instructions",
    "stalled-cycles-backend": "stall_backend", "stall_backend": "stall_backend",
}  # fmt: skip
"""What events mean that are asked for by their own name."""
_UNITS = {"task-clock": "ns", "cpu-clock": "ns"}


@dataclass(frozen=True)
class Counter:
    """One counter."""

    event: Event
    group: int
    """Counters of one group share their hardware, and so count at the same times."""
    unit: str = ""
    scale: int = 1
    """Its value in `unit` is the event's count times this."""
    role: str = ""
    """What a value stands for in SQL; counters.yaml lists the roles."""
    source: str = ""

    @property
    def name(self) -> str:
        """As it stands in the trace."""
        return self.event.name

    def to_json(self) -> dict[str, Any]:
        """For the trace, and for a plan."""
        event = asdict(self.event)
        for entry in event["sources"]:
            entry["cpus"] = None if entry["cpus"] is None else sorted(entry["cpus"])
        return {
            **event, "group": self.group, "unit": self.unit, "scale": self.scale,
            "role": self.role, "source": self.source, "software": self.event.is_software,
        }  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """What is to be counted, and why not all of what was asked for."""

    counters: tuple[Counter, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For a plan."""
        events = [counter.to_json() for counter in self.counters]
        return {"events": events, "notes": list(self.notes)}


def want(
    names: Sequence[str], pmus: Pmus, models: dict[int, frozenset[str]], *, foreign: bool = False
) -> Wanted:
    """The counters of `--counters NAMES`. UsageError for what is no name; what does not exist here
    is a note. `models`: of each CPU the names that presets have for it."""
    found: list[Counter] = []
    notes: list[str] = []
    group = 0
    for events in (events for text in names for events in _groups(text)):
        members: list[list[Counter]] = []
        for name in events:
            if name in presets():
                members += _preset(presets()[name], pmus, models, notes, foreign=foreign)
                continue
            try:
                members.append([_own(parse_event(name, pmus, foreign=foreign))])
            except MissingEvent as error:
                notes.append(f"not counted: {error.message}")
        if len(events) > 1:
            members = [[counter for part in members for counter in part]]
        for part in members:
            fresh = [c for c in part if c.name not in [f.name for f in found]]
            found += [replace(counter, group=group) for counter in fresh]
            group += 1
    if len(found) > COUNTER_MAX:
        raise UsageError(f"{len(found)} counters are more than the {COUNTER_MAX} there is room for")
    return Wanted(tuple(found), tuple(notes))


def _own(event: Event) -> Counter:
    name = event.name.partition(":")[0]
    return Counter(event, 0, unit=_UNITS.get(name, ""), role=_ROLES.get(name, ""))


def _groups(text: str) -> list[list[str]]:
    """The names in "a,{b,c},cpu/d,e/": of each group, and each one outside of any."""
    parts = re.findall(r"\{[^{}]*\}|[^,{}/]+(?:/[^/]*/[^,{}]*)?|.", text.replace(" ", ""))
    found: list[list[str]] = []
    for part in parts:
        if part.startswith("{") and len(part) > 1:
            inner = [name for names in _groups(part[1:-1]) for name in names]
            found.append(inner)
        elif part in "{}/" or not part:
            raise UsageError(
                f"counters {text!r}: a {part!r} without its other half",
                "names, comma-separated; {a,b} counts a and b at the same times",
            )
        elif part != ",":
            found.append([part])
    if not any(found):
        raise UsageError("counters: no name", "profinfer doctor lists what can be counted here")
    return found


def _preset(
    preset: Preset, pmus: Pmus, models: dict[int, frozenset[str]], notes: list[str], *,
    foreign: bool,
) -> list[list[Counter]]:  # fmt: skip
    """A preset's groups: of each kind of core its own events, under one name."""
    kinds: dict[frozenset[str], set[int]] = {}
    for cpu, names in models.items():
        kinds.setdefault(names, set()).add(cpu)
    chosen = {names: preset.groups(names) for names in kinds} or {
        frozenset[str](): preset.groups(frozenset())
    }
    groups: list[list[Counter]] = []
    for names, content in chosen.items():
        if content is None:
            notes.append(
                f"preset {preset.name} does not know this CPU; it knows {preset.known_cpus()}"
            )
            continue
        cpus = None if len(chosen) == 1 else frozenset(kinds[names])
        for index, entries in enumerate(content):
            if index == len(groups):
                groups.append([])
            for entry in entries:
                _add(groups[index], entry, cpus, pmus, notes, foreign=foreign)
    return groups


def _add(
    group: list[Counter], entry: dict[str, Any], cpus: frozenset[int] | None, pmus: Pmus,
    notes: list[str], *, foreign: bool,
) -> None:  # fmt: skip
    try:
        event = parse_event(entry["event"], pmus, foreign=foreign)
    except MissingEvent as error:
        notes.append(f"not counted: {error.message}")
        return
    colon = event.name.rfind(":")
    if "name" in entry:
        event = replace(event, name=entry["name"] + (event.name[colon:] if colon > 0 else ""))
    sources: tuple[Source, ...] = tuple(replace(source, cpus=cpus) for source in event.sources)
    for index, known in enumerate(group):
        if known.name == event.name:
            sources = known.event.sources + sources
            group[index] = replace(known, event=replace(known.event, sources=sources))
            return
    group.append(
        Counter(
            replace(event, sources=sources), 0, str(entry.get("unit", "")),
            int(entry.get("scale", 1)), str(entry.get("role", "")),
            " ".join(str(entry["source"]).split()),
        )
    )  # fmt: skip
