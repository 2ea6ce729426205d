"""The bpf(2) and perf_event_open(2) calls that every loader and transport shares.

Feature by feature, never by kernel version. Failures are KernelError or PrivilegeError.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import re
import struct
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from profinfer.errors import KernelError, PrivilegeError, ProbeError

_libc = ctypes.CDLL(None, use_errno=True)
_SYSCALLS = {"x86_64": (321, 298), "aarch64": (280, 241)}
"""Numbers of bpf and perf_event_open, by machine."""

_MAP_LOOKUP, _MAP_UPDATE, _PROG_LOAD = 1, 2, 5
_PROG_TYPE_KPROBE = 2  # which uprobes are too
_OBJ_GET_INFO, _MAP_LOOKUP_BATCH, _ENABLE_STATS = 15, 24, 32
_PERF_IOC_ENABLE, _PERF_IOC_SET_BPF = 0x2400, 0x40042408
# CAP_BPF and CAP_PERFMON are not enough: current kernels want CAP_SYS_ADMIN for uprobes by perf
# event, and /proc/PID/map_files, through which files are opened, wants it too.
_CAPABILITIES = {"CAP_SYS_ADMIN": 21, "CAP_SYS_PTRACE": 19}


def _syscall(which: int, *args: object) -> int:
    try:
        number = _SYSCALLS[platform.machine()][which]
    except KeyError:
        raise KernelError(f"machine {platform.machine()} is not supported") from None
    return int(_libc.syscall(number, *args))


def _bpf(command: int, attr: bytes) -> int:
    buf = ctypes.create_string_buffer(attr.ljust(128, b"\0"), 128)
    result = _syscall(0, command, buf, 128)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _address(buf: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buf)


def map_update(fd: int, key: bytes, value: bytes) -> None:
    """Sets one element of a map."""
    k, v = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value)
    _bpf(_MAP_UPDATE, struct.pack("<I4xQQQ", fd, _address(k), _address(v), 0))


def map_lookup(fd: int, key: bytes, size: int) -> bytes:
    """Reads one element of `size` bytes from a map."""
    k, v = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(size)
    _bpf(_MAP_LOOKUP, struct.pack("<I4xQQQ", fd, _address(k), _address(v), 0))
    return v.raw


def map_read(fd: int, count: int, size: int) -> bytes:
    """All `count` elements, of `size` bytes each, of an array map."""
    keys, values = ctypes.create_string_buffer(4 * count), ctypes.create_string_buffer(size * count)
    cursor = ctypes.create_string_buffer(8)
    where = (_address(cursor), _address(keys), _address(values))
    # ENOENT is how the kernel says that there is nothing after these.
    with contextlib.suppress(FileNotFoundError):
        _bpf(_MAP_LOOKUP_BATCH, struct.pack("<QQQQIIQQ", 0, *where, count, fd, 0, 0))
    return values.raw


@dataclass(frozen=True)
class RunStats:
    """What the kernel counted of one program while statistics were enabled."""

    runs: int
    run_ns: int


def program_stats(fd: int) -> RunStats:
    """Run count and run time of a program (struct bpf_prog_info: run_time_ns, run_cnt)."""
    info = ctypes.create_string_buffer(232)
    _bpf(_OBJ_GET_INFO, struct.pack("<IIQ", fd, len(info), _address(info)))
    run_ns, runs = struct.unpack_from("<QQ", info.raw, 192)
    return RunStats(runs, run_ns)


def enable_stats() -> int:
    """Counts runs and time of all BPF programs while the returned fd is open."""
    return _bpf(_ENABLE_STATS, struct.pack("<I", 0))


def missing_capabilities() -> list[str]:
    """The capabilities needed to attach that this process lacks."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            mask = int(line.split()[1], 16)
            return [name for name, bit in _CAPABILITIES.items() if not mask >> bit & 1]
    return list(_CAPABILITIES)


def load_nothing() -> int:
    """A program that returns at once: what a hit costs without a handler. Its fd."""
    # mov r0, 0; exit
    code = ctypes.create_string_buffer(bytes.fromhex("b700000000000000 9500000000000000"), 16)
    license_ = ctypes.create_string_buffer(b"GPL")
    attr = struct.pack("<IIQQ", _PROG_TYPE_KPROBE, 2, _address(code), _address(license_))
    try:
        return _bpf(_PROG_LOAD, attr)
    except OSError as error:
        raise KernelError(f"cannot load a BPF program: {error.strerror}") from None


def close_events(events: Collection[int]) -> None:
    """Closes perf events side by side: each waits 0.1 s for the kernel to forget its uprobe."""
    if events:
        with ThreadPoolExecutor(len(events)) as pool:
            list(pool.map(os.close, events))


def uprobe_pmu() -> tuple[int, int]:
    """Type number of the uprobe event source and the bit that asks for a return probe."""
    base = Path("/sys/bus/event_source/devices/uprobe")
    try:
        kind = int((base / "type").read_text())
        bit = int((base / "format/retprobe").read_text().split(":")[1])
    except (OSError, ValueError, IndexError):
        raise KernelError(
            "this kernel has no uprobe events (/sys/bus/event_source/devices/uprobe is missing)",
            "use a kernel with CONFIG_UPROBE_EVENTS, and mount /sys",
        ) from None
    return kind, bit


def _perf_event(attr: bytes, pid: int, cpu: int, what: str) -> int:
    buf = ctypes.create_string_buffer(attr.ljust(128, b"\0"), 128)
    flags = 8  # PERF_FLAG_FD_CLOEXEC
    fd = _syscall(1, buf, pid, cpu, -1, flags)
    if fd >= 0:
        return fd
    code = ctypes.get_errno()
    if code in (errno.EACCES, errno.EPERM):
        missing = missing_capabilities()
        raise PrivilegeError(
            f"not allowed to attach {what}: missing {', '.join(missing) or 'CAP_SYS_ADMIN'}",
            "run profinfer as root (sudo)",
        )
    if code == errno.ESRCH:
        raise ProbeError(f"cannot attach {what}: process {pid} has ended")
    hint = "another tracer may hold a probe at the same place (see dmesg)"
    raise ProbeError(
        f"cannot attach {what}: {os.strerror(code)}", hint if code == errno.EINVAL else ""
    )


def _run_program(event_fd: int, program_fd: int, what: str) -> int:
    for request, argument in ((_PERF_IOC_SET_BPF, program_fd), (_PERF_IOC_ENABLE, 0)):
        if _libc.ioctl(event_fd, ctypes.c_ulong(request), ctypes.c_ulong(argument)) < 0:
            code = ctypes.get_errno()
            os.close(event_fd)
            raise ProbeError(f"cannot attach {what}: {os.strerror(code)}")
    return event_fd


def attach_uprobe(program_fd: int, path: Path, offset: int, pid: int, *, at_return: bool) -> int:
    """Runs a program at a file offset of `path`, in the process `pid` (-1: in every one).

    Returns the perf event's fd: closing it detaches. Uprobes belong to an inode, so `path` may
    be /proc/PID/map_files/..., which names the very file that the process has mapped.
    """
    kind, bit = uprobe_pmu()
    name = ctypes.create_string_buffer(os.fsencode(path))
    attr = bytearray(128)
    # perf_event_attr: type, size, config at 0; config1 (path), config2 (offset) at 56.
    struct.pack_into("<IIQ", attr, 0, kind, 128, (1 << bit) if at_return else 0)
    struct.pack_into("<QQ", attr, 56, _address(name), offset)
    what = f"{'return' if at_return else 'entry'} probe at {path}+{offset:#x}"
    event = _perf_event(bytes(attr), pid, -1 if pid > 0 else 0, what)
    return _run_program(event, program_fd, what)


def tracefs() -> Path:
    """Where tracefs is mounted; mounts it where it belongs if it is not, as perf does."""
    places = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
    for path in places:
        try:
            if (path / "events").is_dir():
                return path
        except PermissionError:
            raise PrivilegeError(f"not allowed to read {path}", "run profinfer as root") from None
    if _libc.mount(b"nodev", bytes(places[0]), b"tracefs", 0, None) == 0:
        return places[0]
    raise KernelError(
        f"tracefs is not mounted and cannot be: {os.strerror(ctypes.get_errno())}",
        "mount -t tracefs nodev /sys/kernel/tracing (the kernel needs CONFIG_TRACING)",
    )


def tracepoint_field(event: str, field: str) -> int:
    """Byte offset of a field in a tracepoint's record, from its format file."""
    text = (tracefs() / "events" / event / "format").read_text()
    match = re.search(rf"\b{field};\s+offset:(\d+);", text)
    if match is None:
        raise KernelError(f"tracepoint {event} has no field {field} on this kernel")
    return int(match[1])


def attach_tracepoint(program_fd: int, event: str) -> int:
    """Runs a program at a tracepoint ("sched/sched_process_exec"); the fd to close."""
    path = tracefs() / "events" / event / "id"
    try:
        number = int(path.read_text())
    except (OSError, ValueError):
        raise KernelError(f"this kernel has no tracepoint {event}") from None
    attr = bytearray(128)
    # type TRACEPOINT, config = id, sample_period 1
    struct.pack_into("<IIQQ", attr, 0, 2, 128, number, 1)
    what = f"tracepoint {event}"
    # One event suffices: a BPF program runs on every CPU whichever event it is set on.
    return _run_program(_perf_event(bytes(attr), -1, 0, what), program_fd, what)
