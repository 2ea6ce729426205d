"""Charts by Vega-Lite, drawn without a browser and without the network.

A chart is a Vega-Lite specification without data; its rows are given beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import vl_convert

from profinfer.trace_processor.query import escape

Row = Mapping[str, Any]
Rows = Sequence[Row]
Spec = Mapping[str, Any]

_VERSION = "5.20"
INK = "#57606a"
"""Of text and axes: readable on white and on black."""
GRID = "#8c959f33"
PALETTE = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#ee8866",
    "#999933",
)  # fmt: skip
"""Paul Tol's bright scheme, told apart by the colour-blind, and two more."""
_CONFIG = {
    "background": "transparent",
    "font": "sans-serif",
    "axis": {
        "labelColor": INK, "titleColor": INK, "gridColor": GRID, "domainColor": INK,
        "tickColor": INK, "labelLimit": 260, "titleFontWeight": "normal", "labelOverlap": True,
        "labelSeparation": 4, "labelFlush": False,
    },
    "legend": {
        "labelColor": INK, "titleColor": INK, "titleFontWeight": "normal", "labelLimit": 260,
        "orient": "bottom", "titleOrient": "left", "columns": 4,
    },
    "title": {"color": INK, "anchor": "start", "fontSize": 13},
    "header": {"labelColor": INK, "titleColor": INK, "labelLimit": 260},
    "range": {"category": list(PALETTE)},
    "point": {"opacity": 0.9},
    "view": {"stroke": None},
}  # fmt: skip
_LONGEST_TEXT = 200
"""Of a name that a chart is given: it shows far less of it."""


@dataclass(frozen=True)
class Chart:
    """A specification with its rows. The title says what is seen; `spec` has none."""

    title: str
    spec: Spec
    rows: Rows

    @property
    def is_known(self) -> bool:
        """Whether each of its axes of numbers has one: Vega draws others of any height."""
        axes = _axes(self.spec)
        return all(any(row.get(field) is not None for row in self.rows for field in fields)
                   for fields in axes.values())  # fmt: skip

    def svg(self) -> str:
        """The chart, without its title, as one <svg> element."""
        return svg(self.spec, self.rows)

    def png(self) -> bytes:
        """The chart under its title as PNG."""
        return png({"title": shown(self.title), **self.spec}, self.rows)


@dataclass(frozen=True)
class Picture:
    """What another tool has drawn, with the rows that it is of."""

    title: str
    drawn: str
    rows: Rows
    is_known = True

    def svg(self) -> str:
        """The picture as one <svg> element."""
        return self.drawn

    def png(self) -> bytes:
        """The same as PNG, its background transparent."""
        return vl_convert.svg_to_png(self.drawn, scale=2)


def _axes(spec: Spec) -> dict[str, set[str]]:
    """Columns along each axis of numbers, of all layers."""
    found: dict[str, set[str]] = {}
    for part in (spec, *spec.get("layer", ())):
        for axis in ("x", "y"):
            encoded = part.get("encoding", {}).get(axis, {})
            if encoded.get("type") == "quantitative":
                found.setdefault(axis, set()).add(encoded["field"])
    for axis, fields in _axes(spec["spec"]).items() if "spec" in spec else ():
        found.setdefault(axis, set()).update(fields)
    return found


def quantity(field: str, title: str | None, **more: Any) -> dict[str, Any]:
    """An axis, or a size, of numbers; `title` None for none."""
    return {"field": field, "type": "quantitative", "title": title, **more}


def name(field: str, title: str | None = None, **more: Any) -> dict[str, Any]:
    """An axis, or a colour, of names: in the order of the rows."""
    return {"field": field, "type": "nominal", "title": title, "sort": None, **more}


def coloured(field: str, names: Sequence[str], rows: Rows) -> dict[str, Any]:
    """A colour for each of these names, the same in all charts; the legend has those that are
    there."""
    seen = {row[field] for row in rows}
    there = [(each, PALETTE[i]) for i, each in enumerate(names) if each in seen]
    scale = {"domain": [each for each, _ in there], "range": [colour for _, colour in there]}
    return name(field, field, scale=scale)


LOG: Spec = {
    "scale": {"type": "log", "nice": False, "padding": 12},
    "axis": {"tickCount": 5, "labelOverlap": "greedy", "format": ",~f"},
}
"""More of an axis of numbers that are far apart."""
PHASES = {"domain": ["prefill", "decode"], "range": [PALETTE[3], PALETTE[0]]}
_MODULES = {
    "attention": PALETTE[0], "ffn": PALETTE[1], "experts": PALETTE[2], "embedding": PALETTE[4],
    "output": PALETTE[3], "adapter": PALETTE[5], "not certain": PALETTE[6],
}  # fmt: skip
WIDTH = 560


def chart(title: str, spec: Spec, rows: Rows) -> list[Chart]:
    """The chart of these rows, one below the other for each process where there are several; none
    where there are no rows."""
    if not rows:
        return []
    if any(row.get("process") is not None for row in rows):
        row = {**name("process"), "header": {"labelAngle": 0, "labelAlign": "left"}}
        spec = {
            "facet": {"row": row}, "spec": spec, "resolve": {"scale": {"y": "independent"}},
        }  # fmt: skip
    else:
        rows = [{key: value for key, value in row.items() if key != "process"} for row in rows]
    return [Chart(title, spec, rows)]


def shown(value: Any) -> Any:
    """A value as pictures show it: of text, what does not print is escaped, and it is cut."""
    if not isinstance(value, str):
        return value
    text = escape(value[:_LONGEST_TEXT])
    return text if len(value) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"


def by_module(rows: Rows) -> tuple[list[Row], dict[str, Any]]:
    """Rows with a column `module`, and the encoding that stacks and colours them by it."""
    names = list(_MODULES)
    named = [{**row, "module": row["module"] or names[-1]} for row in rows]
    places: list[Row] = [{**row, "place": names.index(row["module"])} for row in named
              if row["module"] in names]  # fmt: skip
    seen = sorted({row["module"] for row in places}, key=names.index)
    scale = {"domain": seen, "range": [_MODULES[each] for each in seen]}
    colour = name("module", "module", scale=scale, legend={"columns": len(seen)})
    return places, {"color": colour, "order": {"field": "place"}}


def _whole(spec: Spec, rows: Rows) -> dict[str, Any]:
    values = [{name: shown(value) for name, value in row.items()} for row in rows]
    return {**spec, "data": {"values": values}, "config": _CONFIG}


def svg(spec: Spec, rows: Rows) -> str:
    """The chart as one <svg> element, its background transparent; text in it is escaped."""
    return vl_convert.vegalite_to_svg(_whole(spec, rows), vl_version=_VERSION)


def png(spec: Spec, rows: Rows, *, scale: float = 2) -> bytes:
    """The chart on white as PNG, `scale` pixels for each of the SVG's."""
    whole = _whole(spec, rows)
    whole["config"] = {**_CONFIG, "background": "white"}
    return vl_convert.vegalite_to_png(whole, vl_version=_VERSION, scale=scale)
