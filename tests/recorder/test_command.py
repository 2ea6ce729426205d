"""`profinfer-recorder ... -- COMMAND`: the command is recorded from its engine's first call on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from profinfer.records.capture import FrameKind
from tests.recorder.recording import SHORT, STAYS, TIMEOUT, convert, frame_json
from tests.recording.helpers import Truth, assert_matches, ending, wait_until
from tests.support import ENGINE_ONLY


def run(
    recorder: Path, plan: Path, capture: Path, command: tuple[object, ...], *options: object
) -> subprocess.CompletedProcess[str]:
    """Runs and records a command to its end."""
    words = [recorder, "--plan", plan, "-o", capture, *ENGINE_ONLY, *options, "--", *command]
    return subprocess.run(
        [*map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=TIMEOUT, check=False,
    )  # fmt: skip


@contextmanager
def running(
    recorder: Path, plan: Path, capture: Path, command: tuple[object, ...], *options: object
) -> Iterator[tuple[subprocess.Popen[str], Truth]]:
    """The recorder of a command that has done its work and stays; in a session of its own."""
    words = [recorder, "--plan", plan, "-o", capture, *ENGINE_ONLY, *options, "--", *command]
    with subprocess.Popen(
        [*map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout
            truth: Truth = json.loads(process.stdout.readline())
            yield process, truth
        finally:
            process.kill()


@pytest.mark.parametrize("transport", ["ring", "perf"])
@pytest.mark.parametrize("attach", ["uprobe_multi", "perf_event"])
@pytest.mark.parametrize("program", ["known", "known-dl"])
def test_every_call_of_a_command_is_there(
    program: str, attach: str, transport: str, recorder: Path, plan: Path, built: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Also where it loads its engine later, which the plan's libraries tell."""
    capture = tmp_path / "t.raw"
    command = (built / program, *SHORT, "--exit-code", 9)
    options = ("--transport", transport, "--attach", attach)
    done = run(recorder, plan, capture, command, *options)
    assert done.returncode == 0, done.stderr
    assert f"{built / program} exited with status 9" in done.stderr
    start, end = (frame_json(capture, kind) for kind in (FrameKind.START, FrameKind.END))
    assert (start["transport"], start["attach"]) == (transport, attach)
    assert start["config"]["command"] == [str(word) for word in command]
    assert end["command_status"] == 9
    assert_matches(convert(capture), json.loads(done.stdout), "barrier")


def end_of(process: subprocess.Popen[str], pid: int) -> str:
    """What the recorder has said when it has ended, and left its command `pid` running."""
    try:
        assert process.wait(TIMEOUT) == 0
        assert Path(f"/proc/{pid}").exists()
    finally:
        os.kill(pid, signal.SIGKILL)
    said = process.communicate(timeout=TIMEOUT)[1]
    assert f"is left running (PID {pid})" in said
    return said


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_recorder_alone_ends_the_recording_alone(
    signum: signal.Signals, recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "t.raw"
    command = (built / "known", *SHORT, *STAYS)
    with running(recorder, plan, capture, command) as (process, truth):
        process.send_signal(signum)
        assert f"({signum.name} received)" in end_of(process, truth["pid"])
    trace = convert(capture)
    assert_matches(trace, truth, "barrier")
    assert ending(trace)["reason"] == f"{signum.name} received"
    assert frame_json(capture, FrameKind.END).get("command_status") is None


def test_with_ctrl_c_nothing_more_is_sent(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    """The terminal has sent it: here, nobody has. It is waited for, until there is another."""
    command = (built / "known", *SHORT, *STAYS)
    with running(recorder, plan, tmp_path / "t.raw", command) as (process, truth):
        process.send_signal(signal.SIGINT)
        assert process.stderr
        while "another Ctrl-C leaves it running" not in (line := process.stderr.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        end_of(process, truth["pid"])


def test_the_engines_end_is_not_the_commands_end(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    script = f"{built}/known {' '.join(map(str, SHORT))}; sleep 3; echo on; exit 4"
    done = run(recorder, plan, tmp_path / "t.raw", ("sh", "-c", script))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "on"
    assert "sh exited with status 4" in done.stderr
    assert frame_json(tmp_path / "t.raw", FrameKind.END)["command_status"] == 4


def test_ctrl_c_ends_recording_and_command(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    """It goes to all of the terminal's foreground processes."""
    capture = tmp_path / "t.raw"
    command = (built / "known", *SHORT, *STAYS)
    with running(recorder, plan, capture, command) as (process, truth):
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, said
    assert_matches(convert(capture), truth, "barrier")


def test_a_command_that_is_killed_is_told(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture = tmp_path / "t.raw"
    command = (built / "known", *SHORT, *STAYS)
    with running(recorder, plan, capture, command) as (process, truth):
        os.kill(truth["pid"], signal.SIGKILL)
        _, said = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, said
        assert "was ended by SIGKILL" in said
    assert frame_json(capture, FrameKind.END)["command_status"] == -signal.SIGKILL
    assert_matches(convert(capture), truth, "barrier")


def test_a_killed_recorder_leaves_a_command_that_goes_on(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture, command = tmp_path / "t.raw", (built / "known", *SHORT, "--hold", 1500)
    with running(recorder, plan, capture, command) as (process, truth):
        process.kill()
        process.wait(TIMEOUT)
        engine = Path(f"/proc/{truth['pid']}")
        assert engine.exists()
        wait_until("the command's own end", lambda: not engine.exists())
    wait_until("the recording's end", lambda: b'"reason"' in capture.read_bytes())
    trace = convert(capture)
    assert_matches(trace, truth, "barrier")


def test_after_the_duration_the_command_is_left_running(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture, command = tmp_path / "t.raw", (built / "known", *SHORT, *STAYS)
    with running(recorder, plan, capture, command, "--duration", 1) as (process, truth):
        assert "(the duration is over)" in end_of(process, truth["pid"])
    assert_matches(convert(capture), truth, "barrier")


def test_kill_ends_the_command_after_the_duration(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    capture, command = tmp_path / "t.raw", (built / "known", *SHORT, *STAYS)
    done = run(recorder, plan, capture, command, "--duration", 1, "--kill")
    assert done.returncode == 0, done.stderr
    assert "was ended by SIGTERM" in done.stderr
    assert_matches(convert(capture), json.loads(done.stdout), "barrier")
    assert frame_json(capture, FrameKind.END)["command_status"] == -signal.SIGTERM


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("true",), "true ended before it had loaded what "),
        (("/no/such/program",), "cannot run /no/such/program: No such file or directory"),
    ],
)
def test_a_command_without_the_engine(
    command: tuple[str, ...], message: str, recorder: Path, plan: Path, tmp_path: Path
) -> None:
    done = run(recorder, plan, tmp_path / "t.raw", command)
    assert done.returncode == 5
    assert message in done.stderr
    assert "hint: " in done.stderr
    assert not (tmp_path / "t.raw").exists()


def test_its_input_and_output_are_its_own(
    recorder: Path, plan: Path, built: Path, tmp_path: Path
) -> None:
    script = f"read word; echo got $word; exec {built}/known {' '.join(map(str, SHORT))}"
    words = [recorder, "--plan", plan, "-o", tmp_path / "t.raw", *ENGINE_ONLY, "--", "sh", "-c"]
    done = subprocess.run(
        [*map(str, words), script], input="something\n", capture_output=True, text=True,
        timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, truth = done.stdout.splitlines()
    assert first == "got something"
    assert_matches(convert(tmp_path / "t.raw"), json.loads(truth), "barrier")
