"""Measures all engines, and prints a table of them.

    PYTHONPATH=tools python -m tests.engines > docs/engines.md       (make test-engines)

Exit status 1 where one is missing or anything is not as it should be.
"""

from __future__ import annotations

import datetime
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.built import BUILT
from tests.engines.debian import DEBIAN
from tests.engines.engine import BARRIERS, OPERATORS
from tests.engines.measure import Measured, Measurement, measure
from tests.engines.model import make_model
from tests.engines.packages import PACKAGES
from tests.recording.counter import counting

LEVELS = ("token", "graph", "operator", "barrier")
COLUMNS = ("engine", "version", "build", "libc", *LEVELS, "operators", "barriers", "tokens",
           "tokens/s", "whole")  # fmt: skip
ALL: tuple[Measurement, ...] = (*((make, measure) for make in (*PACKAGES, *BUILT)), *DEBIAN)
TOLERANCE = 0.02
HEAD = """# Engines

{date}, commit {commit}, by `make test-engines` (tests/engines): `profinfer record --level barrier`
of a command, with no further option, or of a PID. Of each level stands what served; "(stub)" are
calls that the audit library leads through a stub of its own, "(inferred)" functions that no symbol
tells. Operators and barriers: what the trace holds, and what a second tracer has counted, which
shares no code with ProfInfer; of clang's static builds the barriers are those that the program's
graph has. Tokens: of the prompt, and decoded; they and tokens/s by the trace, and as the engine
itself says. {good} of {all} are as they should be.
"""


class Row:
    """A measured engine, cell by cell; `is_good` as long as nothing differs."""

    def __init__(self, measured: Measured) -> None:
        self.is_good = True
        engine, served = measured.engine, measured.served()
        counts, truth = measured.counts(), measured.truth
        self.cells = [
            engine.name, engine.version, engine.kind, engine.libc,
            *(", ".join(served.get(level, "-")) for level in LEVELS),
        ]  # fmt: skip
        self.is_good &= bool(truth) and counts == truth
        for what in (OPERATORS, BARRIERS):
            self._pair(*(sum(each[what] for each in found.values()) for found in (counts, truth)))
        self._tokens(measured, has_level="token" in served)
        losses = measured.losses()
        self.is_good &= not losses
        self.cells.append("no" if losses else "yes")

    def _pair(self, found: object, wanted: object) -> None:
        self.is_good &= found == wanted
        self.cells.append(f"{found} = {wanted}" if found == wanted else f"**{found} / {wanted}**")

    def _tokens(self, measured: Measured, *, has_level: bool) -> None:
        if measured.own is None or not has_level:
            self.cells += ["-", "-"]
            return
        own = measured.own
        prompt, decode, taken = measured.request()
        self._pair(f"{prompt} + {decode}", f"{own.prompt} + {own.decode}")
        found, wanted = decode / taken * 1e3, own.decode / own.decode_ms * 1e3
        is_near = abs(found - wanted) <= TOLERANCE * wanted
        self.is_good &= is_near
        text = f"{found:.2f}, {wanted:.2f}"
        self.cells.append(text if is_near else f"**{text}**")


def rows(folder: Path) -> Iterator[tuple[bool, list[str]]]:
    """Each engine's cells, and whether all of it is as it should be."""
    model = make_model(folder / "model.gguf")
    for number, (make, take) in enumerate(ALL):
        try:
            engine = make(model)
            with counting(engine.places) as counter:
                measured = take(engine, folder / f"{number}.pftrace", counter)
            row = Row(measured)
            measured.close()
            yield row.is_good, row.cells
        except (AssertionError, ValueError, pytest.skip.Exception) as error:
            print(f"{getattr(make, '__name__', make)}: {error}", file=sys.stderr)
            lines = str(error).splitlines() or ["?"]
            yield False, [*map(str, getattr(make, "args", ())), f"**{lines[0]}**"]


def main() -> int:
    """Prints as it goes to stderr, the whole to stdout."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for is_good, cells in rows(Path(folder)):
            found.append((is_good, f"| {' | '.join(cells)} |"))
            print(f"{'ok  ' if is_good else 'FAIL'} {found[-1][1]}", file=sys.stderr, flush=True)
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True).strip()
    good = sum(is_good for is_good, _ in found)
    date = datetime.datetime.now(tz=datetime.UTC).date()
    print(HEAD.format(date=date, commit=commit, good=good, all=len(found)))
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    print("\n".join(line for _, line in found))
    return int(good < len(found))


if __name__ == "__main__":
    sys.exit(main())
