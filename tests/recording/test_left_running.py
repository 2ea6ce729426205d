"""A launched command lives as long as it would have without us."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.recording.test_lifecycle import DIRECT, ENDLESS, SLOW, clean, text
from tests.support import (
    ENGINE_ONLY,
    PROFINFER,
    Engine,
    Recording,
    double_fixture,
    family,
    first_line,
    is_running,
    record,
    started,
    wait_for,
)

__all__ = ["double_fixture"]


def ended(recording: Recording) -> tuple[object, object]:
    """Why, and with which status of the command."""
    rows = recording.rows(
        "SELECT EXTRACT_ARG(arg_set_id, 'debug.reason'),"
        " EXTRACT_ARG(arg_set_id, 'debug.command_status')"
        " FROM slice WHERE name = 'recording ended'"
    )
    ((reason, status),) = rows
    return reason, status


@pytest.mark.parametrize("how", ["duration", "iterations", "SIGTERM"])
def test_a_launched_command_is_left_running(how: str, double: Engine, tmp_path: Path) -> None:
    """Unprobed, and with its streams; what ends is the recording."""
    trace, capture = tmp_path / "t.pftrace", tmp_path / "t.pftrace.capture"
    limits: dict[str, tuple[object, ...]] = {
        "duration": ("--duration", 1),
        "iterations": ("--iterations", "0-3"),
    }
    options = limits.get(how, ())
    words = ["record", *ENGINE_ONLY, "-o", trace, *DIRECT, *options, "--", double.program(), *SLOW]
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("w") as stdout, err.open("w") as stderr:
        front = subprocess.Popen(
            [*map(str, (*PROFINFER, *words))],
            stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
        )  # fmt: skip
    known = 0
    try:
        wait_for("the command", lambda: "known" in family(front.pid))
        known = family(front.pid)["known"]
        if how == "SIGTERM":
            wait_for("records", lambda: capture.exists() and capture.stat().st_size > 100_000)
            front.send_signal(signal.SIGTERM)
        code, said = front.wait(60), err.read_text()
        assert code == 0, said
        assert is_running(known)
        assert f"known is left running (PID {known})" in said
        assert "was ended by" not in said
        assert text(known, double) == clean(double)
        assert Path(f"/proc/{known}/fd/1").resolve() == out
    finally:
        front.kill()
        front.wait()
        if known:
            os.kill(known, signal.SIGKILL)
    recording = Recording(trace, "", said, code)
    assert recording.session.import_errors() == []
    reasons = {"duration": "the duration is over", "iterations": "the iterations are complete"}
    assert ended(recording) == (reasons.get(how, "SIGTERM received"), None)
    assert recording.count("operator") > 100
    recording.close()


def test_whoever_wants_the_command_to_end_says_so(double: Engine, tmp_path: Path) -> None:
    trace = tmp_path / "t.pftrace"
    options = ("--level", "operator", "--duration", 1, "--kill")
    with record(double, trace, *options, target=("known", *ENDLESS)) as recording:
        assert "known was ended by SIGTERM" in recording.stderr
        assert ended(recording) == ("the duration is over", -signal.SIGTERM)


def test_ctrl_c_is_sent_once_by_the_terminal_and_the_command_is_waited_for(
    double: Engine, tmp_path: Path
) -> None:
    """It takes a while to end, and is not hurried; and what it leaves behind stays."""
    trace = tmp_path / "t.pftrace"
    script = f"trap 'sleep 3; exit 3' INT; {double.program()} --decode 1000003 & wait"
    words = ["record", *ENGINE_ONLY, "-o", trace, "--level", "operator", "--", "sh", "-c", script]
    with started(double, "setsid", *PROFINFER, *words) as front:
        first_line(front)
        known = family(front.pid)["known"]
        os.killpg(front.pid, signal.SIGINT)
        try:
            code = front.wait(60)
            assert is_running(known), "sh has its background processes ignore SIGINT"
        finally:
            os.kill(known, signal.SIGKILL)
        said = front.communicate(timeout=20)[1]
    assert code == 0, said
    assert "waiting for sh (" in said
    assert "sh exited with status 3" in said
    recording = Recording(trace, "", said, code)
    assert ended(recording) == ("SIGINT received", 3)
    recording.close()


def test_the_end_of_the_engine_is_not_the_commands_end(double: Engine, tmp_path: Path) -> None:
    """As where a first process only tries the library, or a script goes on."""
    script = f"{double.program()} --decode 5; sleep 3; echo second > {tmp_path}/went-on; exit 4"
    options = ("--level", "operator")
    trace = tmp_path / "t"
    with record(double, trace, *options, target=("/bin/sh", "-c", script)) as recording:
        assert (tmp_path / "went-on").read_text() == "second\n"
        assert "/bin/sh exited with status 4" in recording.stderr
        truth = recording.truth
        executed = sum(t["extra"] + t["fused"] for t in truth["threads"])
        assert recording.count("operator") == executed
        assert ended(recording) == ("the target ended", 4)


def test_a_second_ctrl_c_leaves_a_command_that_does_not_end(double: Engine, tmp_path: Path) -> None:
    words = ["record", *ENGINE_ONLY, "-o", tmp_path / "t", "--", "sh", "-c"]
    script = f"trap '' INT; {double.program()} --decode 1000003"
    with started(double, "setsid", *PROFINFER, *words, script) as front:
        first_line(front)
        known = family(front.pid)["known"]
        try:
            os.killpg(front.pid, signal.SIGINT)
            assert "waiting for sh (" in first_line(front)
            os.killpg(front.pid, signal.SIGINT)
            assert front.wait(60) == 0
            assert is_running(known)
        finally:
            os.kill(known, signal.SIGKILL)
        said = front.communicate(timeout=20)[1]
    assert "sh is left running (PID " in said


def test_a_command_that_has_no_engine_yet_is_left_running(double: Engine, tmp_path: Path) -> None:
    """SIGTERM is for us alone."""
    words = ["record", "-o", tmp_path / "t", "--", "sh", "-c", "exec sleep 60 > /dev/null 2>&1"]
    with started(double, *PROFINFER, *words) as front:
        wait_for("the command", lambda: "sleep" in family(front.pid))
        pid = family(front.pid)["sleep"]
        try:
            front.send_signal(signal.SIGTERM)
            said = front.communicate(timeout=20)[1]
            assert front.returncode == 5
            assert is_running(pid)
        finally:
            os.kill(pid, signal.SIGKILL)
    assert "interrupted before sh loaded any ggml code" in said
    assert f"sh is left running (PID {pid})" in said
