"""Compiles and loads bpf/ and hands out what the recorder needs of it: programs, rings, maps.

`Loaded` is what any loader gives; BCC is the one here. Another (libbpf) only has to build a
`Loaded` from the same handler bodies.
"""

from __future__ import annotations

import mmap
import platform
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from profinfer import kernel
from profinfer.bcc_compiler import BPF_DIR, compile_bcc
from profinfer.layout_data import Layout
from profinfer.parameters import layout_parameters
from profinfer.plan import HANDLERS
from profinfer.record_ring import RecordRings
from profinfer.records import CONTROL, KIND_COUNT, LOSS, RECORD, WIDE_SIZE, Records
from profinfer.ring import Ring

_CHAIN = ("chain_hash", "chain_emit", "chain_tokens")
_MAPS = ("ring_heads", "ring_slots", "structure_ring", "control_map", "loss_map", "chain")
_KPROBE = 2  # BPF_PROG_TYPE_KPROBE, which uprobes are too


def cpu_count() -> int:
    """CPUs that can ever run a handler (the kernel's possible set)."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return max(int(part.split("-")[-1]) for part in text.split(",")) + 1


@dataclass
class Loaded:
    """Programs in the kernel, not attached yet."""

    program: Callable[[str], int]
    """fd of a program by name; KernelError when the kernel refused it."""
    rings: RecordRings
    """One per CPU, of RECORD."""
    structure_ring: Ring
    """Of wide records."""
    control_fd: int
    loss_fd: int
    close: Callable[[], None]

    def set_control(self, **fields: int) -> None:
        """Sets struct control anew; what is not named becomes 0."""
        state = np.zeros(1, CONTROL)
        for name, value in fields.items():
            state[name] = value
        kernel.map_update(self.control_fd, struct.pack("<I", 0), state.tobytes())

    def control(self) -> Records:
        """struct control as it stands."""
        raw = kernel.map_lookup(self.control_fd, struct.pack("<I", 0), CONTROL.itemsize)
        return np.frombuffer(bytearray(raw), CONTROL)

    def losses(self) -> Records:
        """struct loss by CPU and kind; shape (cpus, KIND_COUNT)."""
        count = self.rings.cpus * KIND_COUNT
        raw = kernel.map_read(self.loss_fd, count, LOSS.itemsize)
        return np.frombuffer(raw, LOSS).reshape(self.rings.cpus, KIND_COUNT)


def load_bcc(layout: Layout, ring_size: int, structure_ring_size: int) -> Loaded:
    """The handlers for one engine, with a ring of `ring_size` bytes per CPU."""
    cpus = cpu_count()
    macros = layout_parameters(layout)
    macros["N_CPUS"] = cpus
    macros["RING_SHIFT"] = (ring_size // RECORD.itemsize).bit_length() - 1
    macros["BOOT_CLOCK"] = 1
    macros["TRANSPORT"] = 0
    if platform.machine() == "x86_64":
        macros["STORES_IN_ORDER"] = 1
    macros["WIDE_PAGES"] = structure_ring_size // mmap.PAGESIZE
    programs = dict.fromkeys([*HANDLERS, *_CHAIN], _KPROBE)
    bpf = compile_bcc(BPF_DIR / "bcc.c", macros, programs, _MAPS)
    maps = bpf.maps
    rings = RecordRings(maps["ring_heads"], maps["ring_slots"], cpus, ring_size)
    structure_ring = Ring(maps["structure_ring"], structure_ring_size, WIDE_SIZE)
    for index, name in enumerate(_CHAIN):
        fd = bpf.program(name)
        kernel.map_update(maps["chain"], struct.pack("<I", index), struct.pack("<I", fd))

    def close() -> None:
        rings.close()
        structure_ring.close()
        bpf.close()

    return Loaded(
        program=bpf.program,
        rings=rings,
        structure_ring=structure_ring,
        control_fd=maps["control_map"],
        loss_fd=maps["loss_map"],
        close=close,
    )
