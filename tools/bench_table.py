"""The table that a bench prints: repeats as a median and an interval."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence


@dataclasses.dataclass
class Row:
    """One figure."""

    figure: str
    wanted: str
    measured: str
    met: bool | None = None
    """None: there is nothing to be met."""


def spread(values: Sequence[float], unit: str = "", digits: int = 2) -> str:
    """Median, and the least and the greatest, between which the median of all that could have been
    measured lies: of n repeats with a probability of 1 - 2^(1 - n)."""
    texts = [f"{v:.{digits}f}" for v in (statistics.median(values), min(values), max(values))]
    unit = f" {unit}" if unit else ""
    return f"{texts[0]}{unit}" if len(values) < 2 else f"{texts[0]}{unit} ({texts[1]}..{texts[2]})"


def at_most(figure: str, wanted: float | None, values: Sequence[float], unit: str,
            digits: int = 2) -> Row:  # fmt: skip
    """A row whose median is to be no greater than something."""
    met = None if wanted is None else statistics.median(values) <= wanted
    text = "" if wanted is None else f"{wanted:g} {unit}"
    return Row(figure, text, spread(values, unit, digits), met)


def markdown(rows: Sequence[Row]) -> str:
    """The rows as Markdown; bold is what was not met."""
    head = ("figure", "wanted", "measured")
    cells = [
        (r.figure, r.wanted, f"**{r.measured}**" if r.met is False else r.measured) for r in rows
    ]
    widths = [max(len(line[i]) for line in (head, *cells)) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in (head, *cells)
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def confidence(repeats: int) -> str:
    """What the interval of so many repeats is worth."""
    if repeats < 2:
        return "one repeat: no interval"
    share = 100 * (1 - 2.0 ** (1 - repeats))
    return (
        f"medians of {repeats} repeats (least..greatest: they hold the median with {share:.0f} %)"
    )
