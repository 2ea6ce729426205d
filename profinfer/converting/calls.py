"""Calls of the engine's own interface: what it was asked, by whom, and when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from perfetto_protos import trace_pb2 as pb
from profinfer.converting.slices import INF, Call, Ubatch
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
                bool(call.get("part")),
            )
            for call in plan.get("calls", ())
        ]
        handlers = (str(probe.get("handler")) for probe in plan.get("probes", ()))
        numbers = (found[1] for handler in handlers if (found := _HANDLER.fullmatch(handler)))
        probed = [self._known[int(number)] for number in numbers]
        self.probed = frozenset(
            name
            for name, roles, _, is_part in probed
            if not is_part and (name != "sample" or any(role == "context" for role, *_ in roles))
        )
        """Names of the calls that are seen when they are made by these functions: that there is
        none of sampling shows nothing of a program that chooses tokens by itself."""

    def read(self, raw: bytes) -> Call:
        """A KIND_CALL record."""
        record = np.frombuffer(raw, CALL_RECORD, 1)[0]
        header, begin, end = record["header"], int(record["began"]), int(record["header"]["ts"])
        name, roles, returned, is_part = self._known[int(record["number"])]
        if not (begin < end or (begin == end and not returned)) or end >> 63:
            raise ValueError(f"a call from {begin} to {end}")
        return Call(
            name,
            int(self._lanes.threads.index(header["tid"].reshape(1), header["ts"].reshape(1))[0]),
            begin,
            end,
            {role: _value(int(record["argument"][at]), kind) for role, at, kind in roles},
            _value(int(record["result"]), returned) if returned not in ("", "void") else None,
            is_part=is_part,
        )

    def write(self, calls: list[Call]) -> None:
        """Their slices, on their threads: to be written after the ends of what they did."""
        for call in calls:
            track = self._lanes.thread(call.thread)
            args = {**call.arguments, "result": call.result}
            category = "part" if call.is_part else "call"
            self._writer.event(_BEGIN, call.begin, track, call.name, category, args)
            self._writer.end(call.end, track)


class Asked:
    """Calls, one for each thread, that are told when they begin, as exceptions may pass their ends:
    when they ended is known by what came next."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[Call, list[Ubatch]]] = {}
        """And the micro-batches that have begun since."""
        self._contexts: dict[int, int] = {}
        """By the address of their memory."""

    def begun(self, ubatch: Ubatch) -> None:
        """A micro-batch, maybe within one of them."""
        if ubatch.thread in self._open:
            self._open[ubatch.thread][1].append(ubatch)

    def tell(self, call: Call) -> list[Call]:
        """What has ended by the time that another call is told, with their ends, and that one if it
        has ended, too."""
        arguments = call.arguments
        if call.name == "memory":  # nothing is done; decoding itself asks for it
            if call.result is not None:
                self._contexts[call.result] = arguments["context"]
            return [call]
        context = arguments.get("context", self._contexts.get(arguments.get("memory", 0)))
        ended = [
            self._end(other, call.begin, call.told)
            for other, (asked, ubatches) in list(self._open.items())
            if other == call.thread
            # No two threads are in one context.
            or (
                context is not None
                and asked.arguments.get("context") == context
                and all(ubatch.end < INF for ubatch in ubatches)
            )
        ]
        if call.begin < call.end:
            return [*ended, call]
        self._open[call.thread] = (call, [])
        return ended

    def finish(self) -> list[Call]:
        """Nothing comes after: those have ended within which nothing is open."""
        return [
            self._end(thread, INF, INF)
            for thread, (_, ubatches) in list(self._open.items())
            if all(ubatch.end < INF for ubatch in ubatches)
        ]

    def _end(self, thread: int, before: int, told: int) -> Call:
        """At the end of its last micro-batch; where that was not recorded, when another was called.
        Where it computed nothing, at once."""
        call, ubatches = self._open.pop(thread)
        ends = [ubatch.end for ubatch in ubatches if ubatch.begin < before]
        call.end = max(call.begin + 1, min(max(ends, default=0), before - 1))
        call.told = told
        return call


def _value(register: int, kind: str) -> int:
    """What a register holds, of which a flag and a number fill but a part."""
    if kind in ("address", "size"):
        return register
    if kind == "flag":
        return int(register & 0xFF != 0)
    return (register & 0xFFFFFFFF ^ 0x80000000) - 0x80000000
