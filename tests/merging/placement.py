"""How operators lie in the states that the scheduler reports of their threads."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profinfer.trace_processor import Session

SLACK_NS = 50_000

_SLICES = """
INCLUDE PERFETTO MODULE profinfer.operators.runs;
SELECT t.tid, o.ts, o.busy_dur
FROM profinfer_operator_slice AS o
JOIN thread AS t USING (utid)
WHERE o.busy_dur IS NOT NULL
ORDER BY o.ts"""
_RUNNING = """
SELECT t.tid, s.ts, s.dur
FROM thread_state AS s
JOIN thread AS t USING (utid)
WHERE s.state = 'Running' AND s.dur > 0
ORDER BY s.ts"""
_AT_WORK = _RUNNING.replace("s.state = 'Running'", "s.state GLOB 'R*'")
"""Also what others took of it: the time in which it had a CPU, or waited for one."""

_SWITCH_MISSING = """
SELECT 0, s.ts + s.dur, 0
FROM sched AS s
JOIN thread AS t USING (utid)
WHERE t.tid = 0 AND s.end_state != 'R' AND s.dur > 0
ORDER BY 2"""
"""The idle task leaves its CPU in no other state: somebody else has, whose switch to the CPU is
missing in the kernel's own trace (so it is on some virtual machines, in stretches). Whoever that
was ran up to here."""

Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Placement:
    """Shares of the operator slices: how many there are; how many have no more than SLACK_NS
    outside of Running; or in which their thread neither ran nor waited for a CPU; and how many
    begin and end within SLACK_NS of Running."""

    slices: int
    inside: float
    at_work: float
    edges: float


def placement(session: Session, shift: int = 0) -> Placement:
    """Of all operator slices; `shift` moves them by so many ns, to see what that does."""
    slices, running = _by_tid(session, _SLICES), _by_tid(session, _RUNNING)
    at_work = _by_tid(session, _AT_WORK)
    missed = _by_tid(session, _SWITCH_MISSING).get(0, (np.zeros(0, np.int64),))[0]
    inside, working, edges, count = 0, 0, 0, 0
    for tid, (begin, dur) in slices.items():
        begin = begin + shift
        end = begin + dur
        none = (np.zeros(0, np.int64), np.zeros(0, np.int64))
        known = running.get(tid, none)
        inside += int((dur - _within(known, begin, end) <= SLACK_NS).sum())
        working += int((dur - _within(at_work.get(tid, none), begin, end) <= SLACK_NS).sum())
        near = [_within(known, at - SLACK_NS, at + SLACK_NS) > 0 for at in (begin, end)]
        near = [a | _is_near(missed, at) for a, at in zip(near, (begin, end), strict=True)]
        edges += int((near[0] & near[1]).sum())
        count += len(begin)
    every = max(count, 1)
    return Placement(count, inside / every, working / every, edges / every)


def is_to_be_repeated(session: Session) -> bool:
    """Whether operators lie elsewhere and the kernel's own trace shows that switches are missing in
    it: then there is nothing to compare with."""
    return placement(session).edges < 0.99 and bool(session.query(_SWITCH_MISSING).rows())


def _by_tid(session: Session, sql: str) -> dict[int, tuple[Times, Times]]:
    found: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for tid, ts, dur in session.query(sql):
        assert isinstance(tid, int)
        assert isinstance(ts, int)
        assert isinstance(dur, int)
        found[tid].append((ts, dur))
    return {tid: (np.array(rows).T[0], np.array(rows).T[1]) for tid, rows in found.items()}


def _is_near(known: Times, at: Times) -> npt.NDArray[np.bool_]:
    """Which of the times are within SLACK_NS of a known one."""
    first = np.searchsorted(known, at - SLACK_NS)
    return np.asarray(first < np.searchsorted(known, at + SLACK_NS, side="right"), np.bool_)


def _within(running: tuple[Times, Times], begin: Times, end: Times) -> Times:
    """How much of each [begin, end) is in the intervals, which lie one after the other."""
    starts, durs = running
    if not len(starts):
        return np.zeros(len(begin), np.int64)
    total = np.concatenate(([0], np.cumsum(durs)))

    def until(at: Times) -> Times:
        i = np.searchsorted(starts, at, side="right") - 1
        part = np.clip(at - starts[np.maximum(i, 0)], 0, durs[np.maximum(i, 0)])
        return np.asarray(np.where(i < 0, 0, total[np.maximum(i, 0)] + part), np.int64)

    return until(end) - until(begin)
