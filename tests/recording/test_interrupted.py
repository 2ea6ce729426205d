"""What comes in between: signals to everybody, somebody who is killed, questions that fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from profinfer.commands.record import _LiveLine
from profinfer.config import Config
from profinfer.converting.converter import Converter
from profinfer.errors import TargetError
from profinfer.output import Lent
from profinfer.recording.events import Events
from profinfer.recording.planned import _unless_it_ends
from profinfer.recording.recorded import Recorded
from profinfer.recording.recorder import Server, pair
from profinfer.recording.recording import Recording
from profinfer.recording.result import Progress, describe_status
from profinfer.recording.signals import EndingSignals
from tests.support import (
    ENGINE_ONLY,
    PROFINFER,
    Engine,
    double_fixture,
    family,
    finish,
    first_line,
    is_running,
    run,
    started,
)

__all__ = ["double_fixture"]

SLOW = ("--work-us", 499, "--decode", 100_003)


def children(process: subprocess.Popen[str]) -> dict[str, int]:
    """Of a front end that records: its server, the recorder, the command."""
    assert first_line(process).startswith("recording ")
    return family(process.pid)


def test_of_two_questions_either_may_fail_first(double: Engine, tmp_path: Path) -> None:
    """What a recording is made with is asked before the counters, and has no answer."""
    options = ("--loader", "bcc", "--attach", "uprobe_multi", "--counters", "page-faults")
    done = run(double, "record", "-o", tmp_path / "t", *options, "--", "true", timeout=30)
    assert done.returncode == 4
    assert "no probes by uprobe_multi link: BCC loads no programs for" in done.stderr


def test_a_signal_to_everybody_ends_the_recording_alone(double: Engine, tmp_path: Path) -> None:
    """As timeout sends it, and whoever stops a service."""
    command = ["record", *ENGINE_ONLY, "-o", tmp_path / "t", "--", double.program(), *SLOW]
    with started(double, "setsid", *PROFINFER, *command) as front:
        children(front)
        assert os.getpgid(front.pid) == front.pid
        os.killpg(front.pid, signal.SIGTERM)
        code, said = finish(front)
    assert code == 0, said
    assert "known was ended by SIGTERM" in said
    assert (tmp_path / "t").stat().st_size > 0
    assert "unexpectedly" not in said


def test_a_killed_recorder_leaves_the_command_as_it_is(double: Engine, tmp_path: Path) -> None:
    command = ["record", *ENGINE_ONLY, "-o", tmp_path / "t", "--", double.program(), *SLOW]
    with started(double, *PROFINFER, *command) as front:
        processes = children(front)
        try:
            os.kill(processes["profinfer-rec"], signal.SIGKILL)
            front.wait(30)  # what it writes has room in the pipes
            assert front.returncode == 4
            assert is_running(processes["known"])
        finally:
            os.kill(processes["known"], signal.SIGKILL)


def test_a_recorder_that_is_killed_at_the_very_end_is_missed(
    double: Engine, tmp_path: Path
) -> None:
    """While it waits for the command, whose engine has ended long ago."""
    script = f"{double.program()} > /dev/null; echo over; exec sleep 20 > /dev/null 2>&1"
    command = ["record", *ENGINE_ONLY, "-o", tmp_path / "t", "--", "sh", "-c", script]
    with started(double, *PROFINFER, *command) as front:
        recorder = children(front)["profinfer-rec"]
        assert front.stdout is not None
        assert front.stdout.readline() == "over\n"
        time.sleep(1.5)
        os.kill(recorder, signal.SIGKILL)
        code, said = finish(front)
    assert code == 4
    assert "the recorder was ended by SIGKILL" in said


def test_who_ignores_its_childrens_end_records_all_the_same(double: Engine, tmp_path: Path) -> None:
    """As some that start others do, who inherit it."""
    ignoring = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN);"
    wrapper = (sys.executable, "-c", f"{ignoring} os.execv(sys.argv[1], sys.argv[1:])")
    command = ("record", *ENGINE_ONLY, "-o", tmp_path / "t", "--", double.program())
    done = run(double, *command, wrapper=wrapper, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "known exited with status 0" in done.stderr


@pytest.mark.parametrize("is_killed", [False, True])
def test_of_a_process_that_ends_meanwhile_nothing_else_is_said(is_killed: bool) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        if is_killed:
            process.kill()
        said = f"process {process.pid} ended before it was probed" if is_killed else "cannot read"
        with pytest.raises(TargetError, match=said), _unless_it_ends(process.pid):
            raise TargetError("cannot read what was there before")
        process.kill()


@pytest.mark.parametrize(
    ("status", "said"),
    [(0x300, "exited with status 3"), (15, "was ended by SIGTERM"), (40, "was ended by signal 40")],
)
def test_a_status_in_words(status: int, said: str) -> None:
    assert describe_status(status) == said


def test_rates_are_those_of_the_last_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """A token every two seconds is half a token a second, not two now and then."""
    live = _LiveLine()
    for half in range(20):
        live.show(Progress(half / 2, tokens=half // 4, records=500 * half))
        line = capsys.readouterr().err
    assert "0.5 tokens/s" in line
    assert "1,000 records/s" in line


def test_who_is_interrupted_while_the_trace_is_made_hears_where_the_capture_is(
    double: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from profinfer.__main__ import main

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Converter, "feed", interrupted)
    trace = tmp_path / "t"
    command = ["record", *ENGINE_ONLY, "-o", str(trace), "--", double.program()]
    assert main(command) == 130
    said = capsys.readouterr().err
    assert f"profinfer convert {trace}.capture TRACE" in said
    monkeypatch.undo()
    assert run(double, "convert", f"{trace}.capture", tmp_path / "u").returncode == 0


def _no_capture() -> Lent:
    raise AssertionError("nothing is recorded")


def test_what_a_recorder_says_while_the_command_is_waited_for_is_its_last_word() -> None:
    """Its end is not taken for the command's, nor waited for again."""
    (to_server, _server), (link, recorder) = pair(), pair()
    server, said = SimpleNamespace(events=deque(), link=to_server), {"event": "ended", "notes": []}
    one = object.__new__(Recorded)
    one.link, one.ended = link, None
    recording = Recording(Config(command=["x"]), _no_capture, print, print)
    with EndingSignals() as signals:
        recording._events = Events(signals, cast(Server, server), [one])
        recorder.send(json.dumps(said).encode())
        recorder.close()
        assert [recording._following(0.1) for _ in range(3)] == [
            {"event": "told"}, {"event": "told"}, {"event": "nothing"},
        ]  # fmt: skip
    assert one.ended == said
