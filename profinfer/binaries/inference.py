"""Functions of a file that says no names: found by what survives stripping.

By the texts of their assertions and messages; by tables of functions; by who calls whom. Each has
to be the only one of its kind and to stand in the relations that it must have: what does not is not
found, and why is said. Where functions have been merged across files (LTO), those are missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import cached_property

from profinfer.binaries.code import Code
from profinfer.binaries.elf import Symbol
from profinfer.binaries.inlined import inlined_barriers
from profinfer.errors import TargetError

UBATCH = "_ZN13llama_context14process_ubatchEz"
"""Of llama.cpp; its real name ends in the types of its arguments."""
_ROOT = "ggml_graph_compute"
TEXTS = {
    _ROOT: "cplan->n_threads > 0",
    "ggml_compute_forward_rms_norm_mul_fused": "dst_mul != nullptr",
    "ggml_backend_sched_alloc_graph": "!sched->is_alloc",
    # Their own names, which they put before their messages.
    "llama_decode": "llama_decode",
    "llama_encode": "llama_encode",
    UBATCH: "process_ubatch",
}
"""What a function uses, and no other does. Whatever else is found, the first leads to it."""
_INLINED = {UBATCH: ("decode", "encode")}
"""What it uses only if it has been made part of another function."""
_MANY_CALLEES = 40
"""There are 90 kinds of operators: what tells them apart calls far more functions than others."""
_MANY_CALLERS = 5
_SMALL, _TINY = 512, 16
"""Bytes that none of the functions has which are looked at instruction by instruction; and that a
function has at most which only tells a text."""
_MAX_SLOTS = 32
_TRAITS, _WORK_SIZE, _COMPUTE = 24, 16, 24
"""Where C++ has these functions of a buffer type and of traits: behind two destructors."""
_PAUSE = re.compile(b"\xf3\x90")
"""An instruction of x86-64 by which a thread turns; for others it means nothing."""
_BACKEND, _CPU = "backend", "CPU"
"""The text of an assertion, and a backend's name."""


class Absent(Exception):
    """A function was not found; why."""


class Search:
    """What can be found in one file: what is found, or has a symbol, leads to others."""

    def __init__(self, code: Code, named: Callable[[str], Symbol | None]) -> None:
        """`named`: tells the symbols that there are."""
        self._code = code
        self._named = named
        self._found: dict[str, tuple[int, str] | Absent] = {}
        self.backends: dict[int, str] = {}
        """As `backend_functions` has it."""

    def find(self, name: str) -> tuple[Symbol, str]:
        """A function of INFERRED: where, and by what it was found. Absent; or TargetError when the
        file is damaged."""
        number, how = self._find(name)
        start, size = int(self._code.starts[number]), self._code.size(number)
        return Symbol(name, start, size, False), how

    def _find(self, name: str) -> tuple[int, str]:
        if name not in self._found:
            try:
                self._found[name] = _FINDERS[name](self, name)
            except Absent as reason:
                self._found[name] = reason
        found = self._found[name]
        if isinstance(found, Absent):
            raise found
        return found

    def _known(self, name: str) -> int:
        symbol = self._named(name)
        number = self._code.starting(symbol.value) if symbol else None
        if number is not None:
            return number
        try:
            return self._find(name)[0]
        except Absent as reason:
            raise Absent(f"{name}, which would lead to it, was not found: {reason}") from None

    @cached_property
    def _users(self) -> dict[str, set[int]]:
        parts = [text for texts in _INLINED.values() for text in texts]
        return self._code.users({*TEXTS.values(), *parts, _BACKEND, _CPU})

    def _by_text(self, name: str) -> tuple[int, str]:
        text = TEXTS[name]
        how = f'uses the text "{text}"'
        number = _only(self._users.get(text, set()), f'functions use the text "{text}"')
        if any(number in self._users.get(part, set()) for part in _INLINED.get(name, ())):
            raise Absent(f"what {how} is more than this function")
        if not any(mnemonic == "ret" for _, mnemonic, _ in self._code.instructions(number)):
            raise Absent(f"what {how} does not return")
        return number, how

    def _graph_compute(self, name: str) -> tuple[int, str]:
        number, how = self._by_text(name)
        # If it has become part of another function, what was found is that one.
        tables, writers, _ = self._ways(number)
        if not tables and not writers:
            raise Absent(f"what {how} is not called by way of a backend's table")
        return number, f"{how}, and a backend's table leads to it"

    def _ways(self, number: int) -> tuple[list[int], set[int], dict[int, int]]:
        """How a backend comes to what computes a graph. Its table has the address of what runs a
        plan and, next, of what runs a graph, and both call it. Where data have the second; which
        functions write both instead; and by their addresses the functions that call it."""
        runners = {int(self._code.starts[each]): each for each in self._code.callers(number)}
        words = {word: start for start in runners for word in self._code.words(start)}
        tables = [word for word, start in words.items() if words.get(word - 8, start) != start]
        users = [user for each in self._code.computing(runners).values() for user in each]
        return tables, {user for user in users if users.count(user) > 1}, runners

    def _backend_graph_compute(self, _name: str) -> tuple[int, str]:
        """It asserts that there is a backend, and goes where the backend's table says."""
        away = _only(self._distances(), "ways lead through the table of a backend")
        users = self._users.get(_BACKEND, set())
        near = users.union(*map(self._code.callers, users))
        what = f"go where a backend has the address of what runs a graph, at {away}"
        found = {n for n in near if self._is_small(n) and self._code.jumps(n) == [away]}
        number = _only(found, f"functions do nothing but {what}")
        return number, f"does nothing but {what}"

    def _distances(self) -> set[int]:
        """How far into a backend stands the address of what runs a graph. Its table comes second
        and begins with what tells the backend's name; or code writes one after the other."""
        tables, writers, runners = self._ways(self._known(_ROOT))
        names = self._users.get(_CPU, set())
        found = set()
        for table in tables:
            for slot in range(1, _MAX_SLOTS):
                pointer = self._code.pointer(table - 8 * slot)
                if pointer and self._code.starting(pointer) in names:
                    self.backends[pointer] = _CPU
                    found.add(8 + 8 * slot)
                    break
        for writer in writers:
            stores = self._code.stores(writer)
            found.add(max(stores.get(start, 0) for start in runners))
        tiny = [int(self._code.starts[n]) for n in names if self._code.size(n) <= _TINY]
        for address, users in self._code.computing(tiny).items():
            if users & writers:
                self.backends[address] = _CPU
        return found

    def _threads(self) -> tuple[int, int]:
        """What a thread does of a graph, and what tells its operators apart: as a rule the same."""
        near = self._code.callees(self._known(_ROOT))
        below = near.union(*map(self._code.callees, near))
        many = [n for n in below if len(self._code.callees(n)) >= _MANY_CALLEES]
        number = _only(many, "functions tell operators apart")
        if number in near:
            return number, number
        nodes = [n for n in near if number in self._code.callees(n)]
        return _only(nodes, "functions compute nodes"), number

    def _extra_compute_forward(self, _name: str) -> tuple[int, str]:
        """It asks what stands for a tensor's buffer for its traits, and these to compute. Its twin
        asks them for the size of their work."""
        _, dispatcher = self._threads()
        found = [
            number for number in self._code.callees(dispatcher)
            if self._is_small(number) and self._code.jumps(number) == [_TRAITS, _COMPUTE]
            and len(self._twins(number)) == 1
        ]  # fmt: skip
        only = _only(found, "functions ask a tensor's traits to compute")
        return only, "asks a tensor's traits to compute, before operators are told apart"

    def _twins(self, number: int) -> set[int]:
        return {
            twin for shared in self._code.callees(number) for twin in self._code.callers(shared)
            if self._is_small(twin) and self._code.jumps(twin) == [_TRAITS, _WORK_SIZE]
        }  # fmt: skip

    def _graph_plan(self, _name: str) -> tuple[int, str]:
        twins = self._twins(self._known("ggml_cpu_extra_compute_forward"))
        _, _, runners = self._ways(self._known(_ROOT))
        called = {callee for each in runners.values() for callee in self._code.callees(each)}
        found = called.intersection(*map(self._code.callers, twins))
        return _only(found, "functions plan a graph"), "asks traits for the size of their work"

    def _fused(self, name: str) -> tuple[int, str]:
        number, how = self._by_text(name)
        _, dispatcher = self._threads()
        if number not in self._code.callees(dispatcher):
            raise Absent(f"what {how} is not called where operators are told apart")
        return number, how

    def _barrier(self, _name: str) -> tuple[int, str]:
        """Each thread waits in it after each node, or in a copy of it; operators do so, too."""
        thread, _ = self._threads()
        called = self._code.callees(thread)
        found = [
            number for number in called | self._code.holding(_PAUSE)
            if self._is_small(number) and self._waits(number)
            and len(self._code.callers(number)) >= _MANY_CALLERS
            and (number in called or self._has_copy(thread, number))
        ]  # fmt: skip
        only = _only(found, "functions wait for threads, in what a thread does")
        return only, "waits for threads, after each node and in operators"

    def _has_copy(self, thread: int, barrier: int) -> bool:
        try:
            copies = inlined_barriers(self._code, barrier)
        except TargetError:
            return False
        return any(self._code.at(copy.address) == thread for copy in copies)

    def _waits(self, number: int) -> bool:
        """Whether it counts threads and then turns until they are there."""
        names = [name for _, name, _ in self._code.instructions(number)]
        turns = any(name in ("pause", "yield", "isb") for name in names)
        counts = any(name.startswith(("lock ", "ldadd", "stlxr", "stxr")) for name in names)
        return turns and counts

    def _is_small(self, number: int) -> bool:
        return self._code.size(number) <= _SMALL


_FINDERS: dict[str, Callable[[Search, str], tuple[int, str]]] = {
    _ROOT: Search._graph_compute,
    "ggml_backend_graph_compute_async": Search._backend_graph_compute,
    "ggml_cpu_extra_compute_forward": Search._extra_compute_forward,
    "ggml_compute_forward_rms_norm_mul_fused": Search._fused,
    "ggml_barrier": Search._barrier,
    "ggml_graph_plan": Search._graph_plan,
    **{name: Search._by_text for name in TEXTS if name.startswith(("ggml_backend", "llama"))},
    UBATCH: Search._by_text,
}
INFERRED = {name: name if name in TEXTS else _ROOT for name in _FINDERS}
"""What can be looked for, and the function whose text must be in the file."""


def _only(found: Collection[int], what: str) -> int:
    if len(found) != 1:
        raise Absent(f"{len(found)} {what}, not one")
    [one] = found
    return one
