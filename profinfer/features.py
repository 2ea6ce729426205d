"""What this kernel's BPF can do, found by trying it."""

from __future__ import annotations

import os

from profinfer import kernel
from profinfer.errors import KernelError
from profinfer.loaded import PERF, RING

_EXIT = "b700000000000000 9500000000000000"
"""r0 = 0; exit"""
_BOOT_CLOCK = "850000007d000000" + _EXIT
"""call bpf_ktime_get_boot_ns"""
_EXCHANGE = "b700000000000000 7b0af8ff00000000 b701000000000000 db1af8fff1000000" + _EXIT
"""*(u64 *)(r10 - 8) = r0; r0 = cmpxchg(r10 - 8, r0, r1)"""
_REGISTERS = "850000009e000000 bf01000000000000 85000000af000000" + _EXIT
"""r1 = bpf_get_current_task_btf(); bpf_task_pt_regs(r1)"""
_RINGBUF = 27


def has_boot_clock() -> bool:
    """Whether BPF programs can read CLOCK_BOOTTIME (Linux 5.8)."""
    return _loads(_BOOT_CLOCK)


def has_task_registers() -> bool:
    """Whether BPF programs find the registers that a task entered the kernel with (Linux 5.15)."""
    return _loads(_REGISTERS)


def choose_transport(wanted: str) -> str:
    """RING or PERF for "auto", RING or PERF. KernelError when this kernel lacks what is wanted."""
    if wanted == PERF or (_loads(_EXCHANGE) and _has_ringbuf()):
        return RING if wanted == "auto" else wanted
    if wanted == RING:
        raise KernelError(
            "this kernel lacks the atomic instructions or the ring buffer of the ring transport",
            "record --transport perf",
        )
    return PERF


def _loads(code: str) -> bool:
    try:
        os.close(kernel.load_program(code))
    except OSError:
        return False
    return True


def _has_ringbuf() -> bool:
    try:
        os.close(kernel.map_create(_RINGBUF, 0, 0, os.sysconf("SC_PAGESIZE")))
    except OSError:
        return False
    return True
