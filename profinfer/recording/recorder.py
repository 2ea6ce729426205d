"""The recorder's other end: profinfer-recorder --serve launches, holds, lets go, and records.

bpf/recorder/serve.h says what is asked and what is told: JSON objects over sockets, with
descriptors riding along.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any

from profinfer.built import recorder_binary
from profinfer.errors import (
    KernelError,
    OutputError,
    PrivilegeError,
    ProbeError,
    ProfinferError,
    TargetError,
    UsageError,
)

_MAX_MESSAGE = 1 << 20
_SO_SNDBUFFORCE = 32
_PATIENCE = 10.0
"""Seconds that the recorder has to end in."""
_ERRORS: dict[int, type[ProfinferError]] = {
    error.exit_code: error
    for error in (UsageError, PrivilegeError, KernelError, TargetError, ProbeError, OutputError)
}

Message = dict[str, Any]


class Link:
    """One end of a socket."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self.is_over = False
        """Whether the other end is gone."""

    def fileno(self) -> int:
        """To wait for what is told; -1 when it is closed."""
        return self._end.fileno()

    def tell(self, verb: str, fds: Sequence[int] = (), **members: object) -> None:
        """Asks for something; nothing is said when the other end is gone, for reading says it.
        UsageError when that is too much."""
        # A command's words are bytes, whatever they mean; what goes into a capture is text.
        is_text = verb != "launch"
        text = json.dumps({"verb": verb, **members}, ensure_ascii=is_text)
        try:
            socket.send_fds(self._end, [text.encode(errors="surrogateescape")], fds)
        except (BrokenPipeError, ConnectionResetError):
            pass
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            raise UsageError(
                f"the recorder cannot be asked to {verb}: {len(text)} characters are too many"
            ) from None

    def next(self) -> Message | None:
        """The next message, waiting for it; None when the other end is gone. What BCC is asked to
        load is loaded here."""
        while True:
            try:
                data = self._end.recv(_MAX_MESSAGE)
            except ConnectionResetError:
                continue  # it has not read all that we said; what it has said comes after that
            if not data:
                self.is_over = True
                return None
            # It may speak of a file, whose name may be no text.
            message: Message = json.loads(data.decode(errors="surrogateescape"))
            if message.get("event") != "load":
                return message
            self._load(message["source"])

    def _load(self, source: Message) -> None:
        from profinfer.recording.bcc_loader import load_bcc  # here: as a rule nobody asks for it

        try:
            loaded = load_bcc(source)
        except KernelError as error:
            self.tell("loaded", message=error.message, hint=error.hint)
            return
        names = {"programs": list(loaded.programs), "maps": list(loaded.maps)}
        self.tell("loaded", [*loaded.programs.values(), *loaded.maps.values()], **names)
        loaded.close()

    def close(self) -> None:
        """Whoever is at the other end sees it."""
        self._end.close()


def pair() -> tuple[Link, socket.socket]:
    """A link and its other end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with contextlib.suppress(OSError):  # for long commands, as root
        ours.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _MAX_MESSAGE)
    return Link(ours), theirs


class Server:
    """A recorder of our own. A context manager: what it holds goes on when it ends."""

    def __init__(self) -> None:
        """Starts it. KernelError without the program."""
        self.program = recorder_binary()
        """Which one it is."""
        self.link, theirs = pair()
        theirs.set_inheritable(True)
        # Python has changed what these do; the recorder and the command are to find them as usual.
        changed = [signal.SIGPIPE, signal.SIGXFSZ]
        words = [str(self.program), "--serve", str(theirs.fileno())]
        self._pid = os.posix_spawn(self.program, words, os.environ, setsigdef=changed)
        theirs.close()
        self._answers: dict[str, Message] = {}
        self.events: deque[Message] = deque()
        """What was told while an answer was waited for."""

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close()
        ended = os.pidfd_open(self._pid)
        if not select.select([ended], [], [], _PATIENCE)[0]:
            signal.pidfd_send_signal(ended, signal.SIGKILL)
        os.close(ended)
        os.waitpid(self._pid, 0)

    def ask(self, verb: str, fds: Sequence[int] = (), **members: object) -> Message:
        """What the recorder answers; one of errors.py when it fails."""
        self.link.tell(verb, fds, **members)
        return self.answer(verb)

    def answer(self, verb: str) -> Message:
        """The answer to what was asked before over `link`; one of errors.py when it failed."""
        self.wait(verb)
        return self._answers.pop(verb)

    def wait(self, verb: str) -> None:
        """Until there is an answer; as above."""
        while verb not in self._answers:
            message = self.link.next()
            if message is None:
                raise self.gone()
            # Of what is asked side by side the other may be answered first, or fail.
            if asked := message.get("answer", message.get("verb")):
                self._answers[asked] = message
            elif message["event"] == "failed":
                raise failure(message)
            else:
                self.events.append(message)
        if "answer" not in self._answers[verb]:
            raise failure(self._answers[verb])

    def gone(self) -> KernelError:
        """What to say of its end before ours."""
        return KernelError(
            "the recorder has ended unexpectedly", "was it killed, or out of memory?"
        )


def failure(message: Message) -> ProfinferError:
    """The error that an event "failed" tells of."""
    kind = _ERRORS.get(message["code"], KernelError)
    return kind(message["message"], message.get("hint", ""))
