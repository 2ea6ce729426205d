"""Values that stand in an adapter's file, and what is said of those that may not stand there."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from profinfer.errors import UsageError

_MAX_LIST = 64
_MAX_TEXT = 256
_MAX_SHOWN = 60


class Values:
    """Of one file; whatever is wrong with one is a UsageError that names file and key."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def bad(self, where: str, what: str, hint: str = "") -> NoReturn:
        place = f"{self._path}: {where}" if where else str(self._path)
        raise UsageError(f"{place} {what}", hint or "CONTRIBUTING.md walks through an adapter")

    def mapping(self, value: object, where: str, known: Sequence[str] = ()) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            self.bad(where, "must be a mapping")
        if len(value) > _MAX_LIST:
            self.bad(where, "has too many entries")
        for key in value:
            if not isinstance(key, str):
                self.bad(where, f"has the key {shown(key)}, which is no text")
            if known and key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(known)}"
                self.bad(where, f"has no key {key!r}", hint)
        return dict(value)

    def list_(self, value: object, where: str) -> list[object]:
        if not isinstance(value, list):
            self.bad(where, "must be a list")
        if len(value) > _MAX_LIST:
            self.bad(where, "has too many entries")
        return value

    def text(self, value: object, where: str) -> str:
        if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) < _MAX_TEXT:
            self.bad(where, f"cannot be {shown(value)}, it is a text of one line")
        return value

    def expression(self, value: object, where: str) -> str:
        text = self.text(value, where)
        try:
            re.compile(f"^(?:{text})$")  # it is used so: flags could not stand there
        except (re.error, RecursionError, OverflowError) as error:
            self.bad(where, f"cannot be {text!r}: {error}")
        return text

    def expressions(self, value: object, where: str) -> tuple[str, ...]:
        return tuple(
            self.expression(item, f"{where}[{number}]")
            for number, item in enumerate(self.list_(value, where))
        )

    def number(self, value: object, where: str, least: int, most: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.bad(where, f"cannot be {shown(value)}, it is a number from {least} to {most}")
        return value


def shown(value: object) -> str:
    """As far as it is short: what refers to itself may become very long."""
    is_plain = isinstance(value, str | float | None) or (
        isinstance(value, int) and value.bit_length() < 256  # Python refuses to print huge ones
    )
    kind = "huge number" if isinstance(value, int) else type(value).__name__
    return repr(value)[:_MAX_SHOWN] if is_plain else f"a {kind}"
