"""One recording of an engine, beside what others say of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from profinfer.trace_processor import Session, open_trace
from tests.conftest import REPO
from tests.engines.engine import BARRIERS, GRAPHS, OPERATORS, Engine, Own
from tests.recording.counter import Counter
from tests.recording.helpers import BAD_STATS, number

TIMEOUT = 240.0
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPO)}
_MODULES = (
    "operators.runs", "graphs.runs", "tokens.requests", "recording.warnings", "recording.losses",
)  # fmt: skip
_OPERATORS = """
SELECT pid, count() FROM profinfer_operator_slice JOIN thread USING (utid)
JOIN process USING (upid) GROUP BY 1"""
_BARRIERS = """
SELECT pid, count() FROM profinfer_operator_slice AS o JOIN thread USING (utid)
JOIN process USING (upid) JOIN slice AS b ON b.parent_id = o.id
WHERE b.category IN ('barrier', 'barrier.inside') GROUP BY 1"""
_GRAPHS = """
SELECT pid, count() FROM profinfer_graph JOIN thread USING (utid) JOIN process USING (upid)
WHERE backend = 'CPU' GROUP BY 1"""
_REQUEST = """
SELECT request_id, prompt_tokens, verified_tokens FROM profinfer_request
WHERE verified_tokens > 0 AND complete"""
_STEPS = "SELECT ts, dur FROM profinfer_sequence WHERE request_id = {} AND phase = 'decode'"
_PROBES = """
SELECT display_value FROM slice JOIN args USING (arg_set_id)
WHERE category = 'recording' AND slice.name = 'recording started'
AND flat_key = 'debug.plan.probes.{}' ORDER BY slice.id, args.id"""


def plain(symbol: str) -> str:
    """A C++ function without its arguments; any other as it is."""
    rest, names = re.sub(r"^_Z[NL]", "", symbol), list[str]()
    while rest != symbol and (length := re.match(r"\d+", rest)):
        rest = rest[length.end() :]
        names.append(rest[: int(length.group())])
        rest = rest[int(length.group()) :]
    return "::".join(names) or symbol


@dataclass
class Measured:
    """What a trace says, and what is true."""

    engine: Engine
    trace: Path
    said: str
    """By the recording, on stderr."""
    own: Own | None
    truth: dict[int, dict[str, int]] = field(default_factory=dict)
    """By process: what the second tracer has counted."""

    @cached_property
    def session(self) -> Session:
        found = open_trace(self.trace)
        found.query("".join(f"INCLUDE PERFETTO MODULE profinfer.{each};" for each in _MODULES))
        return found

    def close(self) -> None:
        """Lets go of the trace."""
        if "session" in self.__dict__:
            self.session.close()

    def counts(self) -> dict[int, dict[str, int]]:
        """By process: what the trace holds, named as in `truth`."""
        found: dict[int, dict[str, int]] = {}
        for what, query in ((OPERATORS, _OPERATORS), (BARRIERS, _BARRIERS), (GRAPHS, _GRAPHS)):
            for pid, count in self.session.query(query):
                found.setdefault(number(pid), dict.fromkeys((OPERATORS, BARRIERS, GRAPHS), 0))
                found[number(pid)][what] = number(count)
        return found

    def request(self) -> tuple[int, int, float]:
        """Tokens of the prompt and of decoding, and milliseconds that these took, in the sense in
        which the engine says it."""
        assert self.own
        [(request, prompt, decode)] = self.session.query(_REQUEST)
        steps = [
            (number(ts), number(dur)) for ts, dur in self.session.query(_STEPS.format(request))
        ]
        taken = sum(dur for _, dur in steps)
        if self.own.with_gaps:
            taken = steps[-1][0] + steps[-1][1] - steps[0][0]
        return number(prompt), number(decode), taken / 1e6

    def losses(self) -> list[object]:
        """What is wrong with the trace; empty as it should be."""
        # The kernel does not trace every switch of a virtual machine's idle CPU.
        lost = self.session.query("SELECT * FROM profinfer_loss WHERE kind != 'switch'").rows()
        return [*lost, *self.session.query(BAD_STATS).rows(), *self.session.import_errors()]

    def warnings(self) -> list[str]:
        """What the recording warned of."""
        query = "SELECT message FROM profinfer_recording_warning"
        return [str(message) for (message,) in self.session.query(query)]

    def served(self) -> dict[str, list[str]]:
        """By level: the functions that were probed for it."""
        columns = [
            [str(value) for (value,) in self.session.query(_PROBES.format(key))]
            for key in ("level", "symbol", "via", "found_by", "handler")
        ]
        found: dict[str, dict[str, None]] = {}
        for level, symbol, via, found_by, handler in zip(*columns, strict=True):
            if handler.startswith("on_call_"):
                continue  # serves what it is asked for, and no level
            how = " (stub)" if via in ("stub", "recording") else ""
            how += " (inferred)" if found_by.startswith("inferred") else ""
            found.setdefault(level, {})[f"`{plain(symbol)}`{how}"] = None
        return {level: list(symbols) for level, symbols in found.items()}


Measurement: TypeAlias = tuple[
    Callable[[Path], Engine], Callable[[Engine, Path, Counter], Measured]
]
"""Of an engine that is given a model."""


def recording(
    trace: Path,
    *command: object,
    pid: int | None = None,
    duration: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """`profinfer record` of a command, or of a process, with nothing but a level said, to its good
    end."""
    words = ["--duration", duration] if duration else []
    words += ["--pid", pid] if pid else ["--", *command]
    done = subprocess.run(
        [sys.executable, "-m", "profinfer", "record", "--level", "barrier", "-o", str(trace),
         *map(str, words)],
        capture_output=True, text=True, errors="replace", check=False, timeout=TIMEOUT,
        stdin=subprocess.DEVNULL,
        env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def record(engine: Engine, trace: Path) -> Measured:
    """Records the engine's command to its end."""
    done = recording(trace, *engine.command)
    return Measured(engine, trace, done.stderr, engine.read(done.stdout) if engine.read else None)


def measure(engine: Engine, trace: Path, counter: Counter) -> Measured:
    """Records the engine's command to its end while `counter` counts what it does."""
    before = set(counter.totals())
    found = record(engine, trace)
    found.truth = {
        pid: {**counts, **engine.known}
        for pid, counts in counter.totals().items()
        if pid not in before
    }
    return found
