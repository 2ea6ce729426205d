"""How a node of the DAG is coloured: by time, bandwidth or stall, and the legend that says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Colour = Literal["time", "bandwidth", "stall"]

LINE = "#6e7781"
"""Of edges and of text on the page: readable on white and on black."""
DARK, LIGHT = "#0d1117", "#ffffff"
UNKNOWN, VIEW, DATA, CACHE = "#c8ccd1", "#e4e7ea", "#cfe3f7", "#b9e0d8"
_STEPS = 5


@dataclass(frozen=True)
class Scale:
    """How a number is called, shown and coloured."""

    column: str
    """Of profinfer_dag_node; with min_, median_ and max_ of profinfer_layer_node."""
    title: str
    ramp: tuple[str, str, str]
    text: Callable[[float], str]
    end: float | None = None
    """Where it ends; None: at the largest of a layer's."""

    def shade(self, value: float | None, end: float) -> tuple[str, str]:
        """Colours of the node and of the text in it."""
        if value is None:
            return UNKNOWN, DARK
        place = 2 * min(value / end, 1) if end > 0 else 0.0
        low, high = (self.ramp[:2], self.ramp[1:])[place > 1]
        fill = _between(low, high, place - (place > 1))
        return fill, max(DARK, LIGHT, key=lambda ink: _contrast(ink, fill))

    def legend(self, end: float) -> str:
        """A table in Graphviz's HTML-like language, of our own words alone."""
        steps = [end * i / (_STEPS - 1) for i in range(_STEPS)]
        cells = ""
        for value in steps:
            fill, ink = self.shade(value, end)
            more = "≥ " if value == end and self.end is None else ""
            cells += (
                f'<td bgcolor="{fill}"><font color="{ink}">{more}{self.text(value)}</font></td>'
            )
        for fill, what in ((UNKNOWN, "not known"), (VIEW, "view"), (DATA, "weight, input"),
                           (CACHE, "cache")):  # fmt: skip
            cells += f'<td bgcolor="{fill}"><font color="{DARK}">{what}</font></td>'
        return (
            f'<<table border="0" cellborder="0" cellspacing="2" cellpadding="4"><tr>'
            f'<td><font color="{LINE}">{self.title}:</font></td>{cells}</tr></table>>'
        )


def of_time(ns: float) -> str:
    """Three digits of a time."""
    return f"{ns / 1e3:.3g} µs" if ns < 999_500 else f"{ns / 1e6:.3g} ms"


def _rate(value: float) -> str:
    return f"{value:.3g} GB/s" if value >= 0.0995 or not value else f"{1e3 * value:.3g} MB/s"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


SCALES: dict[Colour, Scale] = {
    "time": Scale("dur", "time of a run", ("#fff7d6", "#fdb863", "#d7301f"), of_time),
    "bandwidth": Scale(
        "bandwidth", "bandwidth, at least", ("#f2f9d9", "#a1d99b", "#238b45"), _rate
    ),
    "stall": Scale(
        "stall_share", "threads' time at the barrier after it",
        ("#f4f0fa", "#bcbddc", "#6a51a3"), _share, end=1.0,
    ),
}  # fmt: skip


def _parts(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def _between(low: str, high: str, place: float) -> str:
    mixed = (round(a + (b - a) * place) for a, b in zip(_parts(low), _parts(high), strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _contrast(one: str, other: str) -> float:
    """As WCAG defines it."""
    first, second = sorted((_luminance(one), _luminance(other)))
    return (second + 0.05) / (first + 0.05)


def _luminance(colour: str) -> float:
    linear = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
        for c in (part / 255 for part in _parts(colour))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
