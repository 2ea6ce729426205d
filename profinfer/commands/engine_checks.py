"""What `doctor` looks at in one engine: a process's, or one of the builds among files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict

from profinfer.commands.findings import Finding, Report
from profinfer.describing.inferred import tables_of
from profinfer.describing.layout import Layout
from profinfer.engine.adapter import adapters
from profinfer.engine.identity import identify
from profinfer.engine.target import EngineObject
from profinfer.errors import GraphNeeded, ProbeError
from profinfer.probes.measuring import measure
from profinfer.probes.placement import DIRECT, RECORDING
from profinfer.probes.plan import Plan, Probe
from profinfer.probes.slowdown import BARRIERS, FUSED, OPERATORS, Slowdown, expected

_WORTH = "operator"
"""The level without which nothing is said to work."""
_PLAIN = re.compile(r"_ZL?(\d+)")
_NESTED = re.compile(r"_ZN((?:\d+\w+?)+)E")


class EngineChecks:
    """Of one engine."""

    def __init__(
        self,
        report: Report,
        objects: Sequence[EngineObject],
        make_plan: Callable[[], tuple[str, Plan]],
        make_layout: Callable[[], Layout],
    ) -> None:
        """`make_plan`: what is to be said of the plan, and the plan."""
        self._report = report
        self._objects = objects
        self._make_plan = make_plan
        self._make_layout = make_layout
        self._plan: Plan | None = None

    def run(self, pid: int | None = None, seconds: float | None = None) -> int:
        """The exit code of the first problem. `seconds`: for so long, hits are counted in the
        process."""
        show = self._report.show
        codes = [
            show("engine", self._identity),
            show("probe points", self._probes),
            show("layout", self._layout),
        ]
        code = next((code for code in codes if code), 0)
        if (plan := self._plan) and not code:
            show("slowdown", lambda: _slowdown(plan, pid, seconds))
        return code

    def _identity(self) -> Finding:
        identity = identify(self._objects)
        return Finding("\n".join(identity.describe()), {"engine": identity.to_json()})

    def _probes(self) -> Finding:
        """A problem without the level that makes it worth while."""
        said, plan = self._make_plan()
        data = {"plan": plan.to_json()}
        if not plan.probes:
            return Finding("", data, ProbeError("none: " + plan.describe()))
        lines = [*map(_line, _together(plan.probes))]
        lines += [f"{level:9} not available: {why}" for level, why in plan.missing.items()]
        text = said + "\n".join(lines)
        if _WORTH in plan.missing:
            return Finding("", data, ProbeError(f"no operators:\n{text}"))
        self._plan = plan
        return Finding(text, data)

    def _layout(self) -> Finding:
        """Of an engine that cannot be loaded and asked, what its file tells."""
        try:
            return describe_layout(self._make_layout())
        except GraphNeeded as error:
            tables = tables_of(tuple(item.elf for item in self._objects))
            types = sum(each is not None for each in tables["types"])
            return Finding(
                f"{len(tables['ops'])} ops, {types} types; {error.message}\n"
                "its structs are inferred, while it is recorded, from a graph that it computes",
                {"layout": tables},
            )


# ---- Slowdown


def _slowdown(plan: Plan, pid: int | None, seconds: float | None) -> Finding:
    if pid is None or seconds is None:
        found = expected(plan)
        lines = [
            f"at least, on each thread, for a graph of {OPERATORS + FUSED} operators and {BARRIERS}"
            " barriers",
            "(a token of a model with 270 million parameters):",
            *map(_cost, found),
            *(["--measure SECONDS says it of what the process does"] if pid else []),
        ]
    else:
        found = measure(plan, pid, seconds)
        lines = [f"of its CPU time, as it has worked for {seconds:g} s:", *map(_share, found)]
    return Finding("\n".join(lines), {"slowdown": [asdict(x) for x in found]})


def _cost(found: Slowdown) -> str:
    what = f"unknown: {found.why}" if found.us_per_graph is None else f"{found.us_per_graph:.1f} us"
    return f"{found.level:9} {what}"


def _share(found: Slowdown) -> str:
    what = f"unknown: {found.why}" if found.percent is None else f"{found.percent:.2f} %"
    return f"{found.level:9} {what}"


# ---- Probes, for people


def _together(probes: Sequence[Probe]) -> list[list[Probe]]:
    """Those of one function of one file."""
    found: dict[tuple[str, str, str, int], list[Probe]] = {}
    for probe in probes:
        key = probe.level, probe.symbol, probe.place.path, probe.place.offset
        found.setdefault(key, []).append(probe)
    return list(found.values())


def _line(probes: list[Probe]) -> str:
    first = probes[0]
    place = first.place
    returns = " and its return" if any(probe.at_return for probe in probes) else ""
    kind = f", {place.via}: {place.site}" if place.site else ""
    kind = kind or f", {place.via}" * (place.via == RECORDING)
    cost = f", {place.hit_ns / 1000:.2f} us" if place.hit_ns is not None else ""
    found_by = f" [{first.found_by}]" if first.found_by != "symbol" else ""
    call = adapters().call_of(first.handler)
    name = (f"{call.name}: " if call else "") + _readable(first.symbol)
    why = f" ({place.why})" if place.why and place.via == DIRECT else ""
    return f"{first.level:9} {name}{returns}{kind}{cost}{found_by}{why}"


def _readable(symbol: str) -> str:
    """A C++ function's name without its arguments; others as they are."""
    if plain := _PLAIN.match(symbol):
        return symbol[plain.end() : plain.end() + int(plain[1])]
    match = _NESTED.match(symbol)
    names, rest = [], match[1] if match else ""
    while digits := re.match(r"\d+", rest):
        end = digits.end() + int(digits[0])
        names.append(rest[digits.end() : end])
        rest = rest[end:]
    return "::".join(names) or symbol


# ---- Layouts


def describe_layout(layout: Layout) -> Finding:
    """What matters of a layout."""
    t = layout.tensor
    ubatch = layout.ubatch
    lines = [
        f"ggml {layout.version or '(no version)'}: {len(layout.ops)} ops,"
        f" {sum(x is not None for x in layout.types)} types;"
        f" tensor ne@{t.ne} nb@{t.nb} op@{t.op} src@{t.src} name@{t.name}",
        "llama_ubatch: "
        + (_fields(ubatch) if ubatch else "unknown: no tokens, sequences and positions"),
        *layout.notes,
    ]
    return Finding("\n".join(lines), {"layout": json.loads(layout.to_json())})


def _fields(found: object) -> str:
    values = vars(found)
    return " ".join(f"{name}@{at}" for name, at in values.items() if at is not None)
