"""What a hit costs on this kernel, by the kind of instruction under the probe: a self-test.

The recorder measures it, on functions of its own (bpf/recorder/hit_cost.c); here it is kept, for
one boot of one machine: a virtual one may go on elsewhere, on another processor.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from profinfer import cache
from profinfer.binaries.elf import Elf
from profinfer.built import recorder_binary
from profinfer.engine.target import cpu_model

Ask = Callable[..., dict[str, Any]]
"""ask(verb, **members): the recorder's answer."""
_MAX_JSON = 1 << 16


@dataclass(frozen=True)
class HitCost:
    """The result of the self-test."""

    sites: dict[str, float | None]
    """Cost of a hit with an empty handler in ns, among work, by kind; None where the kernel takes
    no probe."""
    intervals: dict[str, tuple[float, float]]
    """Within which that is with 95 %, by kind."""
    settled: bool
    """Whether all of these are narrow: else the machine was busy."""
    empty_handler_ns: float
    """Run time of an empty handler as the kernel counts it: the floor of its count."""


def hit_cost(ask: Ask, way: str, *, again: bool = False) -> HitCost:
    """Of probes attached in this way, "uprobe_multi" or "perf_event". Measured once per boot of a
    machine, or `again`, and kept where it is settled. KernelError without the recorder, or without
    uprobes."""
    elf = Elf(recorder_binary())
    build_id = elf.build_id
    elf.close()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    machine = f"{boot} {platform.release()} {cpu_model()}"
    place = cache.cache_file("hitcost", f"{machine} {build_id} {way}")
    found = _parse(cache.load(place, _MAX_JSON)) if place and not again else None
    if found is None:
        answer = ask("hit_costs", attach=way)
        if not answer["settled"]:
            answer = ask("hit_costs", attach=way)  # another moment
        found = _read(answer)
        if place and found.settled:
            cache.store(place, json.dumps(asdict(found)).encode())
    return found


def hit_cost_now(ask: Ask, way: str, kinds: Collection[str], known: HitCost) -> HitCost:
    """What is `known`, with these kinds measured again: a machine's neighbours, and what else it
    does, make a hit dearer by a third at one moment than at another."""
    kinds = sorted(kind for kind in kinds if known.sites.get(kind) is not None)
    if not kinds:
        return known
    now = _read(ask("hit_costs", attach=way, kinds=kinds))
    return HitCost(
        known.sites | now.sites, known.intervals | now.intervals, now.settled, now.empty_handler_ns
    )


def _parse(kept: bytes | None) -> HitCost | None:
    """What was kept, or None for nothing, or nothing that is it."""
    try:
        return _read(json.loads(kept or b""))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None


def _read(said: dict[str, Any]) -> HitCost:
    sites = {str(k): None if v is None else float(v) for k, v in sorted(said["sites"].items())}
    intervals = {str(k): (float(v[0]), float(v[1])) for k, v in sorted(said["intervals"].items())}
    return HitCost(sites, intervals, bool(said["settled"]), float(said["empty_handler_ns"]))
