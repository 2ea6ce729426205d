"""What an engine is: by which functions it is known, where it begins to work, and what is probed in
it for which level. Data: a YAML file for each family of engines (adapter_file.py).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import TypeVar

from profinfer.engine.adapter_file import (
    CALLS_MAX,
    HANDLERS,
    MARK_BEGIN,
    STEPS_MAX,
    Adapter,
    Call,
    Function,
    Point,
    Step,
    head,
    load_adapter,
)
from profinfer.errors import UsageError

HOT_HANDLERS = ("on_operator", "on_fused", "on_barrier")
"""What runs for every operator: the audit library (audit/) puts stubs before their functions."""
RETURNS = {
    "on_ubatch": "on_ubatch_return",
    "on_backend_graph": "on_backend_graph_return",
    "on_cpu_graph": "on_cpu_graph_return",
    **{f"on_step_{number}": "on_ubatch_return" for number in range(STEPS_MAX)},
    **{f"on_call_{number}": "on_call_return" for number in range(CALLS_MAX)},
}
"""Handlers of functions whose return may be probed, too, and what runs then."""
_T = TypeVar("_T")
_FOLDER = Path(__file__).with_name("adapters")
_BUILT_IN = ("llama.yaml", "whisper.yaml", "ggml.yaml")


@dataclass(frozen=True)
class Adapters:
    """Those that count here."""

    known: tuple[Adapter, ...]

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """What is probed."""
        return tuple(point for adapter in self.known for point in adapter.points)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Of all that run on_step_N, by that number. UsageError where there is no room for them."""
        steps = (function.step for function in self._functions)
        found = dict.fromkeys(step for step in steps if step and not step.is_described)
        return _fitting(tuple(found), STEPS_MAX, "steps")

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        """Of all that run on_call_N, by that number, parts last. UsageError likewise."""
        found = dict.fromkeys(function.call for function in self._functions if function.call)
        ordered = sorted(found, key=lambda call: call.is_part)
        return _fitting(tuple(ordered), CALLS_MAX, "calls")

    def call_of(self, handler: str) -> Call | None:
        """The call at whose functions it runs."""
        return next((call for n, call in enumerate(self.calls) if handler == f"on_call_{n}"), None)

    @property
    def _functions(self) -> Iterator[Function]:
        for point in self.points:
            yield from chain.from_iterable(point.alternatives)

    def handler(self, point: Point, function: Function) -> str:
        """What runs at a function."""
        if function.call:
            return f"on_call_{self.calls.index(function.call)}"
        if function.step is None:
            return HANDLERS[point.records]
        if function.step.is_described:
            return "on_ubatch"
        return f"on_step_{self.steps.index(function.step)}"

    def at_return(self, point: Point, function: Function) -> str:
        """What runs at a function's return, "" for nothing: an exception does not get past a return
        that is probed, so those of calls are only where a result is asked for."""
        if function.call and not function.call.result:
            return ""
        return RETURNS.get(self.handler(point, function), "")

    @cached_property
    def symbols(self) -> dict[str, bool]:
        """Regular expressions that functions' whole names match, and whether their returns are
        probed, too."""
        return {
            function.symbol: bool(self.at_return(point, function))
            for point in self.points
            for alternative in point.alternatives
            for function in alternative
        }

    @cached_property
    def redirected(self) -> frozenset[str]:
        """Those of hot handlers."""
        return frozenset(
            function.symbol
            for point in self.points
            for function in chain.from_iterable(point.alternatives)
            if self.handler(point, function) in HOT_HANDLERS
        )

    @cached_property
    def arguments(self) -> dict[str, int]:
        """How many arguments the handlers of some of `symbols` look at, where these are few."""
        return {
            function.symbol: 1
            for point in self.points
            for function in chain.from_iterable(point.alternatives)
            if self.handler(point, function) == "on_barrier"
        }

    @cached_property
    def mark(self) -> re.Pattern[str]:
        """Finds the names of functions by which files are known."""
        marks = [mark for adapter in self.known for mark in adapter.marks]
        return re.compile(f"^(?:{'|'.join(marks)})$")

    @cached_property
    def mark_parts(self) -> tuple[bytes, ...]:
        """With one of these each such name begins."""
        begins: dict[str, None] = {}
        for adapter in self.known:
            heads = [head(mark) for mark in adapter.marks]
            common = {each[:MARK_BEGIN] for each in heads}
            begins |= dict.fromkeys(common if len(common) == 1 < len(heads) else heads)
        return tuple(begin.encode() for begin in begins)

    @cached_property
    def work(self) -> tuple[str, ...]:
        """Where an engine begins to work: regular expressions as of `symbols`."""
        return tuple(dict.fromkeys(name for adapter in self.known for name in adapter.work))

    @property
    def words(self) -> tuple[str, ...]:
        """A file without any of these in it, anywhere, holds no engine. GGML_ASSERT's texts survive
        stripping."""
        return ("GGML_", *(part.decode() for part in self.mark_parts))

    def families(self, names: Collection[str]) -> tuple[str, ...]:
        """The families whose marks are among these names."""
        return tuple(
            adapter.family
            for adapter in self.known
            if any(re.fullmatch(mark, name) for mark in adapter.marks for name in names)
        )

    @cached_property
    def fingerprint(self) -> str:
        """Tells adapters apart, by what they say."""
        return hashlib.sha256(repr(self.known).encode()).hexdigest()[:16]


def _fitting(found: tuple[_T, ...], most: int, what: str) -> tuple[_T, ...]:
    if len(found) > most:
        raise UsageError(
            f"the adapters have {len(found)} ways in which {what} are called; there is room for"
            f" {most}"
        )
    return found


@lru_cache(maxsize=1)
def _built_in() -> Adapters:
    return Adapters(tuple(load_adapter(_FOLDER / name) for name in _BUILT_IN))


_in_use: Adapters | None = None


def adapters() -> Adapters:
    """Those in use."""
    return _in_use or _built_in()


def use_adapter(path: str | Path | None) -> None:
    """Uses the user's file, too, from now on: before the others, in the place of one of the same
    family. UsageError, naming the key, where something is wrong with it."""
    global _in_use
    if path is None:
        _in_use = None
        return
    own = load_adapter(Path(path))
    others = (adapter for adapter in _built_in().known if adapter.family != own.family)
    used = Adapters((own, *others))
    _ = used.steps, used.calls
    try:
        _ = used.mark
    except re.error as error:  # two groups of one name
        raise UsageError(f"{path}: its marks do not go together: {error}") from None
    _in_use = used
