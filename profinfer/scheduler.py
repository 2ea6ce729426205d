"""The scheduler's tracepoints: the programs in the kernel, attached, and their rings."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import struct
import threading
import time
from collections.abc import Callable, Mapping

import numpy as np

from profinfer import features, kernel
from profinfer.errors import KernelError
from profinfer.loaded import RING, TRANSPORTS, RecordSource, boot_offset, cpu_count
from profinfer.perf_buffer import PerfBuffers
from profinfer.perf_records import PerfRecords
from profinfer.programs import RAW_TRACEPOINT, TRACEPOINT, Programs, Source
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

SYSTEM, TARGET = "system", "target"
"""Everything on every CPU, or what involves the target's threads."""

_TRACEPOINTS = {
    "on_switch": ("sched_switch", SchedulerKind.SWITCH),
    "on_waking": ("sched_waking", SchedulerKind.WAKING),
    "on_newtask": ("task_newtask", SchedulerKind.NEWTASK),
    "on_rename": ("task_rename", SchedulerKind.RENAME),
    "on_exit": ("sched_process_exit", SchedulerKind.EXIT),
    "on_free": ("sched_process_free", SchedulerKind.FREE),
}
_REASON = "on_reason"
_REASON_EVENT = "sched/sched_blocked_reason"
_REASON_FIELDS = {
    "REASON_PID": ("pid", 4), "REASON_CALLER": ("caller", 8), "REASON_IO_WAIT": ("io_wait", 1),
}  # fmt: skip
_REASON_MAX = 64
_CALL_OFFSETS = {"x86_64": 15 * 8, "aarch64": 35 * 8}
"""Of the system call's number in the kernel's struct pt_regs; a try shows whether it is so."""
_NANOSLEEP = {"x86_64": 35, "aarch64": 101}
_libc = ctypes.CDLL(None)


class Scheduler:
    """Programs at the scheduler's tracepoints. `attach` starts them, `detach` ends them."""

    def __init__(
        self, load: Callable[[Source], Programs], transport: str, ring_size: int, pid: int,
        mode: str, types: Mapping[str, int], *, boot_clock: bool = True,
    ) -> None:  # fmt: skip
        """Loads them for the target `pid`. `load`: of a loader; `ring_size`: bytes of each CPU's
        ring; `types`: kernel_types.scheduler_types(). KernelError where the kernel refuses them."""
        self.mode = mode
        self.pid = pid
        self.names_reasons = _has_reasons()
        """Whether the kernel says in which of its functions a thread was blocked."""
        self._boot_clock = boot_clock
        self._cpus = cpu_count()
        offset = _CALL_OFFSETS.get(platform.machine(), -1) if features.has_task_registers() else -1
        self._programs = load(
            _source(transport, ring_size, mode, types, offset, self._cpus, boot_clock)
        )
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
            self.names_calls = offset >= 0 and self._shows_calls()
            """Whether it is known in which system call a thread of the target blocks."""
        except BaseException:
            self._programs.close()
            raise
        self.before = (self.losses(), self.misses())
        """Both as they stood before it was attached."""

    def attach(self) -> None:
        """Starts recording."""
        self.before = (self.losses(), self.misses())
        self._attach_all(self.pid)
        if self.mode == TARGET:
            self._add_threads()
        self.since = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def detach(self) -> None:
        """Ends recording; what is in the rings can still be drained."""
        # In this order, as `attach` has the other: whenever a program runs it records.
        for fd in self._events.values():
            os.close(fd)
        self._events = {}
        self._control["active"] = 0

    def program(self, name: str) -> int:
        """The fd of a program of bpf/scheduler.h."""
        return self._programs.program(name)

    def events(self) -> dict[str, tuple[str, SchedulerKind]]:
        """By program, the tracepoint that it is at and the kind of record that it makes."""
        reason = {_REASON: (_REASON_EVENT.partition("/")[2], SchedulerKind.REASON)}
        return _TRACEPOINTS | (reason if self.names_reasons else {})

    def losses(self) -> Records:
        """struct loss by CPU and kind as it stands; shape (cpus, SCHEDULER_KINDS)."""
        return self._losses.copy().reshape(self._cpus, SCHEDULER_KINDS)

    def misses(self) -> dict[SchedulerKind, int]:
        """By kind, how often the kernel has skipped a program: it runs none within another one."""
        return {
            kind: kernel.program_misses(self._programs.program(name))
            for name, (_, kind) in self.events().items()
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

    def _attach_all(self, pid: int) -> None:
        """With `pid` for the target."""
        self._control["target"] = pid
        self._control["boot_offset"] = 0 if self._boot_clock else boot_offset()
        self._control["active"] = 1
        for name in self.events().keys() - self._events.keys():
            program = self._programs.program(name)
            self._events[name] = (
                kernel.attach_tracepoint(program, _REASON_EVENT)
                if name == _REASON
                else kernel.attach_raw_tracepoint(program, _TRACEPOINTS[name][0])
            )

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
            self._attach_all(os.getpid())
            _libc.syscall(number, struct.pack("<qq", 0, 1_000_000), None)
        finally:
            self.detach()
        time.sleep(0.001)  # a program that had begun ends meanwhile
        found = False
        for cpu in range(self._cpus):
            rows = self.rings.drain(cpu).data.reshape(-1).view(RECORD)
            mine = rows["tid"] == threading.get_native_id()
            mine &= rows["kind"] == SchedulerKind.SWITCH
            calls = rows["b"] & np.uint64(1 << SWITCH_HAS_CALL | (1 << 32) - 1)
            found |= bool(np.any(calls[mine] == (1 << SWITCH_HAS_CALL | number)))
        return found


def _source(
    transport: str, ring_size: int, mode: str, types: Mapping[str, int], call_offset: int,
    cpus: int, boot_clock: bool,
) -> Source:  # fmt: skip
    shift = (ring_size // RECORD.itemsize).bit_length() - 1
    entries = {"sched_heads": cpus, "sched_losses": cpus * SCHEDULER_KINDS}
    entries |= {"sched_slots": cpus << shift} if transport == RING else {"sched_events": cpus}
    reasons = _reason_fields()
    return Source(
        "scheduler",
        programs=dict.fromkeys(_TRACEPOINTS, RAW_TRACEPOINT)
        | dict.fromkeys([_REASON] if _has_reasons() else [], TRACEPOINT),
        maps=(*entries, "sched_control", "target_threads"),
        parameters={
            **types, **reasons, "CALL_OFFSET": call_offset,
            "TARGET_ONLY": int(mode == TARGET), "RING_SHIFT": shift, "BOOT_CLOCK": int(boot_clock),
        },
        entries=entries,
        transport=TRANSPORTS.index(transport),
    )  # fmt: skip


def _has_reasons() -> bool:
    """Whether the kernel has the tracepoint, and we can read what it says."""
    try:
        return (kernel.tracefs() / "events" / _REASON_EVENT / "id").exists()
    except KernelError:
        return False


def _reason_fields() -> dict[str, int]:
    """Where the fields stand in the tracepoint's record."""
    if not _has_reasons():
        return dict.fromkeys(_REASON_FIELDS, -1)
    found = {}
    for name, (field, size) in _REASON_FIELDS.items():
        found[name] = kernel.tracepoint_field(_REASON_EVENT, field, size)
        if found[name] + size > _REASON_MAX:
            raise KernelError(f"tracepoint {_REASON_EVENT} is longer than {_REASON_MAX} bytes here")
    return found


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
