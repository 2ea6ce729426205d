"""A launched command finds everything as it would without us, and stands still when it must."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import REPO, require
from tests.recorder.holding import Holding
from tests.support import wait_for

SHOW = """
import os, resource, signal, sys
fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
# Without 32 and 33, which are the C library's own: its posix_spawn() has them ignored.
masks = [int(fields[name], 16) & ~(3 << 31) for name in ("SigBlk", "SigIgn")]
links = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in sorted(os.listdir("/proc/self/fd"))
         if os.path.exists(f"/proc/self/fd/{fd}")}
links = {fd: link for fd, link in links.items() if "/fd" not in link}
limits = [resource.getrlimit(getattr(resource, name)) for name in sorted(dir(resource))
          if name.startswith("RLIMIT_")]
environment = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
print(masks, links, limits, environment, os.getcwd(), os.getpgrp(), os.getsid(0), sys.argv[1:],
      os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0), os.umask(0), sep="\\n")
"""
ODD = 'trap "" HUP; ulimit -Sn 48; ulimit -Hn 4000; exec 7</dev/null; exec "$@"'
"""Starts something with a signal ignored, few descriptors, and one more of them."""


def test_it_finds_everything_as_without_us(recorder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SHOW, "a word", ""]
    ours = [sys.executable, "-m", "tests.recorder.holding", str(recorder)]
    ways: list[list[str]] = [[], ours]
    shown = []
    for words in ways:
        with (tmp_path / "shown").open("w") as file:
            subprocess.run(
                ["sh", "-c", ODD, "sh", *words, *command], cwd=REPO,
                stdin=subprocess.DEVNULL, stdout=file, check=True, timeout=60,
            )  # fmt: skip
        shown.append((tmp_path / "shown").read_text())
    assert shown[0] == shown[1]
    assert "'7': '/dev/null'" in shown[0]


def test_it_is_of_our_process_group_and_ends_with_its_own_status(recorder: Path) -> None:
    with Holding(recorder) as holding:
        holding.launch("sh", "-c", "exit 7")
        pid = holding.hear_of("launch")["pid"]
        assert os.getpgid(pid) == os.getpgrp()
        assert holding.hear_of("exited")["status"] == 7 << 8


@pytest.mark.parametrize(
    ("word", "reason", "hint"),
    [
        ("no-such-program", "No such file or directory", "is it spelt right, and on PATH?"),
        ("/etc", "Permission denied", ""),
    ],
)
def test_what_cannot_be_run_is_said(recorder: Path, word: str, reason: str, hint: str) -> None:
    with Holding(recorder) as holding:
        holding.launch(word)
        said = holding.hear()
        assert said == {
            "event": "failed", "verb": "launch", "code": 5,
            "message": f"cannot run {word}: {reason}", "hint": hint,
        }  # fmt: skip
        assert holding.process.wait(20) == 5


def test_it_runs_as_another_user(recorder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    user = {"uid": nobody.pw_uid, "gid": nobody.pw_gid, "groups": [nobody.pw_gid, 12345]}
    with Holding(recorder, stdout=subprocess.PIPE) as holding:
        holding.launch("grep", "-E", "^(Uid|Gid|Groups|CapEff)", "/proc/self/status", user=user)
        assert holding.hear_of("exited")["status"] == 0
        assert holding.process.stdout
        holding.close()
        said = {
            line.split(":")[0]: line.split(":")[1].split()
            for line in holding.process.stdout.read().decode().splitlines()
        }
    assert said["Uid"] == [str(nobody.pw_uid)] * 4
    assert said["Gid"] == [str(nobody.pw_gid)] * 4
    assert sorted(said["Groups"], key=int) == sorted([str(nobody.pw_gid), "12345"], key=int)
    assert said["CapEff"] == ["0" * 16]


@pytest.mark.parametrize("can_read", [True, False])
def test_an_audit_library_is_named_where_its_user_can_read_it(
    recorder: Path, tmp_path: Path, can_read: bool
) -> None:
    nobody = pwd.getpwnam("nobody")
    user = {"uid": nobody.pw_uid, "gid": nobody.pw_gid, "groups": []}
    library = "/etc/hostname" if can_read else str(tmp_path / "audit.so")
    require("a file that everybody reads", Path("/etc/hostname").exists())
    with Holding(recorder, stdout=subprocess.PIPE) as holding:
        # The loader complains that they are none, and goes on.
        holding.launch("printenv", "LD_AUDIT", audit=f"/none.so:{library}", user=user)
        status = holding.hear_of("exited")["status"]
        holding.close()
        assert holding.process.stdout
        said = holding.process.stdout.read().decode()
    assert said == (f"/none.so:{library}\n" if can_read else "")
    assert status == (0 if can_read else 1 << 8)


def stops(holding: Holding, pid: int) -> int:
    """How often a process is stopped until it has ended; it goes on each time."""
    count = 0
    while (said := holding.hear()).get("event") != "exited":
        if said.get("event") == "stopped" and said["pid"] == pid:
            count += 1
        if said.get("event") == "stopped":
            holding.ask("go", pid=said["pid"])
    return count


def test_it_stands_after_exec_and_whenever_its_loader_has_changed_the_objects(
    recorder: Path, built: Path
) -> None:
    engine = ("--threads", "1", "--layers", "1", "--prompt", "3", "--decode", "1")
    counts = {}
    for name in ("known", "known-dl", "known-static"):
        with Holding(recorder, stdout=subprocess.DEVNULL) as holding:
            holding.launch(built / name, *engine)
            counts[name] = stops(holding, holding.hear()["pid"])
    # The loader says that it begins, and that it has done.
    assert counts == {"known": 1 + 2, "known-dl": 1 + 2 + 2, "known-static": 1}


def test_it_is_told_why_a_process_stands(recorder: Path, built: Path) -> None:
    engine = "--threads 1 --layers 1 --prompt 3 --decode 1"
    script = f"{built}/known {engine}; exec {built}/known-dl {engine}"
    whys: dict[int, list[bool]] = {}
    with Holding(recorder, stdout=subprocess.DEVNULL) as holding:
        holding.launch("sh", "-c", script)
        while (said := holding.hear()).get("event") != "exited":
            if said.get("event") == "stopped":
                assert not said["at_work"], "nobody has asked for that"
                whys.setdefault(said["pid"], []).append(said["after_exec"])
                holding.ask("go", pid=said["pid"])
    shell, other = whys.values()
    # The loader says that it begins, and that it has done.
    assert other == [True, False, False]
    assert shell == [True, False, False, True, False, False, False, False]


def test_no_more_are_told_of_at_a_time_than_a_socket_has_room_for(recorder: Path) -> None:
    """Else both ends might wait for each other, and all who are held with them."""
    with Holding(recorder) as holding:
        script = "i=0; while [ $i -lt 100 ]; do /bin/true & i=$((i + 1)); done; wait"
        holding.launch("sh", "-c", script)
        shell = holding.hear_of("launch")["pid"]
        waiting: list[int] = []
        with suppress(AssertionError):
            while said := holding.hear(1):
                if said.get("event") == "stopped" and said["pid"] == shell:
                    holding.ask("go", pid=shell)
                elif said.get("event") == "stopped":
                    waiting.append(said["pid"])
        assert len(waiting) == 64
        for pid in waiting:
            holding.ask("go", pid=pid)
        assert holding.hear_of("exited")["status"] == 0


def test_a_stranger_is_never_stopped(recorder: Path, built: Path) -> None:
    with Holding(recorder) as holding:
        holding.launch("sleep", "60")
        pid = holding.hear_of("launch")["pid"]
        with suppress(AssertionError):
            while said := holding.hear(0.5):
                if said.get("event") == "stopped":
                    holding.ask("go", pid=said["pid"])
        command = [str(built / "known-dl"), "--threads", "1", "--layers", "1", "--decode", "1"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=20)
        with pytest.raises(AssertionError, match="it said nothing"):
            holding.hear(0.2)
        os.kill(pid, signal.SIGKILL)
        assert holding.hear_of("exited")["status"] == signal.SIGKILL
        wait_for("its end", lambda: not Path(f"/proc/{pid}").exists())


def test_a_command_that_does_not_end_is_made_to(recorder: Path) -> None:
    script = 'trap "" TERM; echo ready; exec sleep 60'
    with Holding(recorder, stdout=subprocess.PIPE) as holding:
        holding.launch("sh", "-c", script)
        pid = holding.hear_of("launch")["pid"]
        sleeps = Path(f"/proc/{pid}/comm")
        while sleeps.read_text() != "sleep\n":
            with suppress(AssertionError):
                if holding.hear(0.05).get("event") == "stopped":
                    holding.ask("go", pid=pid)
        began = time.monotonic()
        holding.ask("terminate")
        assert holding.hear_of("exited")["status"] == signal.SIGKILL
        assert time.monotonic() - began > 4
