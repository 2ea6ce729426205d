"""An engine in a container, of another libc than this system's, recorded from outside."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import require
from tests.recording.helpers import Truth, assert_matches, rows, truths
from tests.roots import Root, in_container, innermost, make_musl_root
from tests.support import Engine, attached, double_fixture, finish, run, started

__all__ = ["double_fixture"]

SCHEDULE = ("--threads", 3, "--layers", 3, "--prompt", 17, "--decode", 19, "--work-us", 3)
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
        with attached(double, pid, trace, "--level", "barrier", probes=10) as recorder:
            gate.touch()
            stdout, _ = shell.communicate(timeout=60)
            code, said = finish(recorder)
    assert code == 0, said
    assert_matches(trace, _as_counted_here(truths(stdout)[0], trace), "barrier")


def _as_counted_here(truth: Truth, trace: Path) -> Truth:
    """The truth with the numbers that this system gave the threads, in the same order."""
    [found] = rows(trace, THREADS)
    inside = sorted(thread["tid"] for thread in truth["threads"])
    outside = dict(zip(inside, (tid for (tid,) in found), strict=True))
    return {**truth, "threads": [{**t, "tid": outside[t["tid"]]} for t in truth["threads"]]}
