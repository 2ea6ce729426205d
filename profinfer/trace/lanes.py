"""Which track an event goes on: threads, backends, sequences, structure, recorder."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import numpy.typing as npt

from profinfer.engine.backends import backend_of_guid
from profinfer.engine.target import printable
from profinfer.records.dtypes import STRUCTURE_RECORD
from profinfer.trace.threads import Threads
from profinfer.trace.writer import TraceWriter

# Order of the tracks in our group, from the top.
(
    _RANK_REQUESTS, _RANK_SEQUENCES, _RANK_TOKENS, _RANK_BACKENDS, _RANK_EXPERTS, _RANK_STRUCTURE,
    _RANK_FILES, _RANK_RECORDER,
) = range(0, 400, 50)  # fmt: skip


class Run(Protocol):
    """A graph that ran on a backend; times in BOOTTIME ns."""

    begin: int
    end: int
    """Later than any time while it runs."""
    backend: int


_MOST_OWN_NAMES = 256
"""Engines may start threads for each graph."""


@dataclass
class _BackendLane:
    track: int
    backend: int
    last: Run
    """The last graph on it."""


class Lanes:
    """Tracks by what they show; each is described in the trace when it is first asked for."""

    def __init__(self, writer: TraceWriter, pid: int, name: str, command: list[str]) -> None:
        self._writer = writer
        self._pid = pid
        # The UI keeps our order below a track of ours, but not right below a process.
        process = writer.process_track(pid, name, command)
        self._group = writer.track("Inference", process)
        self._thread_names: dict[int, str] = {}
        self._own_names: list[str] = []
        """Of threads by index, '' where it is not known."""
        self._given_names: dict[int, str] = {}
        self.threads = Threads()
        self._uuids: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._tracks: dict[tuple[int, str], int] = {}
        """By parent and name."""
        self._contexts: dict[int, int] = {}
        self._backend_names: dict[int, str] = {}
        self._name_functions: dict[int, int] = {}
        self._kinds: dict[int, str] = {}
        self._own_backend_names: dict[int, str] = {}
        self._called: dict[int, str] = {}
        """Backends that have been named in the trace: by no other name from then on."""
        self._backends: list[_BackendLane] = []
        self.structure = writer.track(
            "Graph structure", self._group, _RANK_STRUCTURE,
            "Tensors and graphs, each where it was first seen",
        )  # fmt: skip
        self.recorder = writer.track(
            "ProfInfer recorder", self._group, _RANK_RECORDER, "What the recording itself did"
        )
        self.rate = writer.track("Records per second", self.recorder, 0, unit="1/s")
        self.loss = writer.track(
            "Losses", self.recorder, 1, "Each mark: records that did not fit into a ring"
        )
        self.lost = writer.track("Lost records", self.recorder, 2, unit="", scale="lost")

    def _track(
        self, name: str, parent: int, rank: int = 0, description: str = "", unit: str | None = None,
        scale: str = "",
    ) -> int:  # fmt: skip
        """The track of that name below another."""
        track = self._tracks.get((parent, name))
        if track is None:
            track = self._writer.track(name, parent, rank, description, unit, scale=scale)
            self._tracks[parent, name] = track
        return track

    def add_thread_names(self, names: dict[int, str]) -> None:
        """Names of threads, before they are first used."""
        self._thread_names.update(names)

    def thread(self, number: int) -> int:
        """The track of a thread, by its index in `threads`."""
        return int(self.thread_tracks()[number])

    def thread_tracks(self) -> npt.NDArray[np.uint64]:
        """The tracks of all threads, by index."""
        known = len(self._uuids)
        if known < len(self.threads.tids):
            tids = self.threads.tids[known:]
            self._own_names += [self._thread_names.pop(tid, "") for tid in tids]
            new = [
                self._writer.thread_track(self._pid, tid, name, since)
                for tid, name, since in zip(
                    tids, self._own_names[known:], self.threads.since[known:], strict=True
                )
            ]
            self._uuids = np.append(self._uuids, np.array(new, np.uint64))
        return self._uuids

    def name_thread(self, number: int, name: str) -> None:
        """Gives a thread a name in place of its own."""
        tid, since = self.threads.tids[number], self.threads.since[number]
        self._writer.thread_track(self._pid, tid, name, since, uuid=self.thread(number))
        self._given_names[number] = name

    def own_names(self) -> dict[str, str]:
        """Of threads that were given others, by those and their numbers. A thread's own may come
        after its first records."""
        found = {}
        for number, name in islice(self._given_names.items(), _MOST_OWN_NAMES):
            tid = self.threads.tids[number]
            if own := self._own_names[number] or self._thread_names.get(tid):
                found[f"{name} ({tid})"] = own
        return found

    def blocked(self, number: int) -> int:
        """The track below a thread's that says what it was blocked in."""
        return self._track("Blocked in", self.thread(number), 0, "What it waits in")

    def takers(self, number: int) -> int:
        """The track below a thread's that says who took its CPU."""
        about = "Who ran in its place when it was preempted"
        return self._track("CPU taken by", self.thread(number), 1, about)

    def sequence(self, context: int, sequence: int) -> int:
        """The track of a sequence of a llama_context."""
        about = "Prefill and decode of each sequence (a server's slot)"
        return self._of_sequence("Sequences", "Sequence", _RANK_SEQUENCES, about, context, sequence)

    def requests(self, context: int, sequence: int) -> int:
        """The track of a sequence's requests."""
        about = "Requests of each sequence: docs/requests.md says what one is"
        return self._of_sequence("Requests", "Requests of sequence", _RANK_REQUESTS, about, context,
                                 sequence)  # fmt: skip

    def tokens_per_second(self) -> int:
        """The counter track of how fast tokens come."""
        about = "Of each step, the tokens that the user got by it over the time until the next one"
        return self._track("Tokens per second", self._group, _RANK_TOKENS, about, "1/s")

    def _of_sequence(
        self, group: str, what: str, rank: int, about: str, context: int, sequence: int
    ) -> int:
        above = self._track(group, self._group, rank, about)
        number = self._contexts.setdefault(context, len(self._contexts) + 1)
        name = f"{what} {sequence}" + (f" of context {number}" if number > 1 else "")
        return self._track(name, above, number * 1000 + sequence)

    def add_backend(self, backend: int, raw: bytes, own_name: str) -> dict[str, str] | None:
        """A KIND_STRUCTURE record tells which function names the backend it ran on, and of which
        kind that is; `own_name`: what the engine calls it, "" where that is not known. What is
        known of one that is new."""
        if own_name:
            self._own_backend_names.setdefault(backend, printable(own_name))
        if backend in self._name_functions:
            return None
        record = np.frombuffer(raw, STRUCTURE_RECORD, 1)[0]
        self._name_functions[backend] = int(record["backend_name_fn"])
        guid = bytes(record["guid"])
        self._kinds[backend] = backend_of_guid(guid)
        return {"name": self.backend_name(backend), "kind": self._kind(backend), "guid": guid.hex()}

    def _kind(self, backend: int) -> str:
        name = self._backend_names.get(self._name_functions.get(backend, 0))
        return name or self._kinds.get(backend, "")

    def add_backend_names(self, names: dict[int, str]) -> None:
        """Names by the address of a backend's get_name, before they are first used."""
        self._backend_names.update(names)

    def backend_name(self, backend: int) -> str:
        """What a backend is called: by the engine, else by its kind. Graphs entered below the
        backend interface are the CPU's."""
        if backend == 0:
            return "CPU"
        if backend not in self._name_functions:
            return f"backend {backend:#x}"
        name = self._own_backend_names.get(backend) or self._kind(backend)
        return self._called.setdefault(backend, name or f"backend {backend:#x}")

    def backend(self, graph: Run) -> int:
        """The track of a graph's backend. An instance runs one graph at a time; where several
        run at once (those entered below the backend interface may), each has its own track."""
        for lane in self._backends:
            if lane.backend == graph.backend and lane.last.end <= graph.begin:
                lane.last = graph
                return lane.track
        about = "Graphs by the backend they ran on"
        group = self._track("Backends", self._group, _RANK_BACKENDS, about)
        name = self.backend_name(graph.backend)
        same = sum(self.backend_name(lane.backend) == name for lane in self._backends)
        label = f"{name} ({same + 1})" if same else name
        track = self._writer.track(label, group, len(self._backends))
        self._backends.append(_BackendLane(track, graph.backend, graph))
        return track

    @property
    def files(self) -> int:
        """The track of what is said of files, mappings and models."""
        about = "Files of the target, where it has mapped them"
        return self._track("Files", self._group, _RANK_FILES, about)

    def experts_group(self) -> int:
        """The track above those of each layer's experts."""
        about = "Which experts each token was sent to"
        return self._track("Experts", self._group, _RANK_EXPERTS, about)

    def experts(self, layer: int | None) -> int:
        """The track of a layer's experts; None: of layers that are not known."""
        name, rank = ("Unknown layer", 1 << 20) if layer is None else (f"Layer {layer}", layer)
        return self._track(name, self.experts_group(), rank)

    def loss_counter(self, cpu: int | None, kind: str) -> int:
        """The counter track of lost records of a kind on a CPU (None: on any)."""
        name = f"Lost {kind} records, {'any CPU' if cpu is None else f'CPU {cpu}'}"
        rank = 3 + sum(parent == self.recorder for parent, _ in self._tracks)
        return self._track(name, self.recorder, rank, unit="", scale="lost")
