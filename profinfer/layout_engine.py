"""A foreign engine loaded into this process, called by address. Only for the throw-away process.

Functions are called at load bias + symbol value, so that those that are not exported work as
well. Memory is read through the kernel: a wrong guess gives an error and not a crash.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Ptr = ctypes.c_void_p
_libc = ctypes.CDLL(None, use_errno=True)
_RTLD_DI_LINKMAP = 2
_PAGE = 4096
"""No page is smaller."""


class Unfit(Exception):
    """The library did not behave as an engine does; the text says where."""


def peek(address: int, count: int) -> bytes:
    """`count` (at most 4096) bytes of our own memory; fewer where the rest is not readable."""
    if not 0 < address < 1 << 63 or count > 4096:
        raise Unfit(f"cannot read {count} bytes at {address:#x}")
    data = b""
    # write(2) checks the address for us, and needs no permission as ptrace calls would. Page by
    # page: an emulator writes all that is asked for or nothing.
    readable, writable = os.pipe()
    try:
        while len(data) < count:
            at = address + len(data)
            size = min(count - len(data), _PAGE - at % _PAGE)
            if _libc.write(writable, Ptr(at), ctypes.c_size_t(size)) <= 0:
                break
            data += os.read(readable, size)
    finally:
        os.close(readable)
        os.close(writable)
    return data


def peek_all(address: int, count: int) -> bytes:
    """Exactly `count` bytes, or Unfit."""
    data = peek(address, count)
    if len(data) != count:
        raise Unfit(f"cannot read {count} bytes at {address:#x}")
    return data


def peek_text(address: int | None, limit: int = 256) -> str | None:
    """The NUL-terminated printable ASCII text at an address, or None when there is none."""
    try:
        text, end, _ = peek(address or 0, limit).partition(b"\0")
    except Unfit:
        return None
    return text.decode() if end and re.fullmatch(rb"[\x20-\x7e]+", text) else None


def slots(raws: Sequence[bytes], values: Sequence[int], size: int) -> list[int]:
    """The aligned offsets at which every struct holds its value as an integer of `size` bytes."""
    wanted = [(value & (1 << 8 * size) - 1).to_bytes(size, "little") for value in values]
    end = min(map(len, raws)) - size + 1
    return [
        at
        for at in range(0, end, size)
        if all(raw[at : at + size] == want for raw, want in zip(raws, wanted, strict=True))
    ]


def emit(channel: int, data: dict[str, Any]) -> None:
    """Write one line of JSON, whole."""
    line = json.dumps(data).encode() + b"\n"
    while line:
        line = line[os.write(channel, line) :]


class Engine:
    """The loaded objects; `symbols` maps a function's name to (index of its object, value)."""

    def __init__(
        self, directories: Sequence[int], objects: Sequence[Sequence[Any]],
        symbols: dict[str, Sequence[int]],
    ) -> None:  # fmt: skip
        self._directories = directories
        self._symbols = symbols
        self.notes: list[str] = []
        paths = [f"/proc/self/fd/{directories[index]}/{name}" for index, name in objects]
        self._bias = self._load(paths)

    def _load(self, paths: Sequence[str]) -> dict[int, int]:
        """Load all that can be, in whatever order their dependencies need: load bias by index."""
        bias: dict[int, int] = {}
        errors: dict[int, str] = {}
        progress = True
        while progress and len(bias) < len(paths):
            progress = False
            for index, path in enumerate(paths):
                if index in bias:
                    continue
                try:
                    handle = self._open(path)
                except OSError as error:
                    errors[index] = str(error)
                    continue
                link_map = Ptr()
                if _libc.dlinfo(Ptr(handle._handle), _RTLD_DI_LINKMAP, ctypes.byref(link_map)):
                    raise Unfit(f"{os.path.basename(path)} has no link map")
                (bias[index],) = struct.unpack("<Q", peek_all(link_map.value or 0, 8))
                progress = True
        for index, path in enumerate(paths):
            if index not in bias:
                reason = errors[index].replace(os.path.dirname(path) + "/", "")
                self.notes.append(f"{os.path.basename(path)} could not be loaded: {reason}")
        return bias

    def _open(self, path: str, depth: int = 0) -> ctypes.CDLL:
        mode = os.RTLD_LAZY | os.RTLD_GLOBAL
        for _ in range(16):
            try:
                return ctypes.CDLL(path, mode=mode)
            except OSError as error:
                # A neighbour the loader does not look for there: our path is not its origin.
                missing = re.match(r"([^/:\s]+): cannot open shared object", str(error))
                if not missing or depth > 4 or not self._neighbour(missing[1], depth):
                    raise
        raise OSError(f"{path}: too many dependencies")

    def _neighbour(self, name: str, depth: int) -> bool:
        for directory in self._directories:
            path = f"/proc/self/fd/{directory}/{name}"
            if os.path.exists(path):
                self._open(path, depth + 1)
                return True
        return False

    def address(self, name: str) -> int | None:
        """Where the function is in this process, or None when no loaded object has it."""
        if name not in self._symbols:
            return None
        index, value = self._symbols[name]
        return self._bias[index] + value if index in self._bias else None

    def has(self, *names: str) -> bool:
        """Whether all these functions can be called."""
        return all(self.address(name) is not None for name in names)

    def fn(self, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        """A function to call; Unfit when the engine has none of that name."""
        address = self.address(name)
        if address is None:
            raise Unfit(f"no function {name}")
        call: Callable[..., Any] = ctypes.CFUNCTYPE(result, *arguments)(address)
        return call

    def call(self, name: str, result: Any, *arguments: Any) -> Any:
        """Call a function whose arguments are ctypes values."""
        return self.fn(name, result, *map(type, arguments))(*arguments)

    def one(self, what: str, found: Iterable[int]) -> int | None:
        """The only offset found, or None with a note."""
        candidates = sorted(found)
        if len(candidates) == 1:
            return candidates[0]
        reason = f"found at {candidates[:6]}" if candidates else "not found by experiment"
        self.notes.append(f"{what}: {reason}")
        return None

    def attempt(self, what: str, experiment: Callable[[], Any]) -> Any:
        """The experiment's result, or None with a note when the engine cannot take part in it."""
        try:
            return experiment()
        except Unfit as error:
            self.notes.append(f"{what}: {error}")
            return None
