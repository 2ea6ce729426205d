"""What is known of contexts, their sequences and requests while those are told apart."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(eq=False)
class Request:
    """A request, as far as it is known. Times are BOOTTIME ns, 0 for unknown."""

    number: int
    context: int
    sequence: int
    begin: int
    """When its first sign was seen."""
    cached: int | None
    """Tokens that it did not need to compute, None for unknown."""
    is_first: bool = False
    """Of its context."""
    kind: str = "request"
    """request, warm-up, or draft: what a context computed that turned out to draft for another."""
    shared: Request | None = None
    """Whose prefill gave its first token."""
    draft_of: Request | None = None
    doubts: list[str] = field(default_factory=list)
    """Why it may be otherwise."""
    is_encoded: bool = False
    tokens: int = 0
    """Computed before its first token."""
    steps: int = 0
    prompt_begin: int = 0
    """When its prompt began to be computed."""
    prompt_end: int = 0
    """Position after its prefill."""
    first_token: int = 0
    """When that was sampled, as far as calls tell."""
    last_token: int = 0
    """When its last one was, likewise."""
    accepted: int = 0
    """Tokens of its last step that stayed; 0 for unknown."""
    has_all_outputs: bool = True
    """Whether the logits of each of its prompt's tokens were asked for."""
    has_no_sampler: bool = False
    """Whether parts are taken for one prompt because nothing was sampled in between, though it is
    not known whether the engine's sampler is used at all."""
    has_no_sample: bool = False
    """Whether it was taken to decode though no sampling was seen, for the same reason."""
    is_removed: bool = False
    """Whether it was taken to go on though a removal may have been for another one."""
    between: set[int] = field(default_factory=set)
    """Contexts that the same thread computed in between."""


@dataclass(eq=False)
class Portion:
    """Consecutive tokens of a sequence in one call (where calls are not seen, one micro-batch)."""

    context: int
    sequence: int
    thread: int
    called: int
    """Begin of the call, or of the micro-batch."""
    begin: int
    """Begin of its first micro-batch."""
    position: int
    tokens: int
    outputs: int
    has_last_output: bool
    graph_type: int | None = None
    """1 for an encoder's; None where it is not told."""
    is_broken: bool = False
    """Whether its positions do not follow each other, as an image's."""
    is_after_pause: bool = False
    """Whether its context had computed nothing for a while."""
    phase: str = ""
    request: Request | None = None
    may_be_step: bool = False
    """Whether it is prefill, or a step."""
    shift: int = 0
    """By how much the positions were lowered since the last step."""

    @property
    def next(self) -> int:
        """The position after it."""
        return self.position + self.tokens

    @property
    def may_verify(self) -> bool:
        """Whether it is, or may be, a step that verified drafts."""
        return (self.phase == "decode" or self.may_be_step) and self.tokens > 1

    @property
    def is_step(self) -> bool:
        """Whether it could be a step of decoding: all of its logits are asked for."""
        return self.outputs == self.tokens


@dataclass
class Signs:
    """What was called for a sequence since the last of it was computed."""

    opened: list[tuple[int, int]] = field(default_factory=list)
    """(position from which on all was removed, when)"""
    is_empty: bool = False
    restored: int = 0
    """When what was computed earlier was put there, of which nothing is known."""
    copied: tuple[Request | None, int] | None = None
    """Of what it is a copy, and the position after that."""
    first_token: int = 0
    """When a token was sampled for it, since."""
    drafted: Request | None = None
    """The request that begins by the copy, if it has been drafted for."""
    shift: int = 0
    is_odd: bool = False
    """Whether something was done that is not followed here."""


@dataclass(eq=False)
class Track:
    """A sequence of a context."""

    last: Portion
    request: Request
    signs: Signs = field(default_factory=Signs)
    ends: list[tuple[int, int]] = field(default_factory=list)
    """(when, position after) of its last portions that gave logits."""


@dataclass(eq=False)
class Context:
    """A llama_context."""

    began: int = 0
    """When it was made, or what was at its address freed: before that nothing can be missing."""
    top: int = 0
    """The highest position after what was computed."""
    requests: int = 0
    """Those that were no test batch."""
    tests: list[int] = field(default_factory=list)
    """Tokens of those that were taken for one."""
    samples: list[int] = field(default_factory=list)
    """When samplers returned since its last batch."""
    uses_sampler: bool = False
    removes: bool | None = None
    """Whether each step comes behind a removal of what stands behind the one before, where nothing
    does, as some engines have it; None for unknown."""
    is_warming: bool = False
    warmed: int = 0
    """When that was said."""
    may_encode: bool = True
    """Whether all that was computed could be an encoder-decoder's."""
    has_encoded: bool = False
    """Whether some of it may be one's, by an engine that does not say."""
    pending: list[Request] = field(default_factory=list)
    """Requests that have ended and are doubtful for that alone."""
    has_drafts: bool = False
    """Whether drafts were verified in it."""
    first: dict[int, Request | None] = field(default_factory=dict)
    """By sequence whose single logits its last batch gave, or that is a copy of such a one: the
    request whose first token is sampled from them, None for another token, or a later request's."""
    last_batch: int = 0
    """When that began."""
    target: int = 0
    """The context it drafts for, 0 for none."""
    target_sequence: dict[int, int] = field(default_factory=dict)
    """By its own."""
