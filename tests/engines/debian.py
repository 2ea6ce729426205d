"""Debian unstable's llama.cpp in a root of its own (tools/build_engines.sh): launched, attached."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

from tests.conftest import REPO, require
from tests.engines.engine import PREDICT, PROMPT, Engine, Own, functions
from tests.engines.measure import ENVIRONMENT, TIMEOUT, Measured, Measurement, measure
from tests.recording.counter import Counter
from tests.support import first_line

ROOT = REPO / "build/roots/x86_64-unstable-llama"
_IN_ROOT = 'mount -t proc proc "$1/proc" && exec chroot "$@" 2>&1'
_START_S = 60


def launched(model: Path) -> Engine:
    """A command in that root; what it says of itself goes to stdout."""
    words = ("-n", PREDICT + 1, "-p", "x" * PROMPT, "--temp", 0, "--ignore-eos", "-no-cnv")
    return _engine(model, "launched through chroot", "llama-completion", *words)


def served(model: Path) -> Engine:
    """A server in that root, to be recorded by its PID."""
    return _engine(model, "attached by PID", "llama-server", "--port", _free_port(), "-np", 1)


def _engine(model: Path, how: str, program: str, *words: object) -> Engine:
    require(str(ROOT.relative_to(REPO)), ROOT.is_dir())
    (ROOT / "proc").mkdir(exist_ok=True)
    shutil.copy(model, ROOT / "model.gguf")
    libraries = sorted(ROOT.glob("usr/lib/**/libggml-cpu*.so"))
    common = ("-m", "/model.gguf", "-t", 2, "-c", 512, "--no-warmup")
    return Engine(
        "Debian's llama.cpp", _version(), f"Debian unstable, stripped, {how}", _libc(),
        _command(program, *common, *words), functions(libraries), _read,
    )  # fmt: skip


def _command(*words: object) -> tuple[str, ...]:
    made = ("unshare", "--mount", "sh", "-c", _IN_ROOT, "sh", ROOT, *words)
    return tuple(map(str, made))


def _read(stdout: str) -> Own:
    """By a server's answer, or as the program prints it."""
    if stdout.startswith("{"):
        said = json.loads(stdout)["timings"]
        return Own(said["prompt_n"], said["predicted_n"] - 1, said["predicted_ms"], with_gaps=True)
    [prompt] = re.findall(r"prompt eval time =.*/ +(\d+) tokens", stdout)
    [(taken, steps)] = re.findall(r"[: ] +eval time = +([\d.]+) ms / +(\d+) runs", stdout)
    return Own(int(prompt), int(steps), float(taken), with_gaps=False)


@cache
def _version() -> str:
    (ROOT / "proc").mkdir(exist_ok=True)
    done = subprocess.run(
        _command("llama-completion", "--version"), capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    return " ".join(re.findall(r"version: *(\S+)", done.stdout)) or done.stdout.splitlines()[0]


def _libc() -> str:
    library = ROOT / "usr/lib/x86_64-linux-gnu/libc.so.6"
    pattern = rb"GNU C Library \([^)]*\) stable release version ([\d.]+\d)"
    found = re.search(pattern, library.read_bytes())
    return f"glibc {found.group(1).decode()}" if found else "glibc"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ask(port: str, path: str, body: dict[str, object] | None = None) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=TIMEOUT)
    with closing(connection):
        text = json.dumps(body) if body else None
        headers = {"Content-Type": "application/json"}
        connection.request("POST" if body else "GET", path, text, headers)
        answer = connection.getresponse()
        if answer.status != http.HTTPStatus.OK:
            raise ConnectionError(f"{path}: {answer.status} {answer.reason}")
        return answer.read().decode()


@contextmanager
def _serving(engine: Engine) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server, ready, and its port."""
    port = engine.command[engine.command.index("--port") + 1]
    with subprocess.Popen(engine.command, stdout=subprocess.DEVNULL, text=True) as server:
        try:
            until = time.monotonic() + _START_S
            while True:
                try:
                    _ask(port, "/health")
                    break
                except (http.client.HTTPException, OSError):
                    assert server.poll() is None, "the server has ended"
                    assert time.monotonic() < until, "the server is not ready"
                    time.sleep(0.1)
            yield server, port
        finally:
            server.terminate()


def measure_served(engine: Engine, trace: Path, counter: Counter) -> Measured:
    """Records one answer of the server, and what it does beside."""
    with _serving(engine) as (server, port):
        recorder = subprocess.Popen(
            [sys.executable, "-m", "profinfer", "record", "--level", "barrier", "-o", trace,
             "--pid", str(server.pid)],
            stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
        )  # fmt: skip
        with recorder:
            said = first_line(recorder)
            before = counter.totals()
            body = {"prompt": "x" * PROMPT, "n_predict": PREDICT + 1, "temperature": 0,
                    "ignore_eos": True, "cache_prompt": False}  # fmt: skip
            answer = _ask(port, "/completion", body)
            time.sleep(0.5)  # what it does after the answer
            truth = counter.totals()
            recorder.send_signal(2)
            said += recorder.communicate(timeout=TIMEOUT)[1]
    assert recorder.returncode == 0, said
    found = {
        pid: {what: count - before.get(pid, {}).get(what, 0) for what, count in counts.items()}
        for pid, counts in truth.items()
        if pid == server.pid
    }
    return Measured(engine, trace, said, _read(answer), found)


DEBIAN: tuple[Measurement, ...] = ((launched, measure), (served, measure_served))
