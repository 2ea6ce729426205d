"""When a trace is made of a capture: as a rule when the target leaves a CPU idle, never in its
place."""

from __future__ import annotations

import contextlib
import os

_NICE = 10


def give_way() -> None:
    """This process gives way to others from now on, unless somebody has chosen how it is scheduled.

    An engine's threads wait for each other, so that to stop one is to stop all."""
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, max(os.getpriority(os.PRIO_PROCESS, 0), _NICE))
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
