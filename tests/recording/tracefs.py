"""What the kernel itself writes down of its scheduler, to compare recordings with."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from profinfer.kernel import features

_LINE = re.compile(
    r"\[(\d+)\]\s+\S+\s+([\d.]+): sched_switch: prev_comm=.*? prev_pid=(\d+) prev_prio=-?\d+"
    r" prev_state=(\S+) ==> next_comm=.*? next_pid=(\d+) next_prio=(-?\d+)$"
)
_WAKING = re.compile(r"\[(\d+)\]\s+\S+\s+([\d.]+): sched_waking: .* pid=(\d+) prio=(-?\d+)")

_WAKEUP = re.compile(r"\[(\d+)\]\s+\S+\s+([\d.]+): sched_wakeup: .* pid=(\d+) prio=(-?\d+)")
_EVENTS = ("sched_switch", "sched_waking", "sched_wakeup")


class Switch(NamedTuple):
    """A context switch."""

    us: int
    """Its time in CLOCK_BOOTTIME."""
    cpu: int
    prev: int
    state: str
    following: int
    prio: int


class Tracefs:
    """An instance of the kernel's own tracing, from `start` to `stop`; a context manager."""

    def __init__(self) -> None:
        self._folder = features.tracefs() / "instances" / f"test-{uuid.uuid4().hex[:8]}"

    def __enter__(self) -> Tracefs:
        self._folder.mkdir()
        self._write("trace_clock", "boot")
        self._write("buffer_size_kb", "16384")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._folder.rmdir()

    def start(self) -> None:
        for event in _EVENTS:
            self._write(f"events/sched/{event}/enable", "1")

    def stop(self) -> None:
        for event in _EVENTS:
            self._write(f"events/sched/{event}/enable", "0")

    def lost(self) -> int:
        """Events that it has lost itself."""
        stats = self._folder.glob("per_cpu/cpu*/stats")
        text = "".join(path.read_text() for path in stats)
        return sum(map(int, re.findall(r"^(?:overrun|dropped events): (\d+)$", text, re.M)))

    def switches(self) -> list[Switch]:
        """In the order of their times."""
        found = []
        for line in self._lines():
            match = _LINE.search(line)
            if match:
                cpu, time, prev, state, following, prio = match.groups()
                found.append(Switch(_us(time), int(cpu), int(prev), state, int(following),
                                    int(prio)))  # fmt: skip
        return found

    def wakings(self) -> list[tuple[int, int, int]]:
        """Time in us, CPU of the waker, thread that is woken."""
        matches = map(_WAKING.search, self._lines())
        return [(_us(m[2]), int(m[1]), int(m[3])) for m in matches if m]

    def travelled_us(self, tid: int) -> int:
        """From decisions to wake a thread to its standing in line: the way to another CPU."""
        decided: int | None = None
        total = 0
        for line in self._lines():
            if (match := _WAKING.search(line)) and int(match[3]) == tid:
                decided = _us(match[2])
            elif (match := _WAKEUP.search(line)) and int(match[3]) == tid and decided is not None:
                total += max(_us(match[2]) - decided, 0)
                decided = None
        return total

    def _lines(self) -> list[str]:
        return (self._folder / "trace").read_text(errors="replace").splitlines()

    def _write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)


def _us(seconds: str) -> int:
    whole, _, fraction = seconds.partition(".")
    return int(whole) * 1_000_000 + int(fraction)


@dataclass(frozen=True)
class Counts:
    """What /proc says of a thread that does not run."""

    switches: int
    """Times it has left a CPU, willingly or not."""
    preempted: int
    """Those in which it did not want to."""
    ran_ns: int
    waited_ns: int
    """Time it stood in line for a CPU."""
    turns: int
    """Times it has got one."""

    def __sub__(self, other: Counts) -> Counts:
        return Counts(
            self.switches - other.switches, self.preempted - other.preempted,
            self.ran_ns - other.ran_ns, self.waited_ns - other.waited_ns,
            self.turns - other.turns,
        )  # fmt: skip


def counts(pid: int, tid: int) -> Counts:
    """Of one thread as it stands now."""
    folder = Path(f"/proc/{pid}/task/{tid}")
    status = (folder / "status").read_text()
    free, forced = (int(re.findall(rf"^{word}voluntary_ctxt_switches:\s+(\d+)$", status, re.M)[0])
                    for word in ("", "non"))  # fmt: skip
    ran, waited, turns = map(int, (folder / "schedstat").read_text().split())
    return Counts(free + forced, forced, ran, waited, turns)


def stolen_ns(cpu: int) -> int:
    """What the host has taken from a CPU, in whole hundredths of a second."""
    words = re.findall(rf"^cpu{cpu} (.*)$", Path("/proc/stat").read_text(), re.M)[0].split()
    return int(words[7]) * 10_000_000
