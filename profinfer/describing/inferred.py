"""The layout of an engine that cannot be loaded and asked: a program, or what has lost the symbols.

The tables of names stand in its file (tables.py). Its structs are believed to be as they have been
in some part of ggml's history (known.py) when a graph that a running process is about to compute
agrees with that, and with nothing else that differs in what is used (live.py).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from profinfer.binaries.elf import Elf
from profinfer.describing.known import Known, known_layouts
from profinfer.describing.layout import BackendLayout, CgraphLayout, Layout
from profinfer.describing.live import Agreement, Disagreement, Memory, agree
from profinfer.describing.tables import read_tables
from profinfer.engine.aside import aside
from profinfer.errors import GraphNeeded, ProbeError, TargetError

_HINT = (
    "its structs are unlike those of every ggml that profinfer knows, or it computes no"
    " graph there: use a build with shared libraries"
)
_NAMES = ("ops", "types")
"""The tables that are indispensable."""
_GUID = 16
_FIRST = 8
"""Where a scheduler has the first of its backends."""


@lru_cache(maxsize=8)  # a process is looked at again until it computes something
def tables_of(elves: tuple[Elf, ...]) -> dict[str, Any]:
    """The tables of an engine, of the file that has them. ProbeError when none has."""
    try:
        found: dict[str, Any] = json.loads(aside(lambda: _read(elves)))
    except (ChildProcessError, ValueError):
        found = {}
    if not found:
        raise ProbeError("none of its files has ggml's table of op names and its type traits")
    return found


def _read(elves: tuple[Elf, ...]) -> bytes:
    for elf in elves:
        with suppress(TargetError):  # damaged
            found = read_tables(elf)
            if all(found[name] for name in _NAMES):
                return json.dumps(found).encode()
    return b"{}"


def infer(
    pid: int, tables: dict[str, Any], arguments: Sequence[int],
    known: Sequence[Known] | None = None,
) -> Layout:  # fmt: skip
    """The layout of the engine in a process, by the first two arguments of a function that a graph
    is given to: the graph is one of them, and if it is the second, the first may be the backend.

    `known`: the layouts that come into question. GraphNeeded, saying what was found, when the graph
    fits none of them, or several that differ.
    """
    known = known_layouts() if known is None else known
    reasons: dict[str, Known] = {}
    try:
        with Memory(pid) as memory:
            for cgraph, backend in ((arguments[0], 0), (arguments[1], arguments[0])):
                agreed = []
                for item in known:
                    try:
                        agreed.append(agree(item, tables, memory, cgraph))
                    except Disagreement as error:
                        reasons[str(error)] = item
                if agreed:
                    return _layout(tables, agreed, _Backend(pid, memory, backend))
    except OSError as error:
        raise TargetError(f"the memory of process {pid} cannot be read: {error.strerror}") from None
    found = "; ".join(f"{reason} (as of {item.until})" for reason, item in reasons.items())
    raise GraphNeeded(f"no known layout of ggml agrees with its live tensors: {found[:400]}", _HINT)


def _layout(tables: dict[str, Any], agreed: list[Agreement], backend: _Backend) -> Layout:
    """What all that agree have in common."""
    whole = [item for item in agreed if item.is_whole]
    agreed = whole or agreed
    tensors = {item.tensor for item in agreed}
    lists = {(item.known.cgraph.n_nodes, item.known.cgraph.nodes) for item in agreed}
    if len(tensors) > 1 or len(lists) > 1:
        spans = ", ".join(_span([item]) for item in agreed)
        raise GraphNeeded(f"its live tensors agree with several layouts of ggml: {spans}", _HINT)
    notes = ["ubatch: its layout is not inferred"]
    uids = {item.known.cgraph.uid for item in agreed}
    if len(uids) > 1:
        notes.append("cgraph.uid: not told apart from what stands there in other versions")
    [(n_nodes, nodes)] = lists
    cgraph = CgraphLayout(n_nodes, nodes, uids.pop() if len(uids) == 1 else None)
    found = backend.layout({item.known.backend for item in agreed})
    if found is None:
        notes.append("backend: none was seen")
    count = max(item.count for item in agreed)
    source = f"inferred: as in ggml {_span(agreed)}, with which {count} live tensors agree"
    return Layout.from_dict(
        {
            **tables,
            "tensor": dataclasses.asdict(tensors.pop()),
            "cgraph": dataclasses.asdict(cgraph),
            "backend": dataclasses.asdict(found) if found else None,
            "source": source,
            "notes": notes,
        }
    )


def _span(agreed: list[Agreement]) -> str:
    known = [item.known for item in agreed]
    return f"of {min(k.since for k in known)} to {max(k.until for k in known)}"


class _Backend:
    """What came with a graph: a backend, a scheduler of some, or nothing that matters."""

    def __init__(self, pid: int, memory: Memory, address: int) -> None:
        self._pid = pid
        self._memory = memory
        self._address = address

    def layout(self, known: set[BackendLayout | None]) -> BackendLayout | None:
        """A backend's layout, if there is one that has a GUID in data and a function for its
        name."""
        if len(known) != 1 or not (where := known.pop()) or not self._address:
            return None
        code = list(_code(self._pid))
        for backend in (self._address, self._word(self._address + _FIRST)):
            guid = self._word(backend + (where.guid or 0))
            name = self._word(backend + (where.get_name or 0))
            if _within(code, name) and not _within(code, guid) and any(self._read(guid, _GUID)):
                return where
        return None

    def _read(self, address: int, count: int) -> bytes:
        try:
            return self._memory.read(address, count, "a backend")
        except Disagreement:
            return b""

    def _word(self, address: int) -> int:
        return int.from_bytes(self._read(address, 8), "little")


def _within(code: list[range], address: int) -> bool:
    return any(address in part for part in code)


def _code(pid: int) -> Iterator[range]:
    """The executable mappings of a process."""
    with open(f"/proc/{pid}/maps", "rb") as lines:  # a path may be no text
        for line in lines:
            place, flags, *_ = line.split(maxsplit=2)
            if b"x" in flags:
                start, end = place.split(b"-")
                yield range(int(start, 16), int(end, 16))
