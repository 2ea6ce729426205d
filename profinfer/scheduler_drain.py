"""From the scheduler's rings to frames, as drain.py does it for the engine's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from profinfer import tasks
from profinfer.capture import ANY_CPU, LOSS_ENTRY, Frame, FrameKind, json_frame
from profinfer.drain import HOLD_NS, boot_ns
from profinfer.handler_stats import EventProgram
from profinfer.records import (
    FIRST_SCHEDULER_KIND,
    RECORD,
    SCHEDULER_KINDS,
    Records,
    SchedulerKind,
    join,
)
from profinfer.scheduler import SYSTEM, Scheduler


class SchedulerDrain:
    """Reads the rings and the loss counts of the scheduler's programs."""

    def __init__(self, scheduler: Scheduler) -> None:
        """The scheduler is attached."""
        self._scheduler = scheduler
        losses, self._missed_before = scheduler.before
        self._lost = self._lost_before = losses["lost"]
        self._missed = self._missed_before
        self._read_at = scheduler.since
        self._known: npt.NDArray[np.uint32] = np.zeros(1, np.uint32)
        self.records = 0
        """Drained so far."""
        self.lost = 0
        """Lost so far, of all kinds."""
        self.horizon = 0
        """Everything older has been drained."""
        self._drained = np.zeros(SCHEDULER_KINDS, np.int64)

    def event_programs(self) -> dict[str, EventProgram]:
        """The scheduler's programs and how often they ran."""
        scheduler = self._scheduler
        emitted = self._drained + (self._lost - self._lost_before).sum(axis=0).astype(np.int64)
        # Where only the target is recorded, others' events end without a record.
        is_each = scheduler.mode == SYSTEM
        return {
            name: EventProgram(
                scheduler.program(name), event,
                int(emitted[kind - FIRST_SCHEDULER_KIND]) if is_each else None,
            )
            for name, (event, kind) in scheduler.events().items()
        }  # fmt: skip

    def first(self) -> Frame:
        """The processes and threads that there are now."""
        found = tasks.everything()
        self._know([tid for tid, _, _ in found.threads])
        return json_frame(
            FrameKind.TASKS, boot_ns(), found.to_json() | {"since": self._scheduler.since}
        )

    def take(self) -> list[Frame]:
        """Everything that has been committed, as frames in the order they must be fed in."""
        rings = self._scheduler.rings
        horizon = boot_ns() - HOLD_NS
        parts, newest = [], []
        is_complete = True
        for cpu in range(rings.cpus):
            drained = rings.drain(cpu)
            rows = drained.data.reshape(-1).view(RECORD)
            is_complete &= not drained.stopped
            newest.append(int(rows["ts"].max()) if len(rows) else 0)
            parts.append(rows)
        if is_complete:
            self.horizon = max(self.horizon, horizon)
        records = join(parts)
        self.records += len(records)
        self._drained += np.bincount(
            records["kind"] - FIRST_SCHEDULER_KIND, minlength=SCHEDULER_KINDS
        )
        frames = [*self._strangers(records), *self._loss_frames(newest)]
        return [*frames, Frame(FrameKind.SCHEDULER, self.horizon, records.tobytes())]

    def _know(self, tids: npt.ArrayLike) -> None:
        both = np.concatenate([self._known, np.asarray(tids, np.uint32)])
        self._known = np.unique(both, return_inverse=True)[0]

    def _strangers(self, records: Records) -> list[Frame]:
        """Threads of whose beginning nothing is known."""
        kind = records["kind"]
        named = (kind == SchedulerKind.NEWNAME) | (kind == SchedulerKind.RENAME)
        self._know(records["tid"][named])
        runs = kind <= SchedulerKind.WAKING
        both = np.concatenate([records["tid"][runs], records["a"][runs].astype(np.uint32)])
        seen = np.unique(both, return_inverse=True)[0]
        at = np.searchsorted(self._known, seen)
        fresh = seen[self._known[np.minimum(at, len(self._known) - 1)] != seen]
        if not len(fresh):
            return []
        self._know(fresh)
        return [json_frame(FrameKind.TASKS, self.horizon, tasks.some(fresh.tolist()).to_json())]

    def _loss_frames(self, newest: list[int]) -> list[Frame]:
        """What was lost since the last look; `newest` as in drain.py."""
        now = boot_ns()
        losses = self._scheduler.losses()
        entries = [
            (
                cpu, kind + FIRST_SCHEDULER_KIND,
                losses["lost"][cpu, kind] - self._lost_before[cpu, kind],
                min(max(self._read_at, newest[cpu]), losses["last_ts"][cpu, kind]),
                losses["last_ts"][cpu, kind],
            )
            for cpu, kind in np.argwhere(losses["lost"] > self._lost).tolist()
        ]  # fmt: skip
        missed = self._scheduler.misses()
        entries += [
            (ANY_CPU, kind, count - self._missed_before[kind], self._read_at, boot_ns())
            for kind, count in missed.items()
            if count > self._missed[kind]
        ]
        self._lost, self._missed, self._read_at = losses["lost"], missed, now
        self.lost = int((self._lost - self._lost_before).sum())
        self.lost += sum(missed.values()) - sum(self._missed_before.values())
        if not entries:
            return []
        return [Frame(FrameKind.LOSS, now, np.array(entries, LOSS_ENTRY).tobytes())]
