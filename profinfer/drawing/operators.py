"""Charts of operators: where time goes, how evenly, and what it follows."""

from __future__ import annotations

from collections.abc import Sequence

from profinfer.drawing.charts import (
    INK,
    LOG,
    PHASES,
    WIDTH,
    Chart,
    Row,
    Spec,
    by_module,
    chart,
    coloured,
    name,
    quantity,
)
from profinfer.drawing.figure import Traced

_STEP = {"step": 17}
_OPS = 6
"""Lines that one can tell apart."""
_PHASED = ("prefill", "decode")
_BESIDE = {"MUL_MAT_ID": " (experts)"}
_CAUSES = ("imbalance", "interference", "throttled", "starting", "fault", "blocked", "release")
"""Of waiting at the barrier, as columns of `stalls`."""


def imbalance(trace: Traced) -> list[Chart]:
    """Waiting at barriers by op and cause; idle time of the threads by operator."""
    stalls = [row for row in trace.table("stalls", "Stalls by op") if row["wait_ms"]]
    parts = [
        {"process": row.get("process"), "op": row["op"], "cause": cause, "place": place,
         "ms": row[f"{cause}_ms"]}
        for row in stalls for place, cause in enumerate(_CAUSES) if row[f"{cause}_ms"]
    ]  # fmt: skip
    spec = {
        "width": WIDTH,
        "height": _STEP,
        "mark": "bar",
        "encoding": {
            "y": name("op", sort="-x"),
            "x": quantity("ms", "waiting at the barrier after it (ms, summed over threads)"),
            "color": coloured("cause", _CAUSES, parts),
            "order": {"field": "place"},
        },
    }
    charts = chart("Threads waiting for each other, by op and cause", spec, parts)
    rows = trace.table("imbalance", "Imbalance by operator")[:20]
    share = {"x": {"value": WIDTH + 6}, "text": quantity("idle_share", None, format=".1%")}
    spec = {
        "width": WIDTH,
        "height": _STEP,
        "encoding": {
            "y": name("name"), "x": quantity("idle_ms", "idle (ms, summed over threads)"),
        },
        "layer": [
            {"mark": "bar", "encoding": {"color": name("op", "op")}},
            {"mark": {"type": "text", "align": "left", "color": INK}, "encoding": share},
        ],
    }  # fmt: skip
    return charts + chart("Operators with idle threads, and their share of the time", spec, rows)


def ops(trace: Traced) -> list[Chart]:
    """The share of each op in the work of prefill and decode."""
    rows = [r for r in trace.table("work", "Work by op") if r["phase"] in _PHASED]
    rows = [row for row in rows if (row["percent"] or 0) >= 0.1]
    spec = {
        "width": WIDTH,
        "height": {"step": 9},
        "mark": "bar",
        "encoding": {
            "y": name("op", sort="-x"),
            "yOffset": name("phase"),
            "x": quantity("percent", "percent of the phase's work"),
            "color": name("phase", "phase", scale=PHASES),
        },
    }
    return chart("Work by op", spec, rows)


def layers(trace: Traced) -> list[Chart]:
    """The work of each layer, stacked by module; all phases on one scale."""
    rows = [row for row in trace.table("work", "Work by layer and module")
            if row["phase"] in _PHASED and row["layer"] is not None]  # fmt: skip
    sums: dict[object, float] = {}
    for row in rows:
        bar = (row.get("process"), row["phase"], row["layer"])
        sums[bar] = sums.get(bar, 0) + (row["per_token_us"] or 0)
    charts = []
    for phase in _PHASED:
        some, stacked = by_module([row for row in rows if row["phase"] == phase])
        spec = {
            "width": WIDTH,
            "height": 180,
            "mark": "bar",
            "encoding": {
                "x": {"field": "layer", "type": "ordinal", "title": "layer",
                      "axis": {"labelOverlap": True, "labelAngle": 0}},
                "y": quantity(
                    "per_token_us", "work per token (µs, all threads)",
                    scale={"domain": [0, max(sums.values(), default=0)], "nice": True},
                ),
                **stacked,
            },
        }  # fmt: skip
        charts += chart(f"Work by layer and module, {phase}", spec, some)
    return charts


def modules(trace: Traced) -> list[Chart]:
    """The share of each part of the model in prefill and decode."""
    rows, stacked = by_module(
        [row for row in trace.table("hotspots", "Work by module") if row["phase"] in _PHASED]
    )
    spec = {
        "width": WIDTH,
        "height": {"step": 26},
        "mark": "bar",
        "encoding": {
            "y": name("phase"),
            "x": quantity("percent", "percent of the phase's work", scale={"domain": [0, 100]}),
            **stacked,
        },
    }
    return chart("Work by part of the model", spec, rows)


def products(trace: Traced) -> list[Chart]:
    """Time of matrix products against their size, and lines through it."""
    points: list[Row] = [{**row, "what": row["type"] + _BESIDE.get(row["op"], "")}
              for row in trace.table("products", "Products by size")
              if row["mean_us"] and row["phase"] in _PHASED]  # fmt: skip
    lines = [row for row in trace.table("products", "Time against size") if row["to_us"]]
    size, time = "M·N·K (millions of multiplications)", "mean time (µs)"
    spec = {
        "width": WIDTH,
        "height": 320,
        "layer": [
            {
                "transform": [{"filter": "datum.mnk_millions > 0"}],
                "mark": {"type": "point", "filled": True},
                "encoding": {
                    "x": quantity("mnk_millions", size, **LOG),
                    "y": quantity("mean_us", time, **LOG),
                    "color": name("phase", "phase", scale=PHASES),
                    "shape": name("what", "first matrix"),
                },
            },
            {
                "transform": [{"filter": "datum.from_us > 0"}],
                "mark": {"type": "rule", "strokeWidth": 1.2},
                "encoding": {
                    "x": quantity("from_mnk_millions", size, **LOG),
                    "x2": {"field": "to_mnk_millions"},
                    "y": quantity("from_us", time, **LOG),
                    "y2": {"field": "to_us"},
                    "color": name("phase", "phase", scale=PHASES),
                },
            },
        ],
    }
    return chart("Time of matrix products against their size", spec, points and points + lines)


def roofline(trace: Traced) -> list[Chart]:
    """Speed of matrix products against how often they use a byte."""
    points = [
        row
        for row in trace.table("products", "Products by size")
        if row["gflop_per_s"] and row["flop_per_byte"] and row["phase"] in _PHASED
    ]
    roof: list[Row] = [
        {**row, "roof": True} for row in trace.table("products", "Roof that was reached")
    ]
    spec = {
        "width": WIDTH,
        "height": 320,
        "encoding": {
            "x": quantity("flop_per_byte", "operations per byte", **LOG),
            "y": quantity("gflop_per_s", "Gflop/s", **LOG),
        },
        "layer": [
            {
                "transform": [{"filter": "datum.roof"}],
                "mark": {"type": "line", "color": INK, "strokeDash": [5, 4]},
            },
            {
                "transform": [{"filter": "!datum.roof"}],
                "mark": {"type": "point", "filled": True},
                "encoding": {
                    "color": name("phase", "phase", scale=PHASES),
                    "size": quantity("time_ms", None, legend=None, scale={"range": [15, 600]}),
                },
            },
        ],
    }
    title = "Matrix products (area: their time); dashed: the most by those with 1 % of it or more"
    return chart(title, spec, points and points + roof)


_COMPARED: Sequence[tuple[str, str, Spec]] = (
    ("backend_stall_ratio", "cycles stalled in the back end (share)", {}),
    ("read_bytes_per_run", "bytes read from memory per operator", {}),
    ("written_bytes_per_run", "bytes written to memory per operator", {}),
    ("wait_share", "waiting at the barrier (share of the threads' time)", {}),
    ("mean_us", "mean time (µs)", LOG),
    ("gb_per_s", "GB/s that shapes ask for", LOG),
)
_DECODING = "Decoding by op and threads"


def counters(trace: Traced) -> list[str]:
    """The query `counters`, which takes long, where it has stalls or bytes."""
    rows = trace.table("threads", _DECODING)
    return ["counters"] if any(row["has_counters"] for row in rows) else []


def _counted(trace: Traced) -> list[Row]:
    """Stalls and bytes by op, with the number of threads where that is one for the op."""
    threads: dict[object, set[int]] = {}
    for row in trace.table("threads", _DECODING):
        threads.setdefault((row.get("process"), row["op"]), set()).add(row["threads"])
    rows = trace.table("counters", "Instructions, stalls and memory by op")
    found = [(row, threads.get((row.get("process"), row["op"]), set())) for row in rows]
    return [{**row, "threads": min(number)} for row, number in found if len(number) == 1]


def threads(traces: Sequence[Traced]) -> list[Chart]:
    """Stalls, bytes, waiting and time by op against the number of threads."""
    rows = [row for trace in traces for row in trace.table("threads", _DECODING)]
    if len({row["threads"] for row in rows}) < 2:
        return []
    shown = list(dict.fromkeys(row["op"] for row in rows))[:_OPS]
    rows += [row for trace in traces if trace.asked("counters") for row in _counted(trace)]
    charts = []
    for field, title, more in _COMPARED:
        some = [row for row in rows if row["op"] in shown and row.get(field) is not None]
        some = [row for row in some if row[field] > 0 or not more]
        spec = {
            "width": WIDTH,
            "height": 240,
            "mark": {"type": "line", "point": True},
            "encoding": {
                "x": {"field": "threads", "type": "ordinal", "title": "threads",
                      "axis": {"labelAngle": 0}},
                "y": quantity(field, title, **more),
                "color": name("op", "op"),
            },
        }  # fmt: skip
        head = title[0].upper() + title[1:].partition(" (")[0]
        charts += chart(f"{head}, by number of threads", spec, some)
    return charts
