"""Waits of threads that a cgroup's quota keeps from their CPUs, as the kernel tells of them.

One begins where a thread leaves its CPU, or is woken, and is throttled. It ends when the quota lets
its queue go on, which may be before the thread's turn: the queue's own count of throttled time,
read at both ends of the wait, says how much of it that was. Without one it ends when the thread
runs again, or when another of the target's has that CPU: on a busy one, a turn later than it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from profinfer.records.columns import I64, Mask
from profinfer.records.dtypes import (
    SWITCH_FROM_TARGET,
    SWITCH_HAS_THROTTLED_TIME,
    SWITCH_THROTTLED,
    SWITCH_THROTTLED_TIME,
    THROTTLED_UNIT,
    Records,
    SchedulerKind,
    select,
)
from profinfer.records.words import flag, low

_WRAPS = 1 << 64 - SWITCH_THROTTLED_TIME


@dataclass
class _Wait:
    begin: int
    cpu: int
    count: int | None
    """What the queue had counted then."""
    is_woken: bool
    """Where it slept, its queue was throttled."""
    end: int | None = None
    """Others were let go by then."""


class ThrottledWaits:
    """From chunk to chunk."""

    def __init__(self) -> None:
        self._open: dict[int, _Wait] = {}
        self._mine: set[int] = set()

    def feed(self, rows: Records) -> tuple[I64, I64]:
        """Takes records of switches and wake-ups, in order of time. Of the waits that have begun
        columns of thread and begin; of those that have ended, of thread, begin, and end."""
        begun: list[tuple[int, int]] = []
        ended: list[tuple[int, int, int]] = []
        for row in select(rows, self._concerned(rows)).tolist():
            ts, a, b, tid, cpu, kind, _ = row
            following = a & 0xFFFFFFFF
            is_switch = kind == SchedulerKind.SWITCH
            if is_switch and following in self._open:
                ended.append(self._end(following, ts, cpu, _count(b)))
            elif is_switch and following in self._mine:
                self._let_go(cpu, ts)
            if not b >> SWITCH_THROTTLED & 1:
                continue
            whose, where = (tid, cpu) if is_switch else (following, a >> 32 & 0xFFFF)
            if whose in self._open:
                if not is_switch:
                    continue  # it waits already
                # That it ran meanwhile was lost.
                ended.append(self._end(whose, max(ts - 1, self._open[whose].begin), -1, None))
            self._open[whose] = _Wait(ts, where, _count(b), is_woken=not is_switch)
            begun.append((whose, ts))
        return (
            np.array(begun, np.int64).reshape(-1, 2).T,
            np.array(ended, np.int64).reshape(-1, 3).T,
        )

    def _concerned(self, rows: Records) -> Mask:
        """Rows that begin or end a wait, or may bound one."""
        is_switch = rows["kind"] == SchedulerKind.SWITCH
        is_waking = rows["kind"] == SchedulerKind.WAKING
        begins: Mask = flag(rows["b"], SWITCH_THROTTLED) & (is_switch | is_waking)
        is_mine = is_switch & flag(rows["b"], SWITCH_FROM_TARGET)
        self._mine |= set(np.unique(rows["tid"][is_mine]).tolist())
        whose = np.where(is_switch, rows["tid"].astype(np.int64), low(rows["a"]))[begins]
        waiting = {*self._open, *np.unique(whose).tolist()}
        is_counted = flag(rows["b"], SWITCH_HAS_THROTTLED_TIME)[begins].all()
        if not is_counted or any(wait.count is None for wait in self._open.values()):
            waiting |= self._mine
        concerned: Mask = begins | is_switch & np.isin(low(rows["a"]), [*waiting])
        return concerned

    def _end(self, tid: int, ts: int, cpu: int, count: int | None) -> tuple[int, int, int]:
        wait = self._open.pop(tid)
        if wait.is_woken and cpu != wait.cpu:
            return tid, wait.begin, wait.begin  # it was put elsewhere
        end = min(ts, wait.end or ts)
        if wait.count is not None and count is not None and cpu == wait.cpu:
            end = min(ts, wait.begin + ((count - wait.count) % _WRAPS << THROTTLED_UNIT))
        self._let_go(wait.cpu, end)
        return tid, wait.begin, end

    def _let_go(self, cpu: int, ts: int) -> None:
        for wait in self._open.values():
            if wait.cpu == cpu and wait.begin < ts:
                wait.end = min(ts, wait.end or ts)


def _count(b: int) -> int | None:
    return b >> SWITCH_THROTTLED_TIME if b >> SWITCH_HAS_THROTTLED_TIME & 1 else None
