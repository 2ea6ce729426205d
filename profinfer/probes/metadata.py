"""What a trace says of its recording: enough to reproduce it."""

from __future__ import annotations

import dataclasses
import platform
from typing import Any

from profinfer import __version__
from profinfer.config import Config
from profinfer.describing.layout import Layout
from profinfer.engine.target import EngineObject
from profinfer.probes.hitcost import HitCost
from profinfer.probes.plan import Plan


def known_json(
    objects: list[EngineObject], layout: Layout, plan: Plan, config: Config
) -> dict[str, Any]:
    """What of the START frame is known from an engine's files: the rest is its machine's."""
    return {
        "profinfer": __version__,
        "target": {"objects": [_object(item) for item in objects]},
        "layout": dataclasses.asdict(layout),
        "plan": plan.to_json(),
        "config": dataclasses.asdict(config),
    }


def _object(item: EngineObject) -> dict[str, str]:
    said = {"path": item.path, "build_id": item.elf.build_id}
    return said | ({"on_disk": item.on_disk} if item.on_disk else {})


def start_json(
    objects: list[EngineObject], layout: Layout, plan: Plan, config: Config, cost: HitCost
) -> dict[str, Any]:
    """What of it is known before a process is recorded: the recorder knows the process and the
    machine. Probes bear the `cost` of this recording, not the one by which they were placed."""
    known = known_json(objects, layout, plan, config)
    for probe in known["plan"]["probes"]:
        probe["hit_ns"] = cost.sites.get(probe["site"], probe["hit_ns"])
    return known | {
        "hit_cost": dataclasses.asdict(cost),
        "python": platform.python_version(),
    }
