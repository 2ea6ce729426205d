"""In a PID namespace of its own, as a container has one, all that is recorded bears the numbers of
that namespace, and who is outside of it one that is nobody's there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from profinfer.records.capture import FrameKind, read_capture
from profinfer.records.dtypes import RECORD, Kind
from profinfer.scheduling.cpu_chain import STAND_IN
from tests.conftest import require
from tests.recorder.recording import SHORT, TIMEOUT, convert, frame_json
from tests.recording.helpers import (
    KERNELS_OWN,
    Rows,
    Truth,
    assert_matches,
    number,
    renumbered,
    rows,
)
from tests.recording.test_memory import FAULTER, write_model

STRANGERS = 1_000_000_000
"""More than the machine's numbers those outside bear (bpf/records.h)."""
APART = ("unshare", "--pid", "--fork", "--mount-proc")
HINT = "hint: give the container the machine's PIDs (docker run --pid=host)"
ENGINE = ("--threads", 2, "--layers", 3, "--prompt", 17, "--decode", 40, "--work-us", 100,
          "--hold", 1000)  # fmt: skip
"""It stays until the recorder has looked how long its threads waited."""

ATTACHED = """
engine=$1 options=$2 recorder=$3 number=$4
shift 4
echo $((number - 1)) >/proc/sys/kernel/ns_last_pid
"$engine" $options --wait go 2>ready &
pid=$!
until [ -s ready ]; do sleep 0.02; done
mkfifo said
while read -r line; do
    echo "$line" >&2
    case $line in recording*) : >go ;; esac
done <said &
"$recorder" --pid $pid "$@" 2>said
code=$?
wait
exit $code
"""
"""Nothing begins or ends there while the recorder looks around: what was gone before it came to its
name would have none."""
THREADS = "SELECT DISTINCT tid, thread.name FROM thread JOIN sched USING (utid) WHERE tid > 0"
OPERATORS = """
SELECT tid, count(), sum(EXISTS(
  SELECT 1 FROM sched
  WHERE sched.utid = thread.utid AND sched.ts <= slice.ts AND slice.ts < sched.ts + sched.dur
))
FROM slice JOIN thread_track ON slice.track_id = thread_track.id JOIN thread USING (utid)
WHERE slice.category = 'operator' GROUP BY tid"""
"""How many began in each thread, and how many of them while it ran."""
TWICE = """
SELECT count() FROM sched AS a JOIN sched AS b USING (utid) JOIN thread USING (utid)
WHERE tid > 0 AND a.cpu < b.cpu AND a.ts < b.ts + b.dur AND b.ts < a.ts + a.dur"""
"""How often a thread ran on two CPUs at once."""


def apart(
    *command: object, folder: Path | None = None, means: tuple[str, ...] = APART
) -> subprocess.CompletedProcess[str]:
    """Runs a command as a container would; whatever it leaves behind ends with it."""
    require("unshare (util-linux)", shutil.which("unshare"))
    return subprocess.run(
        [*means, *map(str, command)],
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT,
        check=False,
    )  # fmt: skip


@pytest.fixture(scope="module", name="outsider")
def outsider_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that uses a CPU."""
    program = tmp_path_factory.mktemp("outside") / "the-outsider"
    found = shutil.which("yes")
    require("yes (coreutils)", found)
    shutil.copy(str(found), program)
    return program


@pytest.mark.parametrize("mode", ["system", "target"])
def test_a_process_that_runs_there(
    mode: str, recorder: Path, plan: Path, built: Path, outsider: Path, tmp_path: Path
) -> None:
    """Every call on its thread, threads run when they do, and nobody bears another's name: not even
    that of who uses a CPU all the time and has the engine's number outside."""
    capture = tmp_path / "t.raw"
    words = ("--plan", plan, "-o", capture, "--scheduler", mode, "--block-io")
    with subprocess.Popen([outsider], stdout=subprocess.DEVNULL) as stranger:
        try:
            options = " ".join(map(str, ENGINE))
            done = apart(
                "sh", "-c", ATTACHED, "sh", built / "known", options, recorder,
                stranger.pid, *words, folder=tmp_path,
            )  # fmt: skip
        finally:
            stranger.kill()
    assert done.returncode == 0, done.stderr
    assert "threads outside this PID namespace bear the machine's numbers" in done.stderr
    truth: Truth = json.loads(done.stdout)
    tids = {thread["tid"] for thread in truth["threads"]}
    assert truth["pid"] == stranger.pid
    trace = convert(capture)
    assert_matches(trace, truth, "barrier", beside=KERNELS_OWN)
    threads, operators, twice = rows(trace, THREADS, OPERATORS, TWICE)
    assert {number(tid) for tid, _, _ in operators} == tids
    assert twice == [(0,)]
    for tid, began, ran in operators:
        # Some virtual machines run no program at some switches.
        assert number(ran) >= 0.9 * number(began), tid
    check_names(threads, tids, stranger.pid if mode == "system" else None)
    start = frame_json(capture, FrameKind.START)
    assert start["target"]["pid"] == truth["pid"]
    assert start["pid_namespace"]["strangers_from"] == STRANGERS
    end = frame_json(capture, FrameKind.END)
    assert end["threads_waited_s"] is not None


def check_names(threads: Rows, mine: set[int], stranger: int | None) -> None:
    """The engine's threads are its own, and so is whoever else lives there; all others are
    elsewhere."""
    names = {number(tid): name for tid, name in threads}
    assert {names[tid] for tid in mine} == {"compute 0", "compute 1"}
    inside = {name for tid, name in names.items() if tid < STAND_IN}
    assert inside <= {"compute 0", "compute 1", "known", "sh", "profinfer-recor"}
    if stranger:
        assert names[STRANGERS + stranger] == "the-outsider"
        assert not {None, "?"} & set(names.values())


@pytest.mark.parametrize("transport", ["ring", "perf"])
@pytest.mark.parametrize("below", [(), ("unshare", "--pid", "--fork")], ids=["there", "below"])
def test_a_command(
    below: tuple[str, ...], transport: str, recorder: Path, plan: Path, built: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Also in a namespace below that one: it has numbers of both."""
    capture = tmp_path / "t.raw"
    done = apart(
        recorder, "--plan", plan, "-o", capture, "--transport", transport, "--", "sh", "-c",
        'true; "$@"; exit 7', "sh", *below, built / "known", *SHORT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "sh exited with status 7" in done.stderr
    truth: Truth = json.loads(done.stdout)
    trace = convert(capture)
    [operators] = rows(trace, OPERATORS)
    above = sorted(number(tid) for tid, _, _ in operators)
    assert (above == [t["tid"] for t in truth["threads"]]) == (not below)
    own = (thread["tid"] for thread in truth["threads"])
    seen = renumbered(truth, dict(zip(own, above, strict=True)))
    assert_matches(trace, seen, "barrier", beside=KERNELS_OWN)
    for tid, began, ran in operators:
        assert number(ran) >= 0.9 * number(began), tid


def test_faults_are_those_that_the_kernel_counts(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture, model = tmp_path / "t.raw", tmp_path / "model.gguf"
    write_model(model)
    done = apart(
        recorder, "--plan", plan, "-o", capture, "--faults", "--block-io", "--scheduler", "off",
        "--", "sh", "-c", 'echo | "$@"', "sh", sys.executable, FAULTER, built / "libknown.so",
        model,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    faults = of_kind(capture, Kind.FAULT)
    truth: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert sum(thread["major"] for thread in truth["threads"]) > 100
    for thread in truth["threads"]:
        mine = faults[faults["tid"] == thread["tid"]]
        mine = mine[(mine["ts"] >= thread["begin"]) & (mine["ts"] <= thread["end"])]
        major = int(mine["b"].sum())
        assert (len(mine) - major, major) == (thread["minor"], thread["major"]), thread["name"]
    assert model.stat().st_ino in of_kind(capture, Kind.FILE_READ)["b"] & ((1 << 58) - 1)


def of_kind(capture: Path, kind: Kind) -> Any:
    """The records of a kind."""
    found = [
        np.frombuffer(frame.data, RECORD)
        for frame in read_capture(capture)
        if frame.kind == FrameKind.RECORDS
    ]
    every = np.concatenate(found)
    return every[every["kind"] == kind]


TYPES = "/sys/kernel/btf/vmlinux"
REFUSED = {
    "another namespace's /proc": (
        ("unshare", "--pid", "--fork"), 4, "/proc is another PID namespace's", HINT
    ),
    "children elsewhere": (
        (*APART, "unshare", "--pid"), 4, "what is started here lives in another PID namespace", HINT
    ),
    "a kernel without types": (
        (*APART, "sh", "-c", f'mount --bind /dev/null {TYPES}; exec "$@"', "sh"), 4,
        f"{TYPES} cannot be read", HINT,
    ),
    "a user namespace": (
        (*APART, "--user", "--map-root-user"), 3,
        "the root of a user namespace of its own has no power over the kernel",
        "hint: run it outside of that",
    ),
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSED)
@pytest.mark.parametrize("launches", [True, False])
def test_where_it_cannot_be_had_it_is_refused_at_once(
    launches: bool, why: str, recorder: Path, plan: Path, tmp_path: Path
) -> None:
    means, code, said, hint = REFUSED[why]
    of = ("--", "touch", tmp_path / "x") if launches else ("--pid", 1)
    done = apart(recorder, "--plan", plan, "-o", tmp_path / "t.raw", *of, means=means)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert hint in done.stderr
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "t.raw").exists()
