"""What a trace says of its recording: enough to reproduce it."""

from __future__ import annotations

import dataclasses
import os
import platform
from pathlib import Path
from typing import Any

from profinfer import __version__, target
from profinfer.config import Config
from profinfer.hitcost import HitCost
from profinfer.layout_data import Layout
from profinfer.loaded import cpu_count
from profinfer.means import Means
from profinfer.plan import Plan
from profinfer.target import EngineObject


def known_json(
    objects: list[EngineObject], layout: Layout, plan: Plan, config: Config
) -> dict[str, Any]:
    """What of the START frame is known from an engine's files: the rest is its machine's."""
    return {
        "profinfer": __version__,
        "target": {
            "objects": [{"path": item.path, "build_id": item.elf.build_id} for item in objects]
        },
        "layout": dataclasses.asdict(layout),
        "plan": plan.to_json(),
        "config": config.to_json(),
    }


def _boot_id() -> str:
    """What tells this boot of this machine from every other; "" where the kernel has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def start_json(
    pid: int, objects: list[EngineObject], layout: Layout, plan: Plan, config: Config,
    redirection: str, cost: HitCost, means: Means,
) -> dict[str, Any]:  # fmt: skip
    """The START frame's content. `redirection`: "on", or why there are no stubs."""
    uname = os.uname()
    known = known_json(objects, layout, plan, config)
    return known | {
        "target": {
            "pid": pid,
            "name": target.process_name(pid),
            "command": target.command_line(pid),
            **known["target"],
        },
        "redirection": redirection,
        "hit_cost": cost.to_json(),
        **means.to_json(),
        "uname": {
            name: getattr(uname, name) for name in ("sysname", "version", "release", "machine")
        },
        "host": platform.node(),
        "boot_id": _boot_id(),
        "cpu_model": target.cpu_model(),
        "cpus": cpu_count(),
        "page_size": os.sysconf("SC_PAGESIZE"),
        "python": platform.python_version(),
    }
