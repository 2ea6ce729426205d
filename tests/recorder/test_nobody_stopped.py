"""A launched command goes on and ends as without us, whoever of us is killed at whatever moment."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import random
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import REPO
from tests.recorder.holding import Holding
from tests.support import ENGINE_ONLY, PROFINFER, wait_for

KILLS = 25
SEED = 13
SIDE_BY_SIDE = 3
ENDS_WITHIN = 20.0
ENGINE = ("--threads", "2", "--layers", "3", "--prompt", "7", "--decode", "3", "--exit-code", "3")
SCRIPT = 'echo begun; "$0" "$@"; echo "status $?"'
"""Two processes, each stopped after exec and when it has loaded its libraries."""

_PROG_GET_FD_BY_ID = 13
_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]


# ---- What is left


def state(pid: int) -> str:
    """As ps shows it; "" when the process is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    return ""


def has_ended(pid: int) -> bool:
    return state(pid) in ("", "Z")


def name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    return ""


def children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def processes() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def stopped(marker: str) -> list[int]:
    """Those that stand still and have this in their command line."""
    found = []
    for pid in processes():
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            if marker.encode() in words and state(pid) == "T":
                found.append(pid)
    return found


def programs_of(pid: int) -> set[int]:
    """The BPF programs that a process holds, by the kernel's number."""
    found: set[int] = set()
    with suppress(OSError):
        for info in Path(f"/proc/{pid}/fdinfo").iterdir():
            with suppress(OSError):
                found |= set(map(int, re.findall(r"^prog_id:\s+(\d+)", info.read_text(), re.M)))
    return found


def is_loaded(program: int) -> bool:
    """Whether the kernel has it still: held by somebody, or attached anywhere."""
    attr = (ctypes.c_uint32 * 32)(program)
    fd = ctypes.CDLL(None).syscall(_BPF, _PROG_GET_FD_BY_ID, attr, ctypes.sizeof(attr))
    if fd >= 0:
        os.close(fd)
    return bool(fd >= 0)


def await_gone(programs: set[int]) -> None:
    wait_for("our programs to go", lambda: not any(map(is_loaded, programs)))


# ---- What a command does


def outcome(text: str) -> object:
    """What the command has done, without its times and PIDs; None when it never began."""
    if not text:
        return None
    begun, truth, status = text.splitlines()
    known = json.loads(truth)
    return begun, known["calls"], known["ubatches"], known["llama_decode"], status


def read_to_end(end: int, marker: str) -> tuple[str, float]:
    """What is written until nobody can write any more: until all of the family have ended. And
    when the last of it came."""
    said, until, last = b"", time.monotonic() + ENDS_WITHIN, 0.0
    while select.select([end], [], [], max(0.0, until - time.monotonic()))[0]:
        part = os.read(end, 1 << 16)
        if not part:
            return said.decode(), last
        said += part
        last = time.monotonic()
    raise AssertionError(f"it goes on and on; stopped: {stopped(marker)}, it said {said!r}")


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe; whoever uses its end for writing closes that."""
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        os.close(reading)


class Front:
    """A front end that launches the command, and the recorder that it has started."""

    def __init__(self, words: list[str], writing: int) -> None:
        self.process = subprocess.Popen(
            words, cwd=REPO, stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.DEVNULL
        )
        os.close(writing)

    def server(self) -> int:
        """The recorder's PID; 0 before it is there, and after."""
        found = [c for c in children(self.process.pid) if name(c).startswith("profinfer-reco")]
        return found[0] if found else 0

    def await_server(self) -> int:
        wait_for("the recorder", self.server)
        return self.server()


def run_to_end(words: list[str], marker: str) -> tuple[object, float]:
    """What comes of a launch that is left alone, and how long after the recorder's start."""
    with pipe() as (reading, writing):
        front = Front(words, writing)
        front.await_server()
        started = time.monotonic()
        said, last = read_to_end(reading, marker)
        front.process.wait(ENDS_WITHIN)
    return outcome(said), last - started


@dataclass
class Killed:
    """What came of a launch in which somebody was killed."""

    left: object
    had_begun: bool
    programs: set[int]


def has_command(server: int) -> bool:
    return any(name(child) in ("sh", "known") for child in children(server))


def kill_at(
    moment: float, is_in_command: bool, words: list[str], marker: str, *, is_recorder: bool
) -> Killed:
    """Kills the recorder, or the front end, so long after the recorder's or the command's start."""
    with pipe() as (reading, writing):
        front = Front(words, writing)
        server = front.await_server()
        if is_in_command:
            wait_for("the command", lambda: has_command(server) or has_ended(server))
        time.sleep(moment)
        had_begun = has_command(server)
        ours = programs_of(server)
        with suppress(ProcessLookupError):
            os.kill(server if is_recorder else front.process.pid, signal.SIGKILL)
        left = outcome(read_to_end(reading, marker)[0])
        front.process.wait(ENDS_WITHIN)
    return Killed(left, had_begun, ours)


def kill_at_random(words: list[str], marker: str, *, is_recorder: bool) -> None:
    """At KILLS moments of a launch: whatever had begun ends as if nobody had been killed."""
    run_to_end(words, marker)  # what is learnt of an engine is learnt now
    usual, lasts = run_to_end(words, marker)
    assert usual is not None
    chance = random.Random(SEED)  # noqa: S311
    moments = [(chance.uniform(0, lasts), bool(i % 2)) for i in range(KILLS)]
    kill = partial(kill_at, words=words, marker=marker, is_recorder=is_recorder)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        kills = list(pool.map(lambda moment: kill(*moment), moments))
    for moment, killed in zip(moments, kills, strict=True):
        assert killed.left == usual or (killed.left is None and not killed.had_begun), moment
        await_gone(killed.programs)
    assert stopped(marker) == []
    # It was not always too early, or too late.
    assert sum(killed.had_begun for killed in kills) >= KILLS // 5


@pytest.fixture
def command(built: Path) -> list[str]:
    return ["sh", "-c", SCRIPT, str(built / "known"), *ENGINE]


def test_a_killed_recorder_leaves_a_command_that_goes_on(
    recorder: Path, built: Path, command: list[str]
) -> None:
    words = [sys.executable, "-m", "tests.recorder.holding", str(recorder), *command]
    kill_at_random(words, str(built), is_recorder=True)


@pytest.mark.usefixtures("recorder")
def test_a_killed_profinfer_leaves_a_command_that_goes_on(
    built: Path, command: list[str], tmp_path: Path
) -> None:
    options = [*ENGINE_ONLY, "--level", "operator", "-o", str(tmp_path / "t.pftrace"), "--force"]
    words = [*PROFINFER, "record", *options, "--", *command]
    kill_at_random(words, str(built), is_recorder=False)


# ---- One by one


@contextmanager
def held(recorder: Path, built: Path) -> Iterator[tuple[Holding, int, int]]:
    """A recorder whose command stands after exec, its PID, and the end of what it writes."""
    with pipe() as (reading, writing), Holding(recorder, stdout=writing) as holding:
        os.close(writing)
        holding.launch(built / "known", *ENGINE)
        first, second = holding.hear(), holding.hear()
        assert first["answer"] == "launch"
        assert (second["event"], second["pid"]) == ("stopped", first["pid"])
        assert state(first["pid"]) == "T"
        yield holding, first["pid"], reading
        holding.process.kill()


def guard_of(server: int) -> int:
    """Who waits for that one's end; 0 when nobody does."""
    for pid in processes():
        if name(pid) == "recording-guard":
            with suppress(OSError):
                infos = [info.read_text() for info in Path(f"/proc/{pid}/fdinfo").iterdir()]
                if any(re.search(rf"^Pid:\s+{server}$", info, re.M) for info in infos):
                    return pid
    return 0


def await_guard(server: int) -> int:
    wait_for("a guard", lambda: guard_of(server))
    return guard_of(server)


def test_who_is_held_goes_on_when_the_recorder_is_killed(recorder: Path, built: Path) -> None:
    with held(recorder, built) as (holding, _, reading):
        holding.process.kill()
        said, _ = read_to_end(reading, str(built))
    assert json.loads(said)["llama_decode"] > 0


def test_who_is_held_goes_on_when_the_front_end_is_gone(recorder: Path, built: Path) -> None:
    with held(recorder, built) as (holding, _, reading):
        guard = await_guard(holding.process.pid)
        holding.close()
        said, _ = read_to_end(reading, str(built))
        assert holding.process.wait(20) == 0
        wait_for("the guard's end", lambda: has_ended(guard), 1)
    assert json.loads(said)["llama_decode"] > 0


def test_the_guard_outlives_what_ends_a_terminal_and_keeps_no_file_open(
    recorder: Path, built: Path
) -> None:
    with held(recorder, built) as (holding, pid, reading):
        guard = await_guard(holding.process.pid)
        assert os.getsid(guard) == guard
        assert b"profinfer" not in Path(f"/proc/{guard}/cmdline").read_bytes()
        targets = {os.readlink(entry) for entry in Path(f"/proc/{guard}/fd").iterdir()}
        kinds = {re.sub(r"\W\d.*", "", target) for target in targets}
        # Kernels name the first in two ways.
        kinds -= {"pidfd:", "anon_inode:[pidfd]"}
        assert kinds == {"/dev/null", "anon_inode:bpf-map", "pipe:"}
        assert not programs_of(guard)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            os.kill(guard, number)
        holding.process.kill()
        said, _ = read_to_end(reading, str(built))
        assert not has_ended(guard)
        wait_for("the guard's end", lambda: has_ended(guard), 10)
        assert not Path(f"/proc/{pid}").exists() or state(pid) == "Z"
    assert json.loads(said)["llama_decode"] > 0


def test_another_guard_comes_when_one_is_killed(recorder: Path, built: Path) -> None:
    with held(recorder, built) as (holding, pid, reading):
        first = await_guard(holding.process.pid)
        os.kill(first, signal.SIGKILL)
        wait_for("its end", lambda: has_ended(first))
        holding.ask("go", pid=pid)
        while (heard := holding.hear()).get("event") != "stopped":
            pass
        assert heard["pid"] == pid
        wait_for("another one", lambda: guard_of(holding.process.pid) not in (0, first))
        holding.process.kill()
        said, _ = read_to_end(reading, str(built))
    assert json.loads(said)["llama_decode"] > 0


def test_who_was_stopped_by_somebody_else_stays_so(recorder: Path) -> None:
    with Holding(recorder) as holding:
        holding.launch("sleep", "60")
        pid = holding.hear_of("launch")["pid"]
        for _ in range(20):  # until it sleeps and nothing more is said of it
            with suppress(AssertionError):
                while True:
                    said = holding.hear(0.5)
                    if said.get("event") == "stopped":
                        holding.ask("go", pid=said["pid"])
            if Path(f"/proc/{pid}/comm").read_text() == "sleep\n" and state(pid) == "S":
                break
        assert state(pid) == "S"
        try:
            os.kill(pid, signal.SIGSTOP)
            holding.ask("go", pid=pid)
            assert holding.hear() == {"answer": "go"}
            assert state(pid) == "T"
            guard = await_guard(holding.process.pid)
            holding.process.kill()
            wait_for("the guard's end", lambda: has_ended(guard), 10)
            assert state(pid) == "T"
        finally:
            os.kill(pid, signal.SIGKILL)
