"""Performance events by the names that `perf` gives them, as perf_event_open wants them.

    cycles  LLC-load-misses  page-faults           generic, cache and software events
    sched:sched_switch                             tracepoints
    r412e                                          a raw code of the CPUs' own PMU
    l3d_cache_refill                               an event that a core's PMU lists in sysfs
    cpu/event=0x2e,umask=0x41,name=llc/            terms of any PMU in sysfs

followed by a modifier, if any: `:u` user mode, `:k` kernel, `:uk` both (after the last slash
without the colon). Unlike perf's, hardware events without a modifier count user mode only: what the
probes themselves do in the kernel is then in no value.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace

from profinfer.errors import ProfinferError, UsageError
from profinfer.kernel import features
from profinfer.kernel.pmus import Pmu, Pmus

CORE = "core"
"""In the place of a PMU's name: the one inside the CPU, whichever that is."""
_TRACEPOINT = "tracepoint"

_HARDWARE = {
    "cpu-cycles": 0, "cycles": 0, "instructions": 1, "cache-references": 2, "cache-misses": 3,
    "branch-instructions": 4, "branches": 4, "branch-misses": 5, "bus-cycles": 6,
    "stalled-cycles-frontend": 7, "idle-cycles-frontend": 7, "stalled-cycles-backend": 8,
    "idle-cycles-backend": 8, "ref-cycles": 9,
}  # fmt: skip
_SOFTWARE = {
    "cpu-clock": 0, "task-clock": 1, "page-faults": 2, "faults": 2, "context-switches": 3, "cs": 3,
    "cpu-migrations": 4, "migrations": 4, "minor-faults": 5, "major-faults": 6,
    "alignment-faults": 7, "emulation-faults": 8, "cgroup-switches": 11,
}  # fmt: skip
_CACHES = ("L1-dcache", "L1-icache", "LLC", "dTLB", "iTLB", "branch", "node")
_CACHE_OPS = ("load", "store", "prefetch")
_CACHE = re.compile(
    rf"({'|'.join(_CACHES)})-({'|'.join(_CACHE_OPS)})(?:s|es)?(-misses)?", re.IGNORECASE
)
_NAME = re.compile(r"[\w.-]+(?::[\w.-]+)?")
_MODIFIERS = re.compile(r"[ukh]+")
_SHOWN = 8
_CONFIGS = ("config", "config1", "config2")


GENERIC = (*_HARDWARE, *_SOFTWARE)
"""Names that mean something everywhere, though not every machine can count them."""


class MissingEvent(ProfinferError):
    """There is no such event here: says what there is instead."""


@dataclass(frozen=True)
class Source:
    """Where an event is counted."""

    pmu: str
    """A PMU's name, CORE, "hardware", "software", "hw-cache" or "tracepoint"."""
    config: tuple[int, ...] = (0, 0, 0)
    """config, config1 and config2 of perf_event_attr."""
    tracepoint: str = ""
    """Instead of them: "sched:sched_switch"."""
    cpus: frozenset[int] | None = None
    """Only on these CPUs."""


@dataclass(frozen=True)
class Event:
    """What is counted."""

    name: str
    """With its modifier."""
    sources: tuple[Source, ...]
    """Of these the first that a CPU has."""
    exclude: str = ""
    """Modes in which it does not count: of "u", "k" and "h" (hypervisor)."""
    by_default: bool = False
    """Whether `exclude` was not asked for: a PMU that cannot tell modes apart counts all."""

    @property
    def is_software(self) -> bool:
        """Whether the kernel itself counts it, and so always."""
        return all(source.pmu in ("software", _TRACEPOINT) for source in self.sources)


def parse_event(text: str, pmus: Pmus, *, foreign: bool = False) -> Event:
    """The event of that name. UsageError when it is no name, MissingEvent when it is none here.

    `foreign`: it is to be counted on another machine, and only that can tell which exist."""
    if "/" in text:
        return _pmu_event(text, pmus, foreign=foreign)
    if not _NAME.fullmatch(text):
        raise UsageError(f"{text!r} is not the name of an event", _HINT)
    name, _, modifier = text.partition(":")
    known = _generic(name) or _listed(name, pmus)
    if known is None and modifier and not _MODIFIERS.fullmatch(modifier):
        return Event(text, (_tracepoint(text, foreign=foreign),))
    if known is None:
        raise _missing(name, pmus)
    if modifier and not _MODIFIERS.fullmatch(modifier):
        raise UsageError(f"event {text!r}: no modifier {modifier!r}", "of :u, :k and :h any or all")
    return _with_modifier(Event(name, known), modifier)


_HINT = "profinfer record --help shows the kinds of names; profinfer doctor what can be counted"


def _generic(name: str) -> tuple[Source, ...] | None:
    if name in _HARDWARE:
        return (Source("hardware", (_HARDWARE[name], 0, 0)),)
    if name in _SOFTWARE:
        return (Source("software", (_SOFTWARE[name], 0, 0)),)
    if raw := re.fullmatch(r"r([0-9a-fA-F]{1,16})", name):
        return (Source(CORE, (int(raw[1], 16), 0, 0)),)
    if cache := _CACHE.fullmatch(name):
        which = [cache_name.lower() for cache_name in _CACHES].index(cache[1].lower())
        op = _CACHE_OPS.index(cache[2].lower())
        return (Source("hw-cache", (which | op << 8 | bool(cache[3]) << 16, 0, 0)),)
    return None


def _listed(name: str, pmus: Pmus) -> tuple[Source, ...] | None:
    """An event that the cores' PMUs list: on each kind of core by its own code."""
    found = [
        Source(pmu.name, _encode(pmu.events[name], pmu)) for pmu in pmus.cores if name in pmu.events
    ]
    return tuple(found) or None


def _tracepoint(name: str, *, foreign: bool) -> Source:
    """As "sched:sched_switch"; MissingEvent."""
    system, _, event = name.partition(":")
    found = Source(_TRACEPOINT, tracepoint=name)
    if foreign:
        return found
    events = features.tracefs() / "events"
    if (events / system / event / "id").is_file():
        return found
    try:
        near = sorted(path.name for path in (events / system).iterdir() if path.is_dir())
    except OSError:
        systems = sorted(path.name for path in events.iterdir() if path.is_dir())
        raise MissingEvent(
            f"there is no tracepoint {name}: nor a subsystem {system}, but {_near(system, systems)}"
        ) from None
    raise MissingEvent(f"there is no tracepoint {name}, but {system} has {_near(event, near)}")


def _pmu_event(text: str, pmus: Pmus, *, foreign: bool) -> Event:
    """PMU/terms/modifier"""
    match = re.fullmatch(r"([\w.-]+)/([^/]*)/:?(\w*)", text)
    if not match or (match[3] and not _MODIFIERS.fullmatch(match[3])):
        raise UsageError(f"{text!r} is not PMU/term,term=value/modifier", _HINT)
    pmu = pmus.named(match[1])
    if pmu is None and foreign:
        # Its terms are those of the machine's cores.
        pmu = replace(pmus.cores[0], name=match[1])
    if pmu is None:
        raise MissingEvent(f"{text}: there is no PMU {match[1]}; here are: {pmus.describe()}")
    if not pmu.counts_threads:
        raise MissingEvent(
            f"{text}: PMU {pmu.name} counts for many CPUs together, and so for no thread"
        )
    terms = [term for term in match[2].split(",") if not term.startswith("name=")]
    names = [term[5:] for term in match[2].split(",") if term.startswith("name=")]
    name = names[-1] if names else f"{pmu.name}/{match[2]}/"
    source = Source(pmu.name, _encode(",".join(terms), pmu))
    return _with_modifier(Event(name, (source,)), match[3])


def _with_modifier(event: Event, modifier: str) -> Event:
    by_default = not modifier and not event.is_software
    if by_default:
        modifier = "u"
    if not modifier:
        return event
    exclude = "".join(mode for mode in "ukh" if mode not in modifier)
    return replace(event, name=f"{event.name}:{modifier}", exclude=exclude, by_default=by_default)


def _encode(terms: str, pmu: Pmu) -> tuple[int, ...]:
    """Terms as the words of perf_event_attr. MissingEvent for what the PMU has not."""
    words = [0, 0, 0]
    for term in filter(None, terms.split(",")):
        name, has_value, value = term.partition("=")
        if not has_value and name not in pmu.formats:
            if name not in pmu.events:
                raise _no_event_of(name, pmu)
            words = [a | b for a, b in zip(words, _encode(pmu.events[name], pmu), strict=True)]
            continue
        try:
            number = int(value, 0) if has_value else 1
        except ValueError:
            raise UsageError(f"PMU {pmu.name}: {value!r} in {term!r} is no number", _HINT) from None
        bits = ((name, 0, 63),) if name in _CONFIGS else pmu.formats.get(name)
        if bits is None:
            raise MissingEvent(
                f"PMU {pmu.name} has no term {name}; it has {', '.join(sorted(pmu.formats))}"
            )
        for word, first, last in bits:
            if word not in _CONFIGS:
                raise MissingEvent(f"PMU {pmu.name}: {name} stands in {word}, which is too new")
            words[_CONFIGS.index(word)] |= (number & (1 << last - first + 1) - 1) << first
            number >>= last - first + 1
        if number:
            raise UsageError(f"PMU {pmu.name}: {value} is too large for {name}")
    return tuple(words)


def _no_event_of(name: str, pmu: Pmu) -> MissingEvent:
    return MissingEvent(f"PMU {pmu.name} has no event {name}; {_near(name, sorted(pmu.events))}")


def _missing(name: str, pmus: Pmus) -> MissingEvent:
    if pmus.cores:
        listed = [f"PMU {p.name} has {_near(name, sorted(p.events))}" for p in pmus.cores]
    else:
        listed = [pmus.describe()]
    return MissingEvent(
        f"there is no event {name}; {'; '.join(listed)}; generic are {_near(name, sorted(GENERIC))}"
    )


def _near(name: str, names: list[str]) -> str:
    """All of the names, or those most like `name`."""
    if len(names) <= _SHOWN:
        return ", ".join(names) or "none"
    near = difflib.get_close_matches(name, names, _SHOWN, cutoff=0.0)
    return f"{', '.join(near)} and {len(names) - len(near)} others"
