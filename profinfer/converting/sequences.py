"""Ubatches, sequences and requests: their slices.

Where the engine's calls are seen, the ubatches of one call are one batch: they are written when it
has returned. What a request is docs/requests.md says, and requests.py in code.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Names
from dataclasses import replace

from perfetto_protos import trace_pb2 as pb
from profinfer.converting.slices import INF, Call, Chunk, Ubatch
from profinfer.records.dtypes import Kind
from profinfer.requests.portions import Portion, Request
from profinfer.requests.telling import BATCHES, Requests
from profinfer.requests.token_rate import TokenRate
from profinfer.trace.lanes import Lanes
from profinfer.trace.losses import Loss
from profinfer.trace.writer import TraceWriter

_BEGIN = pb.TrackEvent.TYPE_SLICE_BEGIN
_END, _CALLED, _BEGUN = range(3)
"""What comes first where times are equal."""

_TELLING = (Kind.UBATCH_BEGIN, Kind.TOKENS, Kind.CALL)
_PAUSE = 250_000_000
"""ns: engines do not rest for so long between the parts of a prompt."""
_MOST_HELD = 4096
"""Ubatches in one call."""


class Sequences:
    """Writes the slices of ubatches, of the sequences in them, and of requests."""

    def __init__(
        self, lanes: Lanes, writer: TraceWriter, steps: Names[str], probed: frozenset[str]
    ) -> None:
        """`steps`: the names of an engine's steps that are no process_ubatch; `probed`: those of
        the calls that are seen."""
        self._lanes = lanes
        self._names = ("ubatch", *steps)
        self._writer = writer
        self._requests = Requests(probed)
        self._rate = TokenRate()
        self._has_batches = bool(probed & BATCHES)
        self._held: dict[int, list[Ubatch]] = {}
        """By thread: those whose call has not returned."""
        self._open: dict[int, list[int]] = {}
        """Requests by the ubatch that was begun for them and has not ended."""
        self._rests: dict[int, int] = {}
        """By context and thread: the end of its last ubatch."""
        self._paused: set[int] = set()
        """Ubatches, not yet told of, before which both rested."""
        self._ends: dict[int, int] = {}
        """By request: the end of its last ubatch, or of the call that computed it."""

    def write(self, chunk: Chunk, losses: Iterable[Loss]) -> None:
        """Takes what became known, all of it older than what comes next."""
        for loss in losses:
            if loss.kind in _TELLING:
                self._requests.lose(loss.first, loss.last)
                self._rate.lose(loss.first, loss.last)
        events: list[tuple[int, int, Ubatch | Call]] = [
            *((ubatch.end, _END, ubatch) for ubatch in chunk.ubatches_ended),
            *((call.told, _CALLED, call) for call in chunk.calls),
            *((ubatch.begin, _BEGUN, ubatch) for ubatch in chunk.ubatches_begun),
        ]
        for _, kind, event in sorted(events, key=lambda each: each[:2]):
            if isinstance(event, Call):
                self._call(event)
            elif kind == _BEGUN:
                since = max(self._rests.get(key, 0) for key in (event.context, event.thread))
                if event.begin - since > _PAUSE:
                    self._paused.add(event.id)
                self._ubatch(event)
            else:
                self._rests[event.context] = self._rests[event.thread] = event.end
                if event.id in self._open:
                    self._write_end(event, self._open.pop(event.id))
        self._write_requests()

    def finish(self, doubt: str = "") -> None:
        """Nothing comes after. `doubt`: of all that is not known to have ended before."""
        for thread in list(self._held):
            self._stray(thread, INF)
        self._write_rates(self._rate.finish())
        self._requests.end(doubt)
        self._write_requests()

    def _call(self, call: Call) -> None:
        # Of calls within a call there are no records: what began before this one was in another.
        if call.name != "memory":
            self._stray(call.thread, call.begin)
        if call.name in BATCHES:
            doubt = "" if not call.result else "a call failed: what it computed may be void"
            held = self._held.pop(call.thread, [])
            # It may be known to have ended only when the next one has.
            self._held[call.thread] = [each for each in held if each.begin >= call.end]
            within = [each for each in held if each.begin < call.end]
            numbers = self._batch(within, call.begin, doubt)
            # Nothing is sampled before it returns, wherever in it the request's ubatch was.
            self._ends |= dict.fromkeys(numbers, call.end)
        else:
            self._requests.call(call)

    def _ubatch(self, ubatch: Ubatch) -> None:
        if not self._has_batches or ubatch.step:
            self._batch([ubatch], ubatch.begin)
            return
        if len(self._held.setdefault(ubatch.thread, [])) == _MOST_HELD:
            self._stray(ubatch.thread, INF)
        self._held[ubatch.thread].append(ubatch)

    def _stray(self, thread: int, before: int) -> None:
        """Ubatches whose call was not recorded."""
        held = self._held.get(thread, [])
        for ubatch in [each for each in held if each.begin < before]:
            held.remove(ubatch)
            doubt = "the call in which it was computed was not recorded"
            self._batch([ubatch], ubatch.begin, doubt)

    # ---- A batch

    def _batch(self, ubatches: list[Ubatch], called: int, doubt: str = "") -> list[int]:
        """Writes them; the requests that they are for."""
        last: dict[tuple[int, int], Portion] = {}
        portions: list[Portion] = []
        spans: list[tuple[Ubatch, list[tuple[Portion, Portion]]]] = []
        for ubatch in ubatches:
            spans.append((ubatch, []))
            is_after_pause = ubatch.id in self._paused
            self._paused.discard(ubatch.id)
            for span in _spans(ubatch, called):
                span.is_after_pause = is_after_pause
                key = (span.context, span.sequence)
                whole = last.get(key)
                if whole is None or whole.next != span.position:
                    whole = last[key] = replace(span)
                    portions.append(whole)
                else:
                    whole.tokens += span.tokens
                    whole.outputs += span.outputs
                    whole.has_last_output = span.has_last_output
                    whole.is_broken |= span.is_broken
                spans[-1][1].append((span, whole))
        until = max((each.begin for each in ubatches), default=0)
        self._requests.batch(portions, doubt, until)
        self._write_rates(self._rate.batch(ubatches, portions))
        for ubatch, parts in spans:
            self._write_begin(ubatch, parts)
            numbers = [whole.request.number for _, whole in parts if whole.request]
            if ubatch.end == INF:
                self._open[ubatch.id] = numbers
                self._ends |= dict.fromkeys(numbers, ubatch.begin)
            else:
                self._write_end(ubatch, numbers)
        return [portion.request.number for portion in portions if portion.request]

    def _write_begin(self, ubatch: Ubatch, parts: list[tuple[Portion, Portion]]) -> None:
        phases = {whole.phase for _, whole in parts}
        name = self._names[ubatch.step]
        phase = phases.pop() if len(phases) == 1 else ("mixed" if phases else name)
        self._writer.event(
            _BEGIN, ubatch.begin, self._lanes.thread(ubatch.thread), phase, "ubatch",
            {
                "ubatch_id": ubatch.id,
                "tokens": ubatch.tokens if not ubatch.step else ubatch.tokens or None,
                "sequences": len(parts) or None,
                "context": ubatch.context,
            },
        )  # fmt: skip
        for span, whole in parts:
            is_first = span.position == whole.position
            self._writer.event(
                _BEGIN, ubatch.begin, self._lanes.sequence(ubatch.context, span.sequence),
                whole.phase, "sequence",
                {
                    "ubatch_id": ubatch.id,
                    "sequence": span.sequence,
                    "position": span.position,
                    "tokens": span.tokens,
                    "outputs": span.outputs,
                    "request": whole.request.number if whole.request else None,
                    "shift": (whole.shift if is_first else 0) or None,
                    "goes_on": None if is_first else 1,
                },
            )  # fmt: skip

    def _write_end(self, ubatch: Ubatch, requests: list[int]) -> None:
        self._ends |= dict.fromkeys(requests, ubatch.end)
        self._writer.end(ubatch.end, self._lanes.thread(ubatch.thread))
        for sequence in sorted(set(ubatch.runs["sequence"].tolist())):
            self._writer.end(ubatch.end, self._lanes.sequence(ubatch.context, sequence))

    def _write_rates(self, rates: Iterable[tuple[int, float]]) -> None:
        for ts, rate in rates:
            self._writer.counter(ts, self._lanes.tokens_per_second(), rate)

    # ---- Requests

    def _write_requests(self) -> None:
        for request in self._requests.take():
            track = self._lanes.requests(request.context, request.sequence)
            end = max(self._ends.pop(request.number, 0), request.begin, request.last_token)
            name = f"{request.kind} {request.number}"
            self._writer.event(_BEGIN, request.begin, track, name, "request", _about(request))
            self._writer.end(end, track)


def _about(request: Request) -> dict[str, int | str | None]:
    reason = request.doubts[0] if request.doubts else None
    return {
        "request": request.number,
        "sequence": request.sequence,
        "context": request.context,
        "kind": request.kind,
        "cached_tokens": request.cached,
        "shared_prefill_of": request.shared.number if request.shared else None,
        "draft_of": request.draft_of.number if request.draft_of else None,
        "first_token_ts": request.first_token or None,
        "accepted": request.accepted or None,
        "certain": int(reason is None),
        "reason": reason,
    }


def _spans(ubatch: Ubatch, called: int) -> list[Portion]:
    """What each sequence has in a ubatch."""
    spans: dict[int, Portion] = {}
    for sequence, position, tokens, outputs, last_output in ubatch.runs.tolist():
        span = spans.get(sequence)
        if span is None:
            spans[sequence] = Portion(
                ubatch.context, sequence, ubatch.thread, called, ubatch.begin, position, tokens,
                outputs, bool(last_output), ubatch.graph_type,
            )  # fmt: skip
        else:
            span.is_broken |= span.next != position
            span.tokens += tokens
            span.outputs += outputs
            span.has_last_output = bool(last_output)
    return [span for _, span in sorted(spans.items())]
