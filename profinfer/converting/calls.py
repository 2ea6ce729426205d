"""Calls of the engine's own interface: what it was asked, by whom, and when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from perfetto_protos import trace_pb2 as pb
from profinfer.converting.slices import Call
from profinfer.records.dtypes import CALL_RECORD
from profinfer.trace.lanes import Lanes
from profinfer.trace.writer import TraceWriter

_BEGIN = pb.TrackEvent.TYPE_SLICE_BEGIN
_HANDLER = re.compile(r"on_call_(\d+)")


class Calls:
    """Reads records of calls and writes their slices. The plan says which function has which
    number, and what its arguments are."""

    def __init__(self, writer: TraceWriter, lanes: Lanes, plan: Mapping[str, Any]) -> None:
        self._writer = writer
        self._lanes = lanes
        self._known = [
            (
                str(call["name"]),
                [(str(role), int(at) - 1, str(kind)) for role, at, kind in call["arguments"]],
                str(call["result"]),
            )
            for call in plan.get("calls", ())
        ]
        handlers = (str(probe.get("handler")) for probe in plan.get("probes", ()))
        numbers = (found[1] for handler in handlers if (found := _HANDLER.fullmatch(handler)))
        probed = [self._known[int(number)] for number in numbers]
        self.probed = frozenset(
            name
            for name, roles, _ in probed
            if name != "sample" or any(role == "context" for role, *_ in roles)
        )
        """Names of the calls that are seen when they are made by these functions: that there is
        none of sampling shows nothing of a program that chooses tokens by itself."""

    def read(self, raw: bytes) -> Call:
        """A KIND_CALL record."""
        record = np.frombuffer(raw, CALL_RECORD, 1)[0]
        header, begin, end = record["header"], int(record["began"]), int(record["header"]["ts"])
        if not begin < end < 1 << 63:
            raise ValueError(f"a call from {begin} to {end}")
        name, roles, returned = self._known[int(record["number"])]
        return Call(
            name,
            int(self._lanes.threads.index(header["tid"].reshape(1), header["ts"].reshape(1))[0]),
            begin,
            end,
            {role: _value(int(record["argument"][at]), kind) for role, at, kind in roles},
            _value(int(record["result"]), returned) if returned else None,
        )

    def write(self, calls: list[Call]) -> None:
        """Their slices, on their threads: to be written after the ends of what they did."""
        for call in calls:
            track = self._lanes.thread(call.thread)
            args = {**call.arguments, "result": call.result}
            self._writer.event(_BEGIN, call.begin, track, call.name, "call", args)
            self._writer.end(call.end, track)


def _value(register: int, kind: str) -> int:
    """What a register holds, of which a flag and a number fill but a part."""
    if kind == "address":
        return register
    if kind == "flag":
        return int(register & 0xFF != 0)
    return (register & 0xFFFFFFFF ^ 0x80000000) - 0x80000000
