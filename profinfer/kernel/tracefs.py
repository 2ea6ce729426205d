"""Ftrace's buffers, left as they were when a system trace has ended.

traced_probes sets the clock of the buffers that it reads, and leaves it so; killed, it leaves the
events switched on. Whoever puts that back must do so when traced_probes has ended, and even if we
have been killed: a shell that waits for the end of a pipe, which we and traced_probes hold.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from pathlib import Path
from typing import Self

TRACEFS = Path("/sys/kernel/tracing")
_CLOCK, _EVENTS = "trace_clock", "set_event"
_RESTORE = """
cat > /dev/null
while [ $# -gt 0 ]; do
    [ "$3" ] || echo > "$1/set_event"
    case "$(cat "$1/trace_clock")" in
    *"[$2]"*) ;;
    *) echo "$2" > "$1/trace_clock" ;;
    esac
    shift 3
done
"""
"""Arguments: a folder of buffers, their clock and their events, and so on. A clock is written only
where it differs: that empties the buffers."""
_END_S = 5.0


class KeptBuffers:
    """A context manager: after it the clocks are as before, and events off where all were off."""

    def __init__(self, config: str) -> None:
        """`config` is a TraceConfig as text."""
        self._state = _state(config)
        self._held: int | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def held(self) -> tuple[int, ...]:
        """Descriptors that traced_probes must hold until it ends."""
        return () if self._held is None else (self._held,)

    def __enter__(self) -> Self:
        if self._state:
            waited, self._held = os.pipe()
            with os.fdopen(waited, "rb") as stdin:
                self._guard = subprocess.Popen(
                    ["/bin/sh", "-c", _RESTORE, "sh", *self._state],
                    stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    start_new_session=True,  # what ends us does not end it
                )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None
        if self._guard:
            # Where somebody else holds the pipe, too, it goes on without us.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._guard.wait(_END_S)


def _state(config: str) -> list[str]:
    """Of each set of buffers that a configuration reads: its folder, clock and events."""
    text = re.sub(r"#.*", "", config)
    names = re.findall(r"\binstance_name\s*:\s*[\"']([^\"'/]+)[\"']", text)
    folders = [TRACEFS / "instances" / name for name in names]
    if text.count("linux.ftrace") > len(names):
        folders.append(TRACEFS)
    found: list[str] = []
    for folder in folders:
        with contextlib.suppress(OSError):
            clock = re.search(r"\[([^\]]+)\]", (folder / _CLOCK).read_text())
            events = (folder / _EVENTS).read_text()
            if clock:
                found += [str(folder), clock[1], events.strip()]
    return found
