"""BPF programs and probes of the tests' own, which share nothing with what they check.

Failures are OSError. What is returned is a descriptor: closing it ends it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import REPO

KPROBE, RAW_TRACEPOINT = 2, 17
"""BPF_PROG_TYPE_*; uprobes are of the first."""
NOTHING = "b700000000000000 9500000000000000"
"""r0 = 0; exit"""
LINK, EVENT = "uprobe_multi", "perf_event"
"""Ways to attach a uprobe, as recordings name them."""
_ATTACH_TYPE = {LINK: 48, EVENT: 0}
_PROG_LOAD, _OBJ_GET_INFO, _RAW_TRACEPOINT_OPEN, _LINK_CREATE, _ENABLE_STATS = 5, 15, 17, 28, 32
_SET_BPF, _ENABLE = 0x40042408, 0x2400
_CLOEXEC = 8
_BPF, _PERF_EVENT_OPEN = {"x86_64": (321, 298), "aarch64": (280, 241)}[platform.machine()]
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class Refused(OSError):
    """The kernel takes no probe there."""


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _bpf(command: int, attr: bytes) -> int:
    buffer = ctypes.create_string_buffer(attr.ljust(128, b"\0"), 128)
    return _checked(_libc.syscall(_BPF, command, buffer, 128))


def load_program(code: str, *, kind: int = KPROBE, way: str = EVENT) -> int:
    """A program, given as hex; `way`: how it will be attached if it is for uprobes."""
    instructions = bytes.fromhex(code)
    buffer, license_ = (
        ctypes.create_string_buffer(instructions),
        ctypes.create_string_buffer(b"GPL"),
    )
    attr = bytearray(128)
    count = len(instructions) // 8
    addresses = ctypes.addressof(buffer), ctypes.addressof(license_)
    struct.pack_into("<IIQQ", attr, 0, kind, count, *addresses)
    struct.pack_into("<I", attr, 68, _ATTACH_TYPE[way])
    return _bpf(_PROG_LOAD, bytes(attr))


def attach_uprobe(
    program: int, path: Path, offset: int, pid: int, *, at_return: bool = False, way: str = EVENT
) -> int:
    """Runs a program at an offset of a file in one process. Refused."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    if way == LINK:
        offsets = (ctypes.c_uint64 * 1)(offset)
        link = struct.pack(
            "<IIIIQQQQIIII", program, 0, _ATTACH_TYPE[LINK], 0, ctypes.addressof(name),
            ctypes.addressof(offsets), 0, 0, 1, int(at_return), pid, 0,
        )  # fmt: skip
        try:
            return _bpf(_LINK_CREATE, link)
        except OSError as error:
            raise Refused(error.errno, error.strerror) from None
    source = Path("/sys/bus/event_source/devices/uprobe")
    kind = int((source / "type").read_text())
    bit = int((source / "format/retprobe").read_text().split(":")[1])
    attr = bytearray(128)
    struct.pack_into("<IIQ", attr, 0, kind, 128, int(at_return) << bit)
    struct.pack_into("<QQ", attr, 56, ctypes.addressof(name), offset)
    buffer = ctypes.create_string_buffer(bytes(attr), 128)
    event = -1
    try:
        event = _checked(_libc.syscall(_PERF_EVENT_OPEN, buffer, pid, -1, -1, _CLOEXEC))
        _checked(_libc.ioctl(event, ctypes.c_ulong(_SET_BPF), ctypes.c_ulong(program)))
        _checked(_libc.ioctl(event, ctypes.c_ulong(_ENABLE), ctypes.c_ulong(0)))
    except OSError as error:
        if event >= 0:
            os.close(event)
        raise Refused(error.errno, error.strerror) from None
    return event


def attach_raw_tracepoint(program: int, name: str) -> int:
    """Runs a program at a raw tracepoint ("sched_switch")."""
    text = ctypes.create_string_buffer(name.encode())
    return _bpf(_RAW_TRACEPOINT_OPEN, struct.pack("<QI", ctypes.addressof(text), program))


def enable_stats() -> int:
    """Counts runs and time of all BPF programs until it is closed."""
    return _bpf(_ENABLE_STATS, struct.pack("<I", 0))


@dataclass(frozen=True)
class RunStats:
    """What the kernel counted of one program while statistics were enabled."""

    runs: int
    run_ns: int


def program_stats(program: int) -> RunStats:
    """Its runs so far (struct bpf_prog_info: run_time_ns, run_cnt)."""
    info = ctypes.create_string_buffer(232)
    _bpf(_OBJ_GET_INFO, struct.pack("<IIQ", program, len(info), ctypes.addressof(info)))
    run_ns, runs = struct.unpack_from("<QQ", info.raw, 192)
    return RunStats(runs, run_ns)


class Counters:
    """A program of its own at each place, whose runs the kernel counts."""

    def __init__(self, way: str = EVENT) -> None:
        self._way = way
        self._stats = enable_stats()
        self._programs: dict[Any, int] = {}
        self._attached: list[int] = []

    def attach(
        self, name: Any, path: Path, offset: int, pid: int, *, at_return: bool = False
    ) -> None:
        """Refused where the kernel takes no probe."""
        program = load_program(NOTHING, way=self._way)
        try:
            probe = attach_uprobe(program, path, offset, pid, at_return=at_return, way=self._way)
        except Refused:
            os.close(program)
            raise
        self._programs[name] = program
        self._attached.append(probe)

    def runs(self) -> dict[Any, int]:
        """How often each place has been passed so far, by its name."""
        return {name: program_stats(fd).runs for name, fd in self._programs.items()}

    def close(self) -> None:
        """Detaches, side by side: a perf event waits 0.1 s for the kernel to forget its uprobe."""
        with ThreadPoolExecutor(len(self._attached) + 1) as pool:
            list(pool.map(os.close, [*self._attached, self._stats]))
        for program in self._programs.values():
            os.close(program)


@contextmanager
def counters(way: str = EVENT) -> Iterator[Counters]:
    """Counters that are gone after the block."""
    found = Counters(way)
    try:
        yield found
    finally:
        found.close()


def build_sites(folder: Path, compiler: str = "gcc") -> Path:
    """The functions that the recorder's self-test probes, as a library of their own."""
    library = folder / "sites.so"
    source = REPO / "bpf/recorder/hit_sites.c"
    command = [
        compiler,
        "-D_GNU_SOURCE",
        "-O2",
        "-fPIC",
        "-shared",
        "-o",
        str(library),
        str(source),
    ]
    subprocess.run(command, check=True, timeout=60)
    return library


def lacking_helper(folder: Path, helper: int, *, only_tries: bool = False) -> dict[str, str]:
    """The environment in which a recorder finds a kernel that lacks what BPF programs may call."""
    library = folder / "lacking.so"
    source = REPO / "tests/recording/lacking_helper.c"
    command = ["gcc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source)]
    subprocess.run(command, check=True, timeout=60)
    found = {"LD_PRELOAD": str(library), "LACKING_HELPER": str(helper)}
    return found | ({"LACKING_SHORT": "1"} if only_tries else {})
