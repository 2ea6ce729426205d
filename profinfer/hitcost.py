"""What a hit costs on this kernel, by the kind of instruction under the probe: a self-test.

Measured in this process on functions of our own (bpf/hit_sites.c), once per boot.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from profinfer import cache, kernel, uprobes
from profinfer.elf import Elf
from profinfer.errors import KernelError, ProbeError
from profinfer.uprobes import SITES, Way

_PREFIX = "hit_"
_NAMES = {"b_cond": "b.cond"}
_CALLS, _LOOPS, _WARM = 1000, 5, 100
_MAX_JSON = 1 << 16


@dataclass(frozen=True)
class HitCost:
    """The result of the self-test."""

    sites: dict[str, float | None]
    """Cost of a hit with an empty handler in ns, by kind; None where the kernel takes no probe."""
    empty_handler_ns: float
    """Run time of an empty handler as the kernel counts it: the floor of its count."""

    def to_json(self) -> dict[str, Any]:
        """For the trace."""
        return asdict(self)


def hit_cost(way: Way, *, again: bool = False) -> HitCost:
    """Of probes attached in this way. Measured once per boot, or `again`, on a machine that is idle
    now, and kept. KernelError without the library, or without uprobes."""
    if not SITES.is_file():
        raise KernelError(f"there is no {SITES}", "make setup builds it")
    elf = Elf(SITES)
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        place = cache.cache_file("hitcost", f"{boot} {elf.build_id} {way.name}")
        found = _cached(place) if place and not again else None
        if found is None:
            found = _measure(elf, way)
            if place:
                cache.store(place, json.dumps(found.to_json()))
        return found
    finally:
        elf.close()


def _cached(place: Path) -> HitCost | None:
    try:
        kept = json.loads(cache.load(place, _MAX_JSON) or b"")
        sites = {str(k): None if v is None else float(v) for k, v in kept["sites"].items()}
        return HitCost(sites, float(kept["empty_handler_ns"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _measure(elf: Elf, way: Way) -> HitCost:
    library = ctypes.CDLL(str(SITES))
    loop: Callable[[Any, int], int] = library.hit_loop
    library.hit_loop.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    library.hit_loop.restype = ctypes.c_uint64
    nothing = kernel.load_nothing(way.attach_type)
    sites: dict[str, float | None] = {}
    events: list[int] = []
    try:
        for symbol in sorted(elf.symbols.matching(f"^{_PREFIX}")):
            name = symbol.name
            if name == "hit_loop":
                continue
            kind = _NAMES.get(name.removeprefix(_PREFIX), name.removeprefix(_PREFIX))
            function = ctypes.cast(getattr(library, name), ctypes.c_void_p)
            bare = _least(loop, function)
            offset = elf.file_offset(symbol.value)
            try:
                events += way.attach(nothing, SITES, [offset], os.getpid(), at_return=False)
            except ProbeError:
                sites[kind] = None
                continue
            loop(function, _WARM)  # kernels rewrite a NOP after its first hits
            sites[kind] = max(0.0, _least(loop, function) - bare)
        if not events:
            raise KernelError("this kernel took none of the self-test's probes")
        return HitCost(sites, _empty_handler_ns(loop, library.hit_stepped, nothing))
    finally:
        uprobes.close(events)
        os.close(nothing)


def _empty_handler_ns(loop: Callable[[Any, int], int], function: Any, program: int) -> float:
    """By the kernel's own count, which two readings of the clock are most of."""
    stats = kernel.enable_stats()
    try:
        before = kernel.program_stats(program)
        loop(ctypes.cast(function, ctypes.c_void_p), _CALLS)
        after = kernel.program_stats(program)
    finally:
        os.close(stats)
    return (after.run_ns - before.run_ns) / max(1, after.runs - before.runs)


def _least(loop: Callable[[Any, int], int], function: Any) -> float:
    """ns per call, of the fastest loop: whatever else the machine does only adds to it."""
    return min(loop(function, _CALLS) / _CALLS for _ in range(_LOOPS))
