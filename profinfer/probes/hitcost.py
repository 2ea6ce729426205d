"""What a hit costs on this kernel, by the kind of instruction under the probe: a self-test.

The recorder measures it, on functions of its own (bpf/recorder/hit_cost.c); here it is kept, once
per boot.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from profinfer import cache
from profinfer.binaries.elf import Elf
from profinfer.built import recorder_binary

Ask = Callable[..., dict[str, Any]]
"""ask(verb, **members): the recorder's answer."""
_MAX_JSON = 1 << 16


@dataclass(frozen=True)
class HitCost:
    """The result of the self-test."""

    sites: dict[str, float | None]
    """Cost of a hit with an empty handler in ns, by kind; None where the kernel takes no probe."""
    empty_handler_ns: float
    """Run time of an empty handler as the kernel counts it: the floor of its count."""


def hit_cost(ask: Ask, way: str, *, again: bool = False) -> HitCost:
    """Of probes attached in this way, "uprobe_multi" or "perf_event". Measured once per boot, or
    `again`, on a machine that is idle now, and kept. KernelError without the recorder, or without
    uprobes."""
    elf = Elf(recorder_binary())
    build_id = elf.build_id
    elf.close()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    place = cache.cache_file("hitcost", f"{boot} {build_id} {way}")
    found = _parse(cache.load(place, _MAX_JSON)) if place and not again else None
    if found is None:
        answer = ask("hit_costs", attach=way)
        found = HitCost(dict(sorted(answer["sites"].items())), answer["empty_handler_ns"])
        if place:
            cache.store(place, json.dumps(asdict(found)).encode())
    return found


def _parse(kept: bytes | None) -> HitCost | None:
    """What was kept, or None for nothing, or nothing that is it."""
    try:
        found = json.loads(kept or b"")
        sites = {str(k): None if v is None else float(v) for k, v in found["sites"].items()}
        return HitCost(sites, float(found["empty_handler_ns"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
