"""Events that count, opened on every CPU, and the programs that share them out to threads.

bpf/counters.h says how: each event counts all tasks of a CPU, and at every context switch what it
has counted goes to the thread that leaves.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from profinfer import kernel
from profinfer.aside import Aside
from profinfer.counters import Counter, want
from profinfer.kernel_types import switch_counts
from profinfer.loaded import NO_COUNTERS, Loaded, cpu_count
from profinfer.perf_buffer import online_cpus
from profinfer.perf_events import encode
from profinfer.pmus import Pmus, describe_cpus, read_pmus
from profinfer.presets import cpu_models

_TIMES = 1 | 2
"""PERF_FORMAT_TOTAL_TIME_ENABLED and _RUNNING"""
_EXCLUDE = {"u": 1 << 4, "k": 1 << 5, "h": 1 << 6}
"""Flags of perf_event_attr."""
_NO_SUCH_FILTER = (errno.EINVAL, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Tried:
    """How it went to open a counter on each CPU by itself."""

    counter: Counter
    cpus: frozenset[int]
    """Where it counts."""
    why: str
    """Of the CPUs where it does not, the last reason."""


@dataclass
class Counting:
    """The counters of a recording, while they count."""

    counters: tuple[Counter, ...]
    notes: tuple[str, ...]
    """What could not be counted, and why."""
    _fds: dict[tuple[int, int], int] = field(default_factory=dict)
    """By number of the counter and CPU."""
    _attached: list[int] = field(default_factory=list)

    @property
    def leaders(self) -> list[int]:
        """Numbers of the counters that come first in a group on a PMU."""
        groups = [counter.group for counter in self.counters]
        return [
            i
            for i, counter in enumerate(self.counters)
            if groups.index(counter.group) == i and not self._is_always(counter.group)
        ]

    def _is_always(self, group: int) -> bool:
        return all(c.event.is_software for c in self.counters if c.group == group)

    def _leader(self, counter: Counter) -> str:
        """Name of the first one in a counter's group, "" where the group needs no hardware."""
        if self._is_always(counter.group):
            return ""
        return next(c.name for c in self.counters if c.group == counter.group)

    @property
    def records(self) -> int:
        """Records of a reading: CPU time, values, what each group on a PMU has missed; by twos."""
        return (1 + len(self.counters) + len(self.leaders) + 1) // 2 if self.counters else 0

    def parameters(self) -> dict[str, int]:
        """For the handlers."""
        if not self.counters:
            return NO_COUNTERS
        always = [i for i, c in enumerate(self.counters) if self._is_always(c.group)]
        return {
            "COUNTERS": len(self.counters),
            "COUNTER_LEADERS": sum(1 << i for i in self.leaders),
            "COUNTER_ALWAYS": sum(1 << i for i in always),
            "COUNTER_RECORDS": self.records,
            "TASK_NVCSW": Aside(switch_counts).result(),
        }

    def to_json(self) -> dict[str, Any]:
        """For the trace."""
        return {
            "events": [
                {**counter.to_json(), "leader": self._leader(counter)} for counter in self.counters
            ],
            "leaders": self.leaders,
            "records": self.records,
            "notes": list(self.notes),
        }

    def start(self, loaded: Loaded) -> None:
        """Lends the events to the handlers and begins to share them out. KernelError."""
        if not self.counters:
            return
        cpus = loaded.rings.cpus
        for (number, cpu), fd in self._fds.items():
            key = struct.pack("<I", number * cpus + cpu)
            kernel.map_update(loaded.programs.maps["counter_events"], key, struct.pack("<I", fd))
        self._close_events()  # the map holds them
        for program, name in (
            ("count_exit", "sched_process_exit"),
            ("count_switch", "sched_switch"),
        ):
            self._attached.append(kernel.attach_raw_tracepoint(loaded.program(program), name))
        _switch_everywhere(online_cpus(cpus))

    def _close_events(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def close(self) -> None:
        """Ends it."""
        self._close_events()
        for fd in self._attached:
            os.close(fd)
        self._attached.clear()


def _switch_everywhere(cpus: Iterable[int]) -> None:
    """Makes each CPU switch tasks once, as far as this process may use it: what the events have
    counted before is then nobody's."""
    own = os.sched_getaffinity(0)
    for cpu in cpus:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {cpu})
    os.sched_setaffinity(0, own)


def open_counters(names: Sequence[str]) -> Counting:
    """Opens what `--counters` asks for, as far as it can be counted here. UsageError for what is no
    name of an event. Nothing is opened where nothing is asked for."""
    if not names:
        return Counting((), ())
    pmus = read_pmus()
    wanted = want(names, pmus, cpu_models())
    tried = [_try(counter, pmus) for counter in wanted.counters]
    notes = list(wanted.notes)
    online = frozenset(online_cpus(cpu_count()))
    for each in tried:
        if not each.cpus:
            notes.append(
                f"not counted: {each.counter.name}: {each.why}; here are: {pmus.describe()}"
            )
        elif each.cpus != online:
            missing = describe_cpus(online - each.cpus)
            notes.append(f"{each.counter.name} is not counted on CPUs {missing}: {each.why}")
    counting = Counting(grouped([each for each in tried if each.cpus], notes), ())
    _limit_files(len(online) * len(counting.counters))
    while not _open_groups(counting, pmus, notes):
        counting.close()
    counting.notes = tuple(notes)
    return counting


def grouped(tried: Sequence[Tried], notes: list[str]) -> tuple[Counter, ...]:
    """The counters; in groups only those that count on the same CPUs. For how long a group was not
    counted is known of its first one."""
    found: list[Counter] = []
    first: dict[int, Tried] = {}
    alone = 1 + max((each.counter.group for each in tried), default=0)
    for each in tried:
        leader = first.setdefault(each.counter.group, each)
        if leader.cpus == each.cpus:
            found.append(each.counter)
            continue
        notes.append(
            f"{each.counter.name} is counted by itself: not on the same CPUs as"
            f" {leader.counter.name}"
        )
        found.append(replace(each.counter, group=alone))
        alone += 1
    return tuple(found)


def check_counters(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names of those counters that can be counted here, and why the others cannot."""
    counting = open_counters(names)
    counting.close()
    return [counter.name for counter in counting.counters], list(counting.notes)


def _try(counter: Counter, pmus: Pmus) -> Tried:
    cpus, why = set(), "no PMU has it"
    for cpu in online_cpus(cpu_count()):
        try:
            fd = _open(counter, cpu, pmus)
        except OSError as error:
            if counter.event.by_default and error.errno in _NO_SUCH_FILTER:
                return _try(replace(counter, event=counter.event.unfiltered()), pmus)
            why = _explain(error)
            continue
        if fd is not None:
            os.close(fd)
            cpus.add(cpu)
    return Tried(counter, frozenset(cpus), why)


def _explain(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV):
        return "no PMU here counts it"
    return f"the kernel refuses it ({error.strerror})"


def _open(counter: Counter, cpu: int, pmus: Pmus, group: int = -1) -> int | None:
    """The event on a CPU; None where no source covers it. OSError when the kernel refuses."""
    for source in counter.event.sources:
        found = encode(source, cpu, pmus)
        if found is None:
            continue
        kind, (config, config1, config2) = found
        attr = bytearray(128)
        flags = sum(_EXCLUDE[mode] for mode in counter.event.exclude)
        struct.pack_into("<IIQQQQQ", attr, 0, kind, 128, config, 0, 0, _TIMES, flags)
        struct.pack_into("<QQ", attr, 56, config1, config2)
        return kernel.open_counter(bytes(attr), cpu, group)
    return None


def _open_groups(counting: Counting, pmus: Pmus, notes: list[str]) -> bool:
    """Opens all; False when a group was too large for its hardware, and has been made smaller."""
    for cpu in online_cpus(cpu_count()):
        leaders: dict[int, int] = {}
        for number, counter in enumerate(counting.counters):
            leader = leaders.get(counter.group, -1)
            try:
                fd = _open(counter, cpu, pmus, leader)
            except OSError as error:
                if leader < 0:
                    continue  # said already
                notes.append(
                    f"{counter.name} is counted by itself: not in one group with those before it"
                    f" ({error.strerror})"
                )
                alone = 1 + max(c.group for c in counting.counters)
                changed = replace(counter, group=alone)
                counting.counters = tuple(changed if c is counter else c for c in counting.counters)
                return False
            if fd is not None:
                leaders.setdefault(counter.group, fd)
                counting._fds[number, cpu] = fd
    return True


def _limit_files(count: int) -> None:
    """Leaves room for so many descriptors more, as far as this process may."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 512
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
