"""What a recording waits for: its recorders, their server, and the signals that end it."""

from __future__ import annotations

import select

from profinfer.recording.recorded import Recorded
from profinfer.recording.recorder import Message, Server, failure
from profinfer.recording.signals import EndingSignals


class Events:
    """Of one recording."""

    def __init__(self, signals: EndingSignals, server: Server, recorded: list[Recorded]) -> None:
        """`recorded`: whose recorders are listened to; it may change."""
        self._signals = signals
        self._server = server
        self._recorded = recorded
        self.root = -1
        """A pidfd whose end is told as "root ended", once."""

    def next(self, timeout: float | None = None) -> tuple[Recorded | None, Message]:
        """The next event, and of whose recorder, if it is of one; or that a "signal" came, a
        recorder is "gone", the "server gone", or (after `timeout` seconds) "nothing". Waits without
        waking up in between."""
        if self._server.events:
            return None, self._server.events.popleft()
        poll = select.poll()
        links = {each.link.fileno(): each for each in self._recorded if not each.link.is_over}
        server = -1 if self._server.link.is_over else self._server.link.fileno()
        for fd in (self._signals.fileno(), *links, server, self.root):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(None if timeout is None else timeout * 1e3)}
        for fd, each in links.items():
            if fd in ready:
                return each, each.link.next() or {"event": "gone"}
        if server in ready:
            return None, self._from_server()
        if self._signals.fileno() in ready:
            self._signals.clear()
            return None, {"event": "signal"}
        if self.root in ready:
            self.root = -1
            return None, {"event": "root ended"}
        return None, {"event": "nothing"}

    def _from_server(self) -> Message:
        message = self._server.link.next()
        if message is None:
            return {"event": "server gone"}
        if "answer" in message:
            return {"event": "answered"}
        if message["event"] == "failed":
            raise failure(message)
        if message["event"] == "recorder_exited":
            for each in self._recorded:
                if each.recorder == message["pid"]:
                    each.status = int(message["status"])
        return message
