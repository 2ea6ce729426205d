"""What a hit costs on this kernel, by the kind of instruction under the probe: a self-test.

Measured in this process on functions of our own (bpf/hit_sites.c), once per boot.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from profinfer import kernel
from profinfer.elf import Elf
from profinfer.errors import KernelError, ProbeError

_LIBRARY = (
    Path(__file__).resolve().parent.parent
    / "build" / platform.machine() / "libprofinfer-sites.so"
)  # fmt: skip
_PREFIX = "hit_"
_NAMES = {"b_cond": "b.cond", "ldr_literal": "ldr-literal"}
_CALLS, _LOOPS, _WARM = 2000, 3, 100


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


@functools.cache
def hit_cost() -> HitCost:
    """Measures it, once per process. KernelError without the library or without uprobes."""
    if not _LIBRARY.is_file():
        raise KernelError(f"there is no {_LIBRARY}", "make setup builds it")
    library = ctypes.CDLL(str(_LIBRARY))
    loop: Callable[[Any, int], int] = library.hit_loop
    library.hit_loop.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    library.hit_loop.restype = ctypes.c_uint64
    elf = Elf(_LIBRARY)
    nothing = kernel.load_nothing()
    sites: dict[str, float | None] = {}
    events: list[int] = []
    for name, symbol in sorted(elf.symbols.items()):
        if not name.startswith(_PREFIX) or name == "hit_loop":
            continue
        kind = _NAMES.get(name.removeprefix(_PREFIX), name.removeprefix(_PREFIX))
        function = ctypes.cast(getattr(library, name), ctypes.c_void_p)
        bare = _median(loop, function)
        try:
            offset = elf.file_offset(symbol.value)
            events.append(
                kernel.attach_uprobe(nothing, _LIBRARY, offset, os.getpid(), at_return=False)
            )
        except ProbeError:
            sites[kind] = None
            continue
        loop(function, _WARM)  # kernels rewrite a NOP after its first hits
        sites[kind] = max(0.0, _median(loop, function) - bare)
    if not events:
        raise KernelError("this kernel took none of the self-test's probes")
    stats = kernel.enable_stats()
    before = kernel.program_stats(nothing)
    function = ctypes.cast(library.hit_stepped, ctypes.c_void_p)
    loop(function, _CALLS)
    after = kernel.program_stats(nothing)
    os.close(stats)
    kernel.close_events(events)
    os.close(nothing)
    elf.close()
    runs = max(1, after.runs - before.runs)
    return HitCost(sites, (after.run_ns - before.run_ns) / runs)


def _median(loop: Callable[[Any, int], int], function: Any) -> float:
    """ns per call."""
    return statistics.median(loop(function, _CALLS) / _CALLS for _ in range(_LOOPS))
