"""Charts of requests, tokens and backends: what a user waited for, and who computed it."""

from __future__ import annotations

from collections.abc import Sequence

from profinfer.drawing.charts import INK, PALETTE, WIDTH, Chart, chart, coloured, name, quantity
from profinfer.drawing.figure import Traced

_MOST_REQUESTS = 30
_PARTS = {
    "own": "own", "draft": "its draft model's", "same_ubatch": "others' in its micro-batches",
    "others_ubatches": "others' micro-batches", "sampling": "sampling", "outside": "outside",
    "preempted": "preempted", "throttled": "throttled", "faults": "faults",
}  # fmt: skip
"""Columns of `requests`, and what they are."""
_TURNS = "Backends taking turns in one decoding step (of asynchronous ones: submissions)"
_DISTURBED = {"preempted": PALETTE[1], "throttled": PALETTE[5], "faults": PALETTE[7]}


def pace(trace: Traced) -> list[Chart]:
    """Time per token over time, prefills shaded, what was disturbed marked."""
    steps = trace.table("pace", "Time per token over time")
    prefills = [{**row, "prefill": True} for row in trace.table("pace", "Prefills")]
    causes = [each for each in _DISTURBED if any(row["disturbed_by"] == each for row in steps)]
    colours = {"domain": causes, "range": [_DISTURBED[each] for each in causes]}
    seconds = "time since recording began (s)"
    time = quantity("at_s", seconds, axis={"grid": False}, scale={"zero": False})
    layers = [
        {
            "transform": [{"filter": "datum.prefill"}],
            "mark": {"type": "rect", "color": PALETTE[3], "opacity": 0.3},
            "encoding": {"x": quantity("from_s", seconds), "x2": {"field": "to_s"}},
        },
        {
            "transform": [{"filter": "!datum.prefill"}],
            "mark": {"type": "line", "strokeWidth": 1, "color": PALETTE[0]},
            "encoding": {
                "x": time,
                "y": quantity("tpot_ms", "time per token (ms)"),
                "detail": name("request"),
            },
        },
        {
            "transform": [{"filter": "!datum.prefill"}],
            "mark": {"type": "point", "filled": True, "size": 14, "color": PALETTE[0]},
            "encoding": {"x": time, "y": quantity("tpot_ms", "time per token (ms)")},
        },
        {
            "transform": [{"filter": "datum.disturbed_by"}],
            "mark": {"type": "point", "filled": True, "size": 45},
            "encoding": {
                "x": time,
                "y": quantity("tpot_ms", "time per token (ms)"),
                "color": name("disturbed_by", "disturbed by", scale=colours),
            },
        },
    ]
    spec = {"width": WIDTH, "height": 220, "layer": layers}
    if not causes:
        layers.pop()
    return chart("Time per token over time; prefill is shaded", spec, steps and prefills + steps)


def first_tokens(trace: Traced) -> list[Chart]:
    """What requests waited for until their first token."""
    rows = [row for row in trace.table("requests", "Time to the first token") if row["ttft_ms"]]
    most = len(rows) > _MOST_REQUESTS
    rows = sorted(rows, key=lambda row: -row["ttft_ms"])[:_MOST_REQUESTS]
    parts = [
        {"process": row.get("process"), "request": row["request"],
         "part": said, "ms": row[f"{part}_ms"], "place": place}
        for row in rows for place, (part, said) in enumerate(_PARTS.items())
        if row[f"{part}_ms"]
    ]  # fmt: skip
    spec = {
        "width": WIDTH,
        "height": {"step": 17},
        "mark": "bar",
        "encoding": {
            "y": name("request", "request"),
            "x": quantity("ms", "time to the first token (ms)"),
            "color": coloured("part", list(_PARTS.values()), parts),
            "order": {"field": "place"},
        },
    }
    which = f", the {_MOST_REQUESTS} longest" if most else ""
    return chart(f"Time to the first token by request{which}", spec, parts)


def growth(trace: Traced) -> list[Chart]:
    """Attention against the length of the context, with its fit."""
    fits = trace.table("kv_growth", "Attention of all layers against the context")
    said = {
        (
            fit.get("process"), fit["part"],
        ): f"{fit['part']}: {fit['slope_ns_per_token']:,.1f} ns per token (r² {fit['r2']})"
        for fit in fits if fit["slope_ns_per_token"] is not None
    }  # fmt: skip
    rows = [{**row, "fit": said[row.get("process"), row["part"]]}
            for row in trace.table("kv_growth", "Work of all layers by context")
            if (row.get("process"), row["part"]) in said]  # fmt: skip
    x = quantity("context", "context (tokens)", scale={"zero": False})
    work = "work per token (µs, all threads)"
    spec = {
        "width": WIDTH,
        "height": 260,
        "encoding": {"x": x, "color": name("fit")},
        "layer": [
            {
                "mark": {"type": "point", "filled": True},
                "encoding": {"y": quantity("median_us", work)},
            },
            {"mark": "line", "encoding": {"y": quantity("line_us", work)}},
        ],
    }
    return chart("Attention of all layers against the length of the context", spec, rows)


def turns(trace: Traced) -> list[Chart]:
    """How backends take turns in one token."""
    rows = trace.table("backends", "Graphs of one decoding step")
    spec = {
        "width": WIDTH,
        "height": {"step": 26},
        "mark": {"type": "bar", "stroke": "white", "strokeWidth": 0.3},
        "encoding": {
            "y": name("backend", "backend"),
            "x": quantity("from_ms", "time within the step (ms)"),
            "x2": {"field": "to_ms"},
            "color": name("backend", None, legend=None, sort="ascending"),
        },
    }
    several = len({row["backend"] for row in rows}) > 1
    return chart(_TURNS, spec, rows if several else [])


def placements(traces: Sequence[Traced]) -> list[Chart]:
    """Time of a decoded token by backend, for each trace."""
    rows = [
        {**row, "process": None, "where": " ".join(filter(None, [trace.name, row.get("process")]))}
        for trace in traces for row in trace.table("backends", "Graphs by backend and phase")
        if row["phase"] == "decode"
    ]  # fmt: skip
    if len({row["backend"] for row in rows}) < 2:
        return []
    charts = []
    for field, title in (
        ("per_token_ms", "time in graphs per token (ms)"),
        ("operators", "operators run"),
    ):
        spec = {
            "width": WIDTH,
            "height": {"step": 26},
            "mark": "bar",
            "encoding": {
                "y": name("where"),
                "x": quantity(field, title),
                "color": name("backend", "backend", sort="ascending"),
            },
        }
        charts += chart(f"Decoding by backend: {title}", spec, rows)
    return charts


def overhead(traces: Sequence[Traced]) -> list[Chart]:
    """What recording costs: by handler, and per token."""
    charts = []
    parts = [
        {"where": " ".join(filter(None, [trace.name, row.get("process")])), "part": part,
         "place": place, "us": row[f"{part}_us"]}
        for trace in traces for row in trace.table("overhead", "Predicted slowdown of decoding")
        for place, part in enumerate(("trap", "handler", "displaced"))
        if row[f"{part}_us"] is not None
    ]  # fmt: skip
    spec = {
        "width": WIDTH,
        "height": {"step": 26},
        "mark": "bar",
        "encoding": {
            "y": name("where"),
            "x": quantity("us", "cost of recording per token (µs)"),
            "color": name("part", "part"),
            "order": {"field": "place"},
        },
    }
    charts += chart("What recording costs a decoded token", spec, parts)
    for trace in traces:
        rows = [row for row in trace.table("overhead", "Hits of each handler") if row["total_ms"]]
        spec = {
            "width": WIDTH,
            "height": {"step": 17},
            "encoding": {
                "y": name("handler"), "x": quantity("total_ms", "all hits (ms)"),
            },
            "layer": [
                {"mark": "bar"},
                {
                    "mark": {"type": "text", "align": "left", "color": INK},
                    "transform": [{"calculate": "format(datum.hits, ',') + ' hits'", "as": "said"}],
                    "encoding": {"x": {"value": WIDTH + 6}, "text": {"field": "said"}},
                },
            ],
        }  # fmt: skip
        which = f": {trace.name}" if len(traces) > 1 else ""
        charts += chart(f"What the probes' handlers cost{which}", spec, rows)
    return charts
