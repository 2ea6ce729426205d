"""The records of bpf/records.h as numpy dtypes; tests/records compares the two."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from profinfer.records.limits import SOURCES


class Kind(IntEnum):
    """enum record_kind."""

    OPERATOR = 1
    FUSED = 2
    BARRIER = 3
    GRAPH_BEGIN = 4
    GRAPH_END = 5
    UBATCH_BEGIN = 6
    UBATCH_END = 7
    NODE = 8
    TENSOR = 9
    STRUCTURE = 10
    TOKENS = 11
    COUNTERS = 12
    EXPERTS = 20
    EXPERT_WEIGHTS = 21
    FAULT = 22
    FILE_READ = 23
    CALL = 24


class SchedulerKind(IntEnum):
    """enum scheduler_kind."""

    SWITCH = 32
    WAKING = 33
    NEWTASK = 34
    NEWNAME = 35
    RENAME = 36
    EXIT = 37
    FREE = 38
    REASON = 39


WIDE_KINDS = (
    Kind.TENSOR, Kind.STRUCTURE, Kind.TOKENS, Kind.EXPERTS, Kind.EXPERT_WEIGHTS, Kind.CALL,
)  # fmt: skip
"""What the structure ring carries."""
KIND_COUNT = 25
COUNTER_UNKNOWN = (1 << 64) - 1
"""In the place of a counter's value."""
COUNTER_GENERATION = 58
"""Lowest bit of a reading's generation in its CPU time."""
FIRST_SCHEDULER_KIND = 32
SCHEDULER_KINDS = 8
SWITCH_FROM_TARGET = 32
SWITCH_TO_TARGET = 33
SWITCH_HAS_CALL = 34
SWITCH_THROTTLED = 35
SWITCH_HAS_THROTTLED_TIME = 36
SWITCH_THROTTLED_TIME = 37
THROTTLED_UNIT = 10
WIDE_SIZE = 320
NAME_SIZE = 64
RUNS = 12
EXPERT_VALUES = 64
EXPERTS_UNREAD = 1
CALL_ARGUMENTS = 6

RECORD = np.dtype(
    [
        ("ts", "<u8"),
        ("a", "<u8"),
        ("b", "<u8"),
        ("tid", "<u4"),
        ("cpu", "<u2"),
        ("kind", "u1"),
        ("mark", "u1"),
    ]
)

WIDE_HEADER = np.dtype(
    [("ts", "<u8"), ("tid", "<u4"), ("cpu", "<u2"), ("kind", "u1"), ("flags", "u1")]
)

TENSOR_RECORD = np.dtype(
    [
        ("header", WIDE_HEADER),
        ("address", "<u8"),
        ("data", "<u8"),
        ("buffer", "<u8"),
        ("view_src", "<u8"),
        ("ne", "<i8", 4),
        ("nb", "<u8", 4),
        ("src", "<u8", SOURCES),
        ("op_params", "<i4", 2),
        ("type", "<u4"),
        ("op", "<u4"),
        ("tensor_flags", "<u4"),
        ("reserved", "<u4"),
        ("name", f"S{NAME_SIZE}"),
    ]
)

STRUCTURE_RECORD = np.dtype(
    [
        ("header", WIDE_HEADER),
        ("structure", "<u8"),
        ("cgraph", "<u8"),
        ("backend", "<u8"),
        ("backend_name_fn", "<u8"),
        ("guid", "V16"),
        ("nodes", "<u4"),
        ("reserved", "V252"),
    ]
)

TOKEN_RUN = np.dtype(
    [
        ("sequence", "<i4"),
        ("position", "<i4"),
        ("tokens", "<u4"),
        ("outputs", "<u4"),
        ("last_output", "<u4"),
    ]
)

TOKENS_RECORD = np.dtype(
    [
        ("header", WIDE_HEADER),
        ("first", "<u4"),
        ("runs", "<u4"),
        ("run", TOKEN_RUN, RUNS),
        ("reserved", "V56"),
    ]
)

EXPERTS_RECORD = np.dtype(
    [
        ("header", WIDE_HEADER),
        ("node", "<u8"),
        ("source", "<u8"),
        ("used", "<u4"),
        ("tokens", "<u4"),
        ("first", "<u4"),
        ("count", "<u4"),
        ("value", "<u4", EXPERT_VALUES),
        ("reserved", "<u8", 2),
    ]
)

CALL_RECORD = np.dtype(
    [
        ("header", WIDE_HEADER),
        ("began", "<u8"),
        ("argument", "<u8", CALL_ARGUMENTS),
        ("result", "<u8"),
        ("number", "<u4"),
        ("reserved", "V236"),
    ]
)

Records = npt.NDArray[np.void]
"""A one-dimensional array of RECORD, or of WIDE_SIZE bytes per row."""


def select(records: Records, which: npt.NDArray[np.bool_]) -> Records:
    """records[which], by the way that numpy is fast at for structured rows (1 ns each, not 18)."""
    return records.take(np.flatnonzero(which))


def join(parts: list[Records]) -> Records:
    """np.concatenate of RECORD arrays, as bytes (1 ns per row, not 20)."""
    full = [part for part in parts if len(part)]
    if len(full) == 1:
        return full[0]
    rows = [np.ascontiguousarray(part).view(np.uint8) for part in full]
    return np.concatenate(rows).view(RECORD) if rows else np.empty(0, RECORD)
