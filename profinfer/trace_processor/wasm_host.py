"""What the WebAssembly build of Trace Processor asks of its host.

The build is an Emscripten program without files or a network: it needs memory to grow, clocks,
a place for its log and a calendar. What it asks of WASI wasmtime answers; every other import is
answered "not supported", and every path "no such file".
"""

from __future__ import annotations

import calendar
import ctypes
import os
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import wasmtime

PAGE_BYTES = 65536
WASM32_MAX_BYTES = 1 << 32
_LOG_LINES = 200
_LOG_BYTES = 1 << 14
_MAX_TEXT = 4096

# Emscripten's errno values, which are WASI's.
_ENOENT, _ENOSYS = 44, 52


class AbortError(Exception):
    """The program called `abort()` or an assertion of its failed."""


class Host:
    """Functions and memory access for one wasm32 instance.

    `memory` must be bound before the first call into the instance. `log` holds the last
    things that went wrong.
    """

    def __init__(self, store: wasmtime.Store, max_memory: int = WASM32_MAX_BYTES) -> None:
        self._store = store
        self._max_memory = min(max_memory, WASM32_MAX_BYTES - PAGE_BYTES)
        self.memory: wasmtime.Memory | None = None
        self.log: deque[str] = deque(maxlen=_LOG_LINES)
        self.output = os.memfd_create("trace-processor-output", os.MFD_CLOEXEC)
        """What the program prints goes there."""

    def function(self, name: str, has_result: bool) -> Callable[..., Any]:
        """Return the body of the import `env`.`name`."""
        body = getattr(self, f"_env_{name.lstrip('_')}", None)
        if body is not None:
            return body  # type: ignore[no-any-return]
        return lambda *_: -_ENOSYS if has_result else None

    def said(self) -> list[str]:
        """What the program has said last: by itself, and by what went wrong."""
        end = os.lseek(self.output, 0, os.SEEK_END)
        text = os.pread(self.output, _LOG_BYTES, max(0, end - _LOG_BYTES))
        return [*text.decode("utf-8", "replace").splitlines(), *self.log]

    # Pointers are unsigned in the program but arrive here as signed 32-bit integers.

    def _address(self, pointer: int, size: int) -> int:
        memory = self.memory
        assert memory is not None  # noqa: S101 - bound right after instantiation
        pointer &= 0xFFFFFFFF
        if pointer + size > memory.data_len(self._store):
            raise AbortError("an address outside the memory")
        # Asked for each time: the memory moves when it grows.
        return ctypes.addressof(memory.data_ptr(self._store).contents) + pointer

    def read(self, pointer: int, size: int) -> bytes:
        """Return `size` bytes of the program's memory."""
        return ctypes.string_at(self._address(pointer, size), size)

    def write(self, pointer: int, data: bytes) -> None:
        """Store `data` in the program's memory."""
        ctypes.memmove(self._address(pointer, len(data)), data, len(data))

    def write_view(self, pointer: int, view: memoryview) -> None:
        """Store a buffer in the program's memory; a writable one is not copied on the way."""
        if view.readonly:
            self.write(pointer, bytes(view))
        elif len(view):
            source = (ctypes.c_char * len(view)).from_buffer(view)
            ctypes.memmove(self._address(pointer, len(view)), source, len(view))

    def text(self, pointer: int) -> str:
        """Return the NUL-terminated string at `pointer`, at most 4 KiB of it."""
        memory = self.memory
        assert memory is not None  # noqa: S101 - bound right after instantiation
        room = memory.data_len(self._store) - (pointer & 0xFFFFFFFF)
        raw = self.read(pointer, min(_MAX_TEXT, max(room, 0)))
        return raw.split(b"\0", 1)[0].decode("utf-8", "replace")

    # Ends and messages.

    def _env_abort_js(self) -> None:
        raise AbortError("abort() was called")

    def _env_assert_fail(self, condition: int, file: int, line: int, _function: int) -> None:
        where = f"{self.text(file)}:{line}"
        raise AbortError(f"the assertion {self.text(condition)} failed at {where}")

    def _env_emscripten_err(self, text: int) -> None:
        self.log.append(self.text(text))

    # Files: there are none.

    def _no_file(self, *_: int) -> int:
        return -_ENOENT

    _env_syscall_openat = _env_syscall_stat64 = _env_syscall_lstat64 = _no_file
    _env_syscall_newfstatat = _env_syscall_faccessat = _env_syscall_readlinkat = _no_file
    _env_syscall_unlinkat = _env_syscall_rmdir = _no_file

    def _env_syscall_getcwd(self, buffer: int, _size: int) -> int:
        self.write(buffer, b"/\0")
        return 2

    # Memory.

    def _env_emscripten_get_heap_max(self) -> int:
        size = self._max_memory
        return size - (1 << 32) if size >= 1 << 31 else size

    def _env_emscripten_resize_heap(self, requested: int) -> int:
        memory = self.memory
        assert memory is not None  # noqa: S101 - bound right after instantiation
        requested &= 0xFFFFFFFF
        if requested > self._max_memory:
            self.log.append(f"out of memory: {requested} bytes wanted, {self._max_memory} allowed")
            return 0
        now = memory.data_len(self._store)
        # Room to spare saves most of the calls; less of it when the system refuses.
        for spare in (now // 5, now // 20, 0):
            size = min(max(requested, now + spare), self._max_memory)
            try:
                memory.grow(self._store, -(-(size - now) // PAGE_BYTES))
            except wasmtime.WasmtimeError:
                continue
            return 1
        self.log.append(f"out of memory: cannot grow to {requested} bytes")
        return 0

    # Clocks, and a calendar in UTC: a result must not depend on the machine's time zone.

    def _env_emscripten_get_now(self) -> float:
        return time.perf_counter() * 1e3

    def _env_emscripten_date_now(self) -> float:
        return time.time() * 1e3

    def _env_tzset_js(self, zone: int, daylight: int, standard: int, summer: int) -> None:
        self.write(zone, bytes(4))
        self.write(daylight, bytes(4))
        self.write(standard, b"UTC\0")
        self.write(summer, b"UTC\0")

    def _env_gmtime_js(self, seconds: int, out: int) -> None:
        try:
            t = time.gmtime(seconds)
        except (ValueError, OverflowError, OSError):
            t = time.gmtime(0)
        date = (t.tm_sec, t.tm_min, t.tm_hour, t.tm_mday, t.tm_mon - 1, t.tm_year - 1900)
        self.write(out, struct.pack("<8i", *date, (t.tm_wday + 1) % 7, t.tm_yday - 1))

    def _env_localtime_js(self, seconds: int, out: int) -> None:
        self._env_gmtime_js(seconds, out)
        self.write(out + 32, bytes(8))  # tm_isdst and tm_gmtoff

    def _env_timegm_js(self, date: int) -> int:
        second, minute, hour, day, month, year = struct.unpack("<6i", self.read(date, 24))
        try:
            seconds = calendar.timegm((year + 1900, month + 1, day, hour, minute, second))
            t = time.gmtime(seconds)
        except (ValueError, OverflowError, OSError):
            return -1
        self.write(date + 24, struct.pack("<2i", (t.tm_wday + 1) % 7, t.tm_yday - 1))
        return seconds
