"""A stranger's library runs as nobody that matters, without network, and not for long: on this
system, in another root, and emulated."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from profinfer.describing.sandbox import nobody
from tests.hostile import Place, alive, report


def test_who_and_what(place: Place, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel says; of the emulator, where that is what runs the library."""
    monkeypatch.setenv("PROFINFER_SECRET", "x")
    monkeypatch.setenv("LD_PRELOAD", "")
    message = place.fails(report(port))
    uid, gid = nobody() if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    assert f"I am {uid}/{gid} groups 0 caps 0000000000000000 " in message or os.geteuid() != 0
    assert "caps 0000000000000000" in message
    assert "connect 0 " not in message
    assert "connect -1" not in message
    assert "nnp 1 core 0 ld clean end" in message
    assert "status 7" in message


@pytest.mark.usefixtures("as_root")
def test_as_the_owner(place: Place, port: int) -> None:
    message = place.fails(report(port), uid=12345)
    assert "I am 12345/12345 groups 0 caps 0000000000000000 connect 101 setuid 1 nnp 1" in message


@pytest.mark.usefixtures("as_root")
def test_never_as_root(place: Place, port: int) -> None:
    """Where root alone can read it nobody gets a copy, and an owner gets none."""
    library = place.build(report(port))
    library.chmod(0o700)
    uid, gid = nobody()
    assert f"I am {uid}/{gid} groups 0 " in place.fails(library)
    assert "libevil.so: Permission denied" in place.fails(library, uid=12345)


def test_limits(place: Place) -> None:
    """Asked of the kernel, not of an emulator, which keeps some limits from its program."""
    body = r"""
    char line[256], found[512] = "", adjusted[16] = "";
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
    f = fopen("/proc/self/oom_score_adj", "r");
    if (f) fgets(adjusted, sizeof adjusted, f);
    struct rlimit more = {RLIM_INFINITY, RLIM_INFINITY};
    SAY("%sraise %d %d oom %s", found, TRY(setrlimit(RLIMIT_FSIZE, &more)),
        TRY(setrlimit(RLIMIT_CPU, &more)), adjusted);
    _exit(7);
    """
    message = place.fails(body)
    assert "12 12;1048576 1048576;0 0;256 256;17179869184 17179869184;" in message
    assert "oom 1000" in message
    if not place.is_emulated:
        assert "raise 1 1 " in message


@pytest.mark.usefixtures("as_root")
def test_what_root_may_is_not_inherited(here: Place) -> None:
    """Processes without end, memory that cannot go, and the first place on every processor."""
    body = r"""
    struct rlimit processes, locked, urgent, nice;
    getrlimit(RLIMIT_NPROC, &processes);
    getrlimit(RLIMIT_MEMLOCK, &locked);
    getrlimit(RLIMIT_RTPRIO, &urgent);
    getrlimit(RLIMIT_NICE, &nice);
    SAY("processes %lld locked %lld urgent %lld nice %lld\n", (long long)processes.rlim_max,
        (long long)locked.rlim_max, (long long)urgent.rlim_max, (long long)nice.rlim_max);
    _exit(7);
    """
    message = here.fails(body, uid=12345)
    found = re.search(r"processes (\d+) locked (\d+) urgent 0 nice 0\n?", message)
    assert found, message
    running = int(Path("/proc/loadavg").read_text().split("/")[1].split()[0])
    assert running < int(found[1]) < running + 2048
    assert int(found[2]) <= 8 << 20


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise(SIGSEGV);", "ended by SIGSEGV"),
        ("kill(1, SIGKILL); *(volatile int *)0 = 1;", "ended by SIGSEGV"),
        ("__builtin_trap();", "ended by SIG(ILL|TRAP)"),
        ("_exit(3);", "ended with status 3"),
        ("_exit(0);", "it gave no answer"),
        ("", "ggml_init refused a context"),
        (r'SAY("\033[2J\001bad\n"); _exit(1);', r"status 1 \(\?\[2J\?bad\)"),
        (r'SAY("\034"); _exit(1);', r"status 1$"),
    ],
)
def test_crashes(body: str, reason: str, place: Place) -> None:
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(place.fails(body))


def test_abort(here: Place, elsewhere: Place) -> None:
    for place in (here, elsewhere):
        assert "ended by SIGABRT" in place.fails("abort();")


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
def test_nonsense_is_not_believed(line: str, here: Place) -> None:
    here.fails(f'{_ALL_DESCRIPTORS} dprintf(fd, "{line}"); _exit(0);')


def test_flood_is_cut_off(here: Place) -> None:
    body = "static char x[4096]; memset(x, 65, 4096); for (;;) " + _ALL_DESCRIPTORS
    message = here.fails(body + "write(fd, x, 4096);", timeout=5)
    assert "wrote too much" in message or "no answer within" in message


@pytest.mark.parametrize(
    "body", ["for (;;);", "for (;;) sleep(1);", "signal(SIGTERM, SIG_IGN); for (;;) pause();"]
)
def test_hang_is_ended(body: str, place: Place) -> None:
    library = place.build(body)
    start = time.monotonic()
    assert "no answer within 1 s" in place.fails(library, timeout=1)
    assert time.monotonic() - start < 4
    assert alive(library) == []


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("end", ["for (;;) pause();", "_exit(0);", "__builtin_trap();"])
def test_what_it_leaves_behind_dies_too(end: str, place: Place) -> None:
    body = f"if (fork() == 0) {{ setsid(); if (fork()) _exit(0); sleep(600); }} {end}"
    library = place.build(body)
    start = time.monotonic()
    place.fails(library, timeout=2)
    assert time.monotonic() - start < 5
    until = time.monotonic() + 2
    while alive(library) and time.monotonic() < until:
        time.sleep(0.1)
    assert alive(library) == []


def test_failure_is_not_kept(here: Place, tmp_path: Path) -> None:
    here.fails("abort();")
    assert list((tmp_path / "cache/profinfer/layout").iterdir()) == []
