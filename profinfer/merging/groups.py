"""Which inputs share a boot, and how the others' times come onto the same line.

One boot is the reference: its BOOTTIME is the merged trace's time, and it is the host there. Every
other boot becomes a machine of its own, as in Perfetto's multi-machine traces: with its own
processes, CPUs and clocks, which one RemoteClockSync relates to the host's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from profinfer.errors import TraceError, UsageError
from profinfer.merging import clocks
from profinfer.merging.survey import BOOTTIME, MONOTONIC, Snapshot, Survey

_HINT = (
    "--offset SECONDS says how far its clock is behind that of the first trace; --same-boot says "
    "that all traces are of one boot"
)


@dataclass
class Group:
    """The inputs of one boot."""

    members: list[Survey] = field(default_factory=list)
    machine: int = 0
    """Its machine id in the merged trace; 0 is the host."""
    shift: clocks.Shift = field(default_factory=lambda: clocks.Shift(0, 0, ""))
    """What leads from its BOOTTIME to the host's."""
    why: dict[str, str] = field(default_factory=dict)
    """Why an input is one of them, by its name."""

    @property
    def snapshots(self) -> list[Snapshot]:
        """Of all its inputs. Where none has BOOTTIME, MONOTONIC stands for it."""
        every = [s for member in self.members for s in member.snapshots]
        if not any(BOOTTIME in s for s in every):
            every = [{BOOTTIME: s[MONOTONIC], **s} for s in every if MONOTONIC in s]
        return every

    @property
    def first(self) -> int:
        """The earliest time in it, in its own BOOTTIME ns."""
        return min((m.first for m in self.members if m.first is not None), default=0)

    def join(self, member: Survey, why: str) -> None:
        """Adds an input."""
        self.members.append(member)
        self.why[member.name] = why


def group(surveys: Sequence[Survey], offset_ns: int | None, *, same_boot: bool) -> list[Group]:
    """The boots, the reference first. TraceError when an input cannot be placed in time."""
    groups: list[Group] = []
    for each in surveys:
        _place(groups, each, asked=offset_ns is not None, same_boot=same_boot)
    for each_group in groups:
        _check_numbers(each_group)
    if offset_ns is None:
        shifts = _shifts(groups)
        if any(g.first + s.ns < 0 for g, s in zip(groups, shifts, strict=True)):
            # Times before the host's boot would be negative: the boot that came first is the host.
            named_first = groups[0].members[0].name
            groups.insert(0, groups.pop(max(range(len(groups)), key=lambda i: -shifts[i].ns)))
            host = groups[0].members[0].name
            groups[1].why[named_first], groups[0].why[host] = groups[0].why[host], "booted first"
            shifts = _shifts(groups)
    else:
        shifts = _given(groups, offset_ns)
    taken = set().union(*(member.machines for member in groups[0].members))
    free = (machine for machine in count(1) if machine not in taken)
    for other, shift in zip(groups[1:], shifts[1:], strict=True):
        other.shift, other.machine = shift, next(free)
        for member in other.members:
            if member.machines:
                raise TraceError(
                    f"{member.name} holds several machines, and is of another boot than the rest",
                    "name it first: the others are then placed beside it",
                )
    if sum(bool(member.machines) for member in groups[0].members) > 1:
        raise TraceError("more than one of these traces hold several machines", "merge only one")
    return groups


def _check_numbers(group: Group) -> None:
    """TraceError where process ids do not mean the same processes in all inputs: those of others'
    traces are the machine's."""
    names: dict[object, str] = {}
    for member in group.members:
        abouts = [recording.about for recording in member.recordings.values()] or [{}]
        for about in abouts:
            names.setdefault(about.get("pid_namespace", {}).get("inode"), member.name)
    if len(names) > 1:
        first, second, *_ = names.values()
        raise TraceError(
            f"{first} and {second} bear the process ids of different PID namespaces",
            "record all of them on the host, or with its PIDs (docker run --pid=host)",
        )


def _place(groups: list[Group], each: Survey, *, asked: bool, same_boot: bool) -> None:
    """Puts an input into the group of its boot. `asked`: an offset was given, which is believed
    unless boot ids say otherwise."""
    if not groups or same_boot:
        if not groups:
            groups.append(Group())
        first = not groups[0].members
        groups[0].join(each, "named first" if first else "as --same-boot says")
        return
    reasons = []
    for i, candidate in enumerate(groups):
        for member in candidate.members:
            verdict = clocks.compare(member, each)
            if verdict.same and (i or verdict.certain or not asked):
                candidate.join(each, verdict.why)
                return
            reasons.append((verdict, member))
    verdict, member = reasons[0]
    if verdict.same is None and not asked:
        raise TraceError(f"{each.name} cannot be aligned with {member.name}: {verdict.why}", _HINT)
    groups.append(Group())
    groups[-1].join(each, verdict.why)


def _shifts(groups: list[Group]) -> list[clocks.Shift]:
    """What leads from each boot's BOOTTIME to the first one's, by REALTIME."""
    shifts = [clocks.Shift(0, 0, "")]
    for each in groups[1:]:
        shift = clocks.relate(groups[0].snapshots, each.snapshots)
        if shift is None:
            raise TraceError(
                f"{each.members[0].name} cannot be aligned with {groups[0].members[0].name}: "
                f"{each.why[each.members[0].name]}, and there are no snapshots of REALTIME in both",
                _HINT,
            )
        shifts.append(shift)
    return shifts


def _given(groups: list[Group], offset_ns: int) -> list[clocks.Shift]:
    """The same, as the user says."""
    if len(groups) != 2:
        raise UsageError(
            "--offset is for traces of two boots, and these are of "
            + ("one" if len(groups) == 1 else f"{len(groups)}"),
            "merge them step by step" if len(groups) > 2 else "leave it out",
        )
    if groups[1].first + offset_ns < 0:
        raise UsageError(
            f"with this offset {groups[1].members[0].name} begins before the first trace's machine "
            "was booted",
            "name the traces in the other order, and negate the offset",
        )
    return [clocks.Shift(0, 0, ""), clocks.Shift(offset_ns, 0, "as --offset says")]
