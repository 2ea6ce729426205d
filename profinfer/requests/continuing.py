"""Whether what is computed next in a sequence continues its request or begins another one.

The rules of docs/requests.md. Where two readings are left, the likelier one has a doubt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from profinfer.requests.portions import Context, Portion, Request, Signs, Track

SMALLEST_CONTEXT = 32
"""A context that is full, and is shifted, has at least so many tokens."""

MIDDLE = "it began before the recording, or with what was restored"
_SHIFTED = "it may be the request before, its context shifted"
_COPIED = "its prompt may have been computed in another sequence and copied"
_CHUNK = "it may be one prompt with the computing before or after it"
ENCODED = "what was computed before may have been its encoder"
_ALL_LOGITS = "logits of the whole prompt: where it ends is not certain"
_PAUSED = "nothing was computed for a while within its prompt: it may have been asked for twice"
REMOVED = "what lay behind it was removed, where nothing lay: some engines do so at each step"
_TRIMMED = "the removal of rejected drafts, or of an old answer, cannot be told apart"


@dataclass(frozen=True)
class Verdict:
    """How a portion is read."""

    continues: bool
    phase: str
    doubt: str = ""
    doubt_before: str = ""
    """Of the request before it in its sequence."""
    shared: Request | None = None


@dataclass(frozen=True)
class Case:
    """What is known when a portion is judged."""

    probed: frozenset[str]
    """Calls that are seen."""
    context: Context
    others: list[Track]
    """Other sequences of the context."""
    track: Track | None
    signs: Signs
    portion: Portion
    is_lost: bool
    """Whether something may have been lost since the sequence's last portion."""

    def has_sampled(self) -> bool | None:
        """Whether a token was sampled since the sequence's last portion; None for unknown."""
        if self.context.samples:
            return True
        return False if "sample" in self.probed and self.context.uses_sampler else None

    def is_removed(self, last: Portion) -> bool:
        """Whether more was removed since the last portion than the drafts that it verified."""
        return len(self.signs.opened) > last.may_verify


def judge(case: Case) -> Verdict:
    """Reads a portion."""
    portion, signs, track = case.portion, case.signs, case.track
    if portion.graph_type == 1:
        return Verdict(False, "encode")
    if signs.copied:
        return _copied(case, *signs.copied)
    if track is None:
        return _first(portion, signs)
    last = track.last
    if last.phase == "encode":
        return Verdict(True, "prefill")
    if track.request.kind == "warm-up" and not case.context.is_warming:
        return Verdict(False, "prefill")
    if signs.restored:
        return _restored(case, last)
    if signs.is_empty:
        return _first(portion, signs)
    if case.is_lost and portion.position > last.next:
        # The likeliest is that what is missing was between them.
        return Verdict(True, "decode" if portion.is_step else "prefill")
    if not last.has_last_output:
        if portion.position != last.next:
            return _begins(case, last)
        return Verdict(True, "prefill", _PAUSED * portion.is_after_pause)
    if portion.position + signs.shift == last.next:
        return _at_end(case, track)
    if (
        last.may_verify
        and portion.is_step
        and last.position <= portion.position + signs.shift < last.next
    ):
        return _rejected(case, last)
    if case.context.may_encode and _may_be_encoded(track, portion):
        return Verdict(False, "prefill", ENCODED, ENCODED)
    return _begins(case, last)


def _copied(case: Case, source: Request | None, end: int) -> Verdict:
    """Another sequence was copied into this one."""
    portion = case.portion
    if portion.is_step and portion.position == end and case.has_sampled() is not False:
        return Verdict(False, "decode", shared=source)
    if portion.is_step and source is None:
        return Verdict(False, "decode", _COPIED)
    return Verdict(False, "prefill")


def _first(portion: Portion, signs: Signs) -> Verdict:
    """The first that is seen of a sequence."""
    opened = (position for position, at in signs.opened if at > signs.restored)
    if portion.position == 0 or portion.position in opened:
        return Verdict(False, "prefill")
    return Verdict(False, "decode" if portion.is_step else "prefill", MIDDLE)


def _restored(case: Case, last: Portion) -> Verdict:
    """Something else stands in the sequence: a prompt that was kept, or what was before drafts."""
    portion = case.portion
    if last.may_verify and portion.is_step and last.position <= portion.position < last.next:
        return Verdict(True, "decode", MIDDLE)
    read = _first(portion, case.signs)
    return replace(read, doubt_before=read.doubt)


def _at_end(case: Case, track: Track) -> Verdict:
    """It begins where the sequence ended, and that gave logits."""
    portion, last, request, context = case.portion, track.last, track.request, case.context
    sampled = case.has_sampled()
    if case.is_removed(last):
        # A server does so before it computes a prompt; with what was rejected, too.
        if context.has_drafts and last.phase == "decode" and portion.is_step:
            return Verdict(True, "decode", _TRIMMED)
        if context.removes is False:
            return Verdict(False, "prefill")
    if sampled is False and last.phase == "prefill":
        return Verdict(True, "prefill")
    if not portion.is_step:
        # Parts of a prompt are of one size, but for the last.
        is_part = portion.tokens <= request.tokens and not _has_long_outputs(request)
        if sampled or request.steps or not is_part:
            return Verdict(False, "prefill")
        if "sample" in case.probed:
            request.has_no_sampler = True
            return Verdict(True, "prefill")
        return Verdict(False, "prefill", _CHUNK, _CHUNK)
    if last.phase == "prefill" and sampled is None:
        request.has_no_sample = True
        if _has_long_outputs(request):
            portion.may_be_step = True
            return Verdict(True, "prefill" if portion.tokens > 1 else "decode", _ALL_LOGITS)
    if _may_be_copy(case, last):
        return Verdict(True, "decode", _COPIED)
    return Verdict(True, "decode")


def _has_long_outputs(request: Request) -> bool:
    return request.has_all_outputs and request.tokens > 1


def _rejected(case: Case, last: Portion) -> Verdict:
    """It begins within a step that verified drafts: some may have been rejected."""
    position = case.portion.position + case.signs.shift
    if position == last.position and not 2 <= case.portion.tokens <= last.tokens:
        return _begins(case, last)  # a step that is done again has at least one draft
    if _may_be_copy(case, last):
        return Verdict(True, "decode", _COPIED)
    if "remove" not in case.probed:
        return Verdict(True, "decode")
    removed = [at for at, _ in case.signs.opened]
    if removed == [position]:
        return Verdict(True, "decode")
    if removed:
        return _begins(case, last)
    return Verdict(True, "decode", _TRIMMED)


def _begins(case: Case, last: Portion) -> Verdict:
    """It begins where the request before cannot go on."""
    portion = case.portion
    phase, doubt, before = "prefill", "", ""
    if portion.is_step and portion.position > 0:
        if "copy" not in case.probed and (portion.position > last.next or _may_be_copy(case, last)):
            phase, doubt = "decode", _COPIED
            # What was drafted for the copy stands in the request before.
            before = _COPIED if case.context.has_drafts else ""
        full = last.next >= max(SMALLEST_CONTEXT, case.context.top)
        full = full and last.has_last_output and portion.position < last.next
        if full and "add" not in case.probed:
            doubt, before, portion.may_be_step = _SHIFTED, _SHIFTED, True
    return Verdict(False, phase, doubt, before)


def _may_be_copy(case: Case, last: Portion) -> bool:
    """Whether another sequence, computed since, has a prompt that ends where this one begins."""
    return "copy" not in case.probed and any(
        other.request.prompt_end == case.portion.position
        and other.request.steps <= 1
        and other.request.prompt_begin > last.begin
        for other in case.others
    )


def _may_be_encoded(track: Track, portion: Portion) -> bool:
    """Whether an encoder's output may be what is decoded from here: only old engines do not say."""
    request, last = track.request, track.last
    return (
        portion.graph_type is None
        and portion.position == 0
        and portion.tokens == 1 == portion.outputs
        and last.position == 0
        and last.tokens == request.tokens
        and not request.steps
        and _has_long_outputs(request)
    )
