"""Charts of a mixture of experts: which are used, when again, and what that takes."""

from __future__ import annotations

from profinfer.drawing.charts import PALETTE, WIDTH, Chart, chart, quantity
from profinfer.drawing.figure import Traced

_FIELDS = (
    ("mean_distance", "mean reuse distance", "runs since last used"),
    ("mean_us", "time of the experts' operators", "µs"),
    ("major_faults", "major page faults", "faults"),
)


def experts(trace: Traced) -> list[Chart]:
    """Heat maps by step and layer, and of the experts of some layers."""
    rows = trace.table("expert_map", "Distance and time by step and layer")
    x = {"field": "step", "type": "ordinal", "title": "decoding step",
         "axis": {"labelOverlap": True, "labelAngle": 0}}  # fmt: skip
    charts = []
    for field, title, unit in _FIELDS:
        some = [row for row in rows if row["layer"] is not None and row[field] is not None]
        spec = {
            "width": WIDTH,
            "height": {"step": 14},
            "mark": "rect",
            "encoding": {
                "x": x,
                "y": {"field": "layer", "type": "ordinal", "title": "layer"},
                "color": quantity(field, unit, scale={"scheme": "blues"}),
            },
        }
        charts += chart(f"Experts by step and layer: {title}", spec, some)
    used = trace.table("expert_map", "Experts used")
    for layer in dict.fromkeys(row["layer"] for row in used):
        distance = quantity(
            "distance", "runs since last used", scale={"type": "log", "scheme": "blues"}
        )
        spec = {
            "width": WIDTH,
            "height": {"step": 7},
            "encoding": {
                "x": x,
                "y": {"field": "expert", "type": "ordinal", "title": "expert"},
            },
            "layer": [
                {"mark": {"type": "rect", "color": PALETTE[7]}},
                {
                    "transform": [{"filter": "datum.distance"}],
                    "mark": "rect",
                    "encoding": {"color": distance},
                },
            ],
        }
        some = [row for row in used if row["layer"] == layer]
        title = f"Experts of layer {layer}, and when used before (orange: first use, or not known)"
        charts += chart(title, spec, some)
    return charts
