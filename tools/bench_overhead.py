"""What recording costs an engine, with recording on and off in turn within one process.

    python tools/bench_overhead.py                        # until intervals are narrow
    python tools/bench_overhead.py --minutes 1            # a minute for each row at the most
    python tools/bench_overhead.py --only "direct probes" hits

The engine is one process per model that answers requests, started with the audit library. While
`profinfer record --alternate` records it, everything is in place for half a second, and nothing for
the next: probes detached, stubs off, no scheduler. Each stretch is compared with those around it.
That goes on until the 95 % interval of the ratio is narrower than a point, or time is over. What
stubs cost that are off is seen in a loop, and from fresh processes with the audit library and
without. Prints tables in Markdown; bold is what was not met.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import make_dense_gguf
from bench_engine import (
    DENSE,
    GEMMA,
    ROOT,
    Engine,
    RecorderError,
    RecorderProcess,
    audit_environment,
)
from bench_stubs import Hits, off_stub_ns, process_pairs
from bench_turns import Interval, durations, logarithms, phases, ratio, tokens

from profinfer.engine import target
from profinfer.trace_processor import open_trace

HOT = ("on_operator", "on_fused", "on_barrier")


@dataclass(frozen=True)
class Model:
    """A model, and how many tokens a request decodes."""

    title: str
    path: Path
    predict: int


MODELS = {
    "gemma": Model("Gemma-3-270M", GEMMA, 64),
    "dense": Model("1B-shaped", DENSE, 32),
}


@dataclass(frozen=True)
class Row:
    """A configuration: level barrier, and otherwise the defaults, but for its options."""

    name: str
    options: tuple[str, ...]
    wanted: dict[str, float] = field(default_factory=dict)
    """The least speed against bare, by model."""


RECORDING = ("--probes", "recording")
COUNTERS = ("--counters", "faults,task-clock")
BEST = "the place that is chosen here"


def rows(best: str) -> list[Row]:
    """`best`: how hot functions are probed where that is chosen by what was measured."""
    names = {"stub": "probed stubs", "direct": "direct probes"}
    other = "direct" if best == "stub" else "stub"
    chosen = ("--probes", best)
    return [
        Row("recording stubs", RECORDING, {"gemma": 0.99, "dense": 0.997}),
        Row(f"{names[best]} ({BEST})", chosen, {"gemma": 0.93, "dense": 0.985}),
        Row("the same, three counters", (*chosen, *COUNTERS), {"gemma": 0.9, "dense": 0.98}),
        Row(names[other], ("--probes", other)),
        Row("recording stubs, no scheduler", (*RECORDING, "--scheduler", "off")),
        Row(f"{names[best]}, no scheduler", (*chosen, "--scheduler", "off")),
    ]


@dataclass
class Measured:
    """All of one row so far."""

    logs: list[float] = field(default_factory=list)
    off_ns: list[float] = field(default_factory=list)
    """A token, in each stretch without recording."""
    lost: int = 0
    seconds: float = 0.0
    trace: Path | None = None
    """The last one."""

    @property
    def speed(self) -> Interval:
        return ratio(self.logs)


class Bench:
    """One model, in one process."""

    def __init__(self, model: Model, threads: int, each: float, directory: Path) -> None:
        self.model = model
        self._each = each
        self._directory = directory
        self._engine = Engine(threads, model.path, audit_environment())
        self._engine.token_times(8)  # reads the model

    def close(self) -> None:
        self._engine.close()

    def best(self) -> str:
        """How hot functions are probed where a place is chosen by what was measured."""
        done = subprocess.run(
            [sys.executable, "-m", "profinfer", "doctor", "--pid", str(self._engine.pid), "--json"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        checks = json.loads(done.stdout)["checks"]
        (plan,) = (check["plan"] for check in checks if "plan" in check)
        return str(next(x["via"] for x in plan["probes"] if x["handler"] == "on_operator"))

    def record(self, options: tuple[str, ...], seconds: float, into: Measured) -> None:
        """Adds a recording of so long."""
        trace, raw = self._directory / "turns.pftrace", self._directory / "turns.raw"
        begun = time.monotonic()
        recorder = RecorderProcess(
            self._engine.pid, trace,
            ("--level", "barrier", "--scheduler", "auto", "--alternate", str(self._each),
             "--raw", str(raw), *options),
        )  # fmt: skip
        try:
            requests, lost = recorder.in_turn(self._engine, self.model.predict, seconds)
        finally:
            recorder.close()
        found = phases(raw)
        means = durations(*tokens(requests), found)
        into.logs += logarithms(means, found)
        into.off_ns += [m for m, phase in zip(means, found, strict=True) if m and not phase.is_on]
        into.lost += lost
        into.trace = trace
        into.seconds += time.monotonic() - begun

    def until_narrow(self, row: Row, width: float, minutes: float, chunk: float) -> Measured:
        """Recordings of a row until the interval is narrow, or time is over."""
        measured = Measured()
        until = time.monotonic() + 60 * minutes
        while not measured.speed.width < width and (left := until - time.monotonic()) > 0:
            self.record(row.options, min(chunk, left), measured)
            note(f"{self.model.title}, {row.name}: {measured.speed.describe(3)}")
        note("")
        return measured


def handlers(trace: Path) -> dict[str, tuple[int, float | None]]:
    """By handler: hits, and ns a hit over an empty one."""
    sql = (
        "INCLUDE PERFETTO MODULE profinfer.recording.handlers;"
        "SELECT handler, sum(hits), max(handler_ns) FROM profinfer_handler GROUP BY 1"
    )
    with open_trace(trace) as session:
        return {
            str(handler): (int(str(hits or 0)), None if ns is None else float(str(ns)))
            for handler, hits, ns in session.query(sql)
        }


def calls_per_token(trace: Path, threads: int) -> float:
    """Of the hot functions, on each thread."""
    found = handlers(trace)
    return sum(found[name][0] for name in HOT) / threads / found["on_ubatch"][0]


def note(text: str) -> None:
    """Progress, for who watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


# ---- The tables


def cell(text: str, *, is_met: bool) -> str:
    return text if is_met else f"**{text}**"


def print_rows(bench: Bench, name: str, args: argparse.Namespace) -> None:
    """The configurations of a model."""
    chosen = [row for row in rows(bench.best()) if is_asked(row.name, args.only)]
    if not chosen:
        return
    print(f"\n| {bench.model.title} | speed : bare | at least | triples | token, bare | lost |")
    print("|---|---|---|---|---|---|", flush=True)
    for row in chosen:
        try:
            found = bench.until_narrow(row, args.width, args.minutes, args.chunk)
        except RecorderError as error:
            print(f"| {row.name} | {error} | | | | |", flush=True)
            continue
        wanted = row.wanted.get(name)
        speed = cell(found.speed.describe(3), is_met=wanted is None or found.speed.middle >= wanted)
        token_ms = statistics.median(found.off_ns) / 1e6 if found.off_ns else math.nan
        print(
            f"| {row.name} | {speed} | {wanted or ''} | {len(found.logs)} | {token_ms:.1f} ms"
            f" | {cell(str(found.lost), is_met=not found.lost)} |",
            flush=True,
        )


def print_handlers(bench: Bench) -> None:
    """Of a recording with two counters."""
    measured = Measured()
    options = ("--probes", bench.best(), "--counters", "faults")
    bench.record(options, 15, measured)
    for handler, (hits, ns) in handlers(measured.trace or Path()).items():
        if handler in HOT and ns is not None:
            text = cell(f"{ns:.0f} ns", is_met=ns <= 350)
            print(f"\n{bench.model.title}, {handler} with two counters over an empty one: {text}"
                  f" ({hits:,} hits; at most 350)", flush=True)  # fmt: skip


def print_off_stub(bench: Bench, threads: int) -> None:
    """By calls per token."""
    measured = Measured()
    bench.record(RECORDING, 15, measured)
    ns, calls = off_stub_ns(), calls_per_token(measured.trace or Path(), threads)
    share = 100 * ns * calls / statistics.median(measured.off_ns)
    text = cell(f"{ns:.2f} ns, {share:.4f} % of a token", is_met=ns <= 2 and share <= 0.1)
    print(f"\n{bench.model.title}, an off stub: {text} ({calls:.0f} calls; at most 2 ns, 0.1 %)",
          flush=True)  # fmt: skip


def print_hits(args: argparse.Namespace, directory: Path) -> None:
    """Until the interval is +-5 ns."""
    hits = Hits(directory)
    until = time.monotonic() + 60 * args.minutes
    found = Interval(math.nan)
    while not found.width < 10 and time.monotonic() < until:
        found = hits.measure(args.chunk, args.each)
        note(f"hits: {found.describe(1)} ns")
    note("")
    text = cell(f"{found.describe(1)} ns", is_met=found.middle <= 40)
    print(f"\nA hit of a recording stub among operators of 1 us: {text} (at most 40), "
          f"{hits.lost} records lost", flush=True)  # fmt: skip


def print_pairs(model: Model, args: argparse.Namespace) -> None:
    """Of fresh processes."""
    found = process_pairs(model.path, args.threads, model.predict // 2, args.pairs)
    text = cell(found.describe(3), is_met=found.low <= 1 <= found.high)
    print(f"\n{model.title}, nobody recording, {args.pairs} pairs of processes, speed with the"
          f" audit library : without: {text} (contains 1)", flush=True)  # fmt: skip


OTHERS = ("handlers", "off stub", "pairs", "hits")


def is_asked(name: str, only: list[str] | None) -> bool:
    return not only or any(name.startswith(each) for each in only)


def main() -> int:
    """Runs everything and prints what it finds as it comes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument(
        "--only", nargs="+", metavar="ROW", help=f"rows that begin so, or of {', '.join(OTHERS)}"
    )
    parser.add_argument("--minutes", type=float, default=20, help="for each row, at the most")
    parser.add_argument("--width", type=float, default=0.01, help="of an interval that is narrow")
    parser.add_argument("--each", type=float, default=0.5, help="seconds on, and off")
    parser.add_argument("--chunk", type=float, default=40, help="seconds of each recording")
    parser.add_argument("--pairs", type=int, default=20, help="of processes")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if os.geteuid():
        raise SystemExit("recording needs root: sudo make bench-overhead")
    if "dense" in args.models and not DENSE.is_file():
        make_dense_gguf.main([str(DENSE)])
    print(
        f"{datetime.date.today()}, {target.cpu_model()}, {os.cpu_count()} CPUs, Linux"
        f" {os.uname().release}; {args.threads} threads, {args.each:g} s on and off in turn."
        " Medians, with their 95 % intervals."
    )
    with tempfile.TemporaryDirectory(prefix="profinfer-bench-") as name:
        directory = Path(name)
        for key in args.models:
            bench = Bench(MODELS[key], args.threads, args.each, directory)
            try:
                print_rows(bench, key, args)
                if is_asked("handlers", args.only):
                    print_handlers(bench)
                if is_asked("off stub", args.only):
                    print_off_stub(bench, args.threads)
            finally:
                bench.close()
            if is_asked("pairs", args.only):
                print_pairs(MODELS[key], args)
        if is_asked("hits", args.only):
            print_hits(args, directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
