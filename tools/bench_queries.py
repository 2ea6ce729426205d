"""How long every ready query takes, and loading: beside a plain group-by over the slices.

    python tools/bench_queries.py                  # records two traces (root), then asks them
    python tools/bench_queries.py TRACE... --only stalls interference
    python tools/bench_queries.py TRACE --statements stalls    # what takes the time

Each query runs in a copy of one process that has loaded the trace, with its modules; so does the
group-by, a moment before. Loading is compared with that of plain TrackEvents without arguments of
as many bytes. CPU seconds of the embedded Trace Processor.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from bench_conversion import convert, count_operators, machine, repeat_capture
from bench_engine import Engine, RecorderProcess
from bench_table import Row, markdown

from profinfer.engine.aside import aside
from profinfer.output import Output
from profinfer.trace import packets
from profinfer.trace.writer import TraceWriter
from profinfer.trace_processor import SQL_DIR, Session, open_trace, query
from profinfer.trace_processor.expand import expand

GROUP_BY = "SELECT name, count(*), sum(dur) FROM slice GROUP BY name"
WANTED = {"interference": 6.0}
"""Times the group-by; of the others 3, and on a busy machine's trace 6 of all."""
LOADING = 1.5
"""Times that of plain TrackEvents."""
_HOG = """
import time
while True:
    until = time.perf_counter() + 0.0003
    while time.perf_counter() < until:
        pass
    time.sleep(0.0005)
"""
"""Takes a CPU more than a thousand times a second."""


def record(trace: Path, predict: int, hogs: int) -> Path:
    """The raw capture of a request, with the scheduler and barriers; with others beside it."""
    raw = trace.with_suffix(".raw")
    raw.unlink(missing_ok=True)
    engine = Engine(2)
    beside: list[subprocess.Popen[bytes]] = []
    try:
        options = ("--level", "barrier", "--scheduler", "auto", "--raw", str(raw))
        recorder = RecorderProcess(engine.pid, trace, options)
        try:
            beside += [subprocess.Popen([sys.executable, "-c", _HOG]) for _ in range(hogs)]
            recorder.record(engine, predict)
        finally:
            recorder.close()
    finally:
        engine.close()
        for hog in beside:
            hog.kill()
            hog.wait()
    return raw


def make(folder: Path, slices: int, predict: int) -> list[Path]:
    """A quiet machine's trace of so many operator slices, and a busy one's half as long."""
    traces = []
    for name, hogs in (("quiet", 0), ("busy", 2)):
        trace = folder / f"{name}.pftrace"
        raw = record(trace, predict, hogs)
        with open_trace(trace) as session:
            times = slices // (1 + bool(hogs)) // count_operators(session) + 1
        convert(repeat_capture(raw, times), trace)
        traces.append(trace)
    return traces


def plain_trace(path: Path, size: int) -> None:
    """TrackEvents without arguments, of so many bytes: operators with barriers on two threads."""
    output = Output(path, force=True)
    writer = TraceWriter(output)
    process = writer.process_track(7, "plain", ["plain"])
    tracks = [writer.thread_track(7, tid, f"thread {tid}") for tid in (7, 8)]
    names = np.array([writer.name(f"operator {i}") for i in range(400)], np.uint32)
    barrier, category = writer.name("barrier"), writer.category("operator")
    writer.flush_interned()
    assert process  # noqa: S101 - described for the UI's sake
    at, count = 10**15, 4096
    while output.size < size:
        ts = at + 1000 * np.arange(count, dtype=np.int64)
        for track in tracks:
            columns = {"track": track, "category": category}
            writer.rows(packets.NAMED_BEGIN, ts, name=names[np.arange(count) % 400], **columns)
            writer.rows(packets.NAMED_BEGIN, ts + 600, name=barrier, **columns)
            writer.rows(packets.SLICE_END, np.concatenate([ts + 900, ts + 990]), track=track)
        at += 1000 * count
        writer.flush()
    output.close()


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds that some work takes."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def apart(work: Callable[[], list[float]]) -> list[float]:
    """What some work returns in a copy of this process; infinite when that takes too long."""
    try:
        return [
            float(text) for text in aside(lambda: repr(work()).encode()).decode()[1:-1].split(",")
        ]
    except ChildProcessError:
        return []


def loading(path: Path) -> float:
    """CPU seconds of loading a trace."""

    def load() -> list[float]:
        begun = time.process_time()
        with open_trace(path, trace_processor="wasm"):
            return [time.process_time() - begun]

    return apart(load)[0]


def revive(session: Session) -> None:
    """In a copy of the process that opened it: the thread that runs Trace Processor is no more."""
    setattr(session.tp.rpc.transport, "_thread", ThreadPoolExecutor(1))  # noqa: B010 - a bench may


def measure(session: Session, sql: str) -> tuple[float, float]:
    """CPU seconds of the group-by and of a query, in a copy of this process."""

    def work() -> list[float]:
        revive(session)
        return [seconds(lambda: session.query(GROUP_BY)), seconds(lambda: query.run(session, sql))]

    found = apart(work)
    return (found[0], found[1]) if found else (float("nan"), float("inf"))


def statements(session: Session, sql: str) -> Iterator[tuple[float, str]]:
    """CPU seconds of each statement of a query and its modules."""
    for statement in query.split_statements(expand(sql, SQL_DIR)):
        taken = seconds(partial(session.query, statement.text))
        yield taken, statement.title or " ".join(statement.text.split()[:5]).partition("(")[0]


def bench(rows: list[Row], trace: Path, repeats: int, only: list[str], limit: float | None) -> None:
    """The rows of one trace."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.pftrace"
        plain_trace(plain, trace.stat().st_size)
        pairs = [(loading(trace), loading(plain)) for _ in range(repeats)]
        ours, theirs = sorted(pairs, key=lambda pair: pair[0] / pair[1])[repeats // 2]
    size = trace.stat().st_size / 1e6
    with open_trace(trace, trace_processor="wasm") as session:
        slices = count_operators(session)
        rows.append(Row(
            f"{trace.stem}: loading, {size:.0f} MB, {slices:,} operator slices",
            f"{LOADING:g} times", f"{ours / theirs:.2f} times ({ours:.1f} s, plain {theirs:.1f} s)",
            ours <= LOADING * theirs,
        ))  # fmt: skip
        for file in query.ready_queries():
            if only and file.stem not in only:
                continue
            sql = query.read(file)
            taken = [measure(session, sql) for _ in range(repeats)]
            ratio = statistics.median(of_query / of_group for of_group, of_query in taken)
            wanted = limit or WANTED.get(file.stem, 3.0)
            times = statistics.median(of_query for _, of_query in taken)
            group = statistics.median(of_group for of_group, _ in taken)
            rows.append(Row(
                f"{trace.stem}: {file.stem}", f"{wanted:g} times",
                f"{ratio:.2f} times ({times:.2f} s, group-by {group:.2f} s)", ratio <= wanted,
            ))  # fmt: skip
            print(rows[-1].figure, rows[-1].measured, file=sys.stderr)


def main() -> int:
    """Makes what was not given, asks, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("traces", nargs="*", type=Path, metavar="TRACE")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="where the traces that it makes stay"
    )
    parser.add_argument("--slices", type=int, default=1_000_000)
    parser.add_argument("--predict", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[], metavar="QUERY")
    parser.add_argument(
        "--statements", metavar="QUERY", help="only this one, statement by statement"
    )
    args = parser.parse_args()
    if args.statements:
        for trace in args.traces:
            with open_trace(trace, trace_processor="wasm") as session:
                print(f"{seconds(lambda: session.query(GROUP_BY)):8.3f}  group-by")
                for taken, what in statements(session, query.read(query.resolve(args.statements))):
                    if taken > 0.01:
                        print(f"{taken:8.3f}  {what}", flush=True)
        return 0
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="profinfer-bench-") as name:
        os.environ["XDG_CACHE_HOME"] = f"{name}/cache"  # the user's own is left alone
        traces = args.traces or make(args.keep or Path(name), args.slices, args.predict)
        # Trace Processor is compiled once for each cache: not while a trace is loaded.
        plain_trace(Path(name) / "first.pftrace", 1)
        loading(Path(name) / "first.pftrace")
        for trace in traces:
            bench(rows, trace, args.repeats, args.only, 6.0 if "busy" in trace.stem else None)
    print(f"{machine()}; medians of {args.repeats}.\n")
    print(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
