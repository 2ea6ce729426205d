"""Measure how long it takes to learn an engine's layout, and what of that is what.

    python tools/bench_describing.py [--sysroot DIR] FILE...

FILEs are an engine's libraries, DIR the root of the system that they are for, as for `profinfer
plan`. Nothing is kept between the runs, of which the median is told.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from profinfer.binaries.elf import Elf
from profinfer.describing.roots import find_root
from profinfer.describing.sandbox import Request, ask
from profinfer.describing.search import _wanted, experiment
from profinfer.errors import ProbeError

RUNS = 7


def _median(work: Callable[[], object]) -> float:
    """Milliseconds."""
    times = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        work()
        times.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(times)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sysroot", type=Path)
    parser.add_argument("file", nargs="+", type=Path)
    args = parser.parse_args()
    elves = [Elf(path) for path in args.file]
    root = find_root(elves[0].machine, args.sysroot)
    files = [(elf, root.inside(elf.path)) for elf in elves]
    uid, gid, timeout = os.geteuid(), os.getegid(), 20.0
    imports = "import profinfer.describing.describe, profinfer.describing.search"
    empty = Request([(elf.descriptor, path) for elf, path in files], 0, {}, root)

    def whole() -> None:
        experiment(files, uid, gid, timeout, root)

    try:
        whole()
    except ProbeError as error:
        print(f"bench_describing: {error.message}", file=sys.stderr)
        return 1
    symbols = _median(lambda: _wanted(elves))
    begun = _median(lambda: ask(empty, uid=uid, gid=gid, timeout=timeout))
    total = _median(whole)
    started = _median(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))
    imported = _median(lambda: subprocess.run([sys.executable, "-c", imports], check=True))
    for name, value in (
        ("Python's modules", imported - started),
        ("functions found in the files", symbols),
        ("confined, libraries loaded", begun),
        ("experiments", total - symbols - begun),
        ("altogether", imported - started + total),
    ):
        print(f"{name:30} {value:7.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
