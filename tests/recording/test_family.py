"""Every process of a family that computes is recorded, however it came, each exactly as it was."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import (
    ENGINE_ONLY,
    PROFINFER,
    Engine,
    Recording,
    double_fixture,
    first_line,
    pairs,
    record,
    run,
    started,
    wait_for,
)

__all__ = ["double_fixture"]

_SMALL = "--threads 2 --layers 2 --prompt 5 --decode 3"
_BY_PROCESS = """
    SELECT pid, COUNT(*) FROM slice JOIN thread_track ON track_id = thread_track.id
    JOIN thread USING (utid) JOIN process USING (upid) WHERE category = 'operator' GROUP BY 1"""
_GRAPHS = """
    SELECT pid, COUNT(DISTINCT EXTRACT_ARG(arg_set_id, 'debug.graph_id')) FROM slice
    JOIN thread_track ON track_id = thread_track.id JOIN thread USING (utid)
    JOIN process USING (upid) WHERE slice.name GLOB 'graph*' GROUP BY 1"""


def assert_exact(recording: Recording, processes: int) -> None:
    """Operators of each process are as many as it has executed."""
    executed = {
        truth["pid"]: sum(each["extra"] + each["fused"] for each in truth["threads"])
        for truth in recording.truths
    }
    assert len(executed) == processes
    assert pairs(recording.rows(_BY_PROCESS)) == executed
    assert recording.stderr.count("recording ") == processes
    assert " 0 lost " in recording.stderr


def test_a_script_that_runs_one_after_the_other(double: Engine, tmp_path: Path) -> None:
    known = double.program()
    script = f"{known} {_SMALL}; sleep 0.2; {known} {_SMALL} --layers 3; exit 7"
    target = ("/bin/sh", "-c", script)
    with record(double, tmp_path / "t", "--level", "operator", target=target) as recording:
        assert_exact(recording, 2)
        assert "/bin/sh exited with status 7" in recording.stderr
        assert "(the command ended)" in recording.stderr


def test_two_at_once_in_one_trace(double: Engine, tmp_path: Path) -> None:
    """With the scheduler of the whole machine, recorded once."""
    known = double.program()
    script = f"{known} {_SMALL} --decode 40 & {known} {_SMALL} --decode 40 --layers 3; wait"
    target = ("/bin/sh", "-c", script)
    with record(double, tmp_path / "t", "--scheduler", "auto", target=target) as recording:
        assert_exact(recording, 2)
        [[twice]] = recording.rows(
            "SELECT COUNT(*) FROM sched a JOIN sched b ON a.cpu = b.cpu AND a.id < b.id"
            " AND a.ts < b.ts + b.dur AND b.ts < a.ts + a.dur"
        )
        assert twice == 0


@pytest.mark.parametrize("options", [(), ("--probes", "recording"), ("--probes", "direct")])
def test_forked_with_the_engine_and_executing_nothing(
    options: tuple[str, ...], double: Engine, tmp_path: Path
) -> None:
    target = ("known", *_SMALL.split(), "--fork")
    options = ("--level", "operator", *options)
    with record(double, tmp_path / "t", *options, target=target) as recording:
        assert_exact(recording, 2)


_POOL = """
import ctypes, os, sys, time
if sys.argv[1] == "before":
    ctypes.CDLL(sys.argv[2])
for _ in range(2):
    if os.fork() == 0:
        time.sleep(0.1)
        library = ctypes.CDLL(sys.argv[2])
        os.execv(sys.argv[3], sys.argv[3:])
for _ in range(2):
    os.wait()
"""


@pytest.mark.parametrize("when", ["before", "later"])
def test_a_supervisor_that_computes_in_children(when: str, double: Engine, tmp_path: Path) -> None:
    """It has the library mapped itself, or its children load it; then they become the engine."""
    library, known = double.folder / "libknown.so", double.program()
    target = (sys.executable, "-c", _POOL, when, library, known, *_SMALL.split())
    with record(double, tmp_path / "t", "--level", "operator", target=target) as recording:
        executed = {truth["pid"] for truth in recording.truths}
        assert len(executed) == 2
        found = pairs(recording.rows(_BY_PROCESS))
        assert found.keys() == executed
        idle = [line for line in recording.stderr.splitlines() if "computed nothing" in line]
        # Each child, too, until it has become another program, where it has loaded it itself.
        assert len(idle) == {"before": 1, "later": 2}[when], recording.stderr


def test_the_program_becomes_another_one(double: Engine, tmp_path: Path) -> None:
    """One process, two engines, one after the other."""
    known, later = double.program(), double.program("known-dl")
    script = f"exec {known} {_SMALL} --exec {later}"
    target = ("/bin/sh", "-c", script)
    del target
    code = "import ctypes, os, sys\nctypes.CDLL(sys.argv[1])\nos.execv(sys.argv[2], sys.argv[2:])\n"
    words = (sys.executable, "-c", code, double.folder / "libknown.so", later, *_SMALL.split())
    with record(double, tmp_path / "t", "--level", "operator", target=words) as recording:
        truth = recording.truth
        executed = sum(each["extra"] + each["fused"] for each in truth["threads"])
        assert pairs(recording.rows(_BY_PROCESS)) == {truth["pid"]: executed}


def test_follow(double: Engine, tmp_path: Path) -> None:
    """What a running process has started and starts is recorded, and nothing of it is ended."""
    known, go, trace = double.program(), tmp_path / "go", tmp_path / "t"
    script = (
        f"while ! [ -e {go} ]; do sleep 0.05; done; {known} {_SMALL}; {known} {_SMALL}; sleep 0.3;"
        f" touch {tmp_path}/went-on; exec sleep 60"
    )
    with started(double, "/bin/sh", "-c", script) as shell:
        command = [*PROFINFER, "record", *ENGINE_ONLY, "--level", "operator", "-o", trace]
        with started(double, *command, "--pid", shell.pid, "--follow") as front:
            wait_for("the recorder", lambda: _follows(front.pid))
            go.touch()
            assert first_line(front).startswith("recording known (")
            wait_for("the script", (tmp_path / "went-on").exists)
            front.send_signal(signal.SIGINT)
            said = front.communicate(timeout=30)[1]
        assert shell.poll() is None
        shell.kill()
        out = shell.communicate(timeout=20)[0]
    recording = Recording(trace, out, "recording \n" + said, front.returncode)
    assert front.returncode == 0, said
    assert_exact(recording, 2)
    recording.close()


def _follows(front: int) -> bool:
    """Whether its recorder is there, and has nothing to do yet."""
    path = Path(f"/proc/{front}/task/{front}/children")
    for child in path.read_text().split():
        with contextlib.suppress(OSError):  # it has just ended, or let go of a file
            wait = Path(f"/proc/{child}/wchan").read_text()
            programs = [os.readlink(f) for f in Path(f"/proc/{child}/fd").iterdir()]
            if "poll" in wait and any("bpf-prog" in each for each in programs):
                return True
    return False


def test_several_captures_of_one_recording(double: Engine, tmp_path: Path) -> None:
    """They are kept one for each process, and make the same trace."""
    known = double.program()
    raw, trace, again = (tmp_path / name for name in ("raw", "t.pftrace", "again.pftrace"))
    script = f"{known} {_SMALL}; {known} {_SMALL}"
    with record(double, trace, "--raw", raw, target=("/bin/sh", "-c", script)) as recording:
        assert_exact(recording, 2)
    assert sorted(x.name for x in tmp_path.iterdir()) == ["raw", "raw.2", "t.pftrace"]
    made = run(double, "convert", raw, f"{raw}.2", again)
    assert made.returncode == 0, made.stderr
    assert again.read_bytes() == trace.read_bytes()
    one = run(double, "convert", f"{raw}.2", tmp_path / "second.pftrace")
    assert one.returncode == 0, one.stderr
    with record(
        double, tmp_path / "u", "--raw", tmp_path / "other", target=(known, *_SMALL.split())
    ):
        pass
    mixed = run(double, "convert", raw, tmp_path / "other", tmp_path / "mixed.pftrace")
    assert mixed.returncode == 8, mixed.stderr
    assert "captures of different recordings" in mixed.stderr
    assert not (tmp_path / "mixed.pftrace").exists()


def test_one_that_holds_an_engine_and_computes_nothing_is_named(
    double: Engine, tmp_path: Path
) -> None:
    known = double.program()
    script = f"{known} --prompt 0 --decode 0 & {known} {_SMALL}; wait"
    trace = tmp_path / "t"
    with record(double, trace, "--level", "operator", target=("/bin/sh", "-c", script)) as it:
        computed = [x for x in it.truths if x["llama_decode"]]
        [idle] = [x for x in it.truths if not x["llama_decode"]]
        executed = sum(each["extra"] + each["fused"] for each in computed[0]["threads"])
        assert pairs(it.rows(_BY_PROCESS)) == {computed[0]["pid"]: executed}
        assert f"process {idle['pid']} (known) holds an engine and has computed nothing" in (
            it.stderr
        ), it.stderr


def test_one_that_loads_what_cannot_be_probed_ends_no_others(
    double: Engine, tmp_path: Path
) -> None:
    """A breakpoint stands where one of ours would."""
    known, library = double.program(), tmp_path / "libggml-odd.so"
    name = "ggml_backend_graph_compute_async"
    source = f'asm(".globl {name}\\n.type {name},@function\\n{name}: int3; ret\\n.size {name},2");'
    gcc = ["gcc", "-shared", "-nostdlib", "-xc", "-", "-o", str(library)]
    subprocess.run(gcc, input=source, text=True, check=True)
    script = (
        f"{known} {_SMALL}; {sys.executable} -c 'import ctypes; ctypes.CDLL("
        f'"{Path(known).parent}/libknown.so"); ctypes.CDLL("{library}")\'; {known} {_SMALL}'
    )
    target = ("/bin/sh", "-c", script)
    with record(double, tmp_path / "t", "--level", "operator", target=target) as recording:
        assert "is recorded no further: cannot attach" in recording.stderr
        assert pairs(recording.rows(_BY_PROCESS)) == {
            truth["pid"]: sum(each["extra"] + each["fused"] for each in truth["threads"])
            for truth in recording.truths
        }
        assert len(recording.truths) == 2


def test_what_has_no_engine_yet_is_another_program_all_the_same(
    double: Engine, tmp_path: Path
) -> None:
    """It loads one later, which need not be the one that was described before."""
    code = (
        "import ctypes, os, sys\nctypes.CDLL(sys.argv[1])\n"
        "if sys.argv[2:]: os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:-1]])\n"
        "else: os.execv(sys.argv[1].replace('libknown.so', 'known'), ['known'])\n"
    )
    words = (sys.executable, "-c", code, double.folder / "libknown.so", "again")
    with record(double, tmp_path / "t", "--level", "operator", target=words) as recording:
        assert recording.stderr.count("recording ") == 3, recording.stderr
        truth = recording.truth
        executed = sum(each["extra"] + each["fused"] for each in truth["threads"])
        assert pairs(recording.rows(_BY_PROCESS)) == {truth["pid"]: executed}


def test_a_thread_that_becomes_another_program(double: Engine, tmp_path: Path) -> None:
    """As Go's programs do: the first thread ends, the process does not."""
    code = (
        "import os, sys, threading\n"
        "threading.Thread(target=os.execv, args=(sys.argv[1], sys.argv[1:])).start()"
    )
    words = (sys.executable, "-c", code, double.program(), *_SMALL.split())
    with record(double, tmp_path / "t", "--level", "operator", target=words) as recording:
        assert_exact(recording, 1)


def test_a_file_that_is_named_like_a_loader_ends_nothing(double: Engine, tmp_path: Path) -> None:
    """A breakpoint stands where it would be watched."""
    library, name = tmp_path / "ld-odd.so", "_dl_debug_state"
    source = f'asm(".globl {name}\\n.type {name},@function\\n{name}: int3; ret\\n.size {name},2");'
    gcc = ["gcc", "-shared", "-nostdlib", "-xc", "-", "-o", str(library)]
    subprocess.run(gcc, input=source, text=True, check=True)
    script = f"LD_PRELOAD={library} sh -c 'cat /dev/null; :'; {double.program()} {_SMALL}"
    target = ("/bin/sh", "-c", script)
    with record(double, tmp_path / "t", "--level", "operator", target=target) as recording:
        assert "cannot watch what process" in recording.stderr
        assert len(recording.truths) == 1
        assert pairs(recording.rows(_BY_PROCESS)).keys() == {recording.truth["pid"]}
