"""A stranger's arm64 library is emulated by nobody that matters, without network, not for long."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from profinfer.emulator import Emulator, find_emulator
from profinfer.errors import ProbeError
from profinfer.layout import describe
from profinfer.layout_sandbox import nobody
from tests.conftest import require
from tests.hostile import alive, build_hostile, report

Build = Callable[[str], Path]


@pytest.fixture
def emulator(sysroot: Path) -> Emulator:
    found = find_emulator("aarch64", sysroot)
    assert found is not None
    return found


@pytest.fixture
def hostile(tmp_path: Path) -> Build:
    return partial(build_hostile, tmp_path / "hostile", "aarch64-linux-gnu-gcc")


@pytest.fixture
def port() -> Iterator[int]:
    """A port that this process listens on, in its own network."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def _fails(
    library: Path, emulator: Emulator, *, uid: int | None = None, timeout: float = 10
) -> str:
    who = os.geteuid() if uid is None else uid
    with pytest.raises(ProbeError) as caught:
        describe([library], uid=who, gid=who, timeout=timeout, emulator=emulator)
    assert caught.value.message.startswith("libevil.so could not describe itself: ")
    return caught.value.message


def test_who_and_what(
    hostile: Build, emulator: Emulator, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the kernel says of the emulator, for that is what runs the library."""
    monkeypatch.setenv("PROFINFER_SECRET", "x")
    monkeypatch.setenv("LD_PRELOAD", "")
    message = _fails(hostile(report(port, "_exit(7);")), emulator)
    uid, gid = nobody() if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    assert f"I am {uid}/{gid} groups 0 caps 0000000000000000 " in message or os.geteuid() != 0
    assert "caps 0000000000000000" in message
    assert "connect 0 " not in message
    assert "connect -1" not in message
    assert "nnp 1 core 0 ld clean end" in message
    assert "status 7" in message


def test_as_the_owner(hostile: Build, emulator: Emulator, port: int) -> None:
    require("root, to become somebody else", os.geteuid() == 0)
    message = _fails(hostile(report(port, "_exit(7);")), emulator, uid=12345)
    assert "I am 12345/12345 groups 0 caps 0000000000000000 connect 101 setuid 1 nnp 1" in message


def test_never_as_root(hostile: Build, emulator: Emulator, port: int) -> None:
    require("root, to become somebody else", os.geteuid() == 0)
    library = hostile(report(port, "_exit(7);"))
    library.chmod(0o700)
    assert "libevil.so: Permission denied" in _fails(library, emulator)


def test_the_limits_are_those_of_the_emulator(hostile: Build, emulator: Emulator) -> None:
    """Asked of the kernel, not of the emulator, which keeps some limits from its program."""
    body = r"""
    char line[256], found[512] = "";
    FILE *f = fopen("/proc/self/limits", "r");
    while (f && fgets(line, sizeof line, f)) {
      char *what[] = {"Max cpu time", "Max file size", "Max core file size", "Max open files",
                      "Max address space"};
      for (int i = 0; i < 5; i++) {
        char soft[32], hard[32];
        if (!strncmp(line, what[i], strlen(what[i])) &&
            sscanf(line + strlen(what[i]), "%31s %31s", soft, hard) == 2)
          sprintf(found + strlen(found), "%s %s;", soft, hard);
      }
    }
    fprintf(stderr, "%s\n", found);
    _exit(7);
    """
    message = _fails(hostile(body), emulator)
    assert "102 102;1048576 1048576;0 0;256 256;17179869184 17179869184;" in message


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise(SIGSEGV);", "ended by SIGSEGV"),
        ("kill(1, SIGKILL); *(volatile int *)0 = 1;", "ended by SIGSEGV"),
        ('asm(".inst 0");', "ended by SIGILL"),
        ("_exit(0);", "it gave no answer"),
        ("", "ggml_init refused a context"),
    ],
)
def test_crashes(body: str, reason: str, hostile: Build, emulator: Emulator) -> None:
    assert reason in _fails(hostile(body), emulator)


@pytest.mark.parametrize("body", ["for (;;);", "signal(SIGTERM, SIG_IGN); for (;;) pause();"])
def test_hang_is_ended(body: str, hostile: Build, emulator: Emulator) -> None:
    library = hostile(body)
    start = time.monotonic()
    assert "no answer within 2 s" in _fails(library, emulator, timeout=0.2)
    assert time.monotonic() - start < 5
    assert alive(library) == []


@pytest.mark.parametrize("end", ["for (;;) pause();", "_exit(0);"])
def test_what_it_leaves_behind_dies_too(end: str, hostile: Build, emulator: Emulator) -> None:
    require("root, for a process namespace", os.geteuid() == 0)
    library = hostile(f"if (fork() == 0) {{ setsid(); if (fork()) _exit(0); sleep(600); }} {end}")
    _fails(library, emulator, timeout=0.3)
    until = time.monotonic() + 2
    while alive(library) and time.monotonic() < until:
        time.sleep(0.1)
    assert alive(library) == []


def test_a_sysroot_that_others_cannot_reach_serves(
    hostile: Build, emulator: Emulator, tmp_path: Path
) -> None:
    """The folders above it may be closed to whom the library is run by."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "root").symlink_to(emulator.root)
    other = Emulator(emulator.command, str(closed / "root"), emulator.python)
    assert "ggml_init refused a context" in _fails(hostile(""), other)
