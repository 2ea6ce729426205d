"""What the engine's calls say of sequences."""

from __future__ import annotations

from typing import Protocol

from profinfer.requests.known import TEST, UNSAMPLED, Known
from profinfer.requests.portions import Request


class Call(Protocol):
    """A call that has returned; times are BOOTTIME ns."""

    name: str
    begin: int
    end: int
    arguments: dict[str, int]
    """By role."""
    result: int | None


def follow(known: Known, call: Call) -> None:
    """A call that computes nothing."""
    arguments = call.arguments
    if call.name == "memory":
        if call.result is not None:
            known.memories[call.result] = arguments["context"]
    elif call.name == "sample":
        # Of a sampler that is not told of the context, whose token it was is not known.
        if "context" in arguments:
            context = known.context(arguments["context"])
            context.samples.append(call.end)
            if not context.uses_sampler:
                context.uses_sampler = True
                known.lift(arguments["context"], UNSAMPLED)
    elif call.name == "warmup":
        context = known.context(arguments["context"])
        context.is_warming, context.warmed = bool(arguments["on"]), call.begin
    else:
        owner = arguments.get("context", known.memories.get(arguments.get("memory", 0)))
        # A memory of which was not seen whose it is may be anybody's.
        for address in [owner] if owner is not None else list(known.contexts):
            _change(known, call.name, call.begin, arguments, address)
            if owner is None:
                for signs in known.signs(address, arguments.get("sequence", -1)):
                    signs.is_odd |= len(known.contexts) > 1


def _change(known: Known, name: str, at: int, arguments: dict[str, int], address: int) -> None:
    sequence = arguments.get("sequence", -1)
    if name == "remove":
        _remove(known, at, arguments, address, sequence)
    elif name == "copy":
        source = known.tracks.get((address, arguments["source"]))
        copied: tuple[Request | None, int] = (None, -1)
        if source:
            copied = (source.request, source.last.next if source.last.has_last_output else -1)
        known.signs(address, sequence)[0].copied = copied
        if arguments["source"] in known.context(address).first:
            known.context(address).first[sequence] = None
    elif name == "add":
        for signs in known.signs(address, sequence):
            signs.shift -= arguments["delta"]
    elif name == "restore":
        for signs in known.signs(address, sequence):
            signs.restored = at
    elif name == "clear":
        for track in known.tracks_of(address):
            is_removed = track.request.begin < track.last.called
            may_be_test = known.may_be_test(track.request) and not is_removed
            if may_be_test and not known.contexts[address].uses_sampler:
                known.is_test(track.request)
                track.request.doubts.append(UNSAMPLED if "sample" in known.probed else TEST)
        for signs in known.signs(address, -1):
            signs.is_empty = True
    elif name == "keep":
        kept = known.signs(address, sequence)[0]
        for signs in known.signs(address, -1):
            signs.is_empty |= signs is not kept
    elif name == "divide":
        for signs in known.signs(address, sequence):
            signs.is_odd = True


def _remove(known: Known, at: int, arguments: dict[str, int], address: int, sequence: int) -> None:
    begin, end = max(arguments["begin"], 0), arguments["end"]
    track = known.tracks.get((address, sequence))
    if sequence >= 0 and not begin and (not track or track.signs.is_empty):
        # It was empty. Nothing of it was removed before a test batch.
        known.context(address)
        known.lift(address, UNSAMPLED)
    if sequence >= 0 and (address, sequence) not in known.tracks and end < 0:
        known.signs(address, sequence)[0].opened.append((begin, at))
    for track in known.tracks_of(address):
        is_meant = sequence in (-1, track.last.sequence) and not 0 <= end < track.last.next
        # Some engines call it for all sequences before each step: then it removes nothing.
        if is_meant and (sequence >= 0 or begin < track.last.next):
            samples = known.contexts[address].samples
            if samples and track.last.may_verify and not track.signs.opened:
                # What was rejected is removed when the last that stays has been sampled.
                track.request.last_token = samples[-1]
            track.signs.opened.append((begin, at))
            track.signs.is_empty |= begin == 0
