"""The handlers in the kernel, and the rings and maps through which user space speaks with them."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from profinfer import kernel
from profinfer.layout_data import Layout
from profinfer.memory_probes import MemoryProbes
from profinfer.parameters import layout_parameters
from profinfer.perf_buffer import PerfBuffers
from profinfer.perf_records import PerfRecords
from profinfer.plan import HANDLERS
from profinfer.programs import KPROBE, RAW_TRACEPOINT, Programs, Source
from profinfer.record_ring import RecordRings
from profinfer.records import (
    CONTROL,
    KIND_COUNT,
    LOSS,
    RECORD,
    WIDE_SIZE,
    Records,
)
from profinfer.ring import Drained, Ring

RING, PERF = "ring", "perf"
TRANSPORTS = (RING, PERF)
"""In the order of TRANSPORT_* in bpf/parameters.h."""
_CHAIN = ("chain_hash", "chain_emit", "chain_tokens", "chain_experts")
"""In the order of enum chain."""
_EXPERTS = ("chain_experts",)
"""Programs that only experts need."""
NO_EXPERTS = {"EXPERTS": 0, "EXPERT_WEIGHTS": 0}
"""Parameters of bpf/experts.h where nothing is read."""
_COUNTING = ("count_switch", "count_exit")
_COUNTED_THREADS = 4096
NO_COUNTERS = {
    "COUNTERS": 0, "COUNTER_LEADERS": 0, "COUNTER_ALWAYS": 0, "COUNTER_RECORDS": 0,
    "TASK_NVCSW": -1,
}  # fmt: skip
"""Parameters of bpf/counters.h where nothing is counted."""
_MAPS = {
    RING: ("ring_heads", "ring_slots", "structure_ring", "control_map", "loss_map", "chain"),
    PERF: ("ring_heads", "record_events", "structure_events", "control_map", "loss_map", "chain"),
}


class RecordSource(Protocol):
    """Where records come from, by CPU."""

    cpus: int

    def fill(self) -> float:
        """How full the fullest is, between 0 and 1."""

    def drain(self, cpu: int) -> Drained:
        """Takes the finished records of a CPU; rows of RECORD's size. `stopped`: one that may be
        older than those is still under way."""

    def close(self) -> None:
        """Lets go of the memory."""


class WideSource(Protocol):
    """Where wide records come from."""

    def drain(self) -> Drained:
        """Takes the finished ones; rows of WIDE_SIZE."""

    def close(self) -> None:
        """Lets go of the memory."""


@dataclass
class Loaded:
    """Programs in the kernel, not attached yet."""

    programs: Programs
    transport: str
    """RING or PERF."""
    rings: RecordSource
    structure_ring: WideSource
    boot_clock: bool
    """Whether the kernel lends BPF the BOOTTIME clock."""

    def program(self, name: str) -> int:
        """fd of a program by name; KernelError when the kernel refused it."""
        return self.programs.program(name)

    def set_control(self, **fields: int) -> None:
        """Sets struct control anew; what is not named becomes 0."""
        state = np.zeros(1, CONTROL)
        if not self.boot_clock:
            state["boot_offset"] = boot_offset()
        for name, value in fields.items():
            state[name] = value
        kernel.map_update(self.programs.maps["control_map"], _FIRST, state.tobytes())

    def control(self) -> Records:
        """struct control as it stands."""
        raw = kernel.map_lookup(self.programs.maps["control_map"], _FIRST, CONTROL.itemsize)
        return np.frombuffer(bytearray(raw), CONTROL)

    def losses(self) -> Records:
        """struct loss by CPU and kind; shape (cpus, KIND_COUNT)."""
        cpus = self.rings.cpus
        raw = kernel.map_read(self.programs.maps["loss_map"], cpus * KIND_COUNT, LOSS.itemsize)
        return np.frombuffer(raw, LOSS).reshape(cpus, KIND_COUNT)

    def kernel_lost(self) -> int:
        """Records that the kernel itself says it has dropped, as far as drained: never more than
        `losses` has counted. The ring transport does without the kernel's help."""
        sources = (self.rings, self.structure_ring)
        return sum(s.lost for s in sources if isinstance(s, PerfRecords | PerfBuffers))

    def close(self) -> None:
        """Unloads."""
        self.rings.close()
        self.structure_ring.close()
        self.programs.close()


_FIRST = struct.pack("<I", 0)


def load_handlers(
    load: Callable[[Source], Programs], layout: Layout, transport: str, ring_size: int,
    structure_ring_size: int, attach_type: int = 0, *, boot_clock: bool = True,
    counters: Mapping[str, int] = NO_COUNTERS, experts: Mapping[str, int] = NO_EXPERTS,
    memory: MemoryProbes | None = None,
) -> Loaded:  # fmt: skip
    """The handlers for one engine. `load`: of a loader. `ring_size`: bytes of each CPU's ring;
    `structure_ring_size`: of the ring for wide records, in all. `attach_type`: what the programs
    are to be attached by. `counters`, `experts`: parameters of bpf/counters.h and
    bpf/experts.h. `memory`: what of faults and file reads is recorded."""
    memory = memory or MemoryProbes()
    cpus = cpu_count()
    shift = (ring_size // RECORD.itemsize).bit_length() - 1
    count = counters["COUNTERS"]
    entries = {
        "ring_heads": cpus,
        "loss_map": cpus * KIND_COUNT,
        "counter_events": max(1, cpus * count),
        "counter_threads": _COUNTED_THREADS if count else 1,
    }
    if transport == RING:
        entries |= {"ring_slots": cpus << shift, "structure_ring": structure_ring_size}
    else:
        entries |= {"record_events": cpus, "structure_events": cpus}
    chain = [name for name in _CHAIN if experts["EXPERTS"] or name not in _EXPERTS]
    source = Source(
        "profinfer",
        programs=dict.fromkeys([*HANDLERS, *chain], KPROBE)
        | dict.fromkeys(_COUNTING if count else (), RAW_TRACEPOINT)
        | memory.programs,
        maps=(*_MAPS[transport], *(("counter_events",) if count else ())),
        parameters={
            **layout_parameters(layout), "RING_SHIFT": shift, "BOOT_CLOCK": int(boot_clock),
            **counters, "CPU_COUNT": cpus, **experts,
            **memory.parameters(),
        },
        entries=entries,
        transport=TRANSPORTS.index(transport),
        attach_type=attach_type,
    )  # fmt: skip
    programs = load(source)
    maps = programs.maps
    for name in chain:
        index = _CHAIN.index(name)
        fd = programs.program(name)
        kernel.map_update(maps["chain"], struct.pack("<I", index), struct.pack("<I", fd))
    rings: RecordSource
    structure_ring: WideSource
    if transport == RING:
        rings = RecordRings(maps["ring_heads"], maps["ring_slots"], cpus, ring_size)
        structure_ring = Ring(maps["structure_ring"], structure_ring_size, WIDE_SIZE)
    else:
        buffers = PerfBuffers(maps["record_events"], cpus, ring_size, RECORD.itemsize)
        rings = PerfRecords(maps["ring_heads"], buffers, cpus)
        structure_ring = PerfBuffers(maps["structure_events"], cpus, structure_ring_size, WIDE_SIZE)
    return Loaded(programs, transport, rings, structure_ring, boot_clock)


def cpu_count() -> int:
    """CPUs that can ever run a handler (the kernel's possible set)."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return max(int(part.split("-")[-1]) for part in text.split(",")) + 1


def boot_offset() -> int:
    """CLOCK_BOOTTIME - CLOCK_MONOTONIC in ns; it grows only while the machine sleeps."""
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    # Until the machine has slept they are one clock, give or take the reading.
    return max(0, boot - (before + after) // 2)
