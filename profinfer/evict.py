"""Drops a model's pages from memory, so that a recording shows how it comes back from storage."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from profinfer.mappings import Mappings

_libc = ctypes.CDLL(None, use_errno=True)
_PROCESS_MADVISE, _PAGEOUT = 440, 21
"""The system call has this number on every machine."""
_STEP = 1 << 30
_MAGIC = b"GGUF"


def evict_mapped(pid: int) -> list[dict[str, Any]]:
    """Evicts the GGUF files that a process has mapped; of each its path, size and how many bytes
    stay in memory, for instance because another process has them mapped, too."""
    looker = Mappings(pid)
    try:
        looker.look(0)
        for model in looker.models:
            os.fsync(model.fd)  # what has not been written yet could not be dropped
        pidfd = os.pidfd_open(pid)
        try:
            for mapping in looker.model_mappings():
                _page_out(pidfd, mapping.start, mapping.end)
        finally:
            os.close(pidfd)
        return [_evict(model.fd, model.path) for model in looker.models]
    finally:
        looker.close()


def evict_named(command: Sequence[str]) -> list[dict[str, Any]]:
    """The same for the GGUF files that a command line names: nobody has mapped them yet."""
    done = []
    for path in dict.fromkeys(_paths(command)):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError):
            continue
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode) and os.pread(fd, 4, 0) == _MAGIC:
                done.append(_evict(fd, path))
        finally:
            os.close(fd)
    return done


def _paths(command: Sequence[str]) -> Iterable[str]:
    """--model=FILE names one, too."""
    for word in command:
        yield word
        if word.startswith("-") and "=" in word:
            yield word.partition("=")[2]


def _page_out(pidfd: int, start: int, end: int) -> None:
    """Takes pages out of a process's page tables, without which they could not be dropped. What
    the kernel refuses stays, and is counted."""
    for at in range(start, end, _STEP):
        vector = ctypes.create_string_buffer(struct.pack("<QQ", at, min(_STEP, end - at)), 16)
        _libc.syscall(
            _PROCESS_MADVISE, pidfd, ctypes.byref(vector), ctypes.c_size_t(1), _PAGEOUT, 0
        )


def _evict(fd: int, path: str) -> dict[str, Any]:
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    size = os.fstat(fd).st_size
    return {"path": path, "bytes": size, "left": _resident(fd, size)}


def _resident(fd: int, size: int) -> int | None:
    """Bytes of a file that are in memory; None where the kernel does not tell."""
    page = os.sysconf("SC_PAGESIZE")
    pages = -(-size // page)
    if not pages:
        return 0
    _libc.mmap.restype = ctypes.c_void_p
    address = _libc.mmap(None, ctypes.c_size_t(size), 1, 1, fd, ctypes.c_long(0))
    if address in (None, ctypes.c_void_p(-1).value):
        return None
    try:
        vector = ctypes.create_string_buffer(pages)
        if _libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), vector):
            return None
        return sum(byte & 1 for byte in vector.raw) * page
    finally:
        _libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))
