"""What becomes of a launched command when its recording is over: it is waited for, or left running.
Nothing ends it but itself, the terminal, or --kill."""

from __future__ import annotations

import time
from collections.abc import Callable

from profinfer.config import Config
from profinfer.recording.family import Family
from profinfer.recording.recorder import Message
from profinfer.recording.signals import EndingSignals

_GRACE_S, _PATIENCE_S = 1.0, 20.0
"""Seconds in which a command ends as a rule when its engine has, and must when it is made to."""


class CommandEnd:
    """Of one command."""

    def __init__(
        self, family: Family, config: Config, signals: EndingSignals,
        following: Callable[[float | None], Message], say: Callable[[str], None],
    ) -> None:  # fmt: skip
        """`following`: the next event, or "nothing" after so many seconds."""
        self._family = family
        self._config = config
        self._signals = signals
        self._following = following
        self._say = say
        self._is_left = False
        self._name = f"{config.command[0]} ({family.pid})"

    def leave(self, *, is_killed: bool) -> None:
        """The recording is over, whyever: the command runs on, or `is_killed`. Ctrl-C has been sent
        to it by the terminal: nothing more is sent, and it is waited for until the next signal."""
        if self._family.status is not None or self._is_left:
            return
        if self._signals.name == "SIGINT":
            self._signals.forget()
            if not self._wait(_GRACE_S) and not self._signals.name:
                self._say(f"waiting for {self._name} to end: another Ctrl-C leaves it running")
                self._wait(None)
        elif is_killed:
            self._family.terminate()
            self._wait(_PATIENCE_S)
        self._is_left = self._family.status is None
        if self._is_left:
            name, pid = self._config.command[0], self._family.pid
            self._say(f"{name} is left running (PID {pid})")

    def _wait(self, seconds: float | None) -> bool:
        """Until the command has ended, but not longer than that (None: than it takes), nor when a
        signal comes. Whether nothing is left to wait for: it has ended, or who would tell us."""
        until = None if seconds is None else time.monotonic() + seconds
        while self._family.status is None:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return False
            message = self._following(left)
            if message["event"] == "exited":
                self._family.status = int(message["status"])
            elif message["event"] == "stopped":
                self._family.go(int(message["pid"]))
            elif message["event"] in ("server gone", "gone"):
                return True
            elif message["event"] == "signal":
                return False
        return True
