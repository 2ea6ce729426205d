"""A second tracer, which shares no code with ProfInfer: calls by process, thread and graph."""

from __future__ import annotations

import ctypes
import os
from collections import Counter as Bag
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bcc import BPF, lib

WHAT = ("operators", "barriers", "graphs")
"""What is counted. A process's graphs are numbered, from 1."""
CALLS = ("create", "free", "process", "memory", "remove", "clear", "sample")
"""And what an engine is asked."""
PARTS = ("split", "allocate", "set", "get", "wait")
"""And what it does beside computing."""
_COUNTED = (*WHAT, *CALLS, *PARTS)
_PROGRAMS = """
struct key { u32 pid, tid, graph, what; };
BPF_HASH(hits, struct key, u64, 131072);
BPF_HASH(graphs, u32, u64, 1024);

static int count(u32 what) {
  u64 id = bpf_get_current_pid_tgid();
  u32 pid = id >> 32;
  u64 *graph = graphs.lookup(&pid);
  struct key key = {pid, id, graph ? *graph : 0, what};
  hits.atomic_increment(key);
  return 0;
}
int on_operators(void *ctx) { return count(0); }
int on_barriers(void *ctx) { return count(1); }
CALLS
int on_graphs(void *ctx) {
  u32 pid = bpf_get_current_pid_tgid() >> 32;
  graphs.atomic_increment(pid);
  return count(2);
}
"""


class Place(NamedTuple):
    """A function of a file: by its symbol, or at an offset."""

    what: str
    library: Path
    function: str | int

    def offset(self) -> int | None:
        """Where it begins in the file; None where it does not have it."""
        if isinstance(self.function, int):
            return self.function
        path, name = str(self.library).encode(), self.function.encode()
        found = list(BPF.get_user_addresses(path, b"^%s$" % name))
        return int(found[0]) if found else None


class Counter:
    """Counts, wherever these files are loaded."""

    def __init__(self) -> None:
        calls = "".join(
            f"int on_{name}(void *ctx) {{ return count({number}); }}\n"
            for number, name in enumerate((*CALLS, *PARTS), len(WHAT))
        )
        self._bpf = BPF(text=_PROGRAMS.replace("CALLS", calls).encode())
        self._events: list[int] = []

    def attach(self, places: Sequence[Place]) -> None:
        """Begins to count there."""
        for place in places:
            offset = place.offset()
            if offset is None:
                continue
            program = self._bpf.load_func(f"on_{place.what}".encode(), BPF.KPROBE)
            # Not by attach_uprobe(): libbcc wants a reference counter's offset, which BCC's Python
            # binding does not pass; the kernel then refuses other probes at the same place.
            name = f"test_{place.what}_{len(self._events)}".encode()
            path = str(place.library).encode()
            event = int(
                lib.bpf_attach_uprobe(program.fd, 0, name, path, offset, -1, ctypes.c_uint32(0))
            )
            assert event >= 0, place
            self._events.append(event)

    def counts(self, pid: int) -> dict[str, dict[tuple[int, int], int]]:
        """What a process has done so far, by graph and thread."""
        found: dict[str, Bag[tuple[int, int]]] = {what: Bag() for what in _COUNTED}
        for key, hits in self._bpf[b"hits"].items():
            if key.pid == pid:
                found[_COUNTED[key.what]][key.graph, key.tid] += hits.value
        return {what: dict(bag) for what, bag in found.items()}

    def totals(self) -> dict[int, dict[str, int]]:
        """What each process has done so far."""
        found: dict[int, Bag[str]] = {}
        for key, hits in self._bpf[b"hits"].items():
            found.setdefault(int(key.pid), Bag())[_COUNTED[key.what]] += hits.value
        return {pid: {what: bag[what] for what in WHAT} for pid, bag in found.items()}

    def close(self) -> None:
        """Detaches."""
        for event in self._events:
            os.close(event)
        self._bpf.cleanup()


@contextmanager
def counting(places: Sequence[Place]) -> Iterator[Counter]:
    """Counts within the block."""
    counter = Counter()
    try:
        counter.attach(places)
        yield counter
    finally:
        counter.close()
