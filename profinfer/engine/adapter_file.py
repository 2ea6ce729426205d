"""The file that says what a family of engines is, checked key by key: CONTRIBUTING.md walks through
one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from profinfer.errors import UsageError

STEPS_MAX = 12
"""Ways in which steps are called that there is room for: bpf/steps.h."""
HANDLERS = {
    "backend graph": "on_backend_graph",
    "CPU graph": "on_cpu_graph",
    "rebuild": "on_rebuild",
    "operator": "on_operator",
    "fused": "on_fused",
    "barrier": "on_barrier",
}
"""What runs at functions by what they make records of; those of level token are named freely."""
_OF_LEVEL = {
    "graph": ("backend graph", "CPU graph", "rebuild"),
    "operator": ("operator", "fused"),
    "barrier": ("barrier",),
}
_LEVELS = ("token", *_OF_LEVEL)
DESCRIBED = "llama_ubatch"
"""The struct that an engine itself describes: its places are found by experiment."""
FIELDS = ("n_tokens", "pos", "seq_id", "output")
"""Of a struct that holds a batch: how many tokens, and by token, positions (int32), arrays of
sequences (int32), whether logits are asked for (int8)."""
CALL_ROLES = {
    "context": "address",
    "memory": "address",
    "sampler": "address",
    "sequence": "number",
    "source": "number",
    "begin": "number",
    "end": "number",
    "delta": "number",
    "divisor": "number",
    "output": "number",
    "on": "flag",
}
"""What an argument of a call may be, and what stands in its register."""
_ROLES = ("context", "batch", "tokens", "position")
_ARGUMENTS = 6
"""Those that are passed in registers."""
_MAX_FILE = 64 << 10
_MAX_LIST = 64
_MAX_TEXT = 256
_MAX_SHOWN = 60
_MAX_OFFSET = 4096
MARK_BEGIN = 5
"""Letters with which a mark begins: by them most files are told not to be any without looking at
every name."""


class Step(NamedTuple):
    """How a step of an engine is called: which argument is what, 0 for none."""

    name: str
    context: int
    batch: int
    tokens: int
    position: int
    fields: tuple[int, ...]
    """Offsets of FIELDS in what `batch` points to, -1 for none; () where there is no batch, or the
    engine describes it."""

    @property
    def is_described(self) -> bool:
        """Whether the engine itself describes the batch."""
        return self.batch > 0 and not self.fields


class Function(NamedTuple):
    """Of an alternative."""

    symbol: str
    """A regular expression that a function's whole name matches."""
    step: Step | None = None


class Point(NamedTuple):
    """What makes one sort of records."""

    level: str
    records: str
    required: bool
    """Without any required point of a level, the level cannot be recorded."""
    alternatives: tuple[tuple[Function, ...], ...]
    """The best first; what one of them names is probed together."""


class Adapter(NamedTuple):
    """A family of engines."""

    family: str
    marks: tuple[str, ...]
    """Regular expressions: a file that has such a function is of this family."""
    work: tuple[str, ...]
    """Functions that stand before the probed ones: where it begins to work."""
    points: tuple[Point, ...]


def load_adapter(path: Path) -> Adapter:
    """UsageError, with the file and the key, where something is wrong with it."""
    import yaml

    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE + 1)
        if len(text) > _MAX_FILE:
            raise UsageError(f"{path} is too large to be an adapter")
        root = yaml.safe_load(text.decode())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot read the adapter {path}: {reason}") from None
    # What PyYAML raises of a value that is not of the kind that its tag says.
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError) as error:
        said = " ".join(str(error).split())
        raise UsageError(f"{path} is not valid YAML: {said}") from None
    return _Reader(path).adapter(root)


def head(mark: str) -> str:
    """The letters with which what a mark matches begins."""
    found = re.match(r"\w*", mark)
    letters = found[0] if found else ""
    # Of the last one there may be none.
    return letters if letters == mark else letters[:-1]


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._structs: dict[str, tuple[int, ...]] = {}

    def adapter(self, root: object) -> Adapter:
        top = self._mapping(root, "", ("family", "marks", "work", "structs", "levels"))
        for key in ("family", "marks", "levels"):
            if key not in top:
                self._bad("", f"has no {key!r}")
        structs = self._mapping(top.get("structs", {}), "structs")
        self._structs = {
            self._text(name, "structs"): self._struct(value, f"structs.{name}")
            for name, value in structs.items()
        }
        levels = self._mapping(top["levels"], "levels", _LEVELS)
        points = tuple(
            self._point(value, level, f"levels.{level}[{number}]")
            for level in _LEVELS
            for number, value in enumerate(self._list(levels.get(level, []), f"levels.{level}"))
        )
        marks = self._expressions(top["marks"], "marks")
        for number, mark in enumerate(marks):
            if len(head(mark)) < MARK_BEGIN or "|" in mark:
                what = f"must begin with {MARK_BEGIN} letters of one name"
                self._bad(f"marks[{number}]", what)
        if not marks:
            self._bad("marks", "is empty: nothing would be known by them")
        work = self._expressions(top.get("work", []), "work")
        return Adapter(self._text(top["family"], "family"), marks, work, points)

    def _point(self, value: object, level: str, where: str) -> Point:
        found = self._mapping(value, where, ("records", "required", "functions"))
        records = self._text(found.get("records"), f"{where}.records")
        if level != "token" and records not in _OF_LEVEL[level]:
            known = ", ".join(_OF_LEVEL[level])
            self._bad(f"{where}.records", f"cannot be {records!r}: level {level} has {known}")
        required = found.get("required", True)
        if not isinstance(required, bool):
            self._bad(f"{where}.required", f"cannot be {_shown(required)}, it is true or false")
        name = records if level == "token" else ""
        listed = self._list(found.get("functions"), f"{where}.functions")
        if not listed:
            self._bad(f"{where}.functions", "is empty")
        alternatives = tuple(
            self._alternative(item, name, f"{where}.functions[{number}]")
            for number, item in enumerate(listed)
        )
        return Point(level, records, required, alternatives)

    def _alternative(self, value: object, name: str, where: str) -> tuple[Function, ...]:
        """`name`: of the step; "" for what has a fixed meaning."""
        if isinstance(value, str) and not name:
            return (Function(self._expression(value, where)),)
        if not name or not isinstance(value, Mapping):
            what = "a mapping of names to arguments" if name else "a name: its arguments are fixed"
            self._bad(where, f"must be {what}")
        return tuple(
            Function(self._expression(symbol, where), self._step(roles, name, f"{where}.{symbol}"))
            for symbol, roles in self._mapping(value, where).items()
        )

    def _step(self, value: object, name: str, where: str) -> Step:
        roles = self._mapping(value, where, (*_ROLES, "struct", "as"))
        name = self._text(roles.get("as", name), f"{where}.as")
        numbers = {
            role: self._number(roles[role], f"{where}.{role}", 1, _ARGUMENTS)
            if role in roles
            else 0
            for role in _ROLES
        }
        step = Step(name, **numbers, fields=())
        if ("struct" in roles) != bool(step.batch):
            self._bad(where, "needs both or none of 'batch' and 'struct'")
        if step.batch and (step.tokens or step.position):
            self._bad(where, "has tokens and their position in its batch already")
        if step.position and not step.tokens:
            self._bad(where, "has a position without 'tokens'")
        if not step.batch:
            return step
        struct = self._text(roles["struct"], f"{where}.struct")
        if struct == DESCRIBED and (step.context, step.batch) != (1, 2):
            self._bad(where, f"must have {DESCRIBED} as argument 2, and its context as argument 1")
        if struct == DESCRIBED:
            return step
        if struct not in self._structs:
            known = ", ".join([DESCRIBED, *self._structs])
            self._bad(f"{where}.struct", f"cannot be {struct!r}: there is {known}")
        return step._replace(fields=self._structs[struct])

    def _struct(self, value: object, where: str) -> tuple[int, ...]:
        offsets = self._mapping(value, where, FIELDS)
        for field in FIELDS[:3]:
            if field not in offsets:
                self._bad(where, f"has no {field!r}")
        return tuple(
            self._number(offsets[field], f"{where}.{field}", 0, _MAX_OFFSET)
            if field in offsets
            else -1
            for field in FIELDS
        )

    # ---- What a value may be

    def _bad(self, where: str, what: str, hint: str = "") -> NoReturn:
        place = f"{self._path}: {where}" if where else str(self._path)
        raise UsageError(f"{place} {what}", hint or "CONTRIBUTING.md walks through an adapter")

    def _mapping(self, value: object, where: str, known: Sequence[str] = ()) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            self._bad(where, "must be a mapping")
        if len(value) > _MAX_LIST:
            self._bad(where, "has too many entries")
        for key in value:
            if not isinstance(key, str):
                self._bad(where, f"has the key {_shown(key)}, which is no text")
            if known and key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(known)}"
                self._bad(where, f"has no key {key!r}", hint)
        return dict(value)

    def _list(self, value: object, where: str) -> list[object]:
        if not isinstance(value, list):
            self._bad(where, "must be a list")
        if len(value) > _MAX_LIST:
            self._bad(where, "has too many entries")
        return value

    def _text(self, value: object, where: str) -> str:
        if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) < _MAX_TEXT:
            self._bad(where, f"cannot be {_shown(value)}, it is a text of one line")
        return value

    def _expression(self, value: object, where: str) -> str:
        text = self._text(value, where)
        try:
            re.compile(f"^(?:{text})$")  # it is used so: flags could not stand there
        except (re.error, RecursionError, OverflowError) as error:
            self._bad(where, f"cannot be {text!r}: {error}")
        return text

    def _expressions(self, value: object, where: str) -> tuple[str, ...]:
        return tuple(
            self._expression(item, f"{where}[{number}]")
            for number, item in enumerate(self._list(value, where))
        )

    def _number(self, value: object, where: str, least: int, most: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self._bad(where, f"cannot be {_shown(value)}, it is a number from {least} to {most}")
        return value


def _shown(value: object) -> str:
    """As far as it is short: what refers to itself may become very long."""
    is_plain = isinstance(value, str | float | None) or (
        isinstance(value, int) and value.bit_length() < 256  # Python refuses to print huge ones
    )
    kind = "huge number" if isinstance(value, int) else type(value).__name__
    return repr(value)[:_MAX_SHOWN] if is_plain else f"a {kind}"
