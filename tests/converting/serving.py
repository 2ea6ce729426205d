"""A simulated server, whose requests are known: what an engine computes and calls for them.

Its programs: a server with slots (prompt cache, cancelling, several answers to one prompt, context
shifts, drafts with or without a model of their own, logits of whole prompts), a program that takes
its prompts in parts (and may remove, before whatever it computes, what stands behind that), an
encoder-decoder, and two of these on threads of their own. Where they choose tokens by themselves no
call of a sampler is seen. What it does not do docs/requests.md calls its assumptions.

Every decision is `pick`ed: by chance, or one after the other until all have been made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from profinfer.converting.slices import Call, Ubatch
from profinfer.records.dtypes import TOKEN_RUN

Option = TypeVar("Option")
CALLS = frozenset(
    ("decode", "encode", "memory", "remove", "copy", "add", "clear", "sample", "warmup", "create",
     "free", "restore")
)  # fmt: skip
DRAFTING = 0x100
"""What is added to a context's number for that which drafts for it."""

_MEMORY = 0x1000


class Ended(Exception):
    """The recording has ended."""


Token = tuple[int, int, int, "Truth | None", str]
"""(sequence, position, output, request, phase)"""


class Picker:
    """Decisions from a list of numbers; where that ends, the first option."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = list(numbers)
        self.made: list[tuple[int, int]] = []
        """(which, of how many)"""

    def __call__(self, options: Sequence[Option]) -> Option:
        at = len(self.made)
        number = self._numbers[at] % len(options) if at < len(self._numbers) else 0
        self.made.append((number, len(options)))
        return options[number]


def every(generate: Callable[[Picker], Program]) -> Iterator[Program]:
    """What comes of each way to decide."""
    numbers: list[int] = []
    while True:
        picker = Picker(numbers)
        yield generate(picker)
        made = picker.made
        while made and made[-1][0] + 1 == made[-1][1]:
            made.pop()
        if not made:
            return
        numbers = [number for number, _ in made]
        numbers[-1] += 1


@dataclass(eq=False)
class Truth:
    """A request, as it was."""

    context: int
    sequence: int
    kind: str = "request"
    cached: int = 0
    begin: int = 0
    """When its first sign was seen, by calls."""
    first_token: int = 0
    """When that was sampled, 0 for never."""
    tokens: int = 0
    is_drafted: bool = False
    """Whether its last step verified drafts: how many stayed calls alone tell."""
    shared: Truth | None = None
    spans: list[tuple[int, str]] = field(default_factory=list)
    """(ubatch, phase)"""


@dataclass(eq=False)
class Slot:
    """A server's slot."""

    number: int
    request: Truth | None = None
    state: str = "idle"
    content: int = 0
    """Tokens in the cache."""
    prompt: int = 0
    predict: int = 0
    cancel: int = -1
    """Updates until the client goes away."""
    has_all: bool = False
    children: list[Slot] = field(default_factory=list)
    drafts: int = 0
    drafted: int = 0
    """Tokens in the draft model's cache."""
    was_cut: bool = False
    """Whether it was cancelled within its prompt."""


class Program:
    """One thread's work with one context, and with another that drafts for it."""

    def __init__(self, pick: Picker, context: int = 1, thread: int = 0, most: int = 999) -> None:
        """`most`: ubatches until the recording ends."""
        self.pick = pick
        self.context, self.thread, self.size = context, thread, 40
        self.events: list[Call | Ubatch] = []
        self.requests: list[Truth] = []
        self.now = 1000
        self._ubatches = 1000 * context
        self.last = self._ubatches + most
        self.is_sampler_seen = True

    # ---- What the engine is asked

    def _tick(self) -> int:
        self.now += 10
        return self.now

    def call(self, name: str, result: int = 0, **arguments: int) -> None:
        """A call that computes nothing."""
        begin = self._tick()
        self.events.append(Call(name, self.thread, begin, self._tick(), arguments, result))

    def change(self, name: str, context: int = 0, **arguments: int) -> None:
        """A call for a memory."""
        context = context or self.context
        self.call("memory", _MEMORY + context, context=context)
        self.call(name, memory=_MEMORY + context, **arguments)

    def sample(self, context: int = 0) -> int:
        """A token is sampled; when that was done, 0 where it is not seen."""
        if not self.is_sampler_seen:
            return 0
        self.call("sample", context=context or self.context)
        return self.now

    def decode(
        self, tokens: list[Token], context: int = 0,
        name: str = "decode", ubatch: int = 8,
    ) -> int:  # fmt: skip
        """A call that computes; when it began."""
        context = context or self.context
        if self._ubatches >= self.last:
            raise Ended
        begin = self._tick()
        for first in range(0, len(tokens), ubatch):
            runs: list[list[int]] = []
            number = self._ubatches = self._ubatches + 1
            for sequence, position, output, request, phase in tokens[first : first + ubatch]:
                if runs and runs[-1][0] == sequence and sum(runs[-1][1:3]) == position:
                    runs[-1][2] += 1
                    runs[-1][3] += output
                    runs[-1][4] = output
                else:
                    runs.append([sequence, position, 1, output, output])
                if request and (number, phase) not in request.spans:
                    request.spans.append((number, phase))
            start = self._tick()
            count = len(tokens[first : first + ubatch])
            self.events.append(
                Ubatch(number, self.thread, start, self._tick(), count, context,
                       np.array([tuple(run) for run in runs], TOKEN_RUN),
                       graph_type=1 if name == "encode" else 2)
            )  # fmt: skip
        self.events.append(Call(name, self.thread, begin, self._tick(), {"context": context}, 0))
        return begin

    def stand_where(self, before: Program) -> None:
        """Its context is made, by the same thread, after another's were freed, where one of these
        was. Either is seen, or both."""
        self.now, self._ubatches, self.last = before.now, before._ubatches, before.last
        seen = self.pick(["both", "create", "free"])
        addresses = [before.context, before.context + DRAFTING]
        if seen != "create":
            for address in addresses:
                self.call("free", context=address)
        self.context = self.pick(addresses)
        if seen != "free":
            for address in addresses:
                self.call("create", address, model=1)

    def begin(self, sequence: int, cached: int = 0, kind: str = "request") -> Truth:
        """A request begins."""
        request = Truth(self.context, sequence, kind, cached)
        self.requests.append(request)
        return request

    def warm_up(self) -> None:
        """The engine's own test batches: it tries what can be removed, too."""
        how = self.pick(["none", "clear", "warmup", "clear twice"])
        size = self.pick([2, 1]) if how != "none" else 0
        for _ in range({"none": 0, "clear twice": 2}.get(how, 1)):
            if how == "warmup":
                self.call("warmup", context=self.context, on=1)
            request = self.begin(0, kind="warm-up")
            batch: list[Token] = [
                (0, i, int(i == size - 1), request, "prefill") for i in range(size)
            ]
            request.begin = self.decode(batch)
            self.change("clear")
            if how == "warmup":
                self.call("warmup", context=self.context, on=0)


class Parts(Program):
    """A program with one sequence, whose prompts are computed in parts, the logits of each part's
    last token asked for, or of all in it (below 0)."""

    parts: Sequence[Sequence[int]] = ([3], [3, 2], [3, 3], [8, 8, 5], [19, 2])
    sampled_parts: Sequence[Sequence[int]] = ([3, 1], [8, 8, 1])
    """Of a program whose sampling is seen: else the last is taken for a step."""
    steps: Sequence[int] = (0, 2, 5)
    is_warmed = True

    def run(self, requests: int, has_calls: bool = True) -> None:
        self.is_sampler_seen = self.pick([True, False]) if has_calls else True
        self.removes = self.pick([False, True]) if has_calls else False
        if self.is_warmed:
            self.warm_up()
        position = 0
        is_plain = not (has_calls and self.is_sampler_seen)
        all_parts = [*self.parts, *([] if is_plain else self.sampled_parts)]
        for _ in range(requests):
            start = self.pick([0, position, position - 1, 1]) if position else 0
            if position and not start and not self.removes:
                self.change("clear")
            parts = [sizes for sizes in all_parts if not start or sizes[0] > (start == position)]
            request = self.begin(0, cached=start)
            if 0 < start < position and not self.removes:
                self._remove(request, start)
            position = start
            for size in self.pick(parts):
                has_all, size = size < 0, abs(size)
                batch: list[Token] = [
                    (0, position + i, int(has_all or i == size - 1), request, "prefill")
                    for i in range(size)
                ]
                self._compute(request, batch)
                position += size
            request.first_token = self.sample()
            request.tokens = 1
            for _ in range(self.pick(self.steps)):
                self._compute(request, [(0, position, 1, request, "decode")])
                position += 1
                self.sample()
                request.tokens += 1

    def _compute(self, request: Truth, batch: list[Token]) -> None:
        if self.removes:
            self._remove(request, batch[0][1])
        begin = self.decode(batch)
        request.begin = request.begin or begin

    def _remove(self, request: Truth, position: int) -> None:
        self.change("remove", sequence=0, begin=position, end=-1)
        request.begin = request.begin or self.now - 10


class Encoder(Program):
    """An encoder-decoder."""

    sizes: Sequence[int] = (8, 5)
    steps: Sequence[int] = (1, 3, 6)

    def run(self, requests: int) -> None:
        for number in range(requests):
            request = self.begin(0)
            size = self.pick(self.sizes)
            if number:
                self.change("clear")
            batch: list[Token] = [(0, i, 1, request, "encode") for i in range(size)]
            request.begin = self.decode(batch, name="encode", ubatch=size)
            for position in range(self.pick(self.steps)):
                phase = "decode" if position else "prefill"
                self.decode([(0, position, 1, request, phase)])
                done = self.sample()
                request.first_token = request.first_token or done
                request.tokens += 1


@dataclass(frozen=True)
class Load:
    """What a server is asked, and may do."""

    tasks: Sequence[int] = (3, 5, 1)
    slots: Sequence[int] = (1, 2, 3)
    kinds: Sequence[str] = (
        "new", "long", "same", "chat", "edit", "all", "all and on", "two", "tiny", "full",
        "restored",
    )  # fmt: skip
    cancels: Sequence[int] = (-1, 1, 3)
    """Updates until the client goes away, -1 for never."""
    cancelled: Sequence[str] = ("new", "long", "same", "chat", "edit", "all and on", "full")
    """What may be."""
    predicts: Sequence[int] = (4, 1, 9)
    drafting: Sequence[str] = ("no", "model", "lookup")
    drafts: Sequence[int] = (2, 0, 1, 3)
    together: Sequence[int] = (0, 1)
    """Whether two requests come at once."""
    copies: Sequence[int] = (0, 1)
    ubatches: Sequence[int] = (8, 5)
    samplers: Sequence[bool] = (True, False)
    """Whether calls of its sampler are seen."""
    is_stepwise: bool = False
    """Whether each token may be the last, in place of `predicts`."""


class Server(Program):
    """A server with slots."""

    batch_size = 16

    def run(self, load: Load, has_calls: bool = True) -> None:
        self.load, self.has_calls = load, has_calls
        self.is_sampler_seen = self.pick(load.samplers) if has_calls else True
        self.warm_up()
        self.slots = [Slot(number) for number in range(self.pick(load.slots))]
        self.drafting = self.pick(load.drafting)
        self.ubatch = self.pick(load.ubatches)
        left, updates = self.pick(load.tasks), 0
        while left or any(slot.request for slot in self.slots):
            updates += 1
            free = [slot for slot in self.slots if not slot.request]
            busy = len(free) < len(self.slots)
            if left and free and (not busy or (updates % 2 == 0 and self.pick([True, False]))):
                self._take(free)
                left -= 1
                if left and any(not slot.request for slot in free) and self.pick(load.together):
                    self._take([slot for slot in free if not slot.request])
                    left -= 1
            self._update()

    # ---- Tasks

    def _take(self, free: list[Slot]) -> None:
        slot = self.pick(free)
        slot.request = self.begin(slot.number)
        slot.state, slot.has_all = "started", False
        kind = self.pick([kind for kind in self.load.kinds if self._can_be(kind, slot)])
        slot.cancel = self.pick(self.load.cancels) if kind in self.load.cancelled else -1
        slot.children = []
        slot.predict = 99 if self.load.is_stepwise else self.pick(self.load.predicts)
        slot.predict = 0 if kind == "all" else slot.predict
        cached = 0
        if kind == "same":
            cached = slot.prompt - 1
        elif kind == "chat":
            cached = slot.content
        elif kind == "restored":
            cached = 3
            self.call("restore", context=self.context, sequence=slot.number)
        elif kind == "edit":
            cached = self.pick([1, slot.content - 1])
        sizes = {"new": 3, "long": 19, "two": 2, "tiny": 1, "full": 36}
        size = self.pick([11, 9]) if kind == "all" else sizes.get(kind)
        size = 8 if kind == "all and on" else size
        if kind in ("same", "restored"):
            size = cached + 1
        prompt = size or cached + self.pick([2, 3])
        if prompt > self.size - 3:
            kind, cached, prompt = "new", 0, 4
        slot.has_all = kind in ("all", "all and on")
        slot.content, slot.prompt, slot.was_cut = cached, prompt, False
        slot.request.cached = cached
        others = [other for other in free if other is not slot]
        if others and slot.predict and not slot.has_all and self.pick(self.load.copies):
            child = others[0]
            child.request = self.begin(child.number, cached=prompt)
            child.request.shared = slot.request
            child.state, child.prompt, child.predict = "waits", prompt, max(2, slot.predict)
            child.has_all, child.cancel, child.was_cut, child.children = False, -1, False, []
            slot.children = [child]
            slot.cancel = -1

    def _can_be(self, kind: str, slot: Slot) -> bool:
        """Whether nothing is taken up exactly where it was left (docs/requests.md)."""
        if kind == "restored":
            return self.has_calls or not slot.content
        least = {"same": 1, "chat": 1, "edit": 3}.get(kind, 0)
        return not least or (slot.content >= least and not slot.was_cut)

    def _go_on(self, slot: Slot) -> None:
        assert slot.request
        is_last = self.load.is_stepwise and slot.predict and self.pick([True, False])
        if is_last or slot.request.tokens >= slot.predict:
            self._release(slot)

    def _release(self, slot: Slot) -> None:
        slot.was_cut = slot.state in ("started", "prompt")
        if slot.request and not slot.request.spans:
            self.requests.remove(slot.request)
            slot.was_cut = slot.content > 0
        slot.request, slot.state = None, "idle"

    # ---- An update

    def _update(self) -> None:
        for slot in self.slots:
            if slot.request and slot.state != "waits" and slot.cancel == 0:
                self._release(slot)
            elif slot.request:
                slot.cancel -= slot.cancel > 0
        tokens: list[Token] = []
        computing: list[Slot] = []
        for slot in self.slots:
            if slot.state == "generating":
                self._shift(slot)
                self._draft(slot)
                computing.append(slot)
                tokens += [
                    (slot.number, slot.content + i, 1, slot.request, "decode")
                    for i in range(1 + slot.drafts)
                ]
        for slot in self.slots:
            room = self.batch_size - len(tokens)
            if slot.state in ("started", "prompt") and room:
                assert slot.request
                size = min(room, slot.prompt - slot.content)
                if slot.has_all and (tokens or size < slot.prompt - slot.content):
                    continue  # it is computed at once, and by itself
                self.change("remove", sequence=slot.number, begin=slot.content, end=-1)
                slot.request.begin = slot.request.begin or self.now - 10
                slot.state = "prompt"
                computing.append(slot)
                for position in range(slot.content, slot.content + size):
                    output = int(slot.has_all or position == slot.prompt - 1)
                    tokens.append((slot.number, position, output, slot.request, "prefill"))
                if slot.has_all:
                    break
        if tokens:
            # That the parts of a step are of one batch calls alone tell.
            steps = 0 if self.has_calls else sum(each[4] == "decode" for each in tokens)
            self.decode(tokens, ubatch=max(self.ubatch, steps))
            for slot in computing:
                self._decoded(slot, sum(each[0] == slot.number for each in tokens))
            self._sample(computing)

    def _shift(self, slot: Slot) -> None:
        if slot.content + 1 >= self.size:
            keep = self.pick([1, 4])
            discard = (slot.content - keep) // 2
            self.change("remove", sequence=slot.number, begin=keep, end=keep + discard)
            self.change("add", sequence=slot.number, begin=keep + discard, end=slot.content,
                        delta=-discard)  # fmt: skip
            slot.content -= discard
            slot.prompt = min(slot.prompt, slot.content)
            slot.drafted = min(slot.drafted, keep)

    def _draft(self, slot: Slot) -> None:
        slot.drafts = 0
        if self.drafting == "no" or slot.predict < 2 or slot.content + 4 >= self.size:
            return
        slot.drafts = self.pick(self.load.drafts)
        if self.drafting == "model" and slot.drafts:
            context, request = self.context + DRAFTING, slot.request
            common = min(slot.drafted, slot.content)
            self.change("remove", context, sequence=slot.number, begin=common, end=-1)
            if common < slot.content:
                refill = range(common, slot.content)
                self.decode([(slot.number, i, 0, request, "draft") for i in refill], context)
            for i in range(slot.drafts):
                self.decode([(slot.number, slot.content + i, 1, request, "draft")], context)
                self.sample(context)
            slot.drafted = slot.content + slot.drafts

    def _decoded(self, slot: Slot, tokens: int) -> None:
        if slot.state == "prompt":
            slot.content += tokens
            if slot.content == slot.prompt:
                slot.state = "done"
                for child in slot.children:
                    assert child.request
                    self.change("remove", sequence=child.number, begin=-1, end=-1)
                    self.change("copy", source=slot.number, sequence=child.number, begin=-1, end=-1)
                    child.state, child.content, child.drafted = "copied", slot.content, 0

    def _sample(self, computing: list[Slot]) -> None:
        for slot in self.slots:
            request = slot.request
            if request and slot.state in ("done", "copied"):
                if slot.predict:
                    request.first_token = self.sample()
                    request.tokens = 1
                slot.state = "generating"
                self._go_on(slot)
            elif request and slot in computing and slot.state == "generating" and not slot.drafts:
                self.sample()
                request.is_drafted = False
                request.tokens += 1
                slot.content += 1
                self._go_on(slot)
        for slot in computing:
            request = slot.request
            if request and slot.state == "generating" and slot.drafts:
                accepted = self.pick([1 + slot.drafts, 1, min(2, slot.drafts)])
                for _ in range(accepted):
                    self.sample()
                request.tokens += accepted
                request.is_drafted = True
                slot.content += accepted
                self.change("remove", sequence=slot.number, begin=slot.content, end=-1)
                slot.drafts = 0
                self._go_on(slot)


def merged(programs: Sequence[Program]) -> list[Call | Ubatch]:
    """What several threads do, in order of time: calls by their return."""
    events = [event for program in programs for event in program.events]
    return sorted(events, key=lambda each: each.end if isinstance(each, Call) else each.begin)
