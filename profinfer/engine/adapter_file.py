"""The file that says what a family of engines is, checked key by key: CONTRIBUTING.md walks through
one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from profinfer.engine.adapter_values import Values, shown
from profinfer.errors import UsageError

STEPS_MAX, CALLS_MAX = 12, 48
"""Ways in which steps and calls are called that there is room for: bpf/steps.h."""
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
_CALL_LEVELS = ("token", "graph")
DESCRIBED = "llama_ubatch"
"""The struct that an engine itself describes: its places are found by experiment."""
FIELDS = ("n_tokens", "pos", "seq_id", "output")
"""Of a struct that holds a batch: how many tokens, and by token, positions (int32), arrays of
sequences (int32), whether logits are asked for (int8)."""
CALL_ROLES = {
    "context": "address",
    "model": "address",
    "memory": "address",
    "sampler": "address",
    "sequence": "number",
    "source": "number",
    "begin": "number",
    "end": "number",
    "delta": "number",
    "divisor": "number",
    "type": "number",
    "output": "number",
    "on": "flag",
    "scheduler": "address",
    "graph": "address",
    "backend": "address",
    "from_backend": "address",
    "tensor": "address",
    "from": "address",
    "event": "address",
    "bytes": "size",
    "copies": "number",
}
"""What an argument of a call may be, and what stands in its register."""
_RESULTS = ("address", "number", "flag", "void")
_ROLES = ("context", "batch", "tokens", "position")
_ARGUMENTS = 6
"""Those that are passed in registers."""
_MAX_FILE = 64 << 10
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


class Call(NamedTuple):
    """How the engine is asked for something."""

    name: str
    arguments: tuple[tuple[str, int], ...]
    """Roles, and from 1 which argument has each."""
    result: str
    """Of what kind it is, as of CALL_ROLES; "void" where there is none. "" where its return is not
    probed: it is told when it begins."""
    is_part: bool = False
    """Of level graph: what a step does beside computing. It may lie within a call, and within
    another part."""

    def to_json(self) -> dict[str, object]:
        """For the trace's metadata."""
        roles = [(role, number, CALL_ROLES[role]) for role, number in self.arguments]
        said = {"name": self.name, "arguments": roles, "result": self.result}
        return said | ({"part": True} if self.is_part else {})


class Function(NamedTuple):
    """Of an alternative."""

    symbol: str
    """A regular expression that a function's whole name matches."""
    step: Step | None = None
    call: Call | None = None


class Point(NamedTuple):
    """What makes one sort of records."""

    level: str
    records: str
    """Of steps and calls their name."""
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


class _Reader(Values):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._structs: dict[str, tuple[int, ...]] = {}

    def adapter(self, root: object) -> Adapter:
        top = self.mapping(root, "", ("family", "marks", "work", "structs", "levels"))
        for key in ("family", "marks", "levels"):
            if key not in top:
                self.bad("", f"has no {key!r}")
        structs = self.mapping(top.get("structs", {}), "structs")
        self._structs = {
            self.text(name, "structs"): self._struct(value, f"structs.{name}")
            for name, value in structs.items()
        }
        levels = self.mapping(top["levels"], "levels", _LEVELS)
        points = tuple(
            self._point(value, level, f"levels.{level}[{number}]")
            for level in _LEVELS
            for number, value in enumerate(self.list_(levels.get(level, []), f"levels.{level}"))
        )
        marks = self.expressions(top["marks"], "marks")
        for number, mark in enumerate(marks):
            if len(head(mark)) < MARK_BEGIN or "|" in mark:
                what = f"must begin with {MARK_BEGIN} letters of one name"
                self.bad(f"marks[{number}]", what)
        if not marks:
            self.bad("marks", "is empty: nothing would be known by them")
        work = self.expressions(top.get("work", []), "work")
        return Adapter(self.text(top["family"], "family"), marks, work, points)

    def _point(self, value: object, level: str, where: str) -> Point:
        found = self.mapping(value, where, ("records", "calls", "required", "functions"))
        of_calls = "calls" in found
        if of_calls and (level not in _CALL_LEVELS or "records" in found or "required" in found):
            self.bad(where, "has calls: these are of level token or graph, and always optional")
        key = "calls" if of_calls else "records"
        records = self.text(found.get(key), f"{where}.{key}")
        if level != "token" and not of_calls and records not in _OF_LEVEL[level]:
            known = ", ".join(_OF_LEVEL[level])
            self.bad(f"{where}.records", f"cannot be {records!r}: level {level} has {known}")
        required = found.get("required", not of_calls)
        if not isinstance(required, bool):
            self.bad(f"{where}.required", f"cannot be {shown(required)}, it is true or false")
        name = records if level == "token" or of_calls else ""
        listed = self.list_(found.get("functions"), f"{where}.functions")
        if not listed:
            self.bad(f"{where}.functions", "is empty")
        alternatives = tuple(
            self._alternative(item, name, f"{where}.functions[{number}]", level if of_calls else "")
            for number, item in enumerate(listed)
        )
        return Point(level, records, required, alternatives)

    def _alternative(
        self, value: object, name: str, where: str, calls_of: str
    ) -> tuple[Function, ...]:
        """`name`: of the step or call; "" for what has a fixed meaning. `calls_of`: their level."""
        if isinstance(value, str) and not name:
            return (Function(self.expression(value, where)),)
        if not name or not isinstance(value, Mapping):
            what = "a mapping of names to arguments" if name else "a name: its arguments are fixed"
            self.bad(where, f"must be {what}")
        return tuple(
            Function(
                self.expression(symbol, where),
                step=None if calls_of else self._step(roles, name, f"{where}.{symbol}"),
                call=self._call(roles, name, f"{where}.{symbol}", calls_of) if calls_of else None,
            )
            for symbol, roles in self.mapping(value, where).items()
        )

    def _call(self, value: object, name: str, where: str, level: str) -> Call:
        roles = self.mapping(value, where, (*CALL_ROLES, "result"))
        result = roles.pop("result", None)
        if result is not None and result not in _RESULTS:
            known = ", ".join(_RESULTS)
            self.bad(f"{where}.result", f"cannot be {shown(result)}: there is {known}")
        numbers = (
            (role, self.number(number, f"{where}.{role}", 1, _ARGUMENTS))
            for role, number in roles.items()
        )
        if level == "graph" and not result:
            self.bad(where, "has no result: what is of level graph is told when it returns")
        return Call(name, tuple(numbers), result or "", is_part=level == "graph")

    def _step(self, value: object, name: str, where: str) -> Step:
        roles = self.mapping(value, where, (*_ROLES, "struct", "as"))
        name = self.text(roles.get("as", name), f"{where}.as")
        numbers = {
            role: self.number(roles[role], f"{where}.{role}", 1, _ARGUMENTS) if role in roles else 0
            for role in _ROLES
        }
        step = Step(name, **numbers, fields=())
        if ("struct" in roles) != bool(step.batch):
            self.bad(where, "needs both or none of 'batch' and 'struct'")
        if step.batch and (step.tokens or step.position):
            self.bad(where, "has tokens and their position in its batch already")
        if step.position and not step.tokens:
            self.bad(where, "has a position without 'tokens'")
        if not step.batch:
            return step
        struct = self.text(roles["struct"], f"{where}.struct")
        if struct == DESCRIBED and (step.context, step.batch) != (1, 2):
            self.bad(where, f"must have {DESCRIBED} as argument 2, and its context as argument 1")
        if struct == DESCRIBED:
            return step
        if struct not in self._structs:
            known = ", ".join([DESCRIBED, *self._structs])
            self.bad(f"{where}.struct", f"cannot be {struct!r}: there is {known}")
        return step._replace(fields=self._structs[struct])

    def _struct(self, value: object, where: str) -> tuple[int, ...]:
        offsets = self.mapping(value, where, FIELDS)
        for field in FIELDS[:3]:
            if field not in offsets:
                self.bad(where, f"has no {field!r}")
        return tuple(
            self.number(offsets[field], f"{where}.{field}", 0, _MAX_OFFSET)
            if field in offsets
            else -1
            for field in FIELDS
        )
