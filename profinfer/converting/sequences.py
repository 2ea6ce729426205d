"""Ubatches and sequences: which tokens are prefill and which are decode, and their slices.

A token is decoded when it continues its sequence right after (or, with rejected drafts, before)
the end of tokens whose last logits were asked for, and its own logits are asked for too: it was
sampled. Everything else is prefill. Where the tokens before were not seen (recording began later,
or lost them) one token past position 0 with its logits counts as decode.
"""

from __future__ import annotations

from collections.abc import Sequence as Names
from dataclasses import dataclass

from perfetto_protos import trace_pb2 as pb
from profinfer.converting.slices import Ubatch
from profinfer.trace.lanes import Lanes
from profinfer.trace.writer import TraceWriter

_BEGIN = pb.TrackEvent.TYPE_SLICE_BEGIN


@dataclass
class _Sequence:
    next: int
    """Position after its last token."""
    sampled: bool
    """Whether the logits of its last token were asked for."""


class Sequences:
    """Writes the slices of ubatches and of the sequences in them."""

    def __init__(self, lanes: Lanes, writer: TraceWriter, steps: Names[str]) -> None:
        """`steps`: the names of an engine's steps that are no process_ubatch."""
        self._lanes = lanes
        self._names = ("ubatch", *steps)
        self._writer = writer
        self._state: dict[tuple[int, int], _Sequence] = {}

    def write_begins(self, ubatches: list[Ubatch], tids: list[int]) -> None:
        """Begins the slices of ubatches and of their sequences."""
        for ubatch in ubatches:
            spans = self._spans(ubatch)
            phases = {phase for _, _, _, _, phase in spans}
            name = self._names[ubatch.step]
            phase = phases.pop() if len(phases) == 1 else ("mixed" if phases else name)
            self._writer.event(
                _BEGIN, ubatch.begin, self._lanes.thread(tids[ubatch.thread]), phase, "ubatch",
                {
                    "ubatch_id": ubatch.id,
                    "tokens": ubatch.tokens if not ubatch.step else ubatch.tokens or None,
                    "sequences": len(spans) or None,
                    "context": ubatch.context,
                },
            )  # fmt: skip
            for sequence, position, tokens, outputs, phase in spans:
                track = self._lanes.sequence(ubatch.context, sequence)
                self._writer.event(
                    _BEGIN, ubatch.begin, track, phase, "sequence",
                    {
                        "ubatch_id": ubatch.id,
                        "sequence": sequence,
                        "position": position,
                        "tokens": tokens,
                        "outputs": outputs,
                    },
                )  # fmt: skip

    def write_ends(self, ubatches: list[Ubatch], tids: list[int]) -> None:
        """Ends the slices of ubatches; a begin may follow in the file, with an earlier time."""
        for ubatch in ubatches:
            self._writer.end(ubatch.end, self._lanes.thread(tids[ubatch.thread]))
            for sequence in sorted(set(ubatch.runs["sequence"].tolist())):
                self._writer.end(ubatch.end, self._lanes.sequence(ubatch.context, sequence))

    def _spans(self, ubatch: Ubatch) -> list[tuple[int, int, int, int, str]]:
        """(sequence, first position, tokens, outputs, phase), one per sequence in the ubatch."""
        spans: dict[int, tuple[int, int, int, str]] = {}
        for sequence, position, tokens, outputs, last_output in ubatch.runs.tolist():
            key = (ubatch.context, sequence)
            state = self._state.get(key)
            if state is None or position > state.next:
                decoded = position > 0 and tokens == 1 == outputs
            else:
                decoded = state.sampled and 0 < position <= state.next and outputs == tokens
            phase = "decode" if decoded else "prefill"
            self._state[key] = _Sequence(position + tokens, bool(last_output))
            before = spans.get(sequence)
            if before:
                position, tokens = before[0], tokens + before[1]
                outputs, phase = outputs + before[2], before[3]
            spans[sequence] = (position, tokens, outputs, phase)
        return [(sequence, *span) for sequence, span in sorted(spans.items())]
