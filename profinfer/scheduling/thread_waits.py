"""Below each thread of the target: what it was blocked in, and who took its CPU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from profinfer.records.columns import I64
from profinfer.records.dtypes import (
    SWITCH_FROM_TARGET,
    SWITCH_HAS_CALL,
    SWITCH_TO_TARGET,
    Records,
    SchedulerKind,
    select,
)
from profinfer.records.words import flag, low, signed, word
from profinfer.scheduling.spans import Spans
from profinfer.scheduling.system_calls import YIELD, call_name
from profinfer.scheduling.task_names import TaskNames
from profinfer.scheduling.throttled_waits import ThrottledWaits
from profinfer.trace import packets
from profinfer.trace.lanes import Lanes
from profinfer.trace.writer import TraceWriter

_SLEEPS = 0x03
"""Of the states that a switch reports. One that is stopped (0x04, 0x08) is so wherever the signal
met it: that it is in no system call does not say that it takes a fault."""


class ThreadWaits:
    """Slices on tracks below those of threads."""

    def __init__(
        self, writer: TraceWriter, lanes: Lanes, names: TaskNames, machine: str, *, takers: bool
    ) -> None:
        """`machine` as uname says it. `takers`: say who took a CPU, since nothing else does."""
        self._writer = writer
        self._lanes = lanes
        self._names = names
        self._machine = machine
        self._has_takers = takers
        self._blocked = Spans()
        self._takers = Spans()
        self._throttled = ThrottledWaits()
        self._taken_from: dict[int, int] = {}

    def write(self, rows: Records) -> None:
        """Records of switches and wake-ups, in order of time."""
        switch = select(rows, rows["kind"] == SchedulerKind.SWITCH)
        waking = select(rows, rows["kind"] == SchedulerKind.WAKING)
        a, b = switch["a"], switch["b"]
        ts, tid = switch["ts"].astype(np.int64), switch["tid"].astype(np.int64)
        following, state = low(a), word(a, 2)
        is_mine = flag(b, SWITCH_FROM_TARGET)
        call = signed(low(b), np.int32)
        # Who could run on is said to wait for a CPU; unless it has yielded, somebody took it.
        yields = (state == 0) & _is_call(self._machine, YIELD, call)
        blocks = ((state & _SLEEPS != 0) | yields) & flag(b, SWITCH_HAS_CALL)
        begins = np.flatnonzero(is_mine & blocks)
        call = call[begins]
        ended = self._blocked.feed(
            tid[begins], ts[begins],
            np.concatenate([following, low(waking["a"])]),
            np.concatenate([ts, waking["ts"].astype(np.int64)]),
        )  # fmt: skip
        self._end_slices(self._lanes.blocked, ended)
        if len(begins):
            self._writer.rows(
                packets.NAMED_BEGIN, ts[begins],
                track=self._below(self._lanes.blocked, tid[begins], ts[begins]),
                name=_each(lambda n: self._writer.name(call_name(self._machine, n)), call),
                category=self._writer.category("blocked"),
            )  # fmt: skip
        self._write_throttled(rows)
        if self._has_takers:
            takes = is_mine & (state & 0xFF == 0) & ~flag(b, SWITCH_TO_TARGET) & (following != 0)
            self._write_takers(switch, np.flatnonzero(takes))

    def _write_throttled(self, rows: Records) -> None:
        (tid, ts), (ended, begin, end) = self._throttled.feed(rows)
        if len(tid):
            self._writer.rows(
                packets.NAMED_BEGIN, ts, track=self._below(self._lanes.blocked, tid, ts),
                name=self._writer.name("CPU quota"), category=self._writer.category("throttled"),
            )  # fmt: skip
        # Some end as they begin.
        self._end_slices(self._lanes.blocked, (ended, begin, end))

    def _write_takers(self, switch: Records, begins: I64) -> None:
        ts, tid = switch["ts"].astype(np.int64), switch["tid"].astype(np.int64)
        following = low(switch["a"])
        # A taker stays until the next switch on its CPU, of which there is a record.
        end_tid, end_ts = [following], [ts]
        takes = np.zeros(len(ts), np.bool_)
        takes[begins] = True
        for cpu in np.unique(switch["cpu"], return_inverse=True)[0].tolist():
            mine = np.flatnonzero(switch["cpu"] == cpu)
            victim = np.where(takes[mine], tid[mine], -1)
            end_tid.append(np.append(np.int64(self._taken_from.get(cpu, -1)), victim[:-1]))
            end_ts.append(ts[mine])
            self._taken_from[cpu] = int(victim[-1])
        ended = self._takers.feed(
            tid[begins], ts[begins], np.concatenate(end_tid), np.concatenate(end_ts)
        )
        self._end_slices(self._lanes.takers, ended)
        if not len(begins):
            return
        writer, names = self._writer, self._names
        taker = following[begins]
        writer.rows(
            packets.TAKER_BEGIN, ts[begins],
            track=self._below(self._lanes.takers, tid[begins], ts[begins]),
            name=_each(lambda n: writer.name(names.texts[n]), names.at(taker, ts[begins])),
            tid=_each(lambda t: writer.string(str(t)), taker), category=writer.category("taken"),
        )  # fmt: skip

    def _end_slices(self, track: Callable[[int], int], ended: tuple[I64, I64, I64]) -> None:
        tid, begin, end = ended
        self._writer.rows(packets.SLICE_END, end, track=self._below(track, tid, begin))

    def _below(self, track: Callable[[int], int], tid: I64, ts: I64) -> npt.NDArray[np.uint64]:
        """Tracks below those of the threads that had these numbers then."""
        return _each(track, self._lanes.threads.index(tid.astype(np.uint32), ts))


def _is_call(machine: str, name: str, call: I64) -> npt.NDArray[np.bool_]:
    distinct, index = np.unique(call, return_inverse=True)
    return np.array([call_name(machine, n) == name for n in distinct.tolist()], np.bool_)[index]


def _each(of: Callable[[int], int], values: I64) -> npt.NDArray[np.uint64]:
    """A function of each value, asked once per distinct one."""
    distinct, index = np.unique(values, return_inverse=True)
    return np.array([of(value) for value in distinct.tolist()], np.uint64)[index]
