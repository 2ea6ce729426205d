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
from dataclasses import dataclass
from pathlib import Path

from profinfer.errors import KernelError, PrivilegeError, ProbeError
from profinfer.programs import KPROBE

_libc = ctypes.CDLL(None, use_errno=True)
_SYSCALLS = {"x86_64": (321, 298), "aarch64": (280, 241)}
"""Numbers of bpf and perf_event_open, by machine."""

_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE, _PROG_LOAD = 0, 1, 2, 3, 5
_OBJ_GET_INFO, _RAW_TRACEPOINT_OPEN, _MAP_LOOKUP_BATCH, _LINK_CREATE = 15, 17, 24, 28
_ENABLE_STATS = 32
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


def map_create(kind: int, key_size: int, value_size: int, entries: int) -> int:
    """A new map; its fd. OSError when the kernel refuses it."""
    return _bpf(_MAP_CREATE, struct.pack("<IIII", kind, key_size, value_size, entries))


def map_update(fd: int, key: bytes, value: bytes) -> None:
    """Sets one element of a map."""
    k, v = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value)
    _bpf(_MAP_UPDATE, struct.pack("<I4xQQQ", fd, _address(k), _address(v), 0))


def map_delete(fd: int, key: bytes) -> None:
    """Removes an element from a map, if it is there."""
    k = ctypes.create_string_buffer(key, len(key))
    with contextlib.suppress(FileNotFoundError):
        _bpf(_MAP_DELETE, struct.pack("<I4xQ", fd, _address(k)))


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
    try:
        _bpf(_MAP_LOOKUP_BATCH, struct.pack("<QQQQIIQQ", 0, *where, count, fd, 0, 0))
    except FileNotFoundError:
        pass  # this is how the kernel says that there is nothing after these
    except OSError as error:
        if error.errno != errno.EINVAL:  # before 5.6 there are no batches
            raise
        return b"".join(map_lookup(fd, struct.pack("<I", key), size) for key in range(count))
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


def program_misses(fd: int) -> int:
    """How often the kernel did not run a program because it would have interrupted another one
    (struct bpf_prog_info: recursion_misses); 0 where it does not count that."""
    info = ctypes.create_string_buffer(232)
    _bpf(_OBJ_GET_INFO, struct.pack("<IIQ", fd, len(info), _address(info)))
    return int(struct.unpack_from("<Q", info.raw, 208)[0])


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


def load_program(code: str, attach_type: int = 0, kind: int = KPROBE) -> int:
    """Loads a program of a kind (programs.py), given as hex; its fd. OSError when the kernel
    refuses it.

    `attach_type`: its expected_attach_type."""
    instructions = bytes.fromhex(code)
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    license_ = ctypes.create_string_buffer(b"GPL")
    attr = bytearray(128)
    count = len(instructions) // 8
    struct.pack_into("<IIQQ", attr, 0, kind, count, _address(buffer), _address(license_))
    struct.pack_into("<I", attr, 68, attach_type)
    return _bpf(_PROG_LOAD, bytes(attr))


def load_nothing(attach_type: int = 0) -> int:
    """A program that returns at once: what a hit costs without a handler. Its fd."""
    try:
        return load_program("b700000000000000 9500000000000000", attach_type)  # r0 = 0; exit
    except OSError as error:
        raise KernelError(f"cannot load a BPF program: {error.strerror}") from None


def link_create(program: int, attach_type: int, attr: bytes) -> int:
    """A link of a program to what `attr` (from offset 16 of union bpf_attr) names; its fd. OSError
    when the kernel refuses it."""
    return _bpf(_LINK_CREATE, struct.pack("<IIII", program, 0, attach_type, 0) + attr)


def perf_event(attr: bytes, pid: int, cpu: int, what: str) -> int:
    """Opens a perf event; its fd. `what` it is for stands in errors: PrivilegeError, ProbeError."""
    buf = ctypes.create_string_buffer(attr.ljust(128, b"\0"), 128)
    flags = 8  # PERF_FLAG_FD_CLOEXEC
    fd = _syscall(1, buf, pid, cpu, -1, flags)
    if fd >= 0:
        return fd
    raise attach_error(ctypes.get_errno(), what, pid)


def open_counter(attr: bytes, cpu: int, group: int = -1) -> int:
    """Opens a perf event that counts all tasks on a CPU; its fd. `group`: the fd of the event whose
    hardware it shares. OSError when the kernel refuses."""
    buf = ctypes.create_string_buffer(attr.ljust(128, b"\0"), 128)
    fd = _syscall(1, buf, -1, cpu, group, 8)  # PERF_FLAG_FD_CLOEXEC
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return fd


def attach_error(code: int, what: str, pid: int) -> PrivilegeError | ProbeError:
    """What an errno means that came of attaching `what` in process `pid`."""
    if code in (errno.EACCES, errno.EPERM):
        missing = missing_capabilities()
        return PrivilegeError(
            f"not allowed to attach {what}: missing {', '.join(missing) or 'CAP_SYS_ADMIN'}",
            "run profinfer as root (sudo)",
        )
    if code == errno.ESRCH:
        return ProbeError(f"cannot attach {what}: process {pid} has ended")
    hint = "another tracer may hold a probe at the same place (see dmesg)"
    return ProbeError(
        f"cannot attach {what}: {os.strerror(code)}", hint if code == errno.EINVAL else ""
    )


def perf_enable(event_fd: int) -> None:
    """Starts a perf event."""
    _libc.ioctl(event_fd, ctypes.c_ulong(_PERF_IOC_ENABLE), ctypes.c_ulong(0))


def run_program(event_fd: int, program_fd: int, what: str) -> int:
    """Runs a program whenever a perf event happens; the event's fd, closed on ProbeError."""
    for request, argument in ((_PERF_IOC_SET_BPF, program_fd), (_PERF_IOC_ENABLE, 0)):
        if _libc.ioctl(event_fd, ctypes.c_ulong(request), ctypes.c_ulong(argument)) < 0:
            code = ctypes.get_errno()
            os.close(event_fd)
            raise ProbeError(f"cannot attach {what}: {os.strerror(code)}")
    return event_fd


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
    return run_program(perf_event(bytes(attr), -1, 0, what), program_fd, what)


def attach_raw_tracepoint(program_fd: int, name: str) -> int:
    """Runs a program at a raw tracepoint ("sched_switch"); the fd to close. KernelError."""
    text = ctypes.create_string_buffer(name.encode())
    try:
        return _bpf(_RAW_TRACEPOINT_OPEN, struct.pack("<QI", _address(text), program_fd))
    except OSError as error:
        raise KernelError(f"cannot attach to tracepoint {name}: {error.strerror}") from None
