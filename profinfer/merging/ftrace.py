"""Ftrace events in a trace's bundles: which kinds, on which CPUs, when; and taking some out.

Two traces of one boot may hold the same events, which must not count twice. A kind of event is a
field number of FtraceEvent; the two kinds that `compact_sched` holds in columns have theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from profinfer.merging import wire
from profinfer.trace import varints

SCHED_SWITCH, SCHED_WAKING = 4, 20

# FtraceEventBundle
_CPU, _EVENT, _LOST, _COMPACT, _CLOCK, _CLOCK_TS, _BOOT_TS = 1, 2, 3, 4, 5, 6, 7
_LAST_READ, _PREVIOUS_END = 9, 10
# FtraceEventBundle.CompactSched: the column of times, and all columns that go with it.
_COLUMNS = {SCHED_SWITCH: (1, (1, 2, 3, 4, 6)), SCHED_WAKING: (7, (7, 8, 9, 10, 11, 12))}
_NEXT_COLUMN, _NEXT_PID = 3, 6  # of CompactSched, of SchedSwitchFtraceEvent
APART_NS = 20_000
"""Two recorders of one switch read their clocks at moments that are no further apart."""


@dataclass(frozen=True)
class Bundles:
    """The events of some bundles as columns: `bundle` says which one each is of."""

    at: wire.Index
    """Begin of each bundle's content; `end` its end, `cpu` its CPU."""
    end: wire.Index
    cpu: wire.Index
    lost: wire.Index
    """Of each bundle (columns), begin of the field that says that events were lost before it, begin
    of its value, and end; 0 where there is none. `compact`: the same of compact_sched."""
    compact: wire.Index
    bundle: wire.Index
    kind: wire.Index
    ts: wire.Index
    """BOOTTIME ns."""
    tag: wire.Index
    """Where the event's field begins in the buffer; 0 for one in compact_sched."""
    stop: wire.Index
    next: wire.Index
    """The thread that a switch brings to its CPU; -1 of other events."""
    starts: tuple[wire.Index, wire.Index]
    """Fields that say from when a CPU's events are all there: begin and end of the values."""


def read(data: wire.Bytes, at: wire.Index, stop: wire.Index) -> Bundles:
    """The bundles data[at:stop]. wire.DamagedError, with the bundle's number."""
    cpu, shift = np.zeros(len(at), np.int64), np.zeros(len(at), np.int64)
    lost, compact = np.zeros((3, len(at)), np.int64), np.zeros((3, len(at)), np.int64)
    events: list[wire.Step] = []
    parts: list[_Part] = []
    starts: list[wire.Step] = []
    for step in wire.walk(data, at, stop):
        if found := step.of(_EVENT, wire.BYTES):
            events.append(found)
        if found := step.of(_COMPACT, wire.BYTES):
            parts += _compact(data, found)
            compact[:, found.rows] = found.tag, found.at, found.stop
        if found := step.of(_LOST, wire.VARINT):
            lost[:, found.rows] = found.tag, found.at, found.stop
        if found := step.of(_CPU, wire.VARINT):
            cpu[found.rows] = found.value.astype(np.int64)
        # Where another clock was used, each bundle says what BOOTTIME was at a time of it.
        if found := step.of(_BOOT_TS, wire.VARINT):
            shift[found.rows] += found.value.astype(np.int64)
        if found := step.of(_CLOCK_TS, wire.VARINT):
            shift[found.rows] -= found.value.astype(np.int64)
        for number in (_LAST_READ, _PREVIOUS_END):
            if found := step.of(number, wire.VARINT):
                starts.append(found)
    if events:
        parts.append(_plain(data, events))
    none = np.empty(0, np.int64)
    bundle, kind, ts, tag, end, after = (
        [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else [none] * 6
    )
    begins = np.concatenate([none, *(step.at for step in starts)])
    ends = np.concatenate([none, *(step.stop for step in starts)])
    return Bundles(
        at, stop, cpu, lost, compact, bundle, kind, ts + shift[bundle], tag, end, after,
        (begins, ends),
    )  # fmt: skip


_Part = tuple[wire.Index, wire.Index, wire.Index, wire.Index, wire.Index, wire.Index]


def _plain(data: wire.Bytes, events: list[wire.Step]) -> _Part:
    rows = np.concatenate([step.rows for step in events])
    tag = np.concatenate([step.tag for step in events])
    stop = np.concatenate([step.stop for step in events])
    ts, kind = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    at, end = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    for step in wire.walk(data, np.concatenate([step.at for step in events]), stop):
        if times := step.of(1, wire.VARINT):
            ts[times.rows] = times.value.astype(np.int64)
        sized = step.wire == wire.BYTES
        which = step.rows[sized]
        first = kind[which] == 0
        kind[which[first]] = step.number[sized][first]
        at[which[first]], end[which[first]] = step.at[sized][first], step.stop[sized][first]
    after = np.full(len(rows), -1)
    switches = np.flatnonzero(kind == SCHED_SWITCH)
    after[switches] = 0
    for step in wire.walk(data, at[switches], end[switches]):
        if found := step.of(_NEXT_PID, wire.VARINT):
            after[switches[found.rows]] = found.value.astype(np.int64)
    return rows, kind, ts, tag, stop, after


def _compact(data: wire.Bytes, found: wire.Step) -> list[_Part]:
    parts = []
    switches: list[tuple[wire.Index, wire.Index]] = []  # of which bundle, and which thread's
    for step in wire.walk(data, found.at, found.stop):
        if pids := step.of(_NEXT_COLUMN, wire.BYTES):
            values, row = wire.packed(data, pids.at, pids.stop)
            switches.append((found.rows[pids.rows[row]], values.astype(np.int64)))
        for kind, (number, _) in _COLUMNS.items():
            if times := step.of(number, wire.BYTES):
                deltas, row = wire.packed(data, times.at, times.stop)
                bundle = found.rows[times.rows[row]]
                none = np.zeros(len(row), np.int64)
                ts = _absolute(deltas, row)
                after = np.full(len(row), -1)
                parts.append((bundle, np.full(len(row), kind), ts, none, none, after))
    for bundle, kinds, *_, after in parts:
        if (kinds == SCHED_SWITCH).any():
            _fill(bundle, after, switches)
    return parts


def _fill(bundle: wire.Index, after: wire.Index, of: list[tuple[wire.Index, wire.Index]]) -> None:
    """Puts each bundle's values, in their order, into its entries of `after`."""
    for owner, values in of:
        mine, theirs = np.isin(bundle, owner), np.isin(owner, bundle)
        if not np.array_equal(bundle[mine], owner[theirs]):
            raise wire.DamagedError(int(bundle[0]))  # columns of different lengths
        after[mine] = values[theirs]


def _absolute(deltas: wire.Values, row: wire.Index) -> wire.Index:
    """Times from differences, which begin anew where `row` changes."""
    total = np.cumsum(deltas.astype(np.int64))
    first = np.flatnonzero(np.diff(row, prepend=-1))
    before = total[first] - deltas[first].astype(np.int64)
    return total - np.repeat(before, np.diff(np.append(first, len(row))))


Switch = tuple[int, int]
"""When, and to which thread."""


@dataclass
class Coverage:
    """What an input has recorded."""

    kinds: set[int] = field(default_factory=set)
    spans: dict[int, tuple[int, int]] = field(default_factory=dict)
    """First and last event of each CPU."""
    switches: dict[int, tuple[Switch, Switch]] = field(default_factory=dict)
    """First and last switch of each CPU."""

    def add(self, bundles: Bundles) -> None:
        """Adds the events of some bundles."""
        if not len(bundles.kind):
            return
        cpu = bundles.cpu[bundles.bundle]
        self.kinds |= set(np.unique(bundles.kind).tolist())
        for each in np.unique(cpu).tolist():
            ts = bundles.ts[cpu == each]
            first, last = self.spans.get(each, (1 << 63, 0))
            self.spans[each] = (min(first, int(ts.min())), max(last, int(ts.max())))
            rows = np.flatnonzero((cpu == each) & (bundles.kind == SCHED_SWITCH))
            if len(rows):
                ends = [rows[bundles.ts[rows].argmin()], rows[bundles.ts[rows].argmax()]]
                found = [(int(bundles.ts[row]), int(bundles.next[row])) for row in ends]
                found += self.switches.get(each, ())
                self.switches[each] = (min(found), max(found))


@dataclass(frozen=True)
class Doubles:
    """Events of an input that another has, too: these kinds, on these CPUs at these times."""

    kinds: frozenset[int]
    spans: dict[int, tuple[int, int]]
    switches: dict[int, tuple[Switch, Switch]] = field(default_factory=dict)
    """The other's first and last switch of each CPU: the same two here may lie just outside."""

    def mask(self, bundles: Bundles) -> wire.Mask:
        """Which events of the bundles are among them."""
        cpu = bundles.cpu[bundles.bundle]
        mask = np.zeros(len(cpu), np.bool_)
        for each, (first, last) in self.spans.items():
            mask |= (cpu == each) & (bundles.ts >= first) & (bundles.ts <= last)
        for each, ends in self.switches.items():
            for ts, after in ends:
                same = (cpu == each) & (bundles.kind == SCHED_SWITCH) & (bundles.next == after)
                mask |= same & (np.abs(bundles.ts - ts) <= APART_NS)
        return mask & np.isin(bundles.kind, list(self.kinds))


def without(data: wire.Bytes, bundles: Bundles, row: int, drop: wire.Mask) -> bytes:
    """The content of one bundle without the events that `drop` (of all in `bundles`) names.

    When none is left it does not say either that events before it were lost.
    """
    mine = bundles.bundle == row
    gone = mine & drop
    plain = gone & (bundles.tag > 0)
    begins, ends = [bundles.tag[plain]], [bundles.stop[plain]]
    compact = b""
    tag, at, stop = bundles.compact[:, row].tolist()
    if tag and (gone & (bundles.tag == 0)).any():
        keep = {k: ~drop[mine & (bundles.kind == k) & (bundles.tag == 0)] for k in _COLUMNS}
        if any(mask.any() for mask in keep.values()):
            compact = varints.field(_COMPACT, _thinned(data, at, stop, keep))
        begins.append(np.array([tag]))
        ends.append(np.array([stop]))
    if bundles.lost[0, row] and (gone == mine).all():
        begins.append(bundles.lost[:1, row])
        ends.append(bundles.lost[2:, row])
    _, positions = wire.spread(np.concatenate(begins), np.concatenate(ends))
    first = int(bundles.at[row])
    left = np.delete(data[first : bundles.end[row]], positions - first)
    return left.tobytes() + compact


def _thinned(data: wire.Bytes, at: int, stop: int, keep: dict[int, wire.Mask]) -> bytes:
    """A CompactSched with only some of its events: a mask by kind."""
    columns = {number: kind for kind, (_, numbers) in _COLUMNS.items() for number in numbers}
    out = bytearray()
    for step in wire.walk(data, np.array([at]), np.array([stop])):
        number = int(step.number[0])
        if number not in columns:
            out += data[step.tag[0] : step.stop[0]].tobytes()
            continue
        kind = columns[number]
        values, row = wire.packed(data, step.at, step.stop)
        if number == _COLUMNS[kind][0]:
            times = _absolute(values, row)[keep[kind]]
            values = np.diff(times, prepend=0).astype(np.uint64)
        else:
            values = values[keep[kind][: len(values)]]
        out += varints.field(number, varints.encode(values))
    return bytes(out)
