"""Counters in the trace: tracks per thread, with a value wherever a slice begins or ends."""

from __future__ import annotations

from typing import Any

import numpy as np

from profinfer.converting.readings import UNKNOWN, Readings
from profinfer.converting.slices import Operators
from profinfer.records.columns import I64
from profinfer.records.dtypes import Kind, Records, select
from profinfer.trace import packets
from profinfer.trace.lanes import Lanes
from profinfer.trace.packets import Column, Template
from profinfer.trace.writer import TraceWriter

NOTHING_COUNTED: dict[str, Any] = {"events": [], "leaders": [], "records": 0}
_CPU_TIME = "CPU time"
_MISSED = "not counted: {}"
"""Names of the tracks of what says how far a counter can be believed: the thread's CPU time, and of
each group of counters on a PMU how much of it passed without them."""

_NO_VALUES: I64 = np.zeros((0, 0), np.int64)


class CounterTracks:
    """Writes slices with the counters' readings. A reading stands in the trace once: at the end of
    an operator, at the beginning of one that follows none, and where a thread begins to wait."""

    def __init__(self, writer: TraceWriter, lanes: Lanes, said: dict[str, Any]) -> None:
        """`said`: what the START frame says of counters."""
        self._writer = writer
        self._lanes = lanes
        self._threads = lanes.threads
        self._events = list(said["events"])
        self._groups = [str(self._events[i]["name"]) for i in said["leaders"]]
        self._is_counting = int(said["records"]) > 0
        count = len(self._events)
        self._readings = Readings(int(said["records"]), 1 + count + len(self._groups))
        # Values first, as events and their order are what a reader looks for.
        self._columns = [*range(1, 1 + count), 0, *range(1 + count, 1 + count + len(self._groups))]
        self._tracks: I64 = np.zeros((0, len(self._columns)), np.int64)
        self._written: dict[int, int] = {}
        """Of each thread the time of the last reading that was written at an operator's end."""

    def take(self, records: Records) -> Records:
        """Takes the readings out of the next records; what is left of them."""
        if not self._is_counting:
            return records
        is_counter = records["kind"] == Kind.COUNTERS
        kind = records["kind"]
        is_bound = (kind == Kind.OPERATOR) | (kind == Kind.FUSED) | (kind == Kind.GRAPH_END)
        self._readings.add(select(records, is_counter), select(records, is_bound), self._threads)
        return select(records, ~is_counter)

    def forget(self, before: int) -> None:
        """Readings older than a time are not needed any more."""
        self._readings.forget(before)

    # ---- Slices

    def ends(self, template: Template, operators: Operators, track: Column) -> None:
        """The ends of operators."""
        row = self._find(operators.thread, operators.end)
        self._write(template, operators.end, operators.thread, row, track=track)

    def begins(self, template: Template, operators: Operators, **columns: Column) -> None:
        """The beginnings of operators, after their ends have been written."""
        thread, begin = operators.thread, operators.begin
        row = self._find(thread, begin)
        if self._is_counting:
            row[self._is_written(operators)] = -1
        self._write(template, begin, thread, row, **columns)

    def waits(self, template: Template, thread: I64, begin: I64, **columns: Column) -> None:
        """The beginnings of waits."""
        self._write(template, begin, thread, self._find(thread, begin), **columns)

    def _find(self, thread: I64, ts: I64) -> I64:
        return self._readings.find(thread, ts) if self._is_counting else np.empty(0, np.int64)

    def _is_written(self, operators: Operators) -> I64:
        """Those whose first reading is the last one of the operator before."""
        thread, begin, end = operators.thread, operators.begin, operators.end
        if not len(begin):
            return np.empty(0, np.int64)
        follows = (thread[1:] == thread[:-1]) & (end[:-1] == begin[1:])
        found = np.append(False, follows)
        first = np.flatnonzero(np.append(True, thread[1:] != thread[:-1]))
        for row in first.tolist():
            found[row] = self._written.get(int(thread[row])) == int(begin[row])
        last = np.append(first[1:], len(thread)) - 1
        self._written |= zip(thread.take(last).tolist(), end.take(last).tolist(), strict=True)
        return np.flatnonzero(found)

    def _write(
        self, template: Template, ts: I64, thread: I64, row: I64, **columns: Column
    ) -> None:  # fmt: skip
        """Slices with the values of their rows (-1: none): one template for each set of values that
        are known."""
        if not self._is_counting:
            self._writer.rows(template, ts, **columns)
            return
        values = self._values(row)
        sets = (values != UNKNOWN) @ (1 << np.arange(values.shape[1], dtype=np.int64))
        for which in sorted(set(sets.tolist())):
            mine = np.flatnonzero(sets == which)
            chosen = [i for i in range(values.shape[1]) if which >> i & 1]
            part = {
                name: column.take(mine) if isinstance(column, np.ndarray) else column
                for name, column in columns.items()
            }
            tracks = self._tracks_of(thread.take(mine))[:, chosen] if chosen else _NO_VALUES
            found = values.take(mine, axis=0)[:, chosen]
            self._encode(template, ts.take(mine), tracks, found, part)

    def _values(self, row: I64) -> I64:
        """The readings of these rows."""
        if not len(self._readings.values):
            return np.full((len(row), len(self._columns)), UNKNOWN, np.int64)
        found = self._readings.values[:, self._columns].take(np.maximum(row, 0), axis=0)
        found[row < 0] = UNKNOWN
        return found

    def _encode(
        self, template: Template, ts: I64, tracks: I64, values: I64, columns: dict[str, Column]
    ) -> None:
        track, value = tracks.astype(np.uint64), values.astype(np.uint64)
        extra = min(values.shape[1], packets.EXTRA_COUNTERS)
        for i in range(extra):
            columns |= {f"counter{i}": track[:, i], f"value{i}": value[:, i]}
        counted = template.counted(extra) if extra else template
        self._writer.rows(counted, ts, **columns)
        for i in range(extra, values.shape[1]):
            self._writer.rows(packets.COUNTER_VALUE, ts, track=track[:, i], value=value[:, i])

    # ---- Tracks

    def _tracks_of(self, thread: I64) -> I64:
        """Of each thread the tracks of its values, in the order of self._columns."""
        if len(self._tracks) < len(self._threads.tids):
            more = len(self._threads.tids) - len(self._tracks)
            self._tracks = np.concatenate(
                [self._tracks, np.zeros((more, len(self._columns)), np.int64)]
            )
        for number in sorted(set(thread.tolist())):
            if not self._tracks[number, 0]:
                self._make_tracks(number)
        return self._tracks.take(thread, axis=0)

    def _make_tracks(self, number: int) -> None:
        parent = self._lanes.thread(number)
        for place in range(len(self._columns)):
            if place < len(self._events):
                event = self._events[place]
                name, unit, scale = str(event["name"]), str(event["unit"]), int(event["scale"])
            else:
                missed = self._groups[place - len(self._events) - 1 :]
                name = _CPU_TIME if place == len(self._events) else _MISSED.format(missed[0])
                unit, scale = "ns", 1
            # What was not counted is seen to be much or little beside the thread's CPU time, what
            # was, beside that of other threads.
            share = unit if unit == "ns" else name
            self._tracks[number, place] = self._writer.track(
                name, parent, place, unit=unit, multiplier=scale, scale=share
            )
