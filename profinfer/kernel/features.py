"""What is asked of this kernel without BPF. Feature by feature, never by kernel version."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

from profinfer.errors import KernelError, PrivilegeError

# CAP_BPF and CAP_PERFMON are not enough: current kernels want CAP_SYS_ADMIN for uprobes by perf
# event, and /proc/PID/map_files, through which files are opened, wants it too.
_CAPABILITIES = {"CAP_SYS_ADMIN": 21, "CAP_SYS_PTRACE": 19}


def cpu_count() -> int:
    """CPUs that can ever run a handler (the kernel's possible set)."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return max(int(part.split("-")[-1]) for part in text.split(",")) + 1


def missing_capabilities() -> list[str]:
    """The capabilities needed to attach that this process lacks."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            mask = int(line.split()[1], 16)
            return [name for name, bit in _CAPABILITIES.items() if not mask >> bit & 1]
    return list(_CAPABILITIES)


def tracefs() -> Path:
    """Where tracefs is mounted; mounts it where it belongs if it is not, as perf does."""
    places = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
    for path in places:
        try:
            if (path / "events").is_dir():
                return path
        except PermissionError:
            raise PrivilegeError(f"not allowed to read {path}", "run profinfer as root") from None
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"nodev", bytes(places[0]), b"tracefs", 0, None) == 0:
        return places[0]
    raise KernelError(
        f"tracefs is not mounted and cannot be: {os.strerror(ctypes.get_errno())}",
        "mount -t tracefs nodev /sys/kernel/tracing (the kernel needs CONFIG_TRACING)",
    )


def tracepoint_field(event: str, field: str, size: int = 4) -> int:
    """Byte offset of a field of `size` bytes in a tracepoint's record, from its format file."""
    try:
        text = (tracefs() / "events" / event / "format").read_text()
    except FileNotFoundError:
        raise KernelError(f"this kernel has no tracepoint {event}") from None
    match = re.search(rf"\b{field}(?:\[\d+\])?;\s+offset:(\d+);\s+size:(\d+);", text)
    if match is None or int(match[2]) != size:
        raise KernelError(f"tracepoint {event} has no field {field} of {size} bytes on this kernel")
    return int(match[1])
