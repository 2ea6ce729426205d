"""profinfer.tokens.parts: what requests waited for adds up, and is whose it is said to be."""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import pairwise
from typing import NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profinfer.records.dtypes import Kind
from profinfer.trace_processor import Session
from tests.captures import BASE, CONTEXT, MAIN, WORKER, Capture, Run, T
from tests.sql.harness import Rows, ask, opened
from tests.sql.schedules import ubatches

MS = 1_000_000
OTHER = 300
"""A thread that computes by itself."""
PARTS = (
    "SELECT request_id, step, part, of_request_id, dur, is_estimated FROM profinfer_request_part "
    "ORDER BY request_id, step, part, of_request_id"
)
WAITS = (
    "SELECT request_id, 0, ts - BASE, ttft FROM profinfer_request WHERE ttft IS NOT NULL "
    "UNION ALL SELECT request_id, step, ts - BASE, tpot FROM profinfer_token"
)
ATTENTION = [
    T("inp"),
    T("cache_k_l0", ne=(4, 256, 1, 1), type="f16"),
    T("cache_v_l0", ne=(256, 4, 1, 1), type="f16"),
    T("q-0", "ADD", ("inp", "inp")),
    T("kq-0", "MUL_MAT", ("cache_k_l0", "q-0")),
    T("kq_soft_max-0", "SOFT_MAX", ("kq-0",)),
    T("kqv-0", "MUL_MAT", ("cache_v_l0", "kq_soft_max-0")),
    T("out-0", "ADD", ("kqv-0", "inp")),
]


def decode(sequence: int, position: int) -> Run:
    return (sequence, position, 1, 1, 1)


def parts(capture: Capture) -> Rows:
    with opened(capture) as session:
        return ask(session, PARTS)


SERVER = [
    (0, 10, [(0, 0, 4, 1, 1)]),
    (12, 16, [decode(0, 4)]),
    (20, 30, [(1, 0, 8, 0, 0)]),
    (31, 39, [decode(0, 5), (1, 8, 3, 1, 1)]),
    (40, 44, [decode(0, 6), decode(1, 11)]),
    (46, 50, [decode(0, 7), decode(1, 12)]),
]
"""Sequence 1 is prefilled in two micro-batches while sequence 0 waits for its second token."""


def test_whose_time_it_was() -> None:
    assert parts(ubatches(Capture(), SERVER)) == [
        (1, 0, "outside", None, 2 * MS, 0),
        (1, 0, "own prefill", None, 10 * MS, 0),
        (1, 1, "others' ubatches", 2, 10 * MS, 0),
        (1, 1, "outside", None, 5 * MS, 0),
        (1, 1, "own decode", None, 4 * MS, 0),
        (1, 2, "outside", None, 1 * MS, 0),
        (1, 2, "own decode", None, 2 * MS, 1),
        (1, 2, "same ubatch", 2, 6 * MS, 1),
        (1, 3, "outside", None, 2 * MS, 0),
        (1, 3, "own decode", None, 2 * MS, 1),
        (1, 3, "same ubatch", 2, 2 * MS, 1),
        (2, 0, "outside", None, 2 * MS, 0),
        (2, 0, "own prefill", None, 16 * MS, 1),
        (2, 0, "same ubatch", 1, 2 * MS, 1),
        (2, 1, "outside", None, 2 * MS, 0),
        (2, 1, "own decode", None, 2 * MS, 1),
        (2, 1, "same ubatch", 1, 2 * MS, 1),
    ]


def test_sampling_is_told_from_what_else_is_outside() -> None:
    capture = ubatches(Capture(), SERVER[:3])
    for begin, end in ((10, 11), (17, 18)):
        capture.call("sample", begin * MS + 1, end * MS, {"context": CONTEXT})
    ubatches(capture, SERVER[3:])
    # Another thread's, which computes nothing: it keeps nobody waiting.
    capture.call("sample", 17 * MS, 20 * MS, {"context": CONTEXT}, tid=WORKER)
    assert [row[2:5] for row in parts(capture) if row[:2] in ((1, 0), (1, 1))] == [
        ("first sample", None, MS - 1),
        ("outside", None, 1),
        ("own prefill", None, 10 * MS),
        ("others' ubatches", 2, 10 * MS),
        ("outside", None, 4 * MS + 1),
        ("own decode", None, 4 * MS),
        ("sampling", None, MS - 1),
    ]


def test_attention_is_divided_by_rows_times_positions() -> None:
    """100 us, of which 60 are attention: of two tokens at positions 9 and 29 the first one sees 10
    of 40. Attention of a micro-batch with one request in it is nobody else's."""
    capture = ubatches(Capture("operator"), [(0, 1, [(0, 0, 9, 1, 1)]), (2, 3, [(1, 0, 29, 1, 1)])])
    shape = capture.structure(1_100_000, ATTENTION)
    for start in (4, 5, 6):
        begin = start * MS
        us = [begin + 1000 * at for at in (10, 20, 40, 50, 80)]
        names = ("q-0", "kq-0", "kq_soft_max-0", "kqv-0", "out-0")
        threads = {tid: list(zip(names, us, strict=True)) for tid in (MAIN, WORKER)}
        capture.graph(shape, begin + 5_000, begin + 95_000, threads)
        runs = [decode(0, start + 5), decode(1, start + 25)]
        capture.ubatch(begin, begin + 100_000, runs[: 1 if start == 6 else 2])
    found = {row[:4]: row[4:] for row in parts(capture)}
    # 40 us by tokens: a half; 60 us: a quarter.
    assert found[1, 1, "own decode", None] == (35_000, 1)
    assert found[1, 1, "same ubatch", 2] == (65_000, 1)
    assert found[2, 1, "own decode", None] == (65_000, 1)
    assert found[1, 2, "own decode", None] == (20_000 + 60_000 * 11 // 42, 1)


def test_threads_that_share_no_context_do_not_wait_for_each_other() -> None:
    capture = ubatches(Capture(), [(0, 10, [(0, 0, 4, 1, 1)]), (20, 22, [decode(0, 4)])])
    capture.threads[OTHER] = "embedding"
    capture.ubatch(12 * MS, 18 * MS, [(0, 0, 4, 1, 1)], tid=OTHER, context=CONTEXT + 1)
    assert parts(capture) == [
        (1, 0, "outside", None, 10 * MS, 0),
        (1, 0, "own prefill", None, 10 * MS, 0),
    ]
    # They do, once the other thread has taken its turn with the context.
    capture.ubatch(30 * MS, 31 * MS, [decode(0, 5)], tid=OTHER)
    assert parts(capture)[:3] == [
        (1, 0, "others' ubatches", 2, 6 * MS, 0),
        (1, 0, "outside", None, 4 * MS, 0),
        (1, 0, "own prefill", None, 10 * MS, 0),
    ]


def test_without_its_tokens_a_ubatch_is_nobodys_known() -> None:
    capture = ubatches(Capture(), SERVER[:2])
    capture.ubatch(17 * MS, 19 * MS)
    ubatches(capture, SERVER[3:5])
    found = [row[2:5] for row in parts(capture) if row[:2] == (1, 1)]
    assert ("others' ubatches", None, 2 * MS) in found


# ---- Whatever the schedule


TURNS = (
    [(MAIN, 0)],
    [(MAIN, 0), (MAIN, 1)],
    [(MAIN, 0), (OTHER, 1)],
    [(MAIN, 0), (OTHER, 0)],
    [(MAIN, 0), (OTHER, 0), (OTHER, 1), (OTHER + 1, 1)],
)
"""Which threads run which contexts."""


class Batch(NamedTuple):
    """A micro-batch, in ns after BASE."""

    begin: int
    end: int
    tid: int
    context: int
    runs: list[Run]


def _schedule(rng: random.Random) -> tuple[Capture, list[Batch], list[tuple[int, int]]]:
    """Threads that take turns with contexts, sequences that begin, go on, wait and end; samples on
    the first thread; now and then a loss."""
    capture = Capture()
    capture.threads |= {OTHER: "another", OTHER + 1: "third"}
    free = dict.fromkeys((MAIN, OTHER, OTHER + 1), 0)
    turns = rng.choice(TURNS)
    busy = dict.fromkeys((0, 1), 0)
    next_position: dict[tuple[int, int], int] = {}
    batches: list[Batch] = []
    samples: list[tuple[int, int]] = []
    for _ in range(rng.randrange(2, 25)):
        tid, number = rng.choice(turns)
        begin = max(free[tid], busy[number]) + rng.choice((1, 2, 1000, 77_777))
        begin += begin in {batch.begin for batch in batches}
        end = begin + rng.choice((1, 3, 1000, 33_331, 4_000_000))
        runs: list[Run] = []
        for sequence in range(rng.choice((1, 1, 2, 3, 7))):
            at = next_position.get((number, sequence))
            if at is None or rng.random() < 0.2:
                at, tokens = 0, rng.choice((1, 2, 9, 100))
                outputs = rng.choice((0, 1, 1, 1))
            else:
                tokens = rng.choice((1, 1, 1, 3))
                outputs = tokens
            if rng.random() < 0.8:
                runs.append((sequence, at, tokens, outputs, int(outputs > 0)))
                next_position[number, sequence] = at + tokens
        capture.ubatch(begin, end, runs, tid=tid, context=CONTEXT + number)
        batches.append(Batch(begin, end, tid, CONTEXT + number, runs))
        free[tid] = busy[number] = end
        if tid == MAIN and rng.random() < 0.5:
            sample = end + rng.choice((1, 5)), end + rng.choice((6, 500, 10_000))
            capture.call("sample", *sample, {"context": CONTEXT})
            samples.append(sample)
            free[MAIN] = sample[1]
    if rng.random() < 0.3:
        kind = rng.choice((Kind.UBATCH_BEGIN, Kind.UBATCH_END, Kind.GRAPH_BEGIN))
        if kind == Kind.GRAPH_BEGIN:
            capture.add(kind, rng.randrange(batches[-1].end), MAIN)
        several = [row for row in capture.records if row.kind == kind]
        gone = rng.choice(several)
        capture.lose(lambda row: row is gone)
    return capture, batches, samples


def _lanes(batches: list[Batch]) -> dict[int, int]:
    """Thread to the smallest of those that contexts join it with."""
    lane = {batch.tid: batch.tid for batch in batches}
    for _ in batches:
        for one in batches:
            for two in batches:
                if one.context == two.context:
                    lane[one.tid] = lane[two.tid] = min(lane[one.tid], lane[two.tid])
    return lane


def _expected(
    session: Session, batches: list[Batch], samples: list[tuple[int, int]]
) -> dict[tuple[int, int], dict[str, int]]:
    """By request and step, the time in own, others' micro-batches, sampling and outside: cut at
    every bound of anything, and each cut is looked at by itself."""
    member: dict[int, set[int]] = defaultdict(set)
    # Two contexts of one thread may happen to look like a draft and its target.
    known = "SELECT ts - BASE, request_id FROM profinfer_sequence WHERE request_id IS NOT NULL"
    for ts, request in ask(session, known):
        member[int(str(ts))].add(int(str(request)))
    lane = _lanes(batches)
    cuts = sorted({at for batch in batches for at in batch[:2]} | {at for s in samples for at in s})
    out: dict[tuple[int, int], dict[str, int]] = {}
    for request, step, ts, dur in [tuple(int(str(v)) for v in row) for row in ask(session, WAITS)]:
        [first] = [b for b in batches if b.begin == ts and request in member[b.begin]]
        found = out[request, step] = defaultdict(int)
        bounds = [ts, *(at for at in cuts if ts < at < ts + dur), ts + dur]
        for begin, end in pairwise(bounds):
            here = [b for b in batches if b.begin <= begin and b.end >= end]
            mine = [b for b in here if request in member[b.begin]]
            # Of what begins at one time, sampling comes first.
            others = [(b.begin, 1, "others") for b in here if lane[b.tid] == lane[first.tid]]
            if lane[first.tid] == lane.get(MAIN):
                others += [(s[0], 0, "sampling") for s in samples if s[0] <= begin and s[1] >= end]
            what = "own" if mine else min(others)[2] if others else "outside"
            found[what] += end - begin
    return out


KINDS = {
    "own prefill": "own", "own decode": "own", "same ubatch": "own", "others' ubatches": "others",
    "draft": "own", "first sample": "sampling", "sampling": "sampling", "outside": "outside",
}  # fmt: skip


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(rng=st.randoms(use_true_random=True))
def test_parts_add_up_and_are_where_time_was(rng: random.Random) -> None:
    capture, batches, samples = _schedule(rng)
    with opened(capture) as session:
        rows = ask(session, PARTS)
        waits = {row[:2]: row[3] for row in ask(session, WAITS)}
        sums: dict[tuple[object, object], int] = defaultdict(int)
        kinds: dict[tuple[object, object], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for request, step, part, _, dur, _ in rows:
            assert int(str(dur)) > 0
            sums[request, step] += int(str(dur))
            kinds[request, step][KINDS[str(part)]] += int(str(dur))
        assert sums == waits
        if not capture.lost:
            assert kinds == _expected(session, batches, samples)
            return
        lost = [row.ts - BASE for row in capture.lost]
        steps = ask(session, "SELECT ts - BASE, dur, complete FROM profinfer_request_step")
        for ts, dur, is_complete in [tuple(int(str(v)) for v in row) for row in steps]:
            assert not (is_complete and any(ts <= at <= ts + dur for at in lost))
