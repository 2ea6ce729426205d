"""Which contexts draft for which: who makes what another one verifies."""

from __future__ import annotations

from profinfer.requests.known import EVER, Known
from profinfer.requests.portions import Portion, Request, Track


def drafted(known: Known, address: int, sequence: int) -> Request | None:
    """What a draft for a sequence of a context is for."""
    signs = known.signs(address, sequence)[0]
    if signs.copied and not signs.drafted:
        signs.drafted = known.new(address, sequence, signs.copied[1])
    track = known.tracks.get((address, sequence))
    return signs.drafted or (track.request if track else None)


def find_drafts(known: Known, portions: list[Portion]) -> None:
    """Which context made the drafts that are verified: it gave the logits for each of them."""
    for portion in portions:
        since = known.contexts[portion.context].last_batch
        wanted = portion.next - portion.position - 1
        if wanted <= 0 or not (portion.phase == "decode" or portion.may_be_step):
            continue
        for (address, sequence), track in list(known.tracks.items()):
            is_other = address != portion.context and track.last.thread == portion.thread
            # Old engines have a context that drafts for each slot, with one sequence.
            is_other &= (
                sequence == portion.sequence or (address, portion.sequence) not in known.tracks
            )
            is_other &= not known.contexts[address].target
            made = {end for when, end in track.ends if when > since}
            if is_other and wanted == sum(portion.position < end < portion.next for end in made):
                _set_target(known, address, portion, sequence)


def _set_target(known: Known, address: int, portion: Portion, sequence: int) -> None:
    context = known.contexts[address]
    context.target = portion.context
    known.contexts[portion.context].has_drafts = True
    if sequence != portion.sequence:
        context.target_sequence[sequence] = portion.sequence
    for track in known.tracks_of(address):
        drafter = track.last.sequence
        sequence = context.target_sequence.get(drafter, drafter)
        track.request.kind = "draft"
        track.request.draft_of = drafted(known, context.target, sequence)
        known.close(track)
        del known.tracks[address, drafter]


def interleave(known: Known, request: Request, track: Track | None, portion: Portion) -> None:
    """A thread that computes another context between a request's steps may draft there, and so
    may one that goes on there where a request stands."""
    since = track.last.begin if track and track.request is request else EVER
    for other in known.tracks.values():
        last = other.last
        if last.context == portion.context or last.thread != portion.thread:
            continue
        is_draft = last.has_last_output and portion.has_last_output
        is_draft &= portion.next == last.next + 1
        if last.begin > since or is_draft:
            other.request.between.add(portion.context)
            request.between.add(last.context)
