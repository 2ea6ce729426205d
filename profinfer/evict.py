"""Drops a model's pages from memory, so that a recording shows how it comes back from storage."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import stat
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from profinfer.errors import TargetError
from profinfer.mappings import Mappings

_libc = ctypes.CDLL(None, use_errno=True)
_PROCESS_MADVISE, _PAGEOUT = 440, 21
"""The system call has this number on every machine."""
_STEP = 1 << 30
_MAGIC = b"GGUF"
_PART = re.compile(r"(.*)-[0-9]{5}-of-([0-9]{5})\.gguf", re.DOTALL)
_MAX_PARTS = 1000
_HINT = "name the model's file on the command line of record --evict, or record without --evict"


def evict_mapped(pid: int) -> list[dict[str, Any]]:
    """Evicts the GGUF files that a process has mapped; of each its path, size and how many bytes
    stay in memory, for instance because another process has them mapped, too (None: the kernel
    does not tell). TargetError where there is nothing to evict."""
    looker = Mappings(pid)
    try:
        looker.look(0)
        if not looker.models:
            raise TargetError(
                f"process {pid} has no GGUF file mapped, so --evict finds none", _HINT
            )
        for model in looker.models:
            if model.fd is not None:
                _write_through(model.fd)
        pidfd = os.pidfd_open(pid)
        try:
            for mapping in looker.mappings_of_models():
                _page_out(pidfd, mapping.start, mapping.end)
        finally:
            os.close(pidfd)
        return [_evict(model.fd, model.path) for model in looker.models if model.fd is not None]
    finally:
        looker.close()


def evict_named(command: Sequence[str]) -> list[dict[str, Any]]:
    """The same for the GGUF files that a command line names, with the other parts of a model that
    comes in several: nobody has mapped them yet."""
    done = []
    for path in dict.fromkeys(part for word in _paths(command) for part in _parts(word)):
        try:
            # A pipe or a device would notice that it is opened.
            if not stat.S_ISREG(os.stat(path).st_mode):
                continue
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError):
            continue
        try:
            if os.pread(fd, 4, 0) == _MAGIC:
                done.append(_evict(fd, path))
        except OSError:
            continue
        finally:
            os.close(fd)
    if not done:
        raise TargetError("the command names no GGUF file, so --evict finds none", _HINT)
    return done


def _paths(command: Sequence[str]) -> Iterable[str]:
    """--model=FILE names one, too."""
    for word in command:
        yield word
        if word.startswith("-") and "=" in word:
            yield word.partition("=")[2]


def _parts(path: str) -> Iterable[str]:
    """An engine is told one part of a model, and opens all."""
    match = _PART.fullmatch(path)
    if match is None or not 0 < int(match[2]) <= _MAX_PARTS:
        return [path]
    return [f"{match[1]}-{i:05}-of-{match[2]}.gguf" for i in range(1, int(match[2]) + 1)]


def _page_out(pidfd: int, start: int, end: int) -> None:
    """Takes pages out of a process's page tables, without which they could not be dropped. What
    the kernel refuses stays, and is counted."""
    for at in range(start, end, _STEP):
        vector = ctypes.create_string_buffer(struct.pack("<QQ", at, min(_STEP, end - at)), 16)
        _libc.syscall(
            _PROCESS_MADVISE, pidfd, ctypes.byref(vector), ctypes.c_size_t(1), _PAGEOUT, 0
        )


def _write_through(fd: int) -> None:
    """What has not been written yet could not be dropped."""
    with contextlib.suppress(OSError):
        os.fsync(fd)


def _evict(fd: int, path: str) -> dict[str, Any]:
    _write_through(fd)
    with contextlib.suppress(OSError):
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
        return int(np.count_nonzero(np.frombuffer(vector.raw, np.uint8) & 1)) * page
    finally:
        _libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))
