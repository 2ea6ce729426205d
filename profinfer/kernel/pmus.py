"""The performance monitoring units of a machine, as the kernel lists them in sysfs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SYSFS = Path("/sys/bus/event_source/devices")
_NO_EVENTS = ("breakpoint", "kprobe", "software", "tracepoint", "uprobe")
"""Sources of the kernel's own, whose events go by other names than a PMU's."""

Bits = tuple[tuple[str, int, int], ...]
"""Where the bits of a term go, its lowest first: (word of perf_event_attr, first bit, last bit)."""


@dataclass(frozen=True)
class Pmu:
    """A PMU."""

    name: str
    is_core: bool
    """Whether it is the one inside its CPUs."""
    counts_threads: bool
    """False for one that many CPUs share: what it counts is nobody's."""
    formats: Mapping[str, Bits]
    """Terms that an event is put together from."""
    events: Mapping[str, str]
    """Named events, in terms."""


class Pmus:
    """All PMUs of a machine."""

    def __init__(self, pmus: list[Pmu]) -> None:
        self._pmus = pmus

    def __iter__(self) -> Iterator[Pmu]:
        return iter(self._pmus)

    def named(self, name: str) -> Pmu | None:
        """The PMU of that name."""
        return next((pmu for pmu in self._pmus if pmu.name == name), None)

    @cached_property
    def cores(self) -> tuple[Pmu, ...]:
        """Those inside the CPUs, one for each type of core; none on many virtual machines."""
        return tuple(pmu for pmu in self._pmus if pmu.is_core)

    def describe(self) -> str:
        """One line: what there is."""
        found = [pmu for pmu in self._pmus if pmu.counts_threads]
        text = ", ".join(f"{pmu.name} ({len(pmu.events)} named events)" for pmu in found)
        none = "" if self.cores else "no PMU of the CPUs' own (a virtual machine?); "
        return none + (text or "no other")


def read_pmus(folder: Path = SYSFS) -> Pmus:
    """The PMUs of this machine; none where sysfs is not mounted."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        names = []
    found = [_read_pmu(folder / name) for name in names if name not in _NO_EVENTS]
    return Pmus([pmu for pmu in found if pmu])


def _read_pmu(folder: Path) -> Pmu | None:
    if not _text(folder / "type").isdigit():
        return None
    is_core = folder.name == "cpu" or bool(_text(folder / "cpus"))
    is_shared = bool(_text(folder / "cpumask"))
    formats = {name: parse_bits(text) for name, text in _texts(folder / "format").items()}
    # Beside an event may lie its scale, its unit and the like.
    events = {name: text for name, text in _texts(folder / "events").items() if "." not in name}
    return Pmu(folder.name, is_core, not is_shared, formats, events)


def _texts(folder: Path) -> dict[str, str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return {}
    return {name: _text(folder / name) for name in names}


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def parse_bits(text: str) -> Bits:
    """Of "config:0-7,32-35" the words and bits."""
    word, _, ranges = text.partition(":")
    found = []
    for part in re.findall(r"(\d+)(?:-(\d+))?", ranges):
        first = int(part[0])
        found.append((word, first, int(part[1] or first)))
    return tuple(found)
