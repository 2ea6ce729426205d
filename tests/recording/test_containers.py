"""Engines in containers, recorded from outside."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.recording.helpers import Truth, assert_matches, renumbered, rows, truths
from tests.roots import Root, in_container, innermost, make_musl_root
from tests.support import (
    ENGINE_ONLY,
    PLACED,
    Engine,
    attached,
    double_fixture,
    finish,
    run,
    started,
    wait_for,
)

__all__ = ["double_fixture"]

SCHEDULE = ("--threads", 3, "--layers", 3, "--prompt", 17, "--decode", 19, "--work-us", 3)
ALL_APART = ("unshare", "--user", "--map-root-user", "--mount", "--uts", "--ipc", "--net", "--pid",
             "--fork", "--kill-child")  # fmt: skip
CONTAINER = "3f4b2c1d9e8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c"
CGROUP = f"docker-{CONTAINER}.scope"
ABOUT = """
SELECT substr(key, length('debug.target.') + 1), display_value FROM args
WHERE key IN ('debug.target.cgroup', 'debug.target.container_id', 'debug.target.unit')"""
THREADS = """
SELECT DISTINCT tid FROM slice JOIN thread_track ON slice.track_id = thread_track.id
JOIN thread USING (utid) ORDER BY tid"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    require("x86-64 processor", os.uname().machine == "x86_64", hardware=True)
    folder = tmp_path_factory.mktemp("musl")
    made = make_musl_root(folder, bare=False)
    shutil.copy(folder / "built/known", made.folder / "engine")
    return made


def test_it_is_recorded(double: Engine, root: Root, tmp_path: Path) -> None:
    gate, trace = root.folder / "gate", tmp_path / "t.pftrace"
    command = ("/engine/known", "--wait", "/gate", *SCHEDULE)
    container = in_container(root, tmp_path / "container", *command, user=0)
    with started(double, *container) as shell:
        assert shell.stderr is not None
        assert shell.stderr.readline() == "ready 1\n"
        pid = innermost(shell.pid)
        looked = run(double, "doctor", "--pid", pid)
        assert looked.returncode == 0, looked.stdout
        assert "ok     layout        ggml 0.0.7-known: 17 ops" in looked.stdout
        with attached(double, pid, trace, "--level", "barrier", probes=PLACED) as recorder:
            gate.touch()
            stdout, _ = shell.communicate(timeout=60)
            code, said = finish(recorder)
    assert code == 0, said
    assert_matches(trace, _as_counted_here(truths(stdout)[0], trace), "barrier")


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "another root"])
def test_a_command_that_makes_namespaces(
    elsewhere: bool, double: Engine, root: Root, tmp_path: Path
) -> None:
    """All kinds of them; and there a root of another libc."""
    trace = tmp_path / "t.pftrace"
    program = "/engine/known" if elsewhere else double.program()
    there = ("--root", root.folder) if elsewhere else ()
    command = (*ALL_APART, *there, "--mount-proc", program, *SCHEDULE)
    done = run(double, "record", *ENGINE_ONLY, "--level", "barrier", "-o", trace, "--", *command)
    assert done.returncode == 0, done.stderr
    assert_matches(trace, _as_counted_here(truths(done.stdout)[0], trace), "barrier")


def test_its_container_is_told(double: Engine, cgroup: Path, tmp_path: Path) -> None:
    """By its cgroup; and it is attached to in namespaces of all kinds."""
    gate, trace = tmp_path / "gate", tmp_path / "t.pftrace"
    script = f'echo $$ >{cgroup}/cgroup.procs && exec "$@"'
    command = (*ALL_APART, "--mount-proc", double.program(), "--wait", gate, *SCHEDULE)
    with started(double, "sh", "-c", script, "sh", *command) as shell:
        assert shell.stderr is not None
        assert shell.stderr.readline() == "ready 1\n"
        pid = innermost(shell.pid)
        with attached(double, pid, trace, "--level", "barrier", probes=PLACED) as recorder:
            gate.touch()
            stdout, _ = shell.communicate(timeout=60)
            code, said = finish(recorder)
    assert code == 0, said
    assert_matches(trace, _as_counted_here(truths(stdout)[0], trace), "barrier")
    [about] = rows(trace, ABOUT)
    told = {str(key): value for key, value in about}
    assert str(told.pop("cgroup")).endswith(f"/{CGROUP}")
    assert told == {"container_id": CONTAINER, "unit": CGROUP}


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup as Docker makes it for a container; what is in it ends before it."""
    found = [Path("/sys/fs/cgroup", name) for name in ("", "unified", "memory")]
    roots = [path for path in found if (path / "cgroup.procs").is_file()]
    require("cgroups", roots, hardware=True)
    folder = roots[0] / CGROUP
    folder.mkdir()
    yield folder
    wait_for("the cgroup to be empty", lambda: not (folder / "cgroup.procs").read_text())
    folder.rmdir()


def _as_counted_here(truth: Truth, trace: Path) -> Truth:
    """The truth with the numbers that this system gave the threads, in the same order."""
    [found] = rows(trace, THREADS)
    inside = sorted(thread["tid"] for thread in truth["threads"])
    outside = dict(zip(inside, (tid for (tid,) in found), strict=True))
    return renumbered(truth, outside)
