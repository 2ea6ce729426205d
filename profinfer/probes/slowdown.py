"""What probes cost a running engine: hits times what a hit costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profinfer.config import LEVELS
from profinfer.engine.adapter import adapters
from profinfer.probes.plan import Plan, Probe

OPERATORS, FUSED, BARRIERS = 293, 109, 547
"""What each thread runs of a graph of Gemma-3-270M's, a token of decoding: operators, two that are
run as one, barriers."""
_PER_TOKEN = ("decode", "sample")
"""Calls of an engine's interface that a token takes, however they are named; others are rare."""
_PER_GRAPH = {
    "on_operator": OPERATORS, "on_fused": FUSED, "on_barrier": BARRIERS, "on_rebuild": 0,
    "on_call_return": len(_PER_TOKEN),
}  # fmt: skip
"""By handler; all others run once."""
_IDLE = "it has computed nothing meanwhile"
_TOO_MUCH = "hits would cost more than it has spent: was the machine busier in the self-test?"


@dataclass(frozen=True)
class Slowdown:
    """Of one level, with those before it."""

    level: str
    us_per_graph: float | None
    """Of each thread, for a graph as above, when handlers do nothing: they cost more."""
    percent: float | None = None
    """Of the CPU time that the process spent meanwhile, where hits were counted, handlers and
    all."""
    why: str | None = None
    """When it is not known."""


def expected(plan: Plan) -> list[Slowdown]:
    """By level that there is."""
    has_fused = any(probe.handler == "on_fused" for probe in plan.probes)
    times = dict(_PER_GRAPH) if has_fused else {**_PER_GRAPH, "on_operator": OPERATORS + FUSED}
    found = []
    total: float | None = 0.0
    for level, probes in _levels(plan):
        for handler, ns in _hit_ns(probes).items():
            call = adapters().call_of(handler)
            per_graph = times.get(handler, 1 if call is None else int(call.name in _PER_TOKEN))
            total = None if total is None or ns is None else total + ns * per_graph
        us = None if total is None else round(total / 1e3, 1)
        why = None if us is not None else "what a hit costs there was not measured"
        found.append(Slowdown(level, us, why=why))
    return found


def measured(plan: Plan, handlers: Sequence[Mapping[str, Any]], cpu_s: float) -> list[Slowdown]:
    """The same, with the shares of `cpu_s`, the CPU time that the process has spent while
    `handlers` ran as the recorder counts them."""
    counted = {str(one["handler"]): one for one in handlers}
    # Handlers are timed now and then; of some, runs are counted only then.
    whole = [one for one in handlers if one["runs"] is not None and one["timed_runs"]]
    timed_runs = sum(int(one["timed_runs"]) for one in whole)
    scale = sum(int(one["runs"]) for one in whole) / timed_runs if timed_runs else 1.0
    found = []
    lost: float | None = 0.0
    for slowdown, (_, probes) in zip(expected(plan), _levels(plan), strict=True):
        for handler, ns in _hit_ns(probes).items():
            one = counted.get(handler, {})
            timed = int(one.get("timed_runs", 0))
            runs = timed * scale if one.get("runs") is None else int(one["runs"])
            body = int(one.get("timed_ns", 0)) / timed if timed else 0.0
            lost = None if lost is None or ns is None else lost + runs * (ns + body)
        rest = None if lost is None else cpu_s * 1e9 - lost
        percent = round(100 * lost / rest, 2) if lost is not None and rest and rest > 0 else None
        why = slowdown.why or (None if percent is not None else _TOO_MUCH if lost else _IDLE)
        found.append(Slowdown(slowdown.level, slowdown.us_per_graph, percent, why))
    return found


def _levels(plan: Plan) -> list[tuple[str, list[Probe]]]:
    by_level = {level: [x for x in plan.probes if x.level == level] for level in LEVELS}
    return [(level, probes) for level, probes in by_level.items() if probes]


def _hit_ns(probes: Sequence[Probe]) -> dict[str, float | None]:
    """By handler: of several places, the dearest; of returns, which do not come by there again, the
    cheapest."""
    found: dict[str, float | None] = {}
    for probe in probes:
        ns, known = probe.place.hit_ns, found.get(probe.handler, probe.place.hit_ns)
        choose = min if probe.at_return else max
        found[probe.handler] = None if ns is None or known is None else choose(ns, known)
    return found
