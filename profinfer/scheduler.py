"""The scheduler's tracepoints: the programs in the kernel, attached, and their rings."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import struct
import threading
import time
from collections.abc import Callable

import numpy as np

from profinfer import features, kernel
from profinfer.config import SCHEDULERS
from profinfer.errors import KernelError
from profinfer.loaded import RING, TRANSPORTS, RecordSource, boot_offset, cpu_count
from profinfer.perf_buffer import PerfBuffers
from profinfer.perf_records import PerfRecords
from profinfer.programs import TRACEPOINT, Programs, Source
from profinfer.record_ring import RecordRings, whole_pages
from profinfer.records import (
    LOSS,
    RECORD,
    SCHEDULER_CONTROL,
    SCHEDULER_KINDS,
    SWITCH_HAS_CALL,
    Records,
    SchedulerKind,
)

SYSTEM, TARGET = SCHEDULERS
"""Everything on every CPU, or what involves the target's threads."""

_TRACEPOINTS = {
    "on_switch": "sched/sched_switch",
    "on_waking": "sched/sched_waking",
    "on_newtask": "task/task_newtask",
    "on_rename": "task/task_rename",
    "on_exit": "sched/sched_process_exit",
    "on_free": "sched/sched_process_free",
    "on_reason": "sched/sched_blocked_reason",
}
_OPTIONAL = "on_reason"
_KINDS = dict(
    zip(
        _TRACEPOINTS,
        (
            SchedulerKind.SWITCH, SchedulerKind.WAKING, SchedulerKind.NEWTASK,
            SchedulerKind.RENAME, SchedulerKind.EXIT, SchedulerKind.FREE, SchedulerKind.REASON,
        ),
        strict=True,
    )
)  # fmt: skip
_FIELDS = {
    "SWITCH_PREV_STATE": ("on_switch", "prev_state", 8),
    "SWITCH_NEXT_PID": ("on_switch", "next_pid", 4),
    "SWITCH_NEXT_PRIO": ("on_switch", "next_prio", 4),
    "WAKING_PID": ("on_waking", "pid", 4),
    "WAKING_PRIO": ("on_waking", "prio", 4),
    "WAKING_CPU": ("on_waking", "target_cpu", 4),
    "NEWTASK_PID": ("on_newtask", "pid", 4),
    "NEWTASK_COMM": ("on_newtask", "comm", 16),
    "NEWTASK_FLAGS": ("on_newtask", "clone_flags", 8),
    "RENAME_PID": ("on_rename", "pid", 4),
    "RENAME_COMM": ("on_rename", "newcomm", 16),
    "EXIT_PID": ("on_exit", "pid", 4),
    "FREE_PID": ("on_free", "pid", 4),
    "REASON_PID": ("on_reason", "pid", 4),
    "REASON_CALLER": ("on_reason", "caller", 8),
    "REASON_IO_WAIT": ("on_reason", "io_wait", 1),
}
_CALL_OFFSETS = {"x86_64": 15 * 8, "aarch64": 35 * 8}
"""Of the system call's number in the kernel's struct pt_regs; a try shows whether it is so."""
_NANOSLEEP = {"x86_64": 35, "aarch64": 101}
_TRACEPOINT_MAX = 128
_libc = ctypes.CDLL(None)


class Scheduler:
    """Programs at the scheduler's tracepoints. `attach` starts them, `detach` ends them."""

    def __init__(
        self, load: Callable[[Source], Programs], transport: str, ring_size: int, pid: int,
        mode: str, *, boot_clock: bool = True,
    ) -> None:  # fmt: skip
        """Loads them for the target `pid`. `load`: of a loader; `ring_size`: bytes of each CPU's
        ring. KernelError where the kernel lacks a tracepoint."""
        self.mode = mode
        self.pid = pid
        self.names_reasons = _has(_OPTIONAL)
        """Whether the kernel says in which of its functions a thread was blocked."""
        self._boot_clock = boot_clock
        self._cpus = cpu_count()
        offset = _CALL_OFFSETS.get(platform.machine(), -1) if features.has_task_registers() else -1
        self._programs = load(_source(transport, ring_size, mode, offset, self._cpus, boot_clock))
        self._events: dict[str, int] = {}
        self.since = 0
        """From when on everything is recorded, in BOOTTIME ns."""
        maps = self._programs.maps
        try:
            self._control_map, self._control = _mapped(maps["sched_control"], SCHEDULER_CONTROL, 1)
            count = self._cpus * SCHEDULER_KINDS
            self._loss_map, self._losses = _mapped(maps["sched_losses"], LOSS, count)
            self.rings: RecordSource
            if transport == RING:
                self.rings = RecordRings(
                    maps["sched_heads"], maps["sched_slots"], self._cpus, ring_size
                )
            else:
                buffers = PerfBuffers(maps["sched_events"], self._cpus, ring_size, RECORD.itemsize)
                self.rings = PerfRecords(maps["sched_heads"], buffers, self._cpus)
        except BaseException:
            self._programs.close()
            raise
        self.names_calls = offset >= 0 and self._shows_calls()
        """Whether it is known in which system call a thread of the target blocks."""

    def attach(self) -> None:
        """Starts recording."""
        self._attach_all()
        self._set_active(self.pid)
        if self.mode == TARGET:
            self._add_threads()
        self.since = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def detach(self) -> None:
        """Ends recording; what is in the rings can still be drained."""
        self._control["active"] = 0
        for fd in self._events.values():
            os.close(fd)
        self._events = {}

    def losses(self) -> Records:
        """struct loss by CPU and kind as it stands; shape (cpus, SCHEDULER_KINDS)."""
        return self._losses.copy().reshape(self._cpus, SCHEDULER_KINDS)

    def misses(self) -> dict[SchedulerKind, int]:
        """By kind, how often the kernel has skipped a program: it runs none within another one."""
        return {
            _KINDS[name]: kernel.program_misses(self._programs.program(name))
            for name in self._programs.programs
            if name != _OPTIONAL or self.names_reasons
        }

    def to_json(self) -> dict[str, object]:
        """For the trace's metadata."""
        return {
            "mode": self.mode,
            "system_calls": self.names_calls,
            "blocked_reasons": self.names_reasons,
        }

    def close(self) -> None:
        """Unloads."""
        self.detach()
        self.rings.close()
        del self._control, self._losses
        self._control_map.close()
        self._loss_map.close()
        self._programs.close()

    def _attach_all(self) -> None:
        for name, event in _TRACEPOINTS.items():
            if name not in self._events and (name != _OPTIONAL or self.names_reasons):
                self._events[name] = kernel.attach_tracepoint(self._programs.program(name), event)

    def _set_active(self, pid: int) -> None:
        self._control["target"] = pid
        self._control["boot_offset"] = 0 if self._boot_clock else boot_offset()
        self._control["active"] = 1

    def _add_threads(self) -> None:
        """The threads that there are. New ones are added by the programs, which run already."""
        threads = self._programs.maps["target_threads"]
        one = struct.pack("<I", 1)
        before = set(_threads(self.pid))
        for tid in before:
            kernel.map_update(threads, struct.pack("<I", tid), one)
        for tid in before.difference(_threads(self.pid)):
            # Ended meanwhile: its number may come to mean another thread.
            kernel.map_delete(threads, struct.pack("<I", tid))

    def _shows_calls(self) -> bool:
        """Whether a system call of our own is recorded under its number: the layout of a task's
        registers is the kernel's own affair."""
        number = _NANOSLEEP[platform.machine()]
        try:
            self._attach_all()
            self._set_active(os.getpid())
            _libc.syscall(number, struct.pack("<qq", 0, 1_000_000), None)
        finally:
            self._control["active"] = 0
        found = False
        for cpu in range(self._cpus):
            rows = self.rings.drain(cpu).data.reshape(-1).view(RECORD)
            mine = rows["tid"] == threading.get_native_id()
            mine &= rows["kind"] == SchedulerKind.SWITCH
            calls = rows["b"] & np.uint64(1 << SWITCH_HAS_CALL | (1 << 32) - 1)
            found |= bool(np.any(calls[mine] == (1 << SWITCH_HAS_CALL | number)))
        return found


def _source(
    transport: str, ring_size: int, mode: str, call_offset: int, cpus: int, boot_clock: bool
) -> Source:
    shift = (ring_size // RECORD.itemsize).bit_length() - 1
    entries = {"sched_heads": cpus, "sched_losses": cpus * SCHEDULER_KINDS}
    entries |= {"sched_slots": cpus << shift} if transport == RING else {"sched_events": cpus}
    return Source(
        "scheduler",
        programs=dict.fromkeys(_TRACEPOINTS, TRACEPOINT),
        maps=(*entries, "sched_control", "target_threads"),
        parameters={
            **_offsets(), "CALL_OFFSET": call_offset, "TARGET_ONLY": int(mode == TARGET),
            "RING_SHIFT": shift, "BOOT_CLOCK": int(boot_clock),
        },
        entries=entries,
        transport=TRANSPORTS.index(transport),
    )  # fmt: skip


def _offsets() -> dict[str, int]:
    """Where the fields stand in the records of the tracepoints."""
    found = {}
    for name, (handler, field, size) in _FIELDS.items():
        event = _TRACEPOINTS[handler]
        is_missing = handler == _OPTIONAL and not _has(handler)
        found[name] = -1 if is_missing else kernel.tracepoint_field(event, field, size)
        if found[name] + size > _TRACEPOINT_MAX:
            raise KernelError(f"tracepoint {event} is longer than {_TRACEPOINT_MAX} bytes here")
    return found


def _has(handler: str) -> bool:
    return (kernel.tracefs() / "events" / _TRACEPOINTS[handler] / "id").exists()


def _mapped(fd: int, dtype: np.dtype[np.void], count: int) -> tuple[mmap.mmap, Records]:
    """The elements of a map. Read so, not by system call: while the kernel answers one it runs no
    program at a tracepoint on that CPU."""
    try:
        memory = mmap.mmap(fd, whole_pages(count * dtype.itemsize))
    except OSError as error:
        raise KernelError(f"cannot map what the programs count: {error.strerror}") from None
    return memory, np.frombuffer(memory, dtype, count)


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []
