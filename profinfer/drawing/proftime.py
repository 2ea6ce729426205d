"""Steps as they passed: threads below each other, operators and waits along the time.

Every place along the time is a percentage, so that a picture is as wide as it is shown while its
text keeps its size; page.css has the colours, and hides labels for which there is no room.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from profinfer.drawing import page
from profinfer.drawing.charts import Row
from profinfer.drawing.page import text

KINDS = (
    ("matrix products", ("MUL_MAT", "MUL_MAT_ID", "OUT_PROD")),
    ("attention", ("FLASH_ATTN_EXT", "SOFT_MAX", "ROPE", "SSM_SCAN", "RWKV_WKV6", "RWKV_WKV7")),
    ("norms", ("RMS_NORM", "NORM", "L2_NORM", "GROUP_NORM")),
    ("copies", ("CPY", "CONT", "DUP", "GET_ROWS", "SET_ROWS", "CONCAT", "REPEAT", "PAD", "SET")),
    ("element by element", ()),
)
"""What operators are coloured by, and which they are (of a fused one the first); the last kind is
all others."""
TABLES = (
    "Steps", "Threads in them", "Layers", "What is shown", "Operators", "When threads did not run",
)  # fmt: skip
"""Of the ready query that pictures are made of."""
WAIT = "waiting at a barrier"
STATES = {
    "preempted": "preempted: another thread had its CPU",
    "throttled": "throttled by its cgroup's quota",
    "fault": "asleep in a page fault",
    "io": "waiting for a disk",
    "runnable": "waiting for a CPU",
    "futex": "asleep in a futex",
    "sleep": "asleep",
    "unknown": "not known",
}
"""Why a thread did not run, as its state in `proftime` and in words."""

_MOST_THREADS = 16
_ALIKE = 3
"""Two steps share a scale of time where the longer takes at most so many times as long."""
_AXIS, _LAYERS, _CAPTION, _LANE, _STATE, _GAP = 16, 16, 17, 24, 5, 8
_LETTER = 6.3
"""Pixels, on the average."""
_ROOM = ((330, ""), (640, " m"), (1000, " l"))
"""From which width on there is room for a label, and the class that hides it below."""


def kind_of(op: object) -> int:
    """Index in KINDS."""
    first = str(op or "").partition("+")[0]
    return next((i for i, (_, ops) in enumerate(KINDS) if first in ops), len(KINDS) - 1)


def pictures(tables: Mapping[str, Sequence[Row]]) -> list[str]:
    """The steps of one process, by the tables of the query `proftime`: pictures, captions, key."""
    looks = tables["What is shown"]
    threads = list({row["thread"]: row for row in tables["Threads in them"]}.values())
    marked = next((row["of_layer"] for row in looks if row["of_layer"] is not None), None)
    steps = {row["which"]: row for row in tables["Steps"]}
    parts = [_key(tables["When threads did not run"])]
    for of_layer in dict.fromkeys(row["of_layer"] for row in looks):
        alike = [row for row in looks if row["of_layer"] == of_layer]
        longest, shortest = (f(row["time_us"] for row in alike) for f in (max, min))
        for look in alike:
            which = look["which"]
            about = _about(look, steps[which])
            if longest > _ALIKE * shortest:
                about += ", on a time scale of its own"
            is_mine = _of(look)
            picture = timeline(
                look,
                until_us=longest if longest <= _ALIKE * shortest else look["time_us"],
                threads=[row for row in tables["Threads in them"] if row["which"] == which],
                operators=filter(is_mine, tables["Operators"]),
                states=filter(is_mine, tables["When threads did not run"]),
                layers=[row for row in tables["Layers"] if row["which"] == which]
                if of_layer is None else [],
                marked=marked,
            )  # fmt: skip
            parts.append(page.figure(about, picture, "steps"))
    if len(threads) > _MOST_THREADS:
        parts.append(page.missing(f"{len(threads) - _MOST_THREADS} more threads are not drawn"))
    return parts


def _of(look: Row) -> Callable[[Row], bool]:
    return lambda row: row["which"] == look["which"] and row["of_layer"] == look["of_layer"]


def _about(look: Row, step: Row) -> str:
    name = "Slowest" if look["which"] == "slowest" else "Median"
    time = _us(look["time_us"])
    if look["of_layer"] is not None:
        return f"<b>{name}, layer {text(look['of_layer'])}: {time}</b>"
    what = "a run of the graph"
    if step["step"] is not None:
        what = f"step {step['step']} of request {step['request']}"
    return f"<b>{name}: {time}</b>, {what} (among {step['of_steps']:,})"


def _key(states: Iterable[Row]) -> str:
    seen = {row["state"] for row in states}
    entries = [f'<li><i class="k{i}"></i>{name}</li>' for i, (name, _) in enumerate(KINDS)]
    entries.append(f'<li><i class="wait"></i>{WAIT}</li>')
    entries += [
        f'<li><i class="thin s-{name}"></i>{said}</li>' for name, said in STATES.items()
        if name in seen
    ]  # fmt: skip
    return f'<ul class="key">{"".join(entries)}</ul>'


def timeline(
    shown: Row,
    *,
    until_us: float,
    threads: Sequence[Row],
    operators: Iterable[Row],
    states: Iterable[Row],
    layers: Iterable[Row],
    marked: object = None,
) -> str:
    """One row of "What is shown" as an <svg>, of the rows that belong to it. `until_us` is where
    its time axis ends; `marked` the layer that another picture shows."""
    layers = list(layers)
    drawn = threads[:_MOST_THREADS]
    top = _AXIS + (_LAYERS if layers else 0)
    height = top + len(drawn) * (_CAPTION + _LANE + _STATE + _GAP)
    tops = {row["thread"]: top + i * (_CAPTION + _LANE + _STATE + _GAP)
            for i, row in enumerate(drawn)}  # fmt: skip
    time = _Time(until_us)
    label = f"{shown['which']} step" + (
        "" if shown["of_layer"] is None else f", layer {shown['of_layer']}"
    )
    parts = [
        f'<svg class="time" width="100%" height="{height}" role="img" aria-label="{text(label)}">',
        *_axis(time, height),
        *(_layer(time, row, marked, height) for row in layers),
    ]
    parts += [
        f'<text class="who" x="0" y="{tops[row["thread"]] + 13}">'
        f"{_caption(row, is_whole=shown['of_layer'] is None)}</text>"
        f'<rect class="idle" x="0" y="{tops[row["thread"]] + _CAPTION}"'
        f' width="{time.width(shown["time_us"])}" height="{_LANE}"/>'
        for row in drawn
    ]
    parts += [_operator(time, row, tops) for row in operators if row["thread"] in tops]
    parts += [_state(time, row, tops) for row in states if row["thread"] in tops]
    return "".join([*parts, "</svg>"])


class _Time:
    """Places along the time, as percentages."""

    def __init__(self, until_us: float) -> None:
        self.until_us = max(until_us, 1e-3)

    def width(self, us: float) -> str:
        """Of a duration; also of a place."""
        return f"{100 * us / self.until_us:.3f}".rstrip("0").rstrip(".") + "%"

    def room(self, us: float, letters: float) -> str | None:
        """The class of a label of so many letters on something so long; None for no room ever."""
        needed = (letters * _LETTER + 8) * self.until_us / max(us, 1e-9)
        return next((name for width, name in _ROOM if needed <= width), None)


def _axis(time: _Time, height: int) -> Iterable[str]:
    rough = time.until_us / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough)
    unit, per = ("ms", 1e3) if time.until_us >= 2_000 else ("µs", 1.0)
    for number in range(int(time.until_us / step) + 1):
        us = number * step
        place = time.width(us)
        kind, end = "tick", ' dx="3"'
        if us > 0.93 * time.until_us:
            kind, end = "tick m", ' dx="-3" text-anchor="end"'
        yield (
            f'<line class="grid" x1="{place}" x2="{place}" y1="0" y2="{height}"/>'
            f'<text class="{kind}" x="{place}" y="11"{end}>{us / per:g} {unit}</text>'
        )


def _layer(time: _Time, row: Row, marked: object, height: int) -> str:
    name = str(row["layer"])
    is_marked = row["layer"] == marked
    room = time.room(row["time_us"], len(name) - 0.5 if len(name) < 3 else len(name))
    x, width = time.width(row["start_us"]), time.width(row["time_us"])
    frame = (
        f'<rect class="marked" x="{x}" y="{_AXIS}" width="{width}" height="{height - _AXIS - 2}"/>'
        if is_marked
        else ""
    )
    label = "" if room is None else (
        f'<text class="layer{room}" x="{time.width(row["start_us"] + row["time_us"] / 2)}"'
        f' y="{_AXIS + 11}">{text(name)}</text>'
    )  # fmt: skip
    return (
        f"<g><title>layer {text(name)}: {_us(row['time_us'])}</title>{frame}"
        f'<rect class="layer" x="{x}" y="{_AXIS}" width="{width}" height="{_LAYERS - 2}"/>'
        f"{label}</g>"
    )


def _caption(row: Row, *, is_whole: bool) -> str:
    parts = [f"work {_ms(row['work_ms'])}"]
    for name in ("wait", "preempted", "throttled", "fault"):
        if row.get(f"{name}_ms"):
            parts.append(f"{name} {_ms(row[f'{name}_ms'])}")
    number = "" if row["tid"] is None else f" {row['tid']}"
    who = f'<tspan>{text(row["name"], 24)}</tspan><tspan class="m">{number}</tspan>'
    return f"{who}: {', '.join(parts)}" if is_whole else who


def _operator(time: _Time, row: Row, tops: dict[object, int]) -> str:
    y = tops[row["thread"]] + _CAPTION
    work, wait = row["work_us"], row["wait_us"]
    is_one = row["operators"] == 1
    name = text(row["name"], 120)
    about = f"{name} ({text(row['op'] or 'op unknown', 40)})"
    if not is_one:
        about = f"{row['operators']} operators, the longest {about}"
    if row["layer"] is not None:
        about += f", layer {row['layer']}"
    about += f": work {_us(work)}" + (f", wait {_us(wait)}" if wait else "")
    parts = [f'<g class="k{kind_of(row["op"])}"><title>{about}</title>']
    if work > 0:
        parts.append(
            f'<rect x="{time.width(row["start_us"])}" y="{y}" width="{time.width(work)}"'
            f' height="{_LANE}"/>'
        )
    if wait > 0:
        parts.append(
            f'<rect class="wait" x="{time.width(row["start_us"] + work)}" y="{y}"'
            f' width="{time.width(wait)}" height="{_LANE}"/>'
        )
    for label in (str(row["name"]), str(row["op"])) if is_one else ():
        room = time.room(work, len(label))
        if room is not None:
            parts.append(
                f'<text class="op{room}" x="{time.width(row["start_us"])}" dx="4" y="{y + 16}">'
                f"{text(label)}</text>"
            )
            break
    return "".join([*parts, "</g>"])


def _state(time: _Time, row: Row, tops: dict[object, int]) -> str:
    y = tops[row["thread"]] + _CAPTION + _LANE
    cause = f" ({text(row['cause'], 120)})" if row["cause"] else ""
    about = f"{text(row['state'])}{cause}: {_us(row['time_us'])}"
    kind = row["state"] if row["state"] in STATES else "unknown"
    return (
        f'<rect class="s-{kind}" x="{time.width(row["start_us"])}" y="{y}"'
        f' width="{time.width(row["time_us"])}" height="{_STATE}"><title>{about}</title></rect>'
    )


def _us(us: float) -> str:
    return _ms(us / 1e3) if us >= 1_000 else f"{us:.1f} µs"


def _ms(ms: float) -> str:
    if ms < 1:
        return f"{1e3 * ms:.0f} µs"
    return f"{ms:,.0f} ms" if ms >= 100 else f"{ms:.2f} ms"
