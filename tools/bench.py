"""The bench: what a recording costs, on the real engine and model, by what users run.

    python tools/bench.py                       # half an hour on two cores, nothing else running
    python tools/bench.py --only attached launched

`profinfer record` runs as a process of its own; what it takes is asked of the kernel, for all
processes that it starts, and of the recorded trace. Prints a table in Markdown; bold is what was
not met, and nothing is asserted.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench_commands import bench_commands
from bench_conversion import (
    bench_encoding,
    bench_handlers,
    bench_level_operator,
    bench_queries,
    bench_reading,
    machine,
)
from bench_recording import bench_attached, bench_launched
from bench_table import Row, confidence, markdown


def main() -> int:
    """Runs what was asked for and prints the table."""
    rows: list[Row] = []
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--predict", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", metavar="PART", help="some of the parts")
    args = parser.parse_args()
    how = (args.predict, args.threads)
    parts: dict[str, Callable[[Path], object]] = {
        "attached": lambda d: bench_attached(rows, args.repeats, *how, d),
        "launched": lambda d: bench_launched(rows, args.repeats, *how, d),
        "commands": lambda d: bench_commands(rows, args.repeats, d),
        "reading": lambda _: bench_reading(rows),
        "operator": lambda d: bench_level_operator(rows, *how, d),
        "conversion": lambda d: bench_queries(rows, bench_encoding(rows, *how, d)),
        "handlers": lambda d: bench_handlers(rows, args.repeats, *how, d),
    }
    if unknown := set(args.only or ()) - parts.keys():
        parser.error(f"no such part: {', '.join(unknown)} (there are {', '.join(parts)})")
    if os.geteuid():
        raise SystemExit("recording needs root: sudo make bench")
    with tempfile.TemporaryDirectory(prefix="profinfer-bench-") as name:
        os.environ["XDG_CACHE_HOME"] = f"{name}/cache"  # the user's own is left alone
        for part, run in parts.items():
            if not args.only or part in args.only:
                print(f"{part} ...", file=sys.stderr)
                run(Path(name))
    print(f"{datetime.date.today()}, {machine()}; {args.threads} threads, {args.predict} tokens;")
    print(f"{confidence(args.repeats)}.\n")
    print(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
