"""SIGINT and SIGTERM, as something that can be waited for beside sockets."""

from __future__ import annotations

import os
import signal
from typing import Any

_ENDING = (signal.SIGINT, signal.SIGTERM)


class EndingSignals:
    """As long as it lasts, these signals end nothing by themselves. A context manager."""

    def __init__(self) -> None:
        self.name = ""
        """Of the first one that came, "" before that."""
        self._usual: dict[int, Any] = {}
        self._pipe = (-1, -1)
        self._usual_fd = -1

    def __enter__(self) -> EndingSignals:
        self._pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._usual_fd = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        for number in _ENDING:
            self._usual[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, action in self._usual.items():
            signal.signal(number, action)
        signal.set_wakeup_fd(self._usual_fd)
        for end in self._pipe:
            os.close(end)

    def _on_signal(self, number: int, _frame: object) -> None:
        self.name = self.name or signal.Signals(number).name

    def fileno(self) -> int:
        """Readable once one came, until `clear`."""
        return self._pipe[0]

    def clear(self) -> None:
        """Whoever waits for the next one has seen the last."""
        os.read(self._pipe[0], 64)

    def forget(self) -> None:
        """The last one has been obeyed: `name` tells of the next."""
        self.name = ""
