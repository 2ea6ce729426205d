"""What a check has found: lines for people, or JSON with everything."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from profinfer.errors import ProfinferError

_INDENT = 21
_WIDEST = 100


@dataclass(frozen=True)
class Finding:
    """Of one check."""

    text: str
    data: Mapping[str, object] = field(default_factory=dict)
    """For programs; members of the check's JSON object."""
    problem: ProfinferError | None = None
    """What is wrong, all the same."""


Check = Callable[[], Finding | str]


class Report:
    """A line per check, and more below it; on a terminal no wider than that. Or all of it as
    JSON, at the end."""

    def __init__(self, *, is_json: bool) -> None:
        self._is_json = is_json
        self._checks: list[dict[str, object]] = []
        columns = min(shutil.get_terminal_size().columns, _WIDEST)
        self._width = columns - _INDENT if sys.stdout.isatty() else None

    def show(self, name: str, check: Check) -> int:
        """Does a check; its exit code."""
        try:
            done = check()
            found = Finding(done) if isinstance(done, str) else done
        except ProfinferError as error:
            found = Finding("", problem=error)
        problem = found.problem
        text = problem.message if problem else found.text
        code, hint = (problem.exit_code, problem.hint) if problem else (0, "")
        self._checks.append({"name": name, "code": code, "text": text, "hint": hint, **found.data})
        if not self._is_json:
            self._print(name, "FAILS" if problem else "ok", text, hint)
        return code

    def _print(self, name: str, mark: str, text: str, hint: str) -> None:
        said = "\n".join([text, *([f"hint: {hint}"] if hint else [])])
        # Strangers' names may hold what a terminal obeys.
        lines = ["".join(x if x.isprintable() else "?" for x in y) for y in said.split("\n")]
        first, *rest = [x for line in lines for x in self._wrapped(line)]
        print(f"{mark:5}  {name:13} {first}")
        for line in rest:
            print(f"{'':{_INDENT}}{line}")

    def _wrapped(self, line: str) -> list[str]:
        if self._width is None or len(line) <= self._width:
            return [line]
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        return textwrap.wrap(
            line, max(self._width, 20), subsequent_indent=indent, break_long_words=False,
            break_on_hyphens=False,
        )  # fmt: skip

    def end(self, code: int) -> None:
        """The exit status is known, and nothing will follow."""
        if self._is_json:
            print(json.dumps({"works": code == 0, "code": code, "checks": self._checks}, indent=1))
