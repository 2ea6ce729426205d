"""What the benches share: an engine that answers requests, and a recorder beside it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from bench_processes import Family, spent

ROOT = Path(__file__).resolve().parent.parent
GEMMA = ROOT / "build/models/gemma-3-270m-q4_k_m.gguf"
DENSE = ROOT / "build/models/dense-1b.gguf"
PROMPT = "The history of the steam engine begins with"
_PATIENCE = 60.0
"""Seconds in which a recorder must have attached, or ended."""
_SETTLED = 1.3
"""Seconds after which a recorder has drained what there was; more than its poll."""
_FIRST = 8
"""Tokens of the request before the one that is measured."""


class RecorderError(Exception):
    """The recorder did not do what a row of the table needs; the message is its own."""


class Engine:
    """The engine in its own process, answering one request at a time."""

    def __init__(
        self, threads: int, model: Path = GEMMA, environment: Mapping[str, str] | None = None
    ) -> None:
        """`environment` is set on top of this process's."""
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "tools/engine.py"), str(model), "--serve",
             "--threads", str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        self.pid = self._process.pid
        self._line()

    def _line(self) -> str:
        stdout = self._process.stdout
        line = stdout.readline() if stdout else ""
        if not line:
            raise SystemExit("the engine has ended: is xllamacpp installed (make setup)?")
        return line

    def start(self, predict: int, *, is_timed: bool = False) -> None:
        """Sends a request."""
        stdin = self._process.stdin
        if stdin:
            request = {"prompt": PROMPT, "predict": predict, "times": is_timed}
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()

    def token_times(self, predict: int) -> list[int]:
        """When each token of a request came, in CLOCK_BOOTTIME ns."""
        self.start(predict, is_timed=True)
        times: list[int] = json.loads(self._line())["times"]
        return times

    def answer(self) -> dict[str, Any]:
        """Waits for the answer; the engine's timings."""
        timings: dict[str, Any] = json.loads(self._line())["timings"]
        return timings

    def has_answered(self) -> bool:
        """Whether an answer waits to be read."""
        stdout = self._process.stdout
        return stdout is not None and bool(select.select([stdout], [], [], 0)[0])

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()


def decode_speed(timings: dict[str, Any]) -> float:
    """Tokens per second between the first token and the last."""
    return float((timings["predicted_n"] - 1) * 1e3 / timings["predicted_ms"])


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a recorder took for one request."""

    seconds: float
    """From the request to its answer."""
    busy_s: float
    """The same and the request before it, which are all that the engine did while recorded."""
    begun_ns: int
    """BOOTTIME before the request, and after what it left behind was taken."""
    ended_ns: int
    cpu_s: float
    """CPU time meanwhile of all processes of the recorder."""
    peaks_mb: dict[str, float]
    """Peak resident set until then of each process of the recorder, by its name."""
    written: int
    """Bytes of the trace."""
    lost: int
    """Records lost."""


class RecorderProcess:
    """`profinfer record` beside a running engine, as a user would start it."""

    def __init__(self, pid: int, trace: Path, options: Sequence[str]) -> None:
        """Returns once every probe is attached. RecorderError when it ends before."""
        self._trace = trace
        self.family = Family()
        begun = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "profinfer", "record", "--pid", str(pid), "--force",
             "--scheduler", "off", "-o", str(trace), *options],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, env=self.family.environment,
        )  # fmt: skip
        stderr = self._process.stderr
        if not stderr or not select.select([stderr], [], [], _PATIENCE)[0]:
            self._process.kill()
        said = stderr.readline() if stderr else ""
        self.attached_s = time.monotonic() - begun
        """From its start to the last probe attached."""
        if not said.startswith("recording "):
            self._fail(said)

    def _fail(self, said: str = "") -> NoReturn:
        stderr = said + (self._process.stderr.read() if self._process.stderr else "")
        lines = [line for line in stderr.splitlines() if line.strip()]
        reason = next((line for line in lines if "error" in line.lower()), (lines or ["?"])[-1])
        raise RecorderError(reason.strip())

    def record(self, engine: Engine, predict: int) -> tuple[dict[str, Any], Cost]:
        """One request under this recording, and its end: the engine's timings, and the cost.

        A short request goes before it: what graphs look like is written down once, and would
        count for too much among few tokens.
        """
        begun = time.monotonic()
        engine.start(_FIRST)
        engine.answer()
        busy = time.monotonic() - begun
        time.sleep(_SETTLED)  # until the recorder has drained it
        cpu, begun = self.family.cpu_s(), time.monotonic()
        begun_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        engine.start(predict)
        timings = engine.answer()
        if self._process.poll() is not None:
            self._fail()
        seconds = time.monotonic() - begun
        time.sleep(_SETTLED)  # its last records are part of the cost
        cpu_s = spent(cpu, self.family.cpu_s())
        ended_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        peaks = self.family.peaks_mb()  # before it converts
        lost = self.end()
        written = self._trace.stat().st_size
        return timings, Cost(
            seconds,
            busy + seconds,
            begun_ns,
            ended_ns,
            cpu_s,
            peaks,
            written,
            lost,
        )

    def in_turn(self, engine: Engine, predict: int, seconds: float) -> tuple[list[list[int]], int]:
        """Requests for so many seconds under this recording, which is on and off in turn (record
        --alternate), and its end: when the tokens of each came, and the records that were lost."""
        until = time.monotonic() + seconds
        requests = []
        while time.monotonic() < until:
            requests.append(engine.token_times(predict))
        return requests, self.end()

    def end(self, *, is_over: bool = False) -> int:
        """Has it end, unless what it records has, and make its trace; the records that were
        lost."""
        if not is_over:
            self._process.send_signal(signal.SIGINT)
        stderr = self._process.stderr.read() if self._process.stderr else ""
        lost = re.search(r"([\d,]+) lost", stderr)
        if self._process.wait(_PATIENCE) or lost is None:
            raise RecorderError(stderr.strip().splitlines()[-1] if stderr.strip() else "no report")
        return int(lost[1].replace(",", ""))

    def close(self) -> None:
        """Ends it, whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stderr:
            self._process.stderr.close()


def audit_environment() -> dict[str, str]:
    """What `profinfer env` says to start an engine with. RecorderError when there is nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "profinfer", "env"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    name, equals, value = done.stdout.strip().partition("=")
    if done.returncode or not equals:
        lines = done.stderr.strip().splitlines()
        raise RecorderError(lines[-1] if lines else "profinfer env prints nothing")
    return {name: value}
