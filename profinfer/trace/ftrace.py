"""Scheduler events as Perfetto's ftrace bundles: by the column, no object per event.

A bundle holds what happened on one CPU. Switches and wake-ups, of which there are many, stand in
its compact_sched as packed columns; whatever is rare is an event of its own. No clock is named:
that means CLOCK_BOOTTIME.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from perfetto_protos import trace_pb2 as pb
from profinfer.records.columns import I64
from profinfer.trace.packets import SEQUENCE_ID
from profinfer.trace.varints import encode, field, varint

NONE: I64 = np.empty(0, np.int64)


@dataclass
class Switches:
    """sched_switch of one CPU, in order; one element per event in each column."""

    ts: I64
    prev_state: I64
    """As the tracepoint reports it."""
    next_tid: I64
    next_prio: I64
    next_name: I64
    """Index into the names of the bundle's maker."""


@dataclass
class Wakings:
    """sched_waking on one CPU, in order."""

    ts: I64
    tid: I64
    """Of the thread that is woken."""
    target_cpu: I64
    prio: I64
    name: I64


def bundle(
    cpu: int, switches: Switches, wakings: Wakings, names: Sequence[str],
    events: Iterable[pb.FtraceEvent] = (), *, lost: bool = False,
) -> bytes:  # fmt: skip
    """A packet with what happened on a CPU; nothing for nothing. `lost`: events before these are
    missing. What the events refer to must have been interned."""
    message = pb.FtraceEventBundle(cpu=cpu)
    if lost:
        message.lost_events = True
    message.event.extend(events)
    compact = b""
    if len(switches.ts) or len(wakings.ts):
        compact = field(4, _compact(switches, wakings, names))
    if not compact and not message.event:
        return b""
    content = field(1, message.SerializeToString() + compact)
    # trusted_packet_sequence_id, SEQ_NEEDS_INCREMENTAL_STATE
    return field(1, b"\x50" + varint(SEQUENCE_ID) + b"\x68\x02" + content)


def _compact(switches: Switches, wakings: Wakings, names: Sequence[str]) -> bytes:
    """FtraceEventBundle.CompactSched with the names that it needs."""
    everyone = np.concatenate([switches.next_name, wakings.name])
    used, index = np.unique(everyone, return_inverse=True)
    count = len(switches.ts)
    columns = [
        (1, _differences(switches.ts)),
        (2, switches.prev_state),
        (3, switches.next_tid),
        (4, switches.next_prio),
        (6, index[:count]),
        (7, _differences(wakings.ts)),
        (8, wakings.tid),
        (9, wakings.target_cpu),
        (10, wakings.prio),
        (11, index[count:]),
    ]
    table = [field(5, names[name].encode()) for name in used.tolist()]
    return b"".join(table + [field(n, encode(column)) for n, column in columns if len(column)])


def _differences(ts: I64) -> I64:
    """The first time and what each next one is later."""
    return np.diff(ts, prepend=np.int64(0))
