"""New numbers where the inputs' collide: packet sequences, tracks, and what recordings count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from profinfer.errors import TraceError
from profinfer.merging.groups import Group
from profinfer.merging.survey import Survey, Track

_SMALL = 1 << 21
"""Our own tracks' uuids are below, and written in so many bytes (packets.SMALL_LIMIT)."""


@dataclass
class Numbers:
    """What changes in one input."""

    sequences: dict[int, int] = field(default_factory=dict)
    descriptors: int = 0
    """The sequence of its threads' descriptors, if it has recordings of ours."""
    tracks: dict[int, int] = field(default_factory=dict)
    described: set[int] = field(default_factory=set)
    """Tracks (by their old uuid) of processes and threads that an earlier input describes."""
    shifts: dict[int, dict[str, int]] = field(default_factory=dict)
    """Of own recordings, by their old sequence: what to add to graphs, ubatches and so on."""


class Numbering:
    """Numbers for all inputs. TraceError when two recordings would lie in one another."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self.inputs: dict[str, Numbers] = {}
        members = [(group, member) for group in groups for member in group.members]
        for _, member in members:
            self.inputs[member.name] = Numbers()
        # Our own have one sequence each, and small uuids: cheap to renumber, and easy to refer to.
        self._number_sequences([m for _, m in sorted(members, key=lambda p: bool(p[1].recordings))])
        self._number_tracks(sorted(members, key=lambda p: not p[1].recordings))
        self._number_recordings([member for _, member in members])

    def new_sequence(self) -> int:
        """A sequence id that nobody has."""
        return next(self._free_sequences)

    def _number_sequences(self, members: list[Survey]) -> None:
        every = set().union(*(member.sequences for member in members))
        self._free_sequences = (number for number in count(1) if number not in every)
        taken: set[int] = set()
        for member in members:
            for number in sorted(member.sequences & taken - {0}):
                self.inputs[member.name].sequences[number] = next(self._free_sequences)
            taken |= member.sequences
            if member.recordings:
                self.inputs[member.name].descriptors = next(self._free_sequences)

    def _number_tracks(self, members: list[tuple[Group, Survey]]) -> None:
        every = set().union(*(member.tracks for _, member in members))
        small = (uuid for uuid in count(max((u for u in every if u < _SMALL), default=0) + 1))
        taken: set[int] = set()
        roots: dict[Track, list[tuple[Survey, int]]] = {}
        for group, member in members:
            numbers = self.inputs[member.name]
            mine: dict[Track, int] = {}
            for uuid, track in member.tracks.items():
                root = Track(track.machine or group.machine, track.pid, track.tid)
                known = next(
                    (new for other, new in roots.get(root, ())
                     if track.pid is not None and _same_process(other, member, track.pid)), None
                )  # fmt: skip
                if known is not None:
                    # A second descriptor for a thread would make it another thread.
                    numbers.described.add(uuid)
                    numbers.tracks[uuid] = known
                    continue
                new = uuid
                if uuid in taken:
                    new = next(small) if uuid < _SMALL else _like(uuid, every)
                    numbers.tracks[uuid] = new
                    every.add(new)
                if track.pid is not None:
                    mine[root] = new
            for root, new in mine.items():
                roots.setdefault(root, []).append((member, new))
            taken |= set(member.tracks)

    def _number_recordings(self, members: list[Survey]) -> None:
        total: dict[str, int] = {}
        for member in members:
            for sequence, recording in member.recordings.items():
                if total:
                    self.inputs[member.name].shifts[sequence] = dict(total)
                for kind, largest in recording.numbers.items():
                    # One more: operators of unknown graphs are described as those of tensor 0.
                    total[kind] = total.get(kind, 0) + largest + 1


def _like(uuid: int, taken: set[int]) -> int:
    """Another uuid that takes as many bytes."""
    for step in count(1):
        if uuid ^ step not in taken:
            return uuid ^ step
    raise AssertionError("unreachable")


def _command(member: Survey, pid: int) -> object:
    """The command line of a recorded process, if it is one."""
    for recording in member.recordings.values():
        target = recording.about.get("target", {})
        if target.get("pid") == pid:
            return target.get("command")
    return None


def _same_process(a: Survey, b: Survey, pid: int) -> bool:
    """Whether a process id means one process in both (of one boot)."""
    commands = (_command(a, pid), _command(b, pid))
    return None in commands or commands[0] == commands[1]


def check_overlaps(group: Group) -> None:
    """Slices of two recordings of one thread at one time would nest in each other: TraceError."""
    spans: list[tuple[int, int, int, Survey]] = []
    for member in group.members:
        for recording in member.recordings.values():
            pid = recording.about.get("target", {}).get("pid", 0)
            start, end = recording.start, recording.end or member.last or recording.start
            for other_pid, other_start, other_end, other in spans:
                if pid == other_pid and start < other_end and other_start < end:
                    raise TraceError(
                        f"{other.name} and {member.name} recorded process {pid} at the same time",
                        "merge only one of them: their slices would lie in each other",
                    )
            spans.append((pid, start, end, member))
