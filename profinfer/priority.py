"""When the recorder runs: as a rule when the target leaves a CPU idle, never in its place."""

from __future__ import annotations

import contextlib
import os

_NICE = 10


class Priority:
    """This process's scheduling while it drains.

    An engine's threads wait for each other, so that to stop one is to stop all: the recorder gives
    way to them, as long as no ring fills up meanwhile.
    """

    def __init__(self) -> None:
        self._usual = (os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0))
        self.set(is_hurried=False)

    def set(self, *, is_hurried: bool) -> None:
        """Gives way, or, `is_hurried`, runs as it was started."""
        policy, nice = self._usual
        if policy != os.SCHED_OTHER:
            return  # whoever chose another knows better
        # Without CAP_SYS_NICE the way back is barred: then it goes on giving way.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, nice if is_hurried else max(nice, _NICE))
            os.sched_setscheduler(
                0, os.SCHED_OTHER if is_hurried else os.SCHED_BATCH, os.sched_param(0)
            )
