"""Tells requests apart: docs/requests.md in code. It is told what was computed and what the engine
called, in order of time, and says which request each portion belongs to. It writes nothing."""

from __future__ import annotations

from collections.abc import Iterable

from profinfer.requests.continuing import ENCODED, MIDDLE, Case, Verdict, judge
from profinfer.requests.drafts import drafted, find_drafts, interleave
from profinfer.requests.known import EVER, TEST, Known
from profinfer.requests.portions import Context, Portion, Request, Signs, Track
from profinfer.requests.signs import Call, follow

BATCHES = frozenset({"decode", "encode", "process"})
"""Calls that compute: within one no token is sampled."""

_LOST = "records were lost before, within or after it"
_KEPT_ENDS = 64


def _is_left(track: Track) -> bool:
    """Whether it could be an encoder's work, and nothing was decoded from it."""
    request = track.request
    return 1 < request.tokens == track.last.tokens and not request.doubts


def _learn_removing(case: Case, track: Track, verdict: Verdict) -> None:
    """It goes on at its end: where something was removed there, nothing stood behind it."""
    request, is_removed = track.request, case.is_removed(track.last)
    if verdict.phase == "decode" or request.has_all_outputs:
        request.is_removed |= is_removed
    if verdict.phase == "decode" and case.portion.tokens == 1 and not verdict.doubt:
        if is_removed and case.context.removes is None and not case.is_lost:
            case.context.removes = True
        elif not case.signs.opened and not case.is_lost:
            case.context.removes = False


class Requests:
    """Keeps what is known of every sequence."""

    def __init__(self, probed: Iterable[str]) -> None:
        """`probed`: the calls that are seen."""
        self._known = Known(probed)

    def take(self) -> list[Request]:
        """Those that have ended since it was last asked."""
        ended, self._known.ended = self._known.ended, []
        return ended

    def lose(self, first: int, last: int) -> None:
        """Records of micro-batches, tokens or calls were lost between two times."""
        self._known.losses.add((first, last))

    def call(self, call: Call) -> None:
        """A call that computes nothing."""
        if call.name == "free":
            self._forget(call.arguments["context"], call.begin)
        elif call.name == "create":
            # There may have been one whose end was not seen.
            self._forget(call.result or 0, call.end)
        else:
            follow(self._known, call)

    def end(self, doubt: str = "") -> None:
        """Recording has ended. `doubt`: of each request that had not."""
        for address in list(self._known.contexts):
            self._close(address, EVER, doubt)
        for context in self._known.contexts.values():
            self._known.ended += context.pending

    def _close(self, address: int, at: int, doubt: str = "") -> None:
        """All that is open in a context has ended by then."""
        self._first_tokens(address)
        for track in self._known.tracks_of(address):
            request = track.request
            request.doubts += [doubt] if doubt else []
            if self._known.is_lost(track.last.begin, at):
                request.doubts.append(_LOST)
            if self._known.may_be_test(request) and not {"clear", "warmup"} & self._known.probed:
                request.doubts.append(TEST)
            self._known.close(track)
            del self._known.tracks[address, track.last.sequence]

    def _forget(self, address: int, at: int) -> None:
        """A context that was at this address is no more."""
        if address in self._known.contexts:
            self._close(address, at)
        self._known.forget(address, at)

    def batch(self, portions: list[Portion], doubt: str = "", until: int = 0) -> None:
        """What was computed together. Fills in phases and requests. `doubt`: of all of them.
        `until`: when its last micro-batch began; a call lost between makes it several."""
        addresses = {portion.context for portion in portions}
        for address in addresses:
            self._first_tokens(address)
            if self._known.is_lost(self._known.contexts[address].last_batch, until):
                self._known.doubt(address)
        cases = [self._case(portion, until) for portion in portions]
        verdicts = [judge(case) if case else None for case in cases]
        for portion, case, verdict in zip(portions, cases, verdicts, strict=True):
            if case and verdict:
                self._place(case, verdict, [doubt] * bool(doubt) + [_LOST] * case.is_lost)
            else:
                self._draft(portion)
        find_drafts(self._known, portions)
        for address in addresses:
            context = self._known.contexts[address]
            context.samples = []
            context.last_batch = min(each.begin for each in portions if each.context == address)
            context.first = {
                portion.sequence: portion.request if portion.phase == "prefill" else None
                for portion in portions
                if portion.context == address
                and portion.has_last_output
                and (portion.phase != "decode" or portion.tokens == 1)
            }

    def _first_tokens(self, address: int) -> None:
        """The sampler was called for one sequence after the other, or else in a way of its own."""
        context = self._known.context(address)
        samples = context.samples
        is_plain = len(samples) == len(context.first) or context.has_drafts
        for place, sequence in enumerate(sorted(context.first) if samples else ()):
            at = samples[place] if is_plain and place < len(samples) else samples[-1]
            request = context.first[sequence]
            if request:
                request.first_token = at
            signs, track = (
                self._known.signs(address, sequence)[0],
                self._known.tracks.get((address, sequence)),
            )
            signs.first_token = at
            if track and not signs.copied:
                track.request.last_token = at
        context.first = {}

    def _draft(self, portion: Portion) -> None:
        context = self._known.contexts[portion.context]
        sequence = context.target_sequence.get(portion.sequence, portion.sequence)
        portion.phase, portion.request = "draft", drafted(self._known, context.target, sequence)

    def _case(self, portion: Portion, until: int) -> Case | None:
        """What is known before any of the batch is placed; None where it is a draft."""
        address, context = portion.context, self._known.contexts[portion.context]
        if context.target:
            return None
        track = self._known.tracks.get((address, portion.sequence))
        others = [each for each in self._known.tracks_of(address) if each is not track]
        signs = self._known.signs(address, portion.sequence)[0]
        since = track.last.begin if track else context.began
        is_lost = self._known.is_lost(since, max(portion.begin, until))
        return Case(self._known.probed, context, others, track, signs, portion, is_lost)

    def _place(self, case: Case, verdict: Verdict, doubts: list[str]) -> None:
        portion = case.portion
        key = (portion.context, portion.sequence)
        context, track = self._known.contexts[portion.context], self._known.tracks.get(key)
        signs = track.signs if track else self._known.unseen.pop(key, Signs())
        concerned = [track.request] if track else []
        if track and verdict.continues:
            request = track.request
            portion.shift = signs.shift
            if track.last.has_last_output and portion.position + portion.shift == track.last.next:
                _learn_removing(case, track, verdict)
        else:
            if track:
                self._replace(track, verdict, portion)
            request = self._begin(context, signs, portion, verdict)
            # What is not known of the one before may make a beginning of what is none.
            if track and portion.position and _LOST in track.request.doubts:
                doubts.append(_LOST)
            concerned.append(request)
        if verdict.doubt:
            request.doubts.append(verdict.doubt)
        context.has_encoded |= verdict.doubt == ENCODED
        if context.has_encoded and not verdict.continues and portion.is_step:
            request.doubts.append(ENCODED)
        interleave(self._known, request, track, portion)
        if portion.is_broken or (track and track.last.is_broken):
            doubts.append("positions of one micro-batch do not follow each other")
        if signs.is_odd:
            doubts.append("the engine changed the sequence in a way that is not followed")
        for each in concerned:
            each.doubts += doubts
        self._advance(context, track, request, portion, verdict.phase)

    def _replace(self, track: Track, verdict: Verdict, portion: Portion) -> None:
        """Another request begins in a sequence."""
        request = track.request
        if verdict.doubt_before:
            request.doubts.append(verdict.doubt_before)
        is_test = self._known.may_be_test(request) and not {"clear", "warmup"} & self._known.probed
        if is_test and (portion.position == 0 or verdict.doubt):
            if not portion.position:
                self._known.is_test(request)
            request.doubts.append(TEST)
        self._known.close(track)

    def _begin(self, context: Context, signs: Signs, portion: Portion, verdict: Verdict) -> Request:
        begun = [at for position, at in signs.opened if position == portion.position]
        request = signs.drafted or self._known.new(
            portion.context, portion.sequence, portion.position
        )
        request.begin = begun[-1] if begun else portion.called
        if verdict.doubt == MIDDLE:
            request.cached = None
        request.shared = verdict.shared
        request.first_token = signs.first_token if verdict.shared else 0
        if context.is_warming:
            request.kind = "warm-up"
            # Its end may be what was lost.
            request.doubts += [_LOST] * self._known.is_lost(context.warmed, portion.begin)
        return request

    def _advance(
        self, context: Context, track: Track | None, request: Request, portion: Portion, phase: str
    ) -> None:
        portion.phase, portion.request = phase, request
        context.top = max(context.top, portion.next)
        is_new = track is None or request is not track.request
        is_plain = portion.position or not portion.is_step or (is_new and portion.tokens == 1)
        # An encoder's output is decoded from, before the next.
        is_plain |= _is_left(track) if is_new and track else False
        if phase == "prefill" and is_plain and not request.doubts:
            # No encoder-decoder does that.
            context.may_encode = context.has_encoded = False
            self._known.lift(portion.context, ENCODED)
        if phase == "decode":
            if not request.steps and not request.tokens:
                # It may be a prompt of one token, after what was restored.
                request.prompt_begin, request.prompt_end = portion.begin, portion.next
            request.steps += 1
            request.accepted = 1 if portion.tokens == 1 else 0
        else:
            request.is_encoded |= phase == "encode"
            if portion.position == request.cached or phase == "encode":
                request.prompt_begin = portion.begin
            request.tokens += portion.tokens
            request.prompt_end = portion.next
            request.has_all_outputs &= portion.is_step and phase == "prefill"
        ends = track.ends if track else []
        if portion.has_last_output:
            ends = [*ends[1 - _KEPT_ENDS :], (portion.begin, portion.next)]
        self._known.tracks[portion.context, portion.sequence] = Track(portion, request, ends=ends)
        context.has_drafts |= phase == "decode" and portion.tokens > 1
