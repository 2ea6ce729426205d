"""Requests that are called certain are exactly right, whatever a server does; and those that are
not could have been others.

Ambiguity is measured on every recording that a small world can give, of so many micro-batches: what
is observed is mapped to all that may have happened. A request is unambiguous where all of these
have it.
"""

from __future__ import annotations

import time
import timeit
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profinfer.converting.slices import Call, Ubatch
from profinfer.records.dtypes import Kind
from profinfer.trace.losses import Loss
from tests.converting.requests_read import (
    Event,
    Read,
    at_entry,
    read,
    told_at_entry,
    without_calls,
)
from tests.converting.serving import (
    CALLS,
    Encoder,
    Ended,
    Load,
    Parts,
    Picker,
    Program,
    Server,
    Truth,
    every,
    merged,
)

NUMBERS = st.lists(st.integers(0, 60), max_size=120)
EXAMPLES = settings(max_examples=300, deadline=None, derandomize=True)


def programs(numbers: Sequence[int], has_calls: bool = True) -> list[Program]:
    """One, or two on threads of their own."""
    pick = Picker(numbers)
    return [program(pick, number, None, has_calls) for number in range(pick([1, 1, 1, 2]))]


def program(pick: Picker, number: int, before: Program | None, has_calls: bool = True) -> Program:
    """One, maybe with its context where another's was."""
    kind = pick(["server", "parts", "encoder"])
    found: Server | Parts | Encoder
    if kind == "server":
        found = Server(pick, 1 + number, number)
    elif kind == "parts":
        found = Parts(pick, 1 + number, number)
    else:
        found = Encoder(pick, 1 + number, number)
    if before:
        found.stand_where(before)
    if isinstance(found, Server):
        found.run(Load(), has_calls)
    elif isinstance(found, Parts):
        found.run(pick([1, 2]), has_calls)
    else:
        found.run(pick([1, 2]))
    return found


def faults(truths: Sequence[Truth], found: Sequence[Read], *, has_calls: bool) -> list[str]:
    """In what those that are called certain are wrong."""
    begun = {
        (truth.context, truth.sequence, truth.spans[0]): truth for truth in truths if truth.spans
    }
    said = []
    for request in found:
        if not request.certain:
            continue
        truth = begun.get((request.context, request.sequence, request.spans[0]))
        about = f"{request.kind} at {request.spans[0]}"
        if truth is None:
            said.append(f"{about} is none")
            continue
        pairs: list[tuple[str, object, object]] = [
            ("kind", request.kind, truth.kind),
            ("cached", request.cached, truth.cached),
            ("spans", request.spans, truth.spans),
        ]
        if has_calls:
            said_first, true_first = request.shared or request, truth.shared or truth
            pairs.append(("begin", said_first.begin, true_first.begin))
            pairs.append(("first token", request.first_token or 0, truth.first_token))
        # How many of the drafts that were verified last were accepted only calls tell.
        is_told = request.steps and (has_calls or not truth.is_drafted)
        if is_told or request.tokens is not None:
            pairs.append(("tokens", request.tokens, truth.tokens))
        said += [f"{about}: {name} {is_} but {was}" for name, is_, was in pairs if is_ != was]
    return said


def requests(found: Sequence[Program]) -> list[Truth]:
    return [request for program in found for request in program.requests]


@EXAMPLES
@given(NUMBERS)
def test_with_all_calls(numbers: list[int]) -> None:
    found = programs(numbers)
    assert faults(requests(found), read(merged(found), CALLS), has_calls=True) == []
    told = read(at_entry(merged(found)), CALLS)
    assert faults(requests(found), told, has_calls=True) == []


def shown(found: Sequence[Read]) -> list[object]:
    """All that is said of them, but for the numbers of those that they share with."""
    return [(request.kind, request.cached, request.begin, request.first_token, request.spans,
             request.tokens, request.certain) for request in found]  # fmt: skip


@EXAMPLES
@given(st.lists(NUMBERS, min_size=2, max_size=3))
def test_contexts_that_are_freed_and_made_anew(numbers: list[list[int]]) -> None:
    """What was at an address before changes nothing of what is told, nor how surely."""
    found: list[Program] = []
    for each in numbers:
        found.append(program(Picker(each), 0, found[-1] if found else None))
    for seen in (list[Event], at_entry):
        together = read(seen(merged(found)), CALLS)
        assert faults(requests(found), together, has_calls=True) == []
        alone = [request for each in found for request in read(seen(merged([each])), CALLS)]
        assert shown(together) == shown(alone)


@EXAMPLES
@given(NUMBERS)
def test_without_calls(numbers: list[int]) -> None:
    found = programs(numbers, has_calls=False)
    assert faults(requests(found), read(without_calls(merged(found))), has_calls=False) == []


@settings(EXAMPLES, max_examples=1500)
@given(NUMBERS, st.sampled_from(["none", "returned", "at entry"]), st.data())
def test_losses(numbers: list[int], calls: str, data: st.DataObject) -> None:
    """Records of a few events are lost, between two looks at the rings."""
    has_calls = calls != "none"
    found = programs(numbers, has_calls)
    if has_calls and len(found) == 1 and data.draw(st.booleans()):
        found.append(program(Picker(data.draw(NUMBERS)), 0, found[0]))
    events: list[Event] = merged(found) if has_calls else without_calls(merged(found))
    places = st.integers(0, len(events) - 1)
    gone = data.draw(st.sets(places, min_size=1, max_size=3))
    losses = []
    for place in gone:
        event = events[place]
        at = event.end if isinstance(event, Call) else event.begin
        at = told_at_entry(event) if calls == "at entry" else at
        kind = Kind.CALL if isinstance(event, Call) else Kind.UBATCH_BEGIN
        losses.append(Loss(at - data.draw(st.sampled_from([0, 25, 300])), at, kind))
    left = [event for place, event in enumerate(events) if place not in gone]
    left = at_entry(left) if calls == "at entry" else left
    told = read(left, CALLS if has_calls else (), losses)
    truths = requests(found)
    # Of a request of which a micro-batch is missing the rest is all that can be said to be.
    assert faults(truths, told, has_calls=has_calls) == []


def test_a_thousand_requests_take_four_times_as_long_as_a_quarter_of_them() -> None:
    """And all are told: some from the cache, some cancelled."""
    took = []
    for count in (250, 1000):
        numbers = np.random.default_rng(count).integers(0, 60, 40 * count)
        server = Server(Picker(numbers.tolist()), most=1 << 20)
        server.run(Load(tasks=(count,), slots=(4,), drafting=("no",), samplers=(True,)))
        events = merged([server])
        # At its best: the processor may be shared, and the collector have its turn.
        work = partial(read, events, CALLS)
        took.append(min(timeit.repeat(work, timer=time.process_time, repeat=3, number=1)))
        told = read(events, CALLS)
        assert faults(server.requests, told, has_calls=True) == []
        assert sum(request.certain for request in told) == len(server.requests) >= count
    assert took[1] < 8 * took[0], took


# ---- Ambiguity

ALONE = Load(
    tasks=(99,), slots=(1,), cancels=(-1, 1), cancelled=("long",), drafting=("no", "lookup"),
    drafts=(0, 2), copies=(0,), ubatches=(8,), is_stepwise=True,
    kinds=("new", "long", "same", "chat", "edit", "all", "all and on", "two", "tiny"),
)  # fmt: skip


class SmallParts(Parts):
    parts = ([1], [2], [3], [2, 2], [3, 2], [3, 3], [19, 2], [19, 3], [-8], [-9], [-11])
    steps = (0, 1, 2, 3)


class SmallEncoder(Encoder):
    sizes = (8,)
    steps = (1, 2, 3, 4)


def small(most: int, has_calls: bool) -> list[Program]:
    """All that a world of one sequence may do until that many micro-batches have begun."""

    def generate(pick: Picker) -> Program:
        kind = pick(["server", "parts", "encoder"])
        program: Server | Parts | Encoder
        try:
            if kind == "server":
                program = Server(pick, most=most)
                program.run(ALONE, has_calls)
            elif kind == "parts":
                program = SmallParts(pick, most=most)
                program.run(99, has_calls)
            else:
                program = SmallEncoder(pick, most=most)
                program.run(99)
        except Ended:
            pass
        return program

    return list(every(generate))


def observed(events: Sequence[Event]) -> tuple[object, ...]:
    """What tells two recordings apart, but for their times."""
    return tuple(
        (event.name, *event.arguments.items())
        if isinstance(event, Call)
        else tuple(map(tuple, event.runs.tolist()))
        for event in events
    )


Happened = tuple[str, int | None, tuple[tuple[int, str], ...]]


def cut(request: Truth | Read, last: int) -> Happened:
    """What was of a request until a micro-batch."""
    spans = tuple(span for span in request.spans if span[0] <= last)
    return (request.kind, request.cached, spans)


@pytest.mark.parametrize(("has_calls", "most"), [(True, 2), (False, 3)])
def test_what_is_not_certain_is_ambiguous(has_calls: bool, most: int) -> None:
    worlds = defaultdict(list)
    for program in small(most, has_calls):
        events: list[Event] = merged([program])
        if not has_calls:
            begun = accumulate(isinstance(event, Ubatch) for event in events)
            events = [e for e, count in zip(events, begun, strict=True) if count <= most]
            events = without_calls(events)
        last = 1 << 62 if has_calls else program.last
        true = {cut(request, last) for request in program.requests}
        worlds[observed(events)].append((events, {each for each in true if each[2]}))
    wrong, everything, unambiguous, certain = [], 0, 0, 0
    for same in worlds.values():
        told = read(same[0][0], CALLS if has_calls else ())
        sure = {cut(request, 1 << 62) for request in told if request.certain}
        always = set.intersection(*(true for _, true in same))
        wrong += sorted(sure - always)
        everything += sum(len(true) for _, true in same)
        unambiguous += len(always) * len(same)
        certain += len(sure) * len(same)
    assert wrong == []
    assert unambiguous >= 0.7 * everything
    assert certain >= 0.99 * unambiguous, (certain, unambiguous, everything)
