"""What is known of contexts and their sequences while requests are told apart."""

from __future__ import annotations

from collections.abc import Iterable

from profinfer.requests.continuing import ENCODED, REMOVED
from profinfer.requests.portions import Context, Request, Signs, Track

EVER = 1 << 63
"""Later than any time."""

TEST = "it may be the engine's test batch"
UNSAMPLED = "it may be a request: what its context computed was not sampled by the engine"
_BETWEEN = "another context computed in between: one may draft for the other"
_BETWEEN_LOST = "records were lost: whether one context drafts for another may not be seen"
_TEST_TOKENS = 2
"""An engine's test batch has no more; an encoder-decoder's, one for each of the two."""


class Known:
    """Contexts and sequences by their numbers."""

    def __init__(self, probed: Iterable[str]) -> None:
        """`probed`: the calls that are seen."""
        self.probed = frozenset(probed)
        self.contexts: dict[int, Context] = {}
        self.tracks: dict[tuple[int, int], Track] = {}
        self.unseen: dict[tuple[int, int], Signs] = {}
        """Of sequences of which nothing was computed yet."""
        self.memories: dict[int, int] = {}
        """Contexts by the address of their memory."""
        self.ended: list[Request] = []
        """For the caller to take."""
        self.renewed: dict[int, int] = {}
        """When a context was made, or freed, by address."""
        self.number = 0
        self.losses: set[tuple[int, int]] = set()
        """First and last time."""

    def context(self, address: int) -> Context:
        """A context, which may be new."""
        if address not in self.contexts:
            self.contexts[address] = Context(began=self.renewed.get(address, 0))
        return self.contexts[address]

    def tracks_of(self, address: int) -> list[Track]:
        """Those of a context."""
        return [track for (owner, _), track in self.tracks.items() if owner == address]

    def signs(self, address: int, sequence: int) -> list[Signs]:
        """Of one sequence, or of all that are self."""
        if sequence < 0:
            unseen = [signs for (owner, _), signs in self.unseen.items() if owner == address]
            return unseen + [track.signs for track in self.tracks_of(address)]
        track = self.tracks.get((address, sequence))
        return [track.signs if track else self.unseen.setdefault((address, sequence), Signs())]

    def new(self, address: int, sequence: int, cached: int) -> Request:
        """A request begins."""
        self.number += 1
        context = self.contexts[address]
        context.requests += 1
        return Request(self.number, address, sequence, 0, cached, is_first=context.requests == 1)

    def may_be_test(self, request: Request) -> bool:
        """An engine's test batch: the first of its context, of hardly any tokens; or a second, with
        as many: llama.cpp tries what can be removed, and warms up."""
        tests = self.contexts[request.context].tests
        return (
            request.is_first
            and tests in ([], [request.tokens])
            and request.kind == "request"
            and request.cached == 0
            and request.tokens <= _TEST_TOKENS + request.is_encoded
            and not request.steps
        )

    def is_test(self, request: Request) -> None:
        """It is taken for one: there may be others behind it."""
        request.kind = "warm-up"
        self.contexts[request.context].requests -= 1
        self.contexts[request.context].tests.append(request.tokens)

    def is_lost(self, since: int, until: int) -> bool:
        """Whether records may have been lost between two times."""
        return any(first <= until and last >= since for first, last in self.losses)

    def close(self, track: Track) -> None:
        """A sequence's request has ended."""
        request, last = track.request, track.last
        if last.phase == "decode" and last.tokens > 1:
            trimmed = [at for at, _ in track.signs.opened if last.position < at <= last.next]
            request.accepted = trimmed[0] - last.position if trimmed else 0
        for address in request.between:
            if self.contexts[address].target != request.context and request.kind != "draft":
                request.doubts.append(_BETWEEN)
        context = self.contexts[request.context]
        is_used = context.uses_sampler
        if request.has_no_sample if is_used else request.has_no_sampler:
            request.doubts.append("whether a token was sampled within its prompt is not seen")
        if request.is_removed and not context.removes:
            request.doubts.append(REMOVED)
        if len(self.contexts) > 1 and self.losses and request.kind != "draft":
            request.doubts.append(_BETWEEN_LOST)
        is_pending = set(request.doubts) == {ENCODED} and context.may_encode
        is_pending |= set(request.doubts) == {UNSAMPLED} and not context.uses_sampler
        (context.pending if is_pending else self.ended).append(request)

    def doubt(self, address: int) -> None:
        """Records were lost: it may be another context by now, at the same address."""
        context = self.contexts[address]
        context.requests, context.tests = 0, []
        context.uses_sampler, context.removes, context.may_encode = False, None, True

    def forget(self, address: int, at: int) -> None:
        """A context, none of whose sequences is open, is no more: what comes there is another."""
        self.renewed[address] = at
        context = self.contexts.pop(address, None)
        if context is None:
            return
        self.ended += context.pending
        for request in {track.request for track in self.tracks.values()}:
            if request.kind != "draft":
                is_between = address in request.between and context.target != request.context
                request.doubts += [_BETWEEN] * is_between + [_BETWEEN_LOST] * bool(self.losses)
            request.between.discard(address)
        for other in self.contexts.values():
            if other.target == address:
                other.target, other.target_sequence = 0, {}
        self.unseen = {key: signs for key, signs in self.unseen.items() if key[0] != address}
        self.memories = {at: owner for at, owner in self.memories.items() if owner != address}

    def lift(self, address: int, lifted: str) -> None:
        """What was seen of a context leaves no room for that doubt."""
        context = self.contexts[address]
        for each in [*context.pending, *(track.request for track in self.tracks_of(address))]:
            each.doubts = [doubt for doubt in each.doubts if doubt != lifted]
        self.ended += [each for each in context.pending if not each.doubts]
        context.pending = [each for each in context.pending if each.doubts]
