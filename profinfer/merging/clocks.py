"""Whether traces are of one boot, by how much others must be shifted, and how far off that may be.

BOOTTIME is one clock on a machine from its boot on: traces of one boot need no shift. REALTIME is
the only clock that machines and boots share; by their snapshots of both it relates two BOOTTIMEs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from profinfer.merging.survey import BOOTTIME, MONOTONIC, REALTIME, Snapshot, Survey

_JITTER_NS = 10_000_000
_SLEW = 500e-6
"""Two looks at REALTIME against BOOTTIME of one boot differ by no more: the clocks are not read at
one instant, and REALTIME is slewed by 500 ppm at most. Boots differ by seconds at least."""

_SPAN_NS = 1_000_000_000
"""Rates are not computed from less."""


@dataclass(frozen=True)
class Verdict:
    """Whether two traces are of one boot (None: nobody can tell), and why."""

    same: bool | None
    why: str
    certain: bool = False


@dataclass(frozen=True)
class Shift:
    """What to add to another boot's BOOTTIME (ns), by how much it can be off, and a remark."""

    ns: int
    off_ns: int
    remark: str


def compare(a: Survey, b: Survey) -> Verdict:
    """Whether two inputs are of one boot."""
    boots = [{r.about["boot_id"] for r in each.recordings.values() if r.about.get("boot_id")}
             for each in (a, b)]  # fmt: skip
    if all(boots):
        same = bool(boots[0] & boots[1])
        return Verdict(
            same, "they say so (boot id)" if same else "their boot ids differ", certain=True
        )
    if a.system and b.system and a.system != b.system:
        return Verdict(False, "their kernels or machines differ (uname)")
    for clock in (BOOTTIME, MONOTONIC):
        pair = [[s for s in each.snapshots if clock in s and REALTIME in s] for each in (a, b)]
        if all(pair):
            apart, gap = min(
                (abs((x[clock] - x[REALTIME]) - (y[clock] - y[REALTIME])),
                 abs(x[REALTIME] - y[REALTIME]))
                for x in pair[0] for y in pair[1]
            )  # fmt: skip
            same = apart <= _JITTER_NS + _SLEW * gap
            return Verdict(
                same,
                f"assumed, as their REALTIME clocks agree to {duration(apart)}"
                if same
                else f"their boots are {duration(apart)} apart by REALTIME",
            )
    return Verdict(None, "no snapshots of REALTIME beside BOOTTIME or MONOTONIC in both")


def relate(ours: Sequence[Snapshot], theirs: Sequence[Snapshot]) -> Shift | None:
    """By how much another boot's BOOTTIME is behind ours, by REALTIME; None if that is unknown."""
    mine = sorted((s[REALTIME], s[BOOTTIME]) for s in ours if REALTIME in s and BOOTTIME in s)
    other = sorted((s[REALTIME], s[BOOTTIME]) for s in theirs if REALTIME in s and BOOTTIME in s)
    if not mine or not other:
        return None
    shifts = [_boot_at(mine, real) - boot for real, boot in other]
    ns = round(median(shifts))
    spread = max(abs(each - ns) for each in shifts)
    gap = max(0, other[0][0] - mine[-1][0], mine[0][0] - other[-1][0])
    rates = [_rate(mine), _rate(other)]
    drift = sum(_SLEW if rate is None else abs(rate) for rate in rates)
    remark = f"snapshots scatter by {duration(spread)}"
    if len(mine) == len(other) == 1:
        remark = "there is one snapshot of each, so that their scatter is unknown"
    if gap:
        remark += f", {duration(gap)} lie between the recordings"
        if None in rates:
            remark += ", too short to tell REALTIME's drift: 500 ppm are assumed"
        else:
            remark += f", REALTIME drifts by {drift * 1e6:.2f} ppm"
    return Shift(ns, spread + round(drift * gap), remark)


def agreement(a: Sequence[Snapshot], b: Sequence[Snapshot]) -> str:
    """By how much other clocks' times can be off in traces of one boot: how far the snapshots of
    both disagree about MONOTONIC (but for time asleep) and REALTIME against BOOTTIME."""
    parts = []
    for clock, name in ((MONOTONIC, "MONOTONIC"), (REALTIME, "REALTIME")):
        both = [s[BOOTTIME] - s[clock] for each in (a, b) for s in each
                if BOOTTIME in s and clock in s]  # fmt: skip
        if both:
            parts.append(f"{name} by {duration(max(both) - min(both))}")
    return " and ".join(parts)


def _boot_at(known: list[tuple[int, int]], real: int) -> int:
    """BOOTTIME at a REALTIME, between the snapshots around it; beyond them, from the nearest."""
    before = max((k for k in known if k[0] <= real), default=known[0])
    after = min((k for k in known if k[0] >= real), default=known[-1])
    if not before[0] <= real <= after[0] or before[0] == after[0]:
        nearest = min(known, key=lambda k: abs(k[0] - real))
        return nearest[1] + real - nearest[0]
    gained = (after[1] - before[1]) - (after[0] - before[0])
    # Only this small part is a float: they are too short for a whole time.
    part = round(gained * (real - before[0]) / (after[0] - before[0]))
    return before[1] + real - before[0] + part


def _rate(known: list[tuple[int, int]]) -> float | None:
    """By how much REALTIME gains on BOOTTIME, per unit of time."""
    span = known[-1][1] - known[0][1]
    if span < _SPAN_NS:
        return None
    return ((known[-1][0] - known[0][0]) - span) / span


def duration(ns: float) -> str:
    """A duration as a person reads it."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if abs(ns) >= size:
            return f"{ns / size:.3f} {unit}"
    return f"{ns:.0f} ns"
