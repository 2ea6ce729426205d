"""Counters by preset: counters.yaml, and which of its CPUs this machine has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from profinfer.kernel.pmus import Pmu, Pmus, parse_bits

FILE = Path(__file__).with_name("counters.yaml")
_CPUINFO = Path("/proc/cpuinfo")
_ANY = "any"


@dataclass(frozen=True)
class Preset:
    """A name for counters; what it stands for depends on the CPU."""

    name: str
    what: str
    where: tuple[dict[str, Any], ...]
    """{"cpus": names or "any", "groups": lists of counters}"""

    def groups(self, models: frozenset[str]) -> list[list[dict[str, Any]]] | None:
        """What is to be counted on a CPU that bears these names; None where that is not known."""
        for entry in self.where:
            if entry["cpus"] == _ANY or models & set(entry["cpus"]):
                groups: list[list[dict[str, Any]]] = entry["groups"]
                return groups
        return None

    def known_cpus(self) -> str:
        """For messages: the CPUs it knows."""
        return ", ".join(dict.fromkeys(cpu for entry in self.where for cpu in entry["cpus"]))


@cache
def _file() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return content


@cache
def presets() -> dict[str, Preset]:
    """All presets by name."""
    return {
        name: Preset(name, entry["what"], tuple(entry["where"]))
        for name, entry in _file()["presets"].items()
    }


def cpu_names() -> list[str]:
    """The CPUs that presets know."""
    return list(_file()["cpus"])


def cpu_models(path: Path = _CPUINFO) -> dict[int, frozenset[str]]:
    """Of each CPU that is running the names that counters.yaml has for it."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return {}
    found: dict[int, frozenset[str]] = {}
    for block in re.split(r"\n\s*\n", text):
        facts = {
            key.strip().lower(): value.strip()
            for key, _, value in (line.partition(":") for line in block.splitlines())
        }
        if facts.get("processor", "").isdigit():
            found[int(facts["processor"])] = _names(facts)
    return found


def _names(facts: dict[str, str]) -> frozenset[str]:
    return frozenset(name for name, entry in _file()["cpus"].items() if _is(entry, facts))


def _is(entry: dict[str, Any], facts: dict[str, str]) -> bool:
    def number(key: str) -> int:
        try:
            return int(facts.get(key, "-1"), 0)
        except ValueError:
            return -1

    if "part" in entry:
        arm = (number("cpu implementer"), number("cpu part"))
        return arm == (entry["implementer"], entry["part"])
    return (
        facts.get("vendor_id") == entry["vendor"]
        and number("cpu family") == entry["family"]
        and ("models" not in entry or number("model") in entry["models"])
    )


def planned_pmus(machine: str) -> Pmus:
    """What can be known of the PMU inside another machine's cores. `machine`: uname's name."""
    known = _file()["planning"].get(machine, {"formats": {}, "events": {}})
    formats = {name: parse_bits(text) for name, text in known["formats"].items()}
    core = Pmu("core", is_core=True, counts_threads=True, formats=formats, events=known["events"])
    return Pmus([core])
