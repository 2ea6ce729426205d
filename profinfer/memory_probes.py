"""Page faults and file reads of the target: which programs see them, and how these are attached.

Faults are the kernel's own software events, which tell major from minor and run when the fault has
been served, on every CPU. File reads are pages that come into the page cache while the target runs,
from the tracepoint that names inode and page: whatever lies below (disk, network, read-ahead).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from profinfer import kernel
from profinfer.errors import KernelError, ProfinferError
from profinfer.handler_stats import EventProgram
from profinfer.programs import PERF_EVENT, TRACEPOINT

_SOFTWARE = 1
_EVENTS = {"on_minor_fault": 5, "on_major_fault": 6}
"""PERF_COUNT_SW_PAGE_FAULTS_MIN and _MAJ."""
_NAMES = {"on_minor_fault": "page-faults-min", "on_major_fault": "page-faults-maj"}
_READ, _READ_EVENT = "on_file_read", "filemap/mm_filemap_add_to_page_cache"
_FIELDS = {"PAGE_INODE": ("i_ino", 8), "PAGE_INDEX": ("index", 8), "PAGE_DEVICE": ("s_dev", 4)}
NO_MEMORY = {"TARGET": 0, "PAGE_ORDER": -1, **dict.fromkeys(_FIELDS, -1)}
"""MEMORY_PARAMETERS of bpf/parameters.h where nothing of it is recorded."""


class _Loaded(Protocol):
    def program(self, name: str) -> int: ...


@dataclass
class MemoryProbes:
    """What is to be recorded of the memory of process `pid`, and the probes for it."""

    pid: int = 0
    faults: bool = False
    reads: bool = False
    """Of files."""
    _attached: list[int] = field(default_factory=list)

    @property
    def programs(self) -> dict[str, int]:
        """Those needed, with their bpf_prog_type."""
        return dict.fromkeys(_EVENTS if self.faults else (), PERF_EVENT) | (
            {_READ: TRACEPOINT} if self.reads else {}
        )

    def parameters(self) -> dict[str, int]:
        """MEMORY_PARAMETERS of bpf/parameters.h. KernelError where file reads cannot be seen."""
        found = NO_MEMORY | {"TARGET": self.pid}
        if self.reads:
            try:
                for name, (of, size) in _FIELDS.items():
                    found[name] = kernel.tracepoint_field(_READ_EVENT, of, size)
            except KernelError as error:
                raise KernelError(error.message, "record without --block-io") from None
            found["PAGE_ORDER"] = _order()
        return found

    @property
    def notes(self) -> list[str]:
        """What a reader of the recording has to know."""
        if self.reads and _order() < 0:
            return ["this kernel does not tell the size of what it reads: of larger parts than a"
                    " page only the first page is counted"]  # fmt: skip
        return []

    def attach(self, loaded: _Loaded) -> None:
        """Runs the programs from now on. ProbeError, PrivilegeError, KernelError."""
        if self.faults:
            for name, event in _EVENTS.items():
                program = loaded.program(name)
                for cpu in _online():
                    what = f"page fault events on CPU {cpu}"
                    opened = kernel.perf_event(_attributes(event), -1, cpu, what)
                    self._attached.append(kernel.run_program(opened, program, what))
        if self.reads:
            self._attached.append(kernel.attach_tracepoint(loaded.program(_READ), _READ_EVENT))

    def event_programs(self, loaded: _Loaded) -> dict[str, EventProgram]:
        """The programs; they run for everybody's faults and reads."""
        return {
            name: EventProgram(loaded.program(name), event, None)
            for name, event in {
                **(_NAMES if self.faults else {}),
                **({_READ: _READ_EVENT.partition("/")[2]} if self.reads else {}),
            }.items()
        }

    def detach(self) -> None:
        """Ends that."""
        for fd in self._attached:
            os.close(fd)
        self._attached.clear()


def describe_means() -> str:
    """What of faults and file reads this kernel lets one record, for people; a line each."""
    lines = []
    try:
        for name, event in _EVENTS.items():
            os.close(kernel.perf_event(_attributes(event), -1, _online()[0], _NAMES[name]))
        lines.append(f"page faults by the software events {' and '.join(_NAMES.values())}")
    except ProfinferError as error:
        lines.append(f"page faults cannot be recorded (--faults): {error.message}")
        lines += [f"hint: {error.hint}"] if error.hint else []
    probes = MemoryProbes(reads=True)
    try:
        probes.parameters()
        lines.append(f"file reads by the tracepoint {_READ_EVENT}")
        lines += probes.notes
    except KernelError as error:
        lines.append(f"file reads cannot be recorded (--block-io): {error.message}")
        lines.append("hint: kernels built with CONFIG_TRACEPOINTS have it; or record without")
    except ProfinferError as error:  # tracefs is missing, or closed to us
        lines.append(f"file reads cannot be recorded (--block-io): {error.message}")
        lines.append(f"hint: {error.hint}")
    return "\n".join(lines)


def _attributes(event: int) -> bytes:
    # perf_event_attr: type, size, config, sample_period 1
    return struct.pack("<IIQQ", _SOFTWARE, 128, event, 1)


def _order() -> int:
    try:
        return kernel.tracepoint_field(_READ_EVENT, "order", 1)
    except KernelError:
        return -1


def _online() -> list[int]:
    text = Path("/sys/devices/system/cpu/online").read_text().strip()
    cpus: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus


@dataclass(frozen=True)
class KernelCounts:
    """What the kernel has counted of a process until now."""

    minor: int
    major: int
    read_bytes: int | None
    """Bytes that it has caused to be fetched from storage; None where the kernel does not tell."""


def kernel_counts(pid: int) -> KernelCounts | None:
    """None when the process is gone; one that has ended still has its counts until it is reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        minor, major = int(stat[7]), int(stat[9])
    except (OSError, IndexError, ValueError):
        return None
    read: int | None = None
    try:
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            if line.startswith("read_bytes:"):
                read = int(line.split()[1])
    except OSError:
        pass
    return KernelCounts(minor, major, read)
