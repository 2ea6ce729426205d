"""What the running kernel tells of its own types, in BTF: where fields stand in its structs.

The whole of it is some 5 MB with 100,000 types; to be read in a process of its own (aside.py).
"""

from __future__ import annotations

import struct
from pathlib import Path

from profinfer.errors import KernelError

_FILE = Path("/sys/kernel/btf/vmlinux")
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _TYPEDEF, _FUNC_PROTO = 1, 2, 3, 4, 5, 6, 8, 13
_VAR, _DATASEC, _DECL_TAG, _ENUM64 = 14, 15, 17, 19
_FIXED = {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}
_EACH = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12}
"""Bytes that follow a type's head: so many, or so many for each of its members."""


class KernelTypes:
    """The types of a BTF file."""

    def __init__(self, path: Path = _FILE) -> None:
        """KernelError where the kernel has none."""
        try:
            self._data = path.read_bytes()
        except OSError as error:
            raise KernelError(
                f"this kernel does not describe its types: {path}: {error.strerror}",
                "it was built without CONFIG_DEBUG_INFO_BTF",
            ) from None
        magic, _, _, head, types, size, strings, _ = struct.unpack_from("<HBBIIIII", self._data)
        if magic != 0xEB9F:
            raise KernelError(f"{path} is no BTF file of this machine's byte order")
        self._strings = head + strings
        self._types = [0]  # by id; 0 is void
        at, end = head + types, head + types + size
        while at < end:
            self._types.append(at)
            _, kind, count = self._head(at)
            at += 12 + _FIXED.get(kind, 0) + _EACH.get(kind, 0) * count

    def offset(self, name: str, *members: str) -> int:
        """Of a struct's member in bytes, or of a member's member. KernelError when missing."""
        kind, found = self._find(_STRUCT, name), 0
        for member in members:
            place = self._member(kind, member)
            if place is None:
                raise KernelError(f"this kernel's struct {name} has no {'.'.join(members)}")
            bits, kind = place
            found += bits // 8
        return found

    def tracepoint_arguments(self, name: str) -> int:
        """How many arguments a tracepoint hands over."""
        pointer = self._find(_TYPEDEF, f"btf_trace_{name}")
        for _ in range(2):  # to the pointer, to the function
            (reference,) = struct.unpack_from("<I", self._data, pointer + 8)
            pointer = self._types[reference]
        _, kind, count = self._head(pointer)
        if kind != _FUNC_PROTO:
            raise KernelError(f"this kernel's type btf_trace_{name} is no function")
        return count - 1  # the first is the tracepoint's own

    def _head(self, at: int) -> tuple[int, int, int]:
        name, info = struct.unpack_from("<II", self._data, at)
        return name, info >> 24 & 0x1F, info & 0xFFFF

    def _find(self, kind: int, name: str) -> int:
        text = b"\0" + name.encode() + b"\0"
        at = self._data.find(text, self._strings) + 1
        if at:
            wanted = at - self._strings
            for place in self._types[1:]:
                found, its_kind, _ = self._head(place)
                if found == wanted and its_kind == kind:
                    return place
        raise KernelError(f"this kernel's BTF has no {name}")

    def _member(self, at: int, name: str) -> tuple[int, int] | None:
        """Its offset in bits and the place of its type; those of nameless structs are its own."""
        _, kind, count = self._head(at)
        if kind not in (_STRUCT, _UNION):
            return None
        for i in range(count):
            text, reference, offset = struct.unpack_from("<III", self._data, at + 12 + 12 * i)
            bits = offset & 0xFFFFFF if self._has_bit_fields(at) else offset
            if text and self._text(text) == name:
                return bits, self._types[reference]
            inner = None if text else self._member(self._types[reference], name)
            if inner:
                return bits + inner[0], inner[1]
        return None

    def _has_bit_fields(self, at: int) -> bool:
        (info,) = struct.unpack_from("<I", self._data, at + 4)
        return bool(info >> 31)

    def _text(self, offset: int) -> str:
        start = self._strings + offset
        return self._data[start : self._data.index(b"\0", start)].decode("ascii", "replace")


def scheduler_types(path: Path = _FILE) -> dict[str, int]:
    """Parameters of the scheduler's programs: fields of a task, and what sched_switch tells."""
    types = KernelTypes(path)
    return {
        "TASK_PID": types.offset("task_struct", "pid"),
        "TASK_PRIO": types.offset("task_struct", "prio"),
        "TASK_COMM": types.offset("task_struct", "comm"),
        "TASK_STATE": _first(types, ("__state",), ("state",)),
        "TASK_EXIT_STATE": types.offset("task_struct", "exit_state"),
        "TASK_CPU": _first(types, ("cpu",), ("thread_info", "cpu")),
        "SWITCH_TELLS_STATE": int(types.tracepoint_arguments("sched_switch") > 3),
    }


def switch_counts(path: Path = _FILE) -> int:
    """Where a task says how often it has left a CPU, willingly and, right behind, not; -1 where the
    kernel does not tell."""
    try:
        types = KernelTypes(path)
        willing, forced = (types.offset("task_struct", name) for name in ("nvcsw", "nivcsw"))
    except KernelError:
        return -1
    return willing if forced == willing + 8 else -1


def _first(types: KernelTypes, *ways: tuple[str, ...]) -> int:
    """The first that is there: names have changed."""
    for way in ways[:-1]:
        try:
            return types.offset("task_struct", *way)
        except KernelError:
            continue
    return types.offset("task_struct", *ways[-1])
