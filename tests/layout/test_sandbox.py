"""A stranger's library runs as nobody that matters, without network, and not for long."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from profinfer.errors import ProbeError
from profinfer.layout import describe
from profinfer.layout_sandbox import nobody
from tests.hostile import alive, report

Build = Callable[[str], Path]

root_only = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: sudo make test (with PROFINFER_NO_SKIP=1 a failure)"
)


def _fails(library: Path, *, uid: int | None = None, timeout: float = 10) -> str:
    who = os.geteuid() if uid is None else uid
    with pytest.raises(ProbeError) as caught:
        describe([library], uid=who, gid=who, timeout=timeout)
    assert caught.value.message.startswith("libevil.so could not describe itself: ")
    assert "Traceback" not in caught.value.message
    return caught.value.message


@pytest.fixture
def port() -> Iterator[int]:
    """A port that this process listens on, in its own network."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_who_and_what(hostile: Build, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROFINFER_SECRET", "x")
    message = _fails(hostile(report(port)))
    uid, gid = nobody() if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    assert f"I am {uid}/{gid} groups 0 caps 0000000000000000 " in message or os.geteuid() != 0
    assert "caps 0000000000000000" in message
    assert "connect 0 " not in message
    assert "nnp 1 core 0 ld clean end" in message
    assert "SIGABRT" in message


@root_only
def test_as_the_owner(hostile: Build, port: int) -> None:
    message = _fails(hostile(report(port)), uid=12345)
    assert "I am 12345/12345 groups 0 caps 0000000000000000 connect 101 setuid 1 nnp 1" in message


@root_only
def test_as_root_only_where_nobody_can_read_it(hostile: Build, port: int) -> None:
    library = hostile(report(port))
    library.chmod(0o700)
    assert "I am 0/0 groups 0 caps 0000000000000000 connect 101" in _fails(library)
    assert "libevil.so: Permission denied" in _fails(library, uid=12345)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise(SIGSEGV);", "ended by SIGSEGV"),
        ("kill(1, SIGKILL); *(volatile int *)0 = 1;", "ended by SIGSEGV"),
        ("abort();", "ended by SIGABRT"),
        ("_exit(3);", "ended with status 3"),
        ("_exit(0);", "it gave no answer"),
        ("", "ggml_init refused a context"),
        (r'fprintf(stderr, "\033[2J\001bad\n"); _exit(1);', "status 1 (?[2J?bad)"),
    ],
)
def test_crashes(body: str, reason: str, hostile: Build) -> None:
    assert reason in _fails(hostile(body))


_ALL_DESCRIPTORS = "for (int fd = 0; fd < 64; fd++) "


@pytest.mark.parametrize(
    "line",
    [
        "\\001\\377 garbage\\n",
        "[1,2,3]\\n",
        '{\\"tensor\\": 7}\\n',
        '{\\"tensor\\": {\\"ne\\": 99999999999}, \\"notes\\": [[1], {}, \\"x\\"]}\\n',
        '{\\"tensor\\": {}, \\"notes\\": 3, \\"ops\\": [\\"MUL_MAT\\"]}\\n',
        '{\\"error\\": {\\"a\\": [1]}}\\n',
    ],
)
def test_nonsense_is_not_believed(line: str, hostile: Build) -> None:
    body = f'{_ALL_DESCRIPTORS} dprintf(fd, "{line}"); _exit(0);'
    assert "\033" not in _fails(hostile(body))


def test_flood_is_cut_off(hostile: Build) -> None:
    body = "static char x[4096]; memset(x, 65, 4096); for (;;) " + _ALL_DESCRIPTORS
    message = _fails(hostile(body + "write(fd, x, 4096);"), timeout=5)
    assert "wrote too much" in message or "no answer within" in message


@pytest.mark.parametrize(
    "body", ["for (;;);", "for (;;) sleep(1);", "signal(SIGTERM, SIG_IGN); for (;;) pause();"]
)
def test_hang_is_ended(body: str, hostile: Build) -> None:
    library = hostile(body)
    start = time.monotonic()
    assert "no answer within 1 s" in _fails(library, timeout=1)
    assert time.monotonic() - start < 4
    assert alive(library) == []


@root_only
@pytest.mark.parametrize("end", ["for (;;) pause();", "_exit(0);", "abort();"])
def test_what_it_leaves_behind_dies_too(end: str, hostile: Build) -> None:
    library = hostile(f"if (fork() == 0) {{ setsid(); if (fork()) _exit(0); sleep(600); }} {end}")
    start = time.monotonic()
    _fails(library, timeout=2)
    assert time.monotonic() - start < 5
    for _ in range(20):
        if not alive(library):
            break
        time.sleep(0.1)
    assert alive(library) == []


def test_failure_is_not_kept(hostile: Build, tmp_path: Path) -> None:
    _fails(hostile("abort();"))
    assert list((tmp_path / "cache/profinfer/layout").iterdir()) == []
