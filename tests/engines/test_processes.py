"""Which processes of a command are recorded: all that compute, and the command ends as it would
have without us. Processes that hold an engine and do nothing with it are named."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Container
from pathlib import Path

import pytest

from tests.conftest import REPO, require
from tests.engines.measure import recording
from tests.recording.helpers import (
    BAD_STATS,
    BY_THREAD,
    KERNELS_OWN,
    Truth,
    expected_by_thread,
    rows,
    truths,
)
from tests.roots import Root, make_root
from tests.support import PLACED, PROFINFER, Engine, double_fixture, first_line, started

__all__ = ["double_fixture"]

SUPERVISOR = Path(__file__).with_name("supervisor.py")
IN_ROOT = 'mount -t proc proc "$1/proc" && export LD_LIBRARY_PATH=/engine && exec chroot "$@"'
"""In mounts of its own: a root, and a command in it, whose program is in a foreign folder."""


def idle(said: str) -> list[int]:
    """The processes that a recording has named as holders of an engine that computed nothing."""
    found = re.findall(r"process (\d+) \(\S+\) holds an engine and has computed nothing", said)
    return [int(pid) for pid in found]


def assert_all_are_there(trace: Path, said: list[Truth], forked: Container[int] = ()) -> None:
    """The trace shows every call that one of these engines counted, on its thread, and no other.
    `forked` were stopped in their first llama_decode, of which the probes saw what it did."""
    counts, stats = rows(trace, BY_THREAD, BAD_STATS)
    found = {(c, t): n for c, t, n in counts if c not in KERNELS_OWN}
    expected: Counter[tuple[str, int]] = Counter()
    for truth in said:
        expected.update(expected_by_thread(truth, "barrier"))
        expected["call", truth["pid"]] -= truth["pid"] in forked
    assert found == expected
    assert stats == []


@pytest.fixture(scope="module")
def engine_as_library(double: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The known program as a library: known_main()."""
    path = tmp_path_factory.mktemp("library") / "known_main.so"
    subprocess.run(
        ["gcc", "-std=gnu11", "-shared", "-fPIC", "-Dmain=known_main", "-o", path,
         REPO / "tests/double/main.c", f"-L{double.folder}", "-lknown",
         f"-Wl,-rpath,{double.folder}"],
        check=True, timeout=60,
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def root(double: Engine, tmp_path_factory: pytest.TempPathFactory) -> Root:
    """One with another libc than ours."""
    require("x86-64 processor", os.uname().machine == "x86_64", hardware=True)
    base = REPO / "build/roots/x86_64-trixie"
    require(str(base.relative_to(REPO)), base.is_dir())
    folder = tmp_path_factory.mktemp("other") / "root"
    made = make_root(folder, base, [double.library])
    shutil.copy(double.program(), made.folder / "engine")
    return made


def in_root(root: Root, *words: object) -> list[str]:
    """A command in it, which finds its own /proc there."""
    made = ("unshare", "--mount", "sh", "-c", IN_ROOT, "sh", root.folder, "/engine/known", *words)
    return list(map(str, made))


def test_a_script_runs_to_its_end_and_all_it_starts_is_recorded(
    double: Engine, tmp_path: Path
) -> None:
    script = '"$0" && "$0" --decode 3 && /bin/true && echo done >&2; exit 7'
    done = recording(tmp_path / "t.pftrace", "bash", "-c", script, double.program())
    said = truths(done.stdout)
    assert "done\n" in done.stderr
    assert "bash exited with status 7" in done.stderr
    assert len({truth["pid"] for truth in said}) == 2
    assert_all_are_there(tmp_path / "t.pftrace", said)


def test_children_of_a_supervisor_are_recorded_however_they_came(
    double: Engine, engine_as_library: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "t.pftrace"
    words = (SUPERVISOR, engine_as_library, double.program(), 2)
    done = recording(trace, sys.executable, *words)
    said = truths(done.stdout)
    assert len({truth["pid"] for truth in said}) == 3
    assert_all_are_there(trace, said, forked=[truth["pid"] for truth in said[:2]])
    [supervisor] = idle(done.stderr)
    assert supervisor not in {truth["pid"] for truth in said}


def test_who_computes_nothing_is_named(engine_as_library: Path, tmp_path: Path) -> None:
    words = (sys.executable, SUPERVISOR, engine_as_library, "", 0)
    done = recording(tmp_path / "t.pftrace", *words)
    assert len(idle(done.stderr)) == 1
    summary = subprocess.run(
        [*PROFINFER, "query", "summary", tmp_path / "t.pftrace"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert idle(summary.stderr) == idle(done.stderr)


def test_who_runs_and_computes_nothing_is_named(
    double: Engine, engine_as_library: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "t.pftrace"
    command = (sys.executable, SUPERVISOR, engine_as_library, "", 0)
    with started(double, *command, stdin=subprocess.PIPE) as holder:
        assert first_line(holder) == "ready\n"
        done = recording(trace, pid=holder.pid, duration=1)
        assert holder.poll() is None
    assert idle(done.stderr) == [holder.pid]
    [ends] = rows(trace, "SELECT count() FROM slice WHERE name = 'recording ended'")
    assert ends == [(1,)]


def test_a_command_in_another_root_is_recorded_and_its_loader_says_nothing(
    root: Root, tmp_path: Path
) -> None:
    done = recording(tmp_path / "t.pftrace", *in_root(root))
    assert_all_are_there(tmp_path / "t.pftrace", truths(done.stdout))
    assert "ld.so" not in done.stderr


def test_a_process_in_another_root_is_recorded(double: Engine, root: Root, tmp_path: Path) -> None:
    gate, trace = root.folder / "gate", tmp_path / "t.pftrace"
    with started(double, *in_root(root, "--wait", "/gate")) as known:
        assert first_line(known) == f"ready {known.pid}\n"
        with started(
            double, sys.executable, "-m", "profinfer", "record", "--level", "barrier", "-o", trace,
            "--pid", known.pid,
        ) as recorder:  # fmt: skip
            assert f"recording known ({known.pid}), {PLACED} probes" in first_line(recorder)
            gate.touch()
            stdout, _ = known.communicate(timeout=60)
            assert recorder.wait(60) == 0
    assert_all_are_there(trace, truths(stdout))
