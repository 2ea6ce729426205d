"""A launched command's way to the engine: it and its children stop whenever they load something."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from profinfer.config import Config
from profinfer.errors import TargetError
from profinfer.launch import Launched, describe_status, resume
from profinfer.plan import Plan, check, make_plan
from profinfer.stubs import read_redirection
from profinfer.target import EngineObject, ObjectFinder


@dataclass(frozen=True)
class Found:
    """A stopped process in which an engine has appeared."""

    pid: int
    objects: list[EngineObject]
    plan: Plan


def wait_for_engine(
    launched: Launched, finder: ObjectFinder, config: Config, is_interrupted: Callable[[], bool]
) -> Found:
    """Waits until a process of the command's family holds all that the plan needs, and lets go of
    the others. TargetError when the command ends before, or when it `is_interrupted`; ProbeError
    when it ends with an engine that lacks what the plan needs."""
    last: Plan | None = None
    while True:
        for pid in launched.wait_stopped(0.2):
            with contextlib.suppress(TargetError):
                # While the loader changes its list, an object is mapped but has no stubs yet;
                # the next stop comes before any of its code runs.
                if read_redirection(pid).changing:
                    resume(pid)
                    continue
                objects = finder.find(pid)
                plan = make_plan(objects, config.level) if objects else None
                last = plan or last
                usable = plan is not None and plan.probes
                if plan and (not plan.missing or (config.best_effort and usable)):
                    launched.forget_family(keep=pid)
                    return Found(pid, objects, plan)
            resume(pid)
        if launched.has_ended():
            status = describe_status(launched.status or 0)
            if last and last.missing:
                check(last, best_effort=False)
            raise TargetError(
                f"{config.command[0]} {status} before it loaded any ggml or llama.cpp code",
                "record the process that runs the model; profinfer doctor FILE looks into one",
            )
        if is_interrupted():
            raise TargetError(f"interrupted before {config.command[0]} loaded any ggml code")
