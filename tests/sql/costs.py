"""A recording that says what its probes cost, in figures chosen by hand."""

from __future__ import annotations

from typing import Any

from profinfer.records.dtypes import Kind
from tests.captures import Capture
from tests.sql.schedules import PROMPT, graph, structure

PROBES: list[dict[str, Any]] = [
    {"handler": "on_ubatch", "symbol": "process_ubatch", "level": "token", "at_return": False,
     "via": "direct", "site": "push", "hit_ns": 700.5},
    {"handler": "on_operator", "symbol": "extra_compute_forward", "level": "operator",
     "at_return": False, "via": "direct", "site": "push", "hit_ns": 700.0},
    {"handler": "on_fused", "symbol": "rms_norm_mul_fused", "level": "operator",
     "at_return": False, "via": "direct", "site": "stepped", "hit_ns": 9800.0},
    {"handler": "on_barrier", "symbol": "ggml_barrier", "level": "barrier", "at_return": False,
     "via": "stub", "site": "nop5", "hit_ns": 450.0},
]  # fmt: skip
EMPTY_NS = 60.0
INTERVALS = {"push": [690.0, 710.0], "stepped": [9700.0, 9900.0], "nop5": [445.0, 455.0]}
HANDLERS: list[dict[str, Any]] = [
    # Run times of 260, 240 and 310 ns: 200, 180 and 250 over the empty handler.
    {"handler": "on_operator", "runs": 24_000_000, "timed_runs": 100, "timed_ns": 26_000},
    {"handler": "on_fused", "runs": 8_000_000, "timed_runs": 10, "timed_ns": 2_400},
    {"handler": "on_barrier", "runs": 32_000_000, "timed_runs": 1000, "timed_ns": 310_000},
    {"handler": "on_ubatch", "runs": 4, "timed_runs": 0, "timed_ns": 0},
]


def measure(capture: Capture) -> Capture:
    """Adds what a recorder says of its probes' cost."""
    probes = [p for p in PROBES if capture.level == "barrier" or p["handler"] != "on_barrier"]
    handlers = [h for h in HANDLERS if h["handler"] in {p["handler"] for p in probes}]
    capture.at_start = {
        "plan": {"level": capture.level, "probes": probes, "missing": {}},
        "hit_cost": {"empty_handler_ns": EMPTY_NS, "intervals": INTERVALS},
    }
    # Of the recorder's 2 us per record the threads can have waited for 0.5.
    capture.at_end = {
        "seconds": 20.0,
        "handlers": handlers,
        "drained": 64_000,
        "recorder_cpu_s": 0.128,
        "threads_waited_s": 0.032,
    }
    return capture


def decoding(level: str = "barrier") -> Capture:
    """A prefill, then three tokens decoded, 1 ms each, with one graph (schedules.graph) each.

    Per graph and thread: 1 fused and 3 other operators, 4 barriers (of which one is inside).
    """
    capture = Capture(level)
    shape = structure(capture, 50)
    for step in range(4):
        begin = 100_000 + 1_000_000 * step
        runs = [(0, 2 + step, 1, 1, 1)] if step else [PROMPT]
        capture.ubatch(begin, begin + 900_000, runs)
        graph(capture, shape, begin // 1000 + 100)
    if level != "barrier":
        capture.records = [row for row in capture.records if row.kind != Kind.BARRIER]
    return capture
