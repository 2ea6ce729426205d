"""The drains of a recording: the engine's and, where it is recorded, the scheduler's."""

from __future__ import annotations

from profinfer.capture import Frame
from profinfer.drain import Drain
from profinfer.handler_stats import EventProgram
from profinfer.loaded import Loaded
from profinfer.scheduler import Scheduler
from profinfer.scheduler_drain import SchedulerDrain
from profinfer.target import EngineObject


class Drains:
    """Takes from all rings, in the order in which frames must be fed in."""

    def __init__(self, loaded: Loaded, pid: int, scheduler: Scheduler | None) -> None:
        self.engine = Drain(loaded, pid)
        self._rings = loaded.rings
        self._scheduler = scheduler
        self._of_scheduler: SchedulerDrain | None = None

    def begin(self) -> list[Frame]:
        """Starts recording the scheduler, where it is to be."""
        if self._scheduler is None:
            return []
        self._scheduler.attach()
        self._of_scheduler = SchedulerDrain(self._scheduler)
        return [self._of_scheduler.first()]

    def take(self, objects: list[EngineObject]) -> list[Frame]:
        """Everything that has been committed."""
        if self._of_scheduler is None:
            return self.engine.take(objects)
        # The scheduler's first: a thread's beginning must be known before what it does.
        frames = self._of_scheduler.take()
        return frames + self.engine.take(objects, self._of_scheduler.horizon)

    def fill(self) -> float:
        """How full the fullest ring is, between 0 and 1."""
        fill = self._rings.fill()
        return max(fill, self._scheduler.rings.fill()) if self._scheduler else fill

    @property
    def records(self) -> int:
        """Drained so far."""
        return self.engine.records + (self._of_scheduler.records if self._of_scheduler else 0)

    @property
    def lost(self) -> int:
        """Lost so far."""
        return self.engine.lost + (self._of_scheduler.lost if self._of_scheduler else 0)

    def event_programs(self) -> dict[str, EventProgram]:
        """The scheduler's programs; empty where it is not recorded."""
        return self._of_scheduler.event_programs() if self._of_scheduler else {}

    def scheduler_json(self) -> dict[str, int] | None:
        """What became of the scheduler's records; None where it is not recorded."""
        if self._of_scheduler is None:
            return None
        return {"drained": self._of_scheduler.records, "lost": self._of_scheduler.lost}
