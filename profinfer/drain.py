"""From rings to frames: one drain takes everything that is complete and says up to when."""

from __future__ import annotations

import time

import numpy as np

from profinfer.backends import backend_name
from profinfer.capture import LOSS_ENTRY, Frame, FrameKind, json_frame
from profinfer.loaded import Loaded
from profinfer.records import (
    KIND_COUNT,
    RECORD,
    STRUCTURE_RECORD,
    WIDE_HEADER,
    WIDE_KINDS,
    Kind,
    join,
)
from profinfer.target import EngineObject, process_name

HOLD_NS = 1_000_000
"""A handler may be interrupted between taking its slot and the time: longer than that is seen as
an unfinished slot, which stops the drain."""


def boot_ns() -> int:
    """CLOCK_BOOTTIME in ns: the clock of every record."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def clock_frame() -> Frame:
    """The three clocks, read as close together as Python can: the best of five tries."""
    tries = []
    for _ in range(5):
        before = boot_ns()
        mono = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        real = time.clock_gettime_ns(time.CLOCK_REALTIME)
        after = boot_ns()
        tries.append((after - before, (before + after) // 2, mono, real))
    clocks = min(tries)[1:]
    return Frame(FrameKind.CLOCK, clocks[0], np.array(clocks, "<u8").tobytes())


class Drain:
    """Reads the rings and the loss counts of a recording."""

    def __init__(self, loaded: Loaded, pid: int) -> None:
        self._loaded = loaded
        self._target_name = process_name(pid)
        self._named: set[int] = set()
        self._backends: set[int] = set()
        self._lost = np.zeros_like(loaded.losses()["lost"])
        self._read_at = boot_ns()
        self.records = 0
        """Drained so far, of both kinds of ring."""
        self.horizon = 0
        self._drained = np.zeros(KIND_COUNT, np.int64)

    @property
    def tids(self) -> frozenset[int]:
        """Threads that records came from."""
        return frozenset(self._named)

    @property
    def emitted(self) -> list[int]:
        """Records by kind so far, drained or lost."""
        lost: list[int] = self._lost.sum(axis=0).astype(np.int64).tolist()
        return [int(d) + n for d, n in zip(self._drained, lost, strict=True)]

    @property
    def lost(self) -> int:
        """Lost so far, of all kinds."""
        return int(self._lost.sum())

    def take(self, objects: list[EngineObject], limit: int | None = None) -> list[Frame]:
        """Everything that has been committed, as frames in the order they must be fed in. What is
        younger than `limit` is not called complete."""
        horizon = boot_ns() - HOLD_NS if limit is None else limit
        parts = []
        newest = []
        is_complete = True
        for cpu in range(self._loaded.rings.cpus):
            drained = self._loaded.rings.drain(cpu)
            rows = drained.data.reshape(-1).view(RECORD)
            is_complete &= not drained.stopped
            newest.append(int(rows["ts"].max()) if len(rows) else 0)
            parts.append(rows)
        wide = self._loaded.structure_ring.drain()
        # Whoever is at it now began after the last look, else that would have been incomplete.
        if is_complete and not wide.stopped:
            self.horizon = max(self.horizon, horizon)
        records = join(parts)
        self._drained += np.bincount(records["kind"], minlength=KIND_COUNT)[:KIND_COUNT]
        frames = [*self._names(records), *self._backend_frames(wide.data, objects)]
        if len(wide.data):
            frames.append(Frame(FrameKind.WIDE, self.horizon, wide.data.tobytes()))
        frames += self._loss_frames(newest)
        frames.append(Frame(FrameKind.RECORDS, self.horizon, records.tobytes()))
        self.records += len(records) + len(wide.data)
        return frames

    def _names(self, records: np.ndarray[tuple[int], np.dtype[np.void]]) -> list[Frame]:
        unnamed = np.ones(len(records), np.bool_)
        for tid in self._named:
            unnamed &= records["tid"] != tid
        fresh = set(records["tid"][unnamed].tolist())
        if not fresh:
            return []
        self._named |= fresh
        names = {tid: process_name(tid) for tid in sorted(fresh)}
        for tid in [tid for tid, name in names.items() if name == "?"]:
            names[tid] = self._target_name  # it has ended already
        return [json_frame(FrameKind.NAMES, self.horizon, names)]

    def _backend_frames(
        self, wide: np.ndarray[tuple[int, int], np.dtype[np.uint8]], objects: list[EngineObject]
    ) -> list[Frame]:
        names: dict[int, str] = {}
        headers = np.ascontiguousarray(wide[:, : WIDE_HEADER.itemsize]).view(WIDE_HEADER)[:, 0]
        for row in wide[headers["kind"] == Kind.STRUCTURE]:
            function = int(np.frombuffer(row, STRUCTURE_RECORD, 1)["backend_name_fn"][0])
            if function and function not in self._backends:
                self._backends.add(function)
                name = backend_name(function, objects)
                if name:
                    names[function] = name
        return [json_frame(FrameKind.BACKENDS, self.horizon, names)] if names else []

    def _loss_frames(self, newest: list[int]) -> list[Frame]:
        """What was lost since the last look; `newest` are the last records drained of each CPU.

        Nobody else takes records out: once a ring was full it stayed full until it was drained,
        so everything drained from it is older than the losses.
        """
        now = boot_ns()
        losses = self._loaded.losses()
        grown = np.argwhere(losses["lost"] > self._lost)
        entries = np.zeros(len(grown), LOSS_ENTRY)
        for entry, (cpu, kind) in zip(entries, grown.tolist(), strict=True):
            loss = losses[cpu, kind]
            entry["cpu"], entry["kind"] = cpu, kind
            entry["lost"], entry["last_ts"] = loss["lost"], loss["last_ts"]
            since = self._read_at
            if kind not in WIDE_KINDS:
                since = max(since, newest[cpu])
            entry["first_ts"] = min(since, int(loss["last_ts"]))
        self._lost = losses["lost"].copy()
        self._read_at = now
        return [Frame(FrameKind.LOSS, now, entries.tobytes())] if len(grown) else []
