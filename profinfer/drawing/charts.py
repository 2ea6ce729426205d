"""Charts by Vega-Lite, drawn without a browser and without the network.

A chart is a Vega-Lite specification without data; its rows are given beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import vl_convert

Rows = Sequence[Mapping[str, Any]]
Spec = Mapping[str, Any]

_VERSION = "5.20"
INK = "#57606a"
"""Of text and axes: readable on white and on black."""
GRID = "#8c959f33"
PALETTE = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#ee8866",
)  # fmt: skip
"""Paul Tol's bright scheme, told apart by the colour-blind, and an eighth."""
_CONFIG = {
    "background": "transparent",
    "font": "sans-serif",
    "axis": {
        "labelColor": INK, "titleColor": INK, "gridColor": GRID, "domainColor": INK,
        "tickColor": INK, "labelLimit": 260, "titleFontWeight": "normal",
    },
    "legend": {"labelColor": INK, "titleColor": INK, "titleFontWeight": "normal"},
    "title": {"color": INK, "anchor": "start", "fontSize": 13},
    "header": {"labelColor": INK, "titleColor": INK},
    "range": {"category": list(PALETTE)},
    "view": {"stroke": None},
}  # fmt: skip


def _whole(spec: Spec, rows: Rows) -> dict[str, Any]:
    return {**spec, "data": {"values": [dict(row) for row in rows]}, "config": _CONFIG}


def svg(spec: Spec, rows: Rows) -> str:
    """The chart as one <svg> element, its background transparent; text in it is escaped."""
    return vl_convert.vegalite_to_svg(_whole(spec, rows), vl_version=_VERSION)


def png(spec: Spec, rows: Rows, *, scale: float = 2) -> bytes:
    """The chart on white as PNG, `scale` pixels for each of the SVG's."""
    whole = _whole(spec, rows)
    whole["config"] = {**_CONFIG, "background": "white"}
    return vl_convert.vegalite_to_png(whole, vl_version=_VERSION, scale=scale)
