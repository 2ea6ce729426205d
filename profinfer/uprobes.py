"""Uprobes: a program at places of a file, in one process. Two ways to the same counts.

A uprobe_multi link takes all places of a program at once and lets go of them at once; where there
is none, each place takes a perf event, which takes 0.1 s to close. Uprobes belong to an inode, so a
path may be /proc/PID/map_files/..., which names the very file that the process has mapped.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from profinfer import kernel
from profinfer.elf import Elf
from profinfer.errors import KernelError

LINK, EVENT = "uprobe_multi", "perf_event"
"""Ways to attach."""
ATTACH_TYPE = {LINK: 48, EVENT: 0}
"""expected_attach_type that a program must have been loaded with, by way."""
SITES = (
    Path(__file__).resolve().parent.parent / "build" / platform.machine() / "libprofinfer-sites.so"
)
"""Functions to be probed in a process of ours (bpf/hit_sites.c)."""
_MULTI_RETURN = 1
_CALLS = 3


@dataclass(frozen=True)
class Way:
    """How uprobes are attached here, and why not otherwise."""

    name: str
    """LINK or EVENT."""
    reason: str = ""
    """Why not by link; empty when it is."""

    @property
    def attach_type(self) -> int:
        """expected_attach_type of the programs to be attached so."""
        return ATTACH_TYPE[self.name]

    def attach(
        self, program: int, path: Path, offsets: Sequence[int], pid: int, *, at_return: bool
    ) -> list[int]:
        """Runs a program at file offsets of `path`, in the process `pid`. Closing the fds returned
        (`close`) detaches. ProbeError, PrivilegeError."""
        if self.name == LINK:
            return [_attach_link(program, path, offsets, pid, at_return=at_return)]
        events: list[int] = []
        try:
            for offset in offsets:
                events.append(_attach_event(program, path, offset, pid, at_return=at_return))
        except BaseException:
            close(events)
            raise
        return events


BY_EVENT = Way(EVENT, "a link is not asked for")
"""Every kernel with uprobes has it; for one probe, links bring nothing."""


def best_way() -> Way:
    """By link where this kernel has them and they see every thread of a process: some kernels'
    filters let only its first thread pass. That shows in a try, not in a version."""
    try:
        program = kernel.load_nothing(ATTACH_TYPE[LINK])
    except KernelError as error:
        return Way(EVENT, error.message)
    try:
        seen = _seen_from_a_second_thread(program)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP):
            return Way(EVENT, "this kernel has no uprobe_multi links")
        return Way(EVENT, f"uprobe_multi links cannot be made here: {error.strerror}")
    except KernelError as error:
        return Way(EVENT, f"uprobe_multi links could not be tried: {error.message}")
    finally:
        os.close(program)
    if seen != _CALLS:
        return Way(EVENT, "this kernel's uprobe_multi links see only a process's first thread")
    return Way(LINK)


def _seen_from_a_second_thread(program: int) -> int:
    """How many of _CALLS calls a link saw that is to see this process."""
    if not SITES.is_file():
        raise KernelError(f"there is no {SITES}", "make setup builds it")
    function = ctypes.CDLL(str(SITES)).hit_stepped
    elf = Elf(SITES)
    offset = elf.file_offset(elf.symbols["hit_stepped"].value)
    elf.close()
    stats = kernel.enable_stats()
    try:
        link = _link(program, SITES, [offset], os.getpid(), at_return=False)
        try:
            before = kernel.program_stats(program).runs
            thread = threading.Thread(target=lambda: [function() for _ in range(_CALLS)])
            thread.start()
            thread.join()
            return kernel.program_stats(program).runs - before
        finally:
            os.close(link)
    finally:
        os.close(stats)


def _link(program: int, path: Path, offsets: Sequence[int], pid: int, *, at_return: bool) -> int:
    """OSError when the kernel refuses."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    places = (ctypes.c_uint64 * len(offsets))(*offsets)
    # bpf_attr.link_create.uprobe_multi: path, offsets, ref_ctr_offsets, cookies, cnt, flags, pid
    attr = struct.pack(
        "<QQQQIII", ctypes.addressof(name), ctypes.addressof(places), 0, 0, len(offsets),
        _MULTI_RETURN if at_return else 0, pid,
    )  # fmt: skip
    return kernel.link_create(program, ATTACH_TYPE[LINK], attr)


def _attach_link(
    program: int, path: Path, offsets: Sequence[int], pid: int, *, at_return: bool
) -> int:
    try:
        return _link(program, path, offsets, pid, at_return=at_return)
    except OSError as error:
        what = _what(path, ", ".join(f"{offset:#x}" for offset in offsets), at_return)
        raise kernel.attach_error(error.errno or errno.EIO, what, pid) from None


def _attach_event(program: int, path: Path, offset: int, pid: int, *, at_return: bool) -> int:
    kind, bit = uprobe_pmu()
    name = ctypes.create_string_buffer(os.fsencode(path))
    attr = bytearray(128)
    # perf_event_attr: type, size, config at 0; config1 (path), config2 (offset) at 56.
    struct.pack_into("<IIQ", attr, 0, kind, 128, (1 << bit) if at_return else 0)
    struct.pack_into("<QQ", attr, 56, ctypes.addressof(name), offset)
    what = _what(path, f"{offset:#x}", at_return)
    return kernel.run_program(kernel.perf_event(bytes(attr), pid, -1, what), program, what)


def _what(path: Path, offsets: str, at_return: bool) -> str:
    return f"{'return' if at_return else 'entry'} probe at {path}+{offsets}"


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


def close(attached: Collection[int]) -> None:
    """Detaches, side by side: a perf event waits 0.1 s for the kernel to forget its uprobe."""
    if attached:
        with ThreadPoolExecutor(len(attached)) as pool:
            list(pool.map(os.close, attached))
