"""The command line as a user runs it, and programs to point it at."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
TIMEOUT = 60


@dataclass(frozen=True)
class Ran:
    """What a command line left behind."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The line on stderr that says what went wrong; '' when there is none."""
        lines = [line for line in self.err.splitlines() if line.startswith("profinfer: ")]
        return lines[0] if lines else ""


@dataclass(frozen=True)
class Recorded:
    """One recording: the trace, and the raw capture beside it."""

    trace: Path
    raw: Path


def start(*args: object, cwd: Path, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Starts `profinfer ARGS` in `cwd`."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", "profinfer", *map(str, args)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPO), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> Ran:
    """Waits for it to end. Whatever happens, the user must not see a traceback."""
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate(timeout=TIMEOUT)
        raise
    assert "Traceback" not in err, err
    return Ran(process.returncode, out, err)


def profinfer(*args: object, cwd: Path, prefix: tuple[str, ...] = ()) -> Ran:
    """Runs `profinfer ARGS` in `cwd` to its end."""
    return finish(start(*args, cwd=cwd, prefix=prefix))


def fails(ran: Ran, code: int, *named: object) -> None:
    """Asserts exit code `code` and one message on stderr that names all of `named`."""
    assert ran.code == code, ran.err
    assert ran.message, ran.err
    missing = [str(name) for name in named if str(name) not in ran.message]
    assert not missing, ran.message


def written(path: Path, text: str) -> Path:
    """`path`, with `text` in it."""
    path.write_text(text)
    return path


def until_exists(path: Path, process: subprocess.Popen[str]) -> None:
    """Returns when `path` is there, or when the process that should make it has ended."""
    until = time.monotonic() + TIMEOUT
    while not path.exists() and process.poll() is None:
        assert time.monotonic() < until, f"{path} has not appeared"
        time.sleep(0.001)


@contextlib.contextmanager
def running(*command: object) -> Iterator[subprocess.Popen[str]]:
    """A program that lives until its stdin ends, from when it has said that it is there."""
    process = subprocess.Popen(
        list(map(str, command)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline(), f"{command[0]} has said nothing"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT)


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own, of `size`."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    subprocess.run(mount, check=True, timeout=TIMEOUT)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, timeout=TIMEOUT)
