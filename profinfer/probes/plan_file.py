"""plan.json: what the recorder needs to know of an engine.

One object: the machine; the integers that the handlers are loaded with; the files, known again by
build id, or where a process has mapped them already by device and inode; the probes; how steps are
called; the calls of the interface, by number, with a bit for each that is told when it begins, and
from which on they are parts of steps; which function names which backend; what was probed in the
place of something else; and the START frame (capture.py) as far as it is known.
bpf/recorder/plan.c reads it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profinfer.binaries.elf import Elf
from profinfer.config import Config
from profinfer.describing.layout import Layout
from profinfer.describing.parameters import layout_parameters
from profinfer.engine.adapter import adapters
from profinfer.engine.adapter_file import FIELDS, Step
from profinfer.engine.backends import backend_of_file
from profinfer.engine.description import describe
from profinfer.engine.stubs import Redirection
from profinfer.engine.target import EngineObject
from profinfer.probes.metadata import known_json
from profinfer.probes.placement import Call
from profinfer.probes.plan import Plan, Probe
from profinfer.probes.ranks import describe_ranks

if TYPE_CHECKING:
    from profinfer.kernel.counters import Wanted
    from profinfer.probes.files import FileTarget

FORMAT = 1
_CODE = 16
"""Bytes at a probe's place, by which a recorder makes sure of it."""


def plan_json(
    target: FileTarget, plan: Plan, layout: Layout, config: Config, counted: Wanted | None = None
) -> dict[str, Any]:
    """The content of plan.json. TargetError when a file is damaged. `counted`: the counters."""
    cost = f"not measured: instructions chosen by kind, {describe_ranks(target.machine)}"
    start = known_json(target.objects, layout, plan, config)
    objects = [_object_json(item) | {"sha256": item.elf.sha256()} for item in target.objects]
    found = _plan_json(target.machine, cost, target.objects, plan, layout, start, objects)
    return found | ({"counters": counted.to_json()} if counted else {})


def live_plan(
    objects: list[EngineObject], plan: Plan, layout: Layout, start: dict[str, Any],
    redirection: Redirection, calls: list[Call],
) -> dict[str, Any]:  # fmt: skip
    """The same for a process, with `start` as far as it is known. `redirection`: of the process, in
    whose audit library probes may sit; `calls`: by which functions are called that have them there.
    """
    mapped = [_object_json(item) | _identity(item.identity) for item in objects]
    if redirection.library:
        # An object of the plan, but not one of the engine.
        library = {"name": Path(redirection.path).name, "build_id": "", "size": 0, "backend": ""}
        mapped.append(library | _identity(redirection.identity) | {"stubs": True})
    machine = objects[0].elf.machine
    found = _plan_json(machine, "measured", objects, plan, layout, start, mapped)
    return found | {"calls": [asdict(call) for call in calls]}


def _plan_json(
    machine: str, cost: str, objects: list[EngineObject], plan: Plan, layout: Layout,
    start: dict[str, Any], listed: list[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    return {
        "format": FORMAT,
        "machine": machine.replace("x86-64", "x86_64"),
        "level": plan.level,
        "cost": cost,
        "parameters": layout_parameters(layout),
        "objects": listed,
        "probes": [_probe_json(probe, objects) for probe in plan.probes],
        "backends": [
            {"object": index, "vaddr": vaddr, "name": name}
            for index, item in enumerate(objects)
            for vaddr, name in sorted(describe(item.elf).backends.items())
        ],
        "steps": [_step_json(step) for step in adapters().steps],
        "interface": [call.name for call in adapters().calls],
        "at_entry": sum(1 << n for n, call in enumerate(adapters().calls) if not call.result),
        "parts": sum(not call.is_part for call in adapters().calls),
        "notes": list(plan.notes),
        "start": start,
    }


def _step_json(step: Step) -> dict[str, Any]:
    """How the steps of on_step_N are called, for the N-th of them (see Step)."""
    fields = zip(FIELDS, step.fields or (-1,) * len(FIELDS), strict=True)
    roles = {"context": step.context, "batch": step.batch, "tokens": step.tokens}
    return {"name": step.name, **roles, "position": step.position, **dict(fields)}


def dump(plan: dict[str, Any]) -> bytes:
    """The file's bytes: a line per probe, backend and object, for people to look at."""
    lines = []
    for key, value in plan.items():
        text = json.dumps(value)
        if isinstance(value, list) and value:
            text = "[\n  " + ",\n  ".join(json.dumps(item) for item in value) + "\n ]"
        lines.append(f" {json.dumps(key)}: {text}")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _object_json(item: EngineObject) -> dict[str, Any]:
    """A file; `backend` names what has its get_name in it, where no entry of `backends` does."""
    return {
        "name": Path(item.path).name,
        "build_id": item.elf.note_id,
        "size": item.elf.size,
        "backend": backend_of_file(item.path),
    }


def _identity(identity: tuple[str, int]) -> dict[str, Any]:
    """As /proc/PID/maps has it."""
    device, inode = identity
    return {"device": device, "inode": inode, "sha256": ""}


def _probe_json(probe: Probe, objects: list[EngineObject]) -> dict[str, Any]:
    """A probe; `offset` in the file. Of each level's probes that are `required` a recorder must
    be able to attach one at least."""
    place = probe.place
    item = next((item for item in objects if item.access == place.access), None)
    elf = item.elf if item else Elf(place.access)
    found = probe.to_json()
    del found["why"]
    return found | {
        "object": objects.index(item) if item else len(objects),
        "required": probe.required,
        "code": elf.bytes_at(place.offset, _CODE).hex(),
    }
