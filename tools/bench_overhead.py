"""What recording costs an engine, configuration by configuration: the paper's table of overheads.

    python tools/bench_overhead.py            # about 20 minutes on two cores; nothing else running
    python tools/bench_overhead.py --quick    # one repeat of a few tokens: whether it works

The engine is one process per model that answers requests, started with the audit library, so that
its probes can be redirected or direct; the recorder is `profinfer record`, a fresh process for
every request. Configurations alternate within each repeat, and every ratio is to the bare speed of
the same repeat and process: speeds drift, and processes differ by where their memory lies. What the
audit library costs where nobody records is seen from fresh processes with and without it. Prints a
table in Markdown for each model.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import os
import statistics
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import make_dense_gguf
from bench_engine import (
    DENSE,
    GEMMA,
    Cost,
    Engine,
    RecorderError,
    RecorderProcess,
    audit_environment,
    decode_speed,
)

from profinfer.engine import target
from profinfer.trace_processor import open_trace, query

Figures = dict[str, float | None]


@dataclasses.dataclass(frozen=True)
class Configuration:
    """One row of the table."""

    name: str
    options: tuple[str, ...] | None = None
    """Of `profinfer record`; None: nobody records."""
    redirected: bool = False
    """Its probes sit on the audit library's stubs."""
    empty: str = ""
    """The configuration with empty handlers on the same probes."""


_BARRIER = ("--level", "barrier")
BARE = Configuration("bare")
CONFIGURATIONS = (
    BARE,
    Configuration("empty handlers, direct", (*_BARRIER, "--probes", "direct", "--empty-handlers")),
    Configuration("token", ("--level", "token", "--probes", "direct")),
    Configuration("graph", ("--level", "graph", "--probes", "direct")),
    Configuration("operator, direct", ("--level", "operator", "--probes", "direct")),
    Configuration(
        "barrier, direct", (*_BARRIER, "--probes", "direct"), empty="empty handlers, direct"
    ),
    Configuration("empty handlers, redirected", (*_BARRIER, "--empty-handlers"), redirected=True),
    Configuration("operator, redirected", ("--level", "operator"), redirected=True),
    Configuration(
        "barrier, redirected", _BARRIER, redirected=True, empty="empty handlers, redirected"
    ),
    Configuration(
        "the same, three counters", (*_BARRIER, "--counters", "faults,task-clock"), redirected=True
    ),
    Configuration("the same, scheduler", (*_BARRIER, "--scheduler", "system"), redirected=True),
    Configuration(
        "the same, target's scheduler", (*_BARRIER, "--scheduler", "target"), redirected=True
    ),
    Configuration("the same, perf events", (*_BARRIER, "--attach", "perf_event"), redirected=True),
    Configuration("the same, perf buffers", (*_BARRIER, "--transport", "perf"), redirected=True),
    Configuration("the same, BCC", (*_BARRIER, "--loader", "bcc"), redirected=True),
    Configuration("barrier, recording", (*_BARRIER, "--probes", "recording"), redirected=True),
)


@dataclasses.dataclass
class Model:
    """A model, and how many tokens a request decodes."""

    title: str
    path: Path
    predict: int


MODELS = {
    "gemma": Model("Gemma-3-270M Q4_K_M", GEMMA, 96),
    "dense": Model("1B-shaped Q4_K_M, random weights", DENSE, 48),
}


@dataclasses.dataclass
class Measured:
    """All repeats of one configuration."""

    speeds: list[float] = dataclasses.field(default_factory=list)
    """Decoded tokens per second, by repeat."""
    costs: list[Cost] = dataclasses.field(default_factory=list)
    trace: Path | None = None
    """Of the last repeat."""
    failure: str = ""


def measure(
    configuration: Configuration, engine: Engine, predict: int, into: Measured, trace: Path
) -> None:
    """One request in one configuration."""
    if configuration.options is None:
        engine.start(predict)
        timings = engine.answer()
    else:
        recorder = RecorderProcess(engine.pid, trace, configuration.options)
        try:
            timings, cost = recorder.record(engine, predict)
        finally:
            recorder.close()
        into.costs.append(cost)
        into.trace = trace
    if timings["predicted_n"] != predict:
        raise SystemExit(f"the engine gave {timings['predicted_n']} tokens instead of {predict}")
    into.speeds.append(decode_speed(timings))


def run(
    model: Model, rows: tuple[Configuration, ...], threads: int, repeats: int, directory: Path
) -> dict[str, Measured]:
    """Configurations with one model."""
    results = {c.name: Measured() for c in rows}
    environment: dict[str, str] = {}
    try:
        environment = audit_environment()
    except RecorderError as error:
        for configuration in rows:
            if configuration.redirected:
                results[configuration.name].failure = str(error)
    engine = Engine(threads, model.path, environment)
    try:
        engine.start(8)  # reads the model
        engine.answer()
        for repeat in range(repeats):
            # Back and forth, so that a drift of the machine's speed favours none of them.
            for configuration in rows[:: -1 if repeat % 2 else 1]:
                result = results[configuration.name]
                if result.failure:
                    continue
                trace = directory / f"{configuration.name.replace(' ', '-')}.pftrace"
                try:
                    measure(configuration, engine, model.predict, result, trace)
                except RecorderError as error:
                    result.failure = str(error)
                note(f"{model.title}, repeat {repeat + 1}: {configuration.name}")
    finally:
        engine.close()
    note("")
    return results


def untraced(model: Model, threads: int, repeats: int) -> str:
    """Speeds of fresh processes that nobody records, with the audit library and without."""
    speeds: dict[str, list[float]] = {"without": [], "with": []}
    try:
        environment = audit_environment()
    except RecorderError as error:
        return str(error)
    for repeat in range(repeats):
        for name in list(speeds)[:: -1 if repeat % 2 else 1]:
            engine = Engine(threads, model.path, environment if name == "with" else {})
            try:
                engine.start(8)
                engine.answer()
                engine.start(model.predict)
                speeds[name].append(decode_speed(engine.answer()))
            finally:
                engine.close()
            note(f"{model.title}, repeat {repeat + 1}: {name} the audit library")
    note("")
    return ", ".join(f"{name} {spread(found)}" for name, found in speeds.items())


def note(text: str) -> None:
    """Progress, for who watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def predict(trace: Path) -> Figures:
    """What the ready query `overhead` says of a trace; empty where it says nothing."""
    figures: Figures = {}
    with open_trace(trace) as session:
        for table in query.run(session, query.read(query.resolve("overhead"))):
            for column in ("slowdown_percent", "seconds", "cpu_load_percent", "over_empty_percent"):
                if column in table.columns and len(table.rows) == 1:
                    value = table.rows[0][table.columns.index(column)]
                    figures[column] = value if isinstance(value, int | float) else None
    return figures


# ---- The table

HEAD = (
    "configuration", "tokens/s", "speed : bare", "predicted", "speed : empty", "CPU load P.",
    "of it over empty", "recorder CPU", "peak RSS", "written", "lost",
)  # fmt: skip


def spread(values: Iterable[float]) -> str:
    """Median and range."""
    found = sorted(values)
    middle = f"{statistics.median(found):.3f}"
    return middle if len(found) < 2 else f"{middle} ({found[0]:.3f}..{found[-1]:.3f})"


def ratios(one: Measured, other: Measured) -> str:
    """Of the speeds of the same repeats."""
    pairs = list(zip(one.speeds, other.speeds, strict=False))
    return spread(a / b for a, b in pairs) if pairs else "-"


def load(percent: float | None, figures: Figures, last: Cost) -> str:
    """A load over the whole recording as one over its requests alone: before them and after them
    nothing runs, but the recording's time goes on."""
    seconds = figures.get("seconds")
    if percent is None or seconds is None:
        return "-"
    return f"{percent * seconds / last.busy_s:.2f} %"


def row(configuration: Configuration, results: dict[str, Measured]) -> list[str]:
    """The cells of one configuration."""
    result = results[configuration.name]
    cells = ["-"] * len(HEAD)
    cells[0] = configuration.name
    if not result.speeds:
        return cells
    cells[1] = f"{statistics.median(result.speeds):.1f}"
    cells[2] = "1" if configuration is BARE else ratios(result, results[BARE.name])
    if configuration.empty in results:
        cells[4] = ratios(result, results[configuration.empty])
    if result.trace and result.costs:
        costs, last = result.costs, result.costs[-1]
        if "--empty-handlers" not in (configuration.options or ()):
            figures = predict(result.trace)
            slowdown = figures.get("slowdown_percent")
            cells[3] = "-" if slowdown is None else f"{1 - slowdown / 100:.3f}"
            cells[5] = load(figures.get("cpu_load_percent"), figures, last)
            cells[6] = load(figures.get("over_empty_percent"), figures, last)
        cells[7] = f"{100 * statistics.median(c.cpu_s / c.seconds for c in costs):.1f} %"
        cells[8] = f"{max(max(c.peaks_mb.values()) for c in costs):.0f} MB"
        cells[9] = f"{statistics.median(c.written / c.busy_s for c in costs) / 1e6:.2f} MB/s"
        cells[10] = f"{sum(c.lost for c in costs):,}"
    return cells


def markdown(rows: list[list[str]]) -> str:
    """A table whose columns stand below each other."""
    table = [list(HEAD), *rows]
    widths = [max(len(line[i]) for line in table) for i in range(len(HEAD))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in table
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def main() -> int:
    """Runs everything and prints a table per model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument(
        "--only", nargs="+", choices=[c.name for c in CONFIGURATIONS], metavar="ROW",
        help="these rows, and bare",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--quick", action="store_true", help="one repeat of a quarter of the tokens"
    )
    args = parser.parse_args()
    if os.geteuid():
        raise SystemExit("recording needs root: sudo make bench-overhead")
    repeats = 1 if args.quick else args.repeats
    rows = tuple(c for c in CONFIGURATIONS if c is BARE or not args.only or c.name in args.only)
    print(
        f"{datetime.date.today()}, Linux {os.uname().release}, {target.cpu_model()},"
        f" {os.cpu_count()} CPUs; {args.threads} threads, {repeats} repeats. Ratios are medians of"
        " the repeats' (least..greatest)."
    )
    for name in args.models:
        model = MODELS[name]
        if model.path == DENSE and not DENSE.is_file():
            make_dense_gguf.main([str(DENSE)])
        if args.quick:
            model = dataclasses.replace(model, predict=model.predict // 4)
        with tempfile.TemporaryDirectory(prefix="profinfer-bench-") as directory:
            results = run(model, rows, args.threads, repeats, Path(directory))
            table = markdown([row(configuration, results) for configuration in rows])
        print(f"\n{model.title}, {model.predict} tokens\n\n{table}", flush=True)
        stubs = untraced(model, args.threads, repeats)
        print(f"\nTokens/s when nobody records, the audit library: {stubs}", flush=True)
        for configuration, result in results.items():
            if result.failure:
                print(f"\n{configuration}: {result.failure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
