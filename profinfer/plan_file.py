"""plan.json: what a recorder without Python needs to know of an engine before it sees one.

One object: the machine; the integers that the handlers are loaded with; the files, known again by
build id; the probes; which function names which backend; and the START frame (capture.py) as far
as it is known. bpf/recorder/plan.c reads it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from profinfer.backends import backend_functions, backend_of_file
from profinfer.config import Config
from profinfer.counters import Wanted
from profinfer.files import FileTarget
from profinfer.layout_data import Layout
from profinfer.metadata import known_json
from profinfer.parameters import layout_parameters
from profinfer.plan import REQUIRED, Plan, Probe
from profinfer.ranks import describe_ranks
from profinfer.target import EngineObject

FORMAT = 1
_CODE = 16
"""Bytes at a probe's place, by which a recorder makes sure of it."""


def plan_json(
    target: FileTarget, plan: Plan, layout: Layout, config: Config, counted: Wanted | None = None
) -> dict[str, Any]:
    """The content of plan.json. TargetError when a file is damaged. `counted`: the counters."""
    found = {
        "format": FORMAT,
        "machine": target.machine.replace("x86-64", "x86_64"),
        "level": plan.level,
        "cost": "not measured: instructions chosen by kind, "
        + ("the first" if config.probe_symbols else describe_ranks(target.machine)),
        "parameters": layout_parameters(layout),
        "objects": [_object_json(item) for item in target.objects],
        "probes": [_probe_json(probe, target.objects) for probe in plan.probes],
        "backends": [
            {"object": index, "vaddr": vaddr, "name": name}
            for index, item in enumerate(target.objects)
            for vaddr, name in sorted(backend_functions(item.elf).items())
        ],
        "start": known_json(target.objects, layout, plan, config),
    }
    if counted:
        events = [counter.to_json() for counter in counted.counters]
        found["counters"] = {"events": events, "notes": list(counted.notes)}
    return found


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
    """A file, as a recorder finds it among what a process has mapped; `backend` names what has
    its get_name in it, where no entry of `backends` does."""
    return {
        "name": Path(item.path).name,
        "build_id": item.elf.note_id,
        "size": item.elf.size,
        "sha256": item.elf.sha256(),
        "backend": backend_of_file(item.path),
    }


def _probe_json(probe: Probe, objects: list[EngineObject]) -> dict[str, Any]:
    """A probe; `offset` in the file. Of each level's probes that are `required` a recorder must
    be able to attach one at least."""
    index = next(i for i, item in enumerate(objects) if item.path == probe.place.path)
    code = objects[index].elf.bytes_at(probe.place.offset, _CODE)
    found = probe.to_json()
    del found["why"]
    return found | {
        "object": index,
        "required": probe.handler in REQUIRED,
        "code": code.hex(),
    }
