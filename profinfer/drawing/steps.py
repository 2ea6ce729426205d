"""Figures of steps: the graph of one, its threads along the time, and which experts each used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from profinfer.drawing.charts import PALETTE, WIDTH, Chart, Picture, Row, chart, name, quantity
from profinfer.drawing.dag import layer_svg
from profinfer.drawing.figure import Traced
from profinfer.drawing.proftime import KINDS, WAIT, kind_of
from profinfer.errors import ProfinferError
from profinfer.trace_processor import Session

_KINDS = [label for label, _ in KINDS]
_SCALE = {"domain": [*_KINDS, WAIT], "range": [PALETTE[i] for i in (0, 5, 3, 4, 2, 6)]}
"""As in page.css."""

_FIELDS = (
    ("mean_distance", "mean reuse distance", "runs since last used"),
    ("mean_us", "time of the experts' operators", "µs"),
    ("major_faults", "major page faults", "faults"),
)


def _graph(session: Session) -> str:
    try:
        return layer_svg(session)
    except ProfinferError:
        return ""


def draw_graph(trace: Traced) -> Iterable[str]:
    """Draws the graph while the trace is open; further queries: none."""
    trace.draw("graph", _graph)
    return ()


def graph(trace: Traced) -> list[Chart | Picture]:
    """A layer's attention and FFN, coloured by time."""
    drawn = trace.draw("graph", _graph)
    rows = trace.table("dag", "Nodes in order of execution")
    return [Picture("A layer as a graph, coloured by time", drawn, rows)] if drawn else []


def steps(trace: Traced) -> list[Chart | Picture]:
    """A token of the median: operators and waits of its threads."""
    looks = [row for row in trace.table("proftime", "What is shown") if row["which"] == "median"]
    threads = {_key(row): row for row in trace.table("proftime", "Threads in them")}
    operators = [row for row in trace.table("proftime", "Operators") if row["which"] == "median"]
    charts: list[Chart | Picture] = []
    for layer in dict.fromkeys(look["of_layer"] for look in looks):
        rows = [
            {"process": row.get("process"), "thread": _named(threads[_key(row)]), **part}
            for row in operators if row["of_layer"] == layer for part in _parts(row)
        ]  # fmt: skip
        start = {"field": "start_us", "type": "quantitative",
                 "title": "time from the start (µs)"}  # fmt: skip
        spec = {
            "width": WIDTH + 200,
            "height": {"step": 30},
            "transform": [{"calculate": "datum.start_us + datum.dur_us", "as": "end_us"}],
            "mark": "bar",
            "encoding": {
                "y": name("thread"),
                "x": start,
                "x2": {"field": "end_us"},
                "color": name("kind", None, scale=_SCALE),
            },
        }
        what = "A decoding step of the median" if layer is None else f"Its layer {layer}"
        charts += chart(f"{what}: operators and waits by thread", spec, rows)
    return charts


def _key(row: Row) -> tuple[object, object, object]:
    return row.get("process"), row["which"], row["thread"]


def _named(row: Row) -> str:
    return f"{row['name']} ({row['tid']})"


def _parts(row: Row) -> Sequence[Row]:
    work = {"name": row["name"], "op": row["op"], "kind": _KINDS[kind_of(row["op"])],
            "start_us": row["start_us"], "dur_us": row["work_us"]}  # fmt: skip
    if not row["wait_us"]:
        return [work]
    return [work, {**work, "kind": WAIT, "start_us": row["start_us"] + row["work_us"],
                   "dur_us": row["wait_us"]}]  # fmt: skip


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
