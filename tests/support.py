"""What tests that record share: the command line, the engine double, and traces as rows."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from profinfer.binaries.elf import Elf
from profinfer.engine.target import executable_mappings
from profinfer.kernel import features
from profinfer.trace_processor import Session, Value, open_trace
from tests.conftest import REPO, require

PROFINFER = (sys.executable, "-m", "profinfer")
ENGINE_ONLY = ("--scheduler", "off")
"""For counts of what the engine does. A later option of a test's own overrides it."""
PLACED = 55
"""Of the known engine: ten, 17 functions that it is asked by, and the returns of 14; seven of what
steps do beside, and their returns."""

Row = tuple[Value, ...]


def require_recording() -> None:
    """Skips where BPF programs cannot be attached or BCC is not installed."""
    require(
        "root (to attach BPF programs)", os.geteuid() == 0 and not features.missing_capabilities()
    )
    try:
        import bcc

        found = bool(bcc)
    except ImportError:
        found = False
    require("BCC's Python binding", found)


@dataclass(frozen=True)
class Engine:
    """The engine double of tests/double, built, and a private cache for what is learnt of it."""

    folder: Path
    extra: Mapping[str, str] = field(default_factory=dict)
    """More of the environment."""

    @property
    def library(self) -> Path:
        return self.folder / "libknown.so"

    def program(self, name: str = "known") -> str:
        """The path of `known`, `known-dl`, `known-static` or `other`."""
        return str(self.folder / name)

    @property
    def environment(self) -> dict[str, str]:
        """For everything that is started, so that no state of this machine's user takes part."""
        return {
            **os.environ,
            "PYTHONPATH": str(REPO),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            **self.extra,
        }


@pytest.fixture(scope="session", name="double")
def double_fixture(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The engine double, built once per session; skips where nothing can be recorded."""
    require_recording()
    folder = tmp_path_factory.getbasetemp() / "double"
    if not folder.exists():  # modules import this fixture one by one
        subprocess.run([REPO / "tests/double/build.sh", folder], check=True, timeout=120)
    return Engine(folder)


# ---- The command line


def run(
    engine: Engine,
    *arguments: object,
    wrapper: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """`profinfer` with these arguments, to its end."""
    return subprocess.run(
        [*wrapper, *PROFINFER, *map(str, arguments)],
        env=dict(environment or engine.environment),
        cwd=engine.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


class Recording:
    """A finished recording: its trace as rows, what the target said, what profinfer said."""

    def __init__(self, trace: Path, stdout: str, stderr: str, code: int) -> None:
        self.trace = trace
        self.stderr = stderr
        self.code = code
        self.truths: list[dict[str, Any]] = [
            json.loads(line) for line in stdout.splitlines() if line.startswith("{")
        ]

    @property
    def truth(self) -> dict[str, Any]:
        """What the only target that printed it knows of its own schedule."""
        (only,) = self.truths
        return only

    @functools.cached_property
    def session(self) -> Session:
        return open_trace(self.trace, trace_processor="wasm")

    def rows(self, sql: str) -> list[Row]:
        """The rows of a query on the trace."""
        return self.session.query(sql).rows()

    def count(self, category: str) -> int:
        """Slices (or instants) of a category."""
        numbers = pairs(self.rows("SELECT category, COUNT(*) FROM slice GROUP BY 1"))
        return as_int(numbers.get(category, 0))

    def close(self) -> None:
        if "session" in self.__dict__:
            self.session.close()


@contextmanager
def record(
    engine: Engine,
    trace: Path,
    *options: object,
    target: Sequence[object],
    timeout: float = 60,
) -> Iterator[Recording]:
    """Records a launched `target` (program and arguments) to its end."""
    command = [engine.program(str(target[0])), *target[1:]]
    done = run(
        engine, "record", *ENGINE_ONLY, "-o", trace, *options, "--", *command, timeout=timeout
    )
    recording = Recording(trace, done.stdout, done.stderr, done.returncode)
    assert done.returncode == 0, done.stderr
    try:
        yield recording
    finally:
        recording.close()


def as_int(value: Value) -> int:
    """A value of a row that must be an integer."""
    assert isinstance(value, int), value
    return value


def pairs(rows: list[Row]) -> dict[Value, Value]:
    """Rows of two columns, the first of which is unique."""
    found = {row[0]: row[1] for row in rows}
    assert len(found) == len(rows)
    return found


# ---- Processes


def wait_for(what: str, happened: Callable[[], Any], timeout: float = 20) -> None:
    """Returns once `happened()` is true; fails, naming what was waited for, when it never is."""
    until = time.monotonic() + timeout
    while not happened():
        assert time.monotonic() < until, f"waited {timeout} s in vain for {what}"
        time.sleep(0.005)


def boottime() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@contextmanager
def started(
    engine: Engine, *command: object, stdin: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[str]]:
    """A process in the background; whatever becomes of the test, it ends with it."""
    process = subprocess.Popen(
        [*map(str, command)],
        env=engine.environment,
        cwd=engine.folder,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        process.wait(20)


@dataclass(frozen=True)
class Waiting:
    """A `known` that has loaded its engine and waits before its first graph."""

    process: subprocess.Popen[str]
    gate: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def go(self) -> None:
        """Lets it run."""
        self.gate.touch()

    def truth(self) -> dict[str, Any]:
        """What it prints when it is done."""
        output, _ = self.process.communicate(timeout=60)
        truth: dict[str, Any] = json.loads(output.splitlines()[-1])
        return truth


@contextmanager
def waiting(engine: Engine, gate: Path, *arguments: object) -> Iterator[Waiting]:
    """Starts `known` up to the point where it waits for `gate` to exist."""
    with started(engine, engine.program(), "--wait", gate, *arguments) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("ready ")
        yield Waiting(process, gate)


@contextmanager
def attached(
    engine: Engine, pid: int, trace: Path, *options: object, probes: int
) -> Iterator[subprocess.Popen[str]]:
    """`profinfer record --pid` in the background, from the moment all its probes are in place."""
    command = [*PROFINFER, "record", *ENGINE_ONLY, "--pid", pid, "-o", trace, *options]
    with started(engine, *command) as process:
        said = first_line(process)
        assert f"({pid}), {probes} probes" in said, said
        yield process


def first_line(process: subprocess.Popen[str]) -> str:
    """What it says on stderr, and no byte more: the rest is for communicate()."""
    assert process.stderr is not None
    said = b""
    while not said.endswith(b"\n"):
        # BCC compiles for seconds where the CPUs are its own.
        assert select.select([process.stderr], [], [], 60)[0], f"waited 60 s; it said {said!r}"
        byte = os.read(process.stderr.fileno(), 1)
        if not byte:
            return said.decode() + process.communicate(timeout=20)[1]
        said += byte
    return said.decode()


def finish(process: subprocess.Popen[str], number: int | None = None) -> tuple[int, str]:
    """Sends a signal, waits for the end; exit code and stderr."""
    if number is not None:
        process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr


def text_bytes(pid: int, library: Path, symbol: str, count: int = 1) -> bytes:
    """The first bytes of a function as they stand in a process's memory now."""
    elf = Elf(library)
    for mapping in executable_mappings(pid):
        if Path(mapping.path).name == library.name:
            base = mapping.start - elf.vaddr_of(mapping.offset)
            with open(f"/proc/{pid}/mem", "rb") as memory:
                memory.seek(base + elf.symbols[symbol].value)
                return memory.read(count)
    raise AssertionError(f"{library.name} is not mapped by process {pid}")


def is_running(pid: int) -> bool:
    """Whether it exists, is no zombie and is not stopped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state in "RSD"


def family(pid: int) -> dict[str, int]:
    """The descendants of a process, by name."""
    found: dict[str, int] = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found[Path(f"/proc/{child}/comm").read_text().strip()] = int(child)
            found |= family(int(child))
    return found
