"""Recordings of the known engine, and what their traces say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeAlias

from profinfer.trace_processor import Value, open_trace
from tests.support import ENGINE_ONLY

TIMEOUT = 60.0
PROFINFER = [sys.executable, "-m", "profinfer"]
Truth: TypeAlias = dict[str, Any]
Rows: TypeAlias = list[tuple[Value, ...]]

PROBED = "ggml_barrier"
"""The function whose probe a recording at level barrier attaches last."""

BY_THREAD = """
SELECT slice.category, thread.tid, count()
FROM slice
JOIN thread_track ON slice.track_id = thread_track.id
JOIN thread USING (utid)
WHERE category != 'call' OR slice.name NOT IN ('create', 'free')
GROUP BY 1, 2"""
"""A context may be made before recording begins, and go when it has ended."""
BAD_STATS = "SELECT name, value FROM stats WHERE severity IN ('error', 'data_loss') AND value > 0"
KERNELS_OWN = ("blocked", "taken", "fault", "file_read")
"""Categories of what is recorded of the kernel beside the engine's calls."""
LAST_WAITS = """
SELECT count()
FROM slice AS wait
JOIN slice AS operator ON wait.parent_id = operator.id
WHERE wait.category = 'barrier' AND operator.name = 'result_output'"""


def record(
    trace: Path, args: Sequence[object], command: Sequence[object], *, timeout: float = TIMEOUT,
    within: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Records a command; its stdout is the command's. `within`: a command that runs commands."""
    done = subprocess.run(
        [*within, *PROFINFER, "record", *ENGINE_ONLY, "-o", str(trace), *map(str, args), "--",
         *map(str, command)],
        capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def truths(stdout: str) -> list[Truth]:
    """What each process of the known engine has said, in that order."""
    return [json.loads(line) for line in stdout.splitlines()]


def rows(trace: Path, *statements: str) -> list[Rows]:
    """The rows of each statement; the first loads ProfInfer's tables if it is an INCLUDE."""
    with open_trace(trace) as session:
        return [list(session.query(statement)) for statement in statements]


def number(value: object) -> int:
    """An integer that a query has given."""
    assert isinstance(value, int), value
    return value


def renumbered(truth: Truth, numbers: Mapping[int, int]) -> Truth:
    """What the engine says, its threads bearing other numbers than its own."""
    found = {**truth, "threads": [{**t, "tid": numbers[t["tid"]]} for t in truth["threads"]]}
    for name in ("asked", "parts"):
        rows = truth.get(name, ())
        found[name] = [[what, numbers.get(tid, tid), *rest] for what, tid, *rest in rows]
    return found


def expected_by_thread(truth: Truth, level: str) -> dict[tuple[str, int], int]:
    """Slices and instants by category and thread, from the engine's own counts."""
    main, *workers = (thread["tid"] for thread in truth["threads"])
    expected = {("ubatch", main): sum(truth["ubatches"].values())}
    asked = Counter(tid for _, tid, *_ in truth.get("asked", ()))
    # Each time it is asked for its memory, a call is made that does not return.
    asked[main] += sum(name == "memory" for name, *_ in truth.get("asked", ()))
    asked[main] += truth["llama_decode"]
    expected |= {("call", tid): count for tid, count in asked.items()}
    if level != "token":
        expected["graph", main] = truth["calls"]["ggml_backend_graph_compute_async"]
        expected |= Counter(("part", tid) for _, tid, *_ in truth.get("parts", ()))
    if level in ("operator", "barrier"):
        expected |= {("graph.worker", w): truth["calls"]["ggml_graph_compute"] for w in workers}
        for thread in truth["threads"]:
            expected["operator", thread["tid"]] = thread["extra"] + thread["fused"]
    if level == "barrier":
        for thread in truth["threads"]:
            expected["barrier", thread["tid"]] = thread["barrier_outside"]
            expected["barrier.inside", thread["tid"]] = thread["barrier_inside"]
    return {key: count for key, count in expected.items() if count}


def assert_matches(trace: Path, truth: Truth, level: str, *, beside: Collection[str] = ()) -> None:
    """The trace shows every call that the engine counted, on its thread, and no other.

    `beside`: categories of what the kernel did there, which may be in the trace as well.
    """
    counts, stats, losses = rows(
        trace, BY_THREAD, BAD_STATS, "SELECT name FROM slice WHERE category = 'loss'"
    )
    found = {(c, t): n for c, t, n in counts if c not in beside}
    assert found == expected_by_thread(truth, level)
    assert stats == []
    assert losses == []


def ending(trace: Path) -> dict[str, Value]:
    """The arguments of the event that ends every recording, none if it is missing."""
    [found] = rows(
        trace,
        "SELECT a.key, a.display_value FROM slice JOIN args AS a USING (arg_set_id)"
        " WHERE slice.category = 'recording' AND slice.name = 'recording ended'",
    )
    return {str(key).removeprefix("debug."): value for key, value in found}


def wait_until(what: str, condition: Any, timeout: float = TIMEOUT) -> None:
    """Polls until condition() holds; fails after a time."""
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, f"timed out: {what}"
        time.sleep(0.01)


class Target:
    """A known engine that waits before its first decode, to be recorded by its pid."""

    def __init__(self, engine: Path, directory: Path, *options: object) -> None:
        self._gate = directory / "go"
        self.process = subprocess.Popen(
            [str(engine / "known"), *map(str, options), "--wait", str(self._gate)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.pid = self.process.pid
        assert _line(self.process.stderr) == f"ready {self.pid}\n"
        self._address = self._find(engine / "libknown.so")
        self._text = self.text()

    def _find(self, library: Path) -> int:
        listing = subprocess.run(
            ["nm", "-D", str(library)], capture_output=True, text=True, check=True, timeout=TIMEOUT
        ).stdout
        [value] = [int(s[0], 16) for s in map(str.split, listing.splitlines()) if s[-1] == PROBED]
        for line in Path(f"/proc/{self.pid}/maps").read_text().splitlines():
            span, mode, offset, _, _, *path = line.split(maxsplit=5)
            if "x" in mode and path == [str(library)]:
                return int(span.split("-")[0], 16) + value - int(offset, 16)
        raise AssertionError(f"{library} is not mapped")

    def text(self) -> bytes:
        """The instruction bytes at the probed function."""
        with Path(f"/proc/{self.pid}/mem").open("rb", buffering=0) as memory:
            memory.seek(self._address)
            return memory.read(64)

    def is_probed(self) -> bool:
        """Whether its code is not as it was at first."""
        return self.text() != self._text

    def release(self) -> None:
        """Lets it run."""
        self._gate.touch()

    def truth(self) -> Truth:
        """Waits until it has done its work."""
        truth: Truth = json.loads(_line(self.process.stdout))
        return truth

    def close(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.communicate(timeout=TIMEOUT)


def _line(stream: IO[str] | None) -> str:
    """One line, within a time."""
    assert stream is not None
    timer = signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(int(TIMEOUT))
    try:
        return stream.readline()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, timer)


def _too_late(*_: object) -> None:
    raise TimeoutError("a process says nothing")


@contextmanager
def target(engine: Path, directory: Path, *options: object) -> Iterator[Target]:
    """A waiting engine, ended with the block."""
    found = Target(engine, directory, *options)
    try:
        yield found
    finally:
        found.close()


@contextmanager
def attached(target: Target, trace: Path, *args: object) -> Iterator[subprocess.Popen[str]]:
    """A recorder of the target at level barrier, all of its probes in place."""
    recorder = subprocess.Popen(
        [*PROFINFER, "record", *ENGINE_ONLY, "--level", "barrier", "-o", str(trace), "--pid",
         str(target.pid), *map(str, args)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        wait_until("attached", lambda: target.is_probed() or recorder.poll() is not None)
        assert recorder.poll() is None, recorder.communicate(timeout=TIMEOUT)
        yield recorder
    finally:
        if recorder.poll() is None:
            os.kill(recorder.pid, signal.SIGKILL)
        recorder.communicate(timeout=TIMEOUT)


def finish(recorder: subprocess.Popen[str]) -> str:
    """Waits for a recorder's good end; what it said."""
    said, _ = recorder.communicate(timeout=TIMEOUT)
    assert recorder.returncode == 0, said
    return said
