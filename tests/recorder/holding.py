"""The least that launches a command by the recorder: whoever is stopped goes on at once.

python -m tests.recorder.holding RECORDER COMMAND...
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Holding:
    """A recorder as a server, and our end of its socket. A context manager."""

    def __init__(self, recorder: Path | str, stdout: int | None = None) -> None:
        """The recorder inherits what we would pass on to any program."""
        self._end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.set_inheritable(True)
        with theirs:
            self.process = subprocess.Popen(
                [str(recorder), "--serve", str(theirs.fileno())],
                close_fds=False,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
            )

    def __enter__(self) -> Holding:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        if self.process.poll() is None:
            self.process.wait(20)

    def close(self) -> None:
        """The socket's end, as when we die."""
        self._end.close()

    def ask(self, verb: str, **members: object) -> None:
        """Asks for something; the answer comes among what is heard."""
        self._end.send(json.dumps({"verb": verb, **members}).encode())

    def launch(
        self, *command: object, audit: str = "", user: object = None, marks: Sequence[str] = ()
    ) -> None:
        words = [str(word) for word in command]
        self.ask("launch", argv=words, audit=audit, user=user, loader="auto", marks=list(marks))

    def hear(self, timeout: float = 20) -> dict[str, Any]:
        """What the recorder says next; {} when it has ended."""
        assert select.select([self._end], [], [], timeout)[0], f"it said nothing for {timeout} s"
        said: dict[str, Any] = json.loads(self._end.recv(1 << 20) or b"{}")
        return said

    def hear_of(self, what: str) -> dict[str, Any]:
        """The next answer or event of that name; whoever is stopped meanwhile goes on."""
        while said := self.hear():
            if what in (said.get("event"), said.get("answer")):
                return said
            assert said.get("event") != "failed", said
            if said.get("event") == "stopped":
                self.ask("go", pid=said["pid"])
        raise AssertionError(f"it ended and has not said {what}")


def main() -> None:
    recorder, *command = sys.argv[1:]
    with Holding(recorder) as holding:
        holding.launch(*command)
        status: int = holding.hear_of("exited")["status"]
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
