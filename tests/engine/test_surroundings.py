"""Where a process runs, as /proc shows it."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from profinfer.engine import surroundings as module
from profinfer.engine.surroundings import surroundings
from profinfer.engine.target import executable_mappings, process_name
from profinfer.errors import TargetError
from tests.conftest import require

_DIGITS = "0123456789abcdef" * 4
_OTHERS = _DIGITS[::-1]


@pytest.mark.parametrize(
    ("cgroup", "found", "unit"),
    [
        ("0::/user.slice/user-0.slice/session-3.scope", None, "session-3.scope"),
        ("0::/system.slice/llama.service", None, "llama.service"),
        (f"0::/system.slice/docker-{_DIGITS}.scope", _DIGITS, f"docker-{_DIGITS}.scope"),
        (f"0::/\n1:cpu,cpuacct:/docker/{_DIGITS}", _DIGITS, None),
        (
            f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{_DIGITS}.scope",
            _DIGITS,
            f"cri-containerd-{_DIGITS}.scope",
        ),
        (f"0::/kubepods/pod1/{_OTHERS}/{_DIGITS}", _DIGITS, None),
        (f"0::/machine.slice/libpod-{_DIGITS}.scope/container", _DIGITS, f"libpod-{_DIGITS}.scope"),
        (f"0::/a{_DIGITS}", None, None),
        ("0::/", None, None),
        ("nonsense", None, None),
    ],
)
def test_a_container_is_found_in_the_control_groups_path(
    monkeypatch: pytest.MonkeyPatch, cgroup: str, found: str | None, unit: str | None
) -> None:
    usual = Path.read_text

    def read(path: Path, *args: str, **rest: str) -> str:
        return cgroup if path.name == "cgroup" else usual(path, *args, **rest)

    monkeypatch.setattr(Path, "read_text", read)
    container = module.container(os.getpid())
    assert (container.id, container.unit) == (found, unit)
    assert (container.namespaces, container.other_root) == ((), False)


@contextmanager
def _sleeping(*before: str) -> Iterator[int]:
    with subprocess.Popen([*before, "sh", "-c", "echo; exec sleep 60"], stdout=-1) as process:
        assert process.stdout
        assert process.stdout.readline() == b"\n"
        try:
            yield process.pid
        finally:
            process.kill()


def test_other_namespaces_and_restrictions_are_named() -> None:
    require("root", os.geteuid() == 0)
    with _sleeping("setpriv", "--no-new-privs", "unshare", "--net", "--uts") as pid:
        found = surroundings(pid)
    assert found.container.namespaces == ("net", "uts")
    assert found.restrictions.no_new_privileges is True
    assert found.restrictions.seccomp == "none"
    with _sleeping() as pid:
        found = surroundings(pid)
    assert found.container.namespaces == ()
    assert found.restrictions.no_new_privileges is False


def test_threads_that_work_are_told_from_those_that_wait() -> None:
    done = threading.Event()
    waiting = [threading.Thread(target=done.wait) for _ in range(3)]
    for thread in waiting:
        thread.start()
    before = surroundings(os.getpid()).threads
    ctypes.CDLL(None).usleep(1000)
    done.set()
    for thread in waiting:
        thread.join()
    assert before.count >= 1 + 3
    assert 1 <= before.busy <= before.count - 3
    assert sum(before.names.values()) == before.count


def test_who_is_not_there_is_said() -> None:
    with pytest.raises(TargetError, match="does not exist"):
        surroundings(1 << 22)


@pytest.mark.parametrize(
    "name", [b"a\x0c1-2 x 0 1 2 b", b"a\x0cq-q x 0 1 2 b", b"a\rb", b"\xff", b"\xc2\x85"]
)
def test_a_mapped_file_may_have_any_name(name: bytes, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(bytes(4096))
    before = len(executable_mappings(os.getpid()))
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
    with mapped:
        found = executable_mappings(os.getpid())
    assert len(found) == before + 1
    assert str(path) in [mapping.path for mapping in found]


def test_a_process_has_a_name_of_one_line() -> None:
    place = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
    before = place.read_bytes()
    place.write_bytes(b"\x1b[31ma\nok  b")
    try:
        assert process_name(threading.get_native_id()) == "?[31ma?ok  b"
    finally:
        place.write_bytes(before)
