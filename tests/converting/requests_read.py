"""What the converter makes of micro-batches and calls, without a trace."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from perfetto_protos import trace_pb2 as pb
from profinfer.converting.calls import Asked
from profinfer.converting.sequences import Sequences
from profinfer.converting.slices import Call, Chunk, Operators, Ubatch
from profinfer.requests.telling import BATCHES
from profinfer.trace.lanes import Lanes
from profinfer.trace.losses import Loss
from profinfer.trace.writer import TraceWriter

Event = Call | Ubatch


@dataclass(eq=False)
class Read:
    """A request as it would be written, with what SQL makes of it."""

    context: int
    sequence: int
    kind: str
    cached: int | None
    begin: int
    first_token: int | None
    certain: bool
    reason: str | None
    shared: Read | None = None
    accepted: int | None = None
    spans: list[tuple[int, str]] = field(default_factory=list)
    steps: list[tuple[int, int, int]] = field(default_factory=list)
    """(position, shift, tokens)"""
    is_silent: bool = True
    """Whether no logits were asked for."""

    @property
    def tokens(self) -> int | None:
        """As in profinfer_request."""
        if not self.steps:
            return 1 if self.first_token else 0 if self.is_silent else None
        if self.accepted is None:
            return None
        ends = [position + shift for position, shift, _ in self.steps[1:]]
        starts = [position for position, _, _ in self.steps[:-1]]
        return 1 + self.accepted + sum(ends) - sum(starts)


class _Kept:
    """Takes what would be written."""

    def __init__(self) -> None:
        self.events: list[tuple[int, str, str, dict[str, Any]]] = []

    def event(
        self, kind: int, ts: int, track: int, name: str, category: str, args: dict[str, Any]
    ) -> None:
        assert kind == pb.TrackEvent.TYPE_SLICE_BEGIN
        assert track >= 0
        self.events.append((ts, name, category, args))

    def end(self, ts: int, track: int) -> None:
        assert ts > 0
        assert track >= 0

    def counter(self, ts: int, track: int, value: float) -> None:
        assert ts > 0
        assert track == -1
        assert 0 <= value < math.inf


class _NoTracks:
    def thread(self, tid: int) -> int:
        return tid

    def sequence(self, context: int, sequence: int) -> int:
        return context + sequence

    requests = sequence

    def tokens_per_second(self) -> int:
        return -1


def read(
    events: Sequence[Event], probed: Iterable[str] = (), losses: Sequence[Loss] = ()
) -> list[Read]:
    """Requests, in order of their first micro-batch."""
    kept = _Kept()
    sequences = Sequences(cast(Lanes, _NoTracks()), cast(TraceWriter, kept), [], frozenset(probed))
    ubatches = [event for event in events if isinstance(event, Ubatch)]
    empty = np.empty(0, np.int64)
    operators = Operators(empty, empty, empty, empty.astype(np.uint32), empty.astype(np.uint32),
                          empty.astype(np.bool_))  # fmt: skip
    chunk = Chunk(operators, operators, (empty, empty, empty), (empty, empty), [], [], [], ubatches,
                  ubatches, [event for event in events if isinstance(event, Call)])  # fmt: skip
    sequences.write(chunk, losses)
    sequences.finish()
    return _requests(kept.events)


def _requests(events: list[tuple[int, str, str, dict[str, Any]]]) -> list[Read]:
    about = {args["request"]: (ts, args) for ts, _, category, args in events
             if category == "request"}  # fmt: skip
    found = {
        number: Read(args["context"], args["sequence"], args["kind"], args["cached_tokens"], ts,
                     args["first_token_ts"], bool(args["certain"]), args["reason"],
                     accepted=args["accepted"])
        for number, (ts, args) in about.items()
    }  # fmt: skip
    for number, (_, args) in about.items():
        found[number].shared = found.get(args["shared_prefill_of"])
    for _, phase, category, args in sorted(events, key=lambda each: each[0]):
        if category != "sequence":
            continue
        number, ubatch = args["request"], args["ubatch_id"]
        if number and found[number].kind == "draft":
            number, phase = about[number][1]["draft_of"], "draft"
        if number is None:
            continue
        request = found[number]
        request.spans.append((ubatch, phase))
        request.is_silent &= not args["outputs"] or phase == "draft"
        if phase == "decode" and not args["goes_on"]:
            request.steps.append((args["position"], args["shift"] or 0, args["tokens"]))
    shown = [request for request in found.values() if request.kind != "draft"]
    for request in shown:
        if request.shared and not request.shared.certain:
            request.certain = False
    return sorted(shown, key=lambda each: each.spans[:1])


def at_entry(events: Sequence[Event]) -> list[Event]:
    """The same where calls that compute are told when they begin, in order of time."""
    asked, found = Asked(), list[Event]()
    for event in sorted(events, key=told_at_entry):
        if isinstance(event, Ubatch):
            asked.begun(event)
            found.append(event)
        elif event.name in BATCHES:
            found += asked.tell(replace(event, end=event.begin, result=None, told=event.begin))
        else:
            found += asked.tell(replace(event))
    return found + asked.finish()


def told_at_entry(event: Event) -> int:
    """When there is a record of it, then."""
    return event.begin if isinstance(event, Ubatch) or event.name in BATCHES else event.end


def without_calls(events: Sequence[Event]) -> list[Event]:
    """The same by an engine whose calls, and types of graphs, are not seen."""
    return [replace(event, graph_type=None) for event in events if isinstance(event, Ubatch)]
