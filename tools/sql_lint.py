#!/usr/bin/env python3
"""Checks sql/: the PerfettoSQL package below sql/profinfer/ and the ready queries beside it.

The doc comments of the package are its reference, so every public object, column and argument
has one. Prints `file:line: message` for each fault and exits 1 if there is any. Whether the
SQL parses is for Trace Processor to say: the tests run it there.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1] / "sql"
PACKAGE = "profinfer"

# The one module that knows how profinfer lays out its traces, and the tables it alone reads.
EVENTS = "events.sql"
# fmt: off
EVENT_TABLES = frozenset((
    "slice", "slices", "thread_slice", "process_slice", "ancestor_slice", "descendant_slice",
    "slice_self_dur", "args", "debug_annotations", "counter", "counters", "counter_track",
    "thread_counter_track", "process_counter_track", "cpu_counter_track", "track", "thread_track",
    "process_track", "cpu_track",
))
# fmt: on

COLUMN_TYPE = re.compile(
    r"LONG|DOUBLE|STRING|BOOL|BYTES|TIMESTAMP|DURATION|ARGSETID|(?:JOIN)?ID\([a-z_]+\.[a-z_]+\)"
)
MACRO_TYPE = re.compile(r"_?[A-Z][A-Za-z]+")
CREATE = re.compile(
    r"CREATE\s+(?P<replace>OR\s+REPLACE\s+)?"
    r"(?P<kind>PERFETTO\s+(?:TABLE|VIEW|FUNCTION|MACRO|INDEX)|VIRTUAL\s+TABLE)\s+(?P<name>\w+)",
    re.IGNORECASE,
)
ALIAS = r"(?:\s+(?:AS\s+)?(?!(?:JOIN|LEFT|WHERE|ON|USING)\b)\w+)?"
FROM = re.compile(rf"\b(?:FROM|JOIN)\s+(\w+(?:{ALIAS}\s*,\s*\w+)*)", re.IGNORECASE)
TOKEN = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"", re.DOTALL)


class Fault(NamedTuple):
    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass
class Statement:
    """One statement; offsets are into the text of its file."""

    gap: int  # where the statement before it ended
    start: int  # its first word
    end: int


@dataclass
class Linter:
    """One file: `code` is `text` with comments and quoted text blanked out, offsets unchanged."""

    path: Path
    text: str
    faults: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.code = TOKEN.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), self.text)

    def fault(self, offset: int, message: str) -> None:
        self.faults.append(Fault(self.path, self.text.count("\n", 0, offset) + 1, message))

    def statements(self) -> Iterator[Statement]:
        gap = 0
        for piece in re.finditer(r"[^;]+", self.code):
            if word := re.search(r"\S", piece[0]):
                yield Statement(gap, piece.start() + word.start(), piece.end())
            gap = piece.end() + 1

    def lint_module(self, may_read_events: bool) -> None:
        self._lint_everywhere()
        for statement in self.statements():
            code = self.code[statement.start : statement.end]
            first = re.match(r"\w*", code)[0].upper()  # type: ignore[index]
            if match := CREATE.match(code):
                self._lint_create(statement, match)
            elif first in ("SELECT", "WITH", "VALUES"):
                self.fault(statement.start, "a module returns no rows: no SELECT of its own")
            elif first not in ("CREATE", "INCLUDE"):  # a plain CREATE is a fault already
                self.fault(statement.start, f"a module only creates and includes: {first or code}")
        if not may_read_events:
            for match in FROM.finditer(self.code):
                for table in re.findall(r"(?:^|,)\s*(\w+)", match[1]):
                    if table.lower() in EVENT_TABLES:
                        self.fault(match.start(), f"only {EVENTS} reads {table}: include it")

    def lint_query(self) -> None:
        self._lint_everywhere()
        first = self.text.split("\n", 1)[0]
        if not re.match(r"-- .*\?$", first):
            self.fault(0, "the first line is not a comment that asks a question: `-- ...?`")
        for statement in self.statements():
            if re.match(r"(?:SELECT|WITH|VALUES)\b", self.code[statement.start :], re.IGNORECASE):
                above = self.text[statement.gap : statement.start]
                if not re.search(r"^-- title: \S", above, re.MULTILINE):
                    self.fault(statement.start, "no `-- title: ...` above what returns rows")

    def _lint_everywhere(self) -> None:
        for pattern, message in (
            (r"\bLIKE\b", "GLOB instead of LIKE"),
            (
                r"\bCREATE\s+(?:OR\s+REPLACE\s+)?(?:TEMP(?:ORARY)?\s+)?(?:TABLE|VIEW)\b",
                "CREATE PERFETTO TABLE or VIEW instead of the plain one",
            ),
            (r"\bINCLUDE\s+PERFETTO\s+MODULE\s+[\w.]*\*", "no wildcard includes"),
        ):
            for match in re.finditer(pattern, self.code, re.IGNORECASE):
                self.fault(match.start(), message)

    def _lint_create(self, statement: Statement, match: re.Match[str]) -> None:
        start, name = statement.start, match["name"]
        kind = match["kind"].upper().split()[-1]
        if match["replace"]:
            self.fault(start, f"{name}: no OR REPLACE")
        if name.startswith("_") or kind == "INDEX":
            return
        if not name.startswith(f"{PACKAGE}_"):
            self.fault(start, f"{name}: public names start with {PACKAGE}_, private ones with _")
        self._lint_doc(start, name)

        place = start + match.end()
        lists = self._lists(place, statement.end)
        if kind in ("TABLE", "VIEW"):
            if len(lists) != 1:
                self.fault(start, f"{name}: no column schema: `{name}(column TYPE, ...) AS`")
            columns, arguments = lists[:1], []
        else:
            if not lists:
                self.fault(start, f"{name}: no list of arguments")
            arguments, columns = lists[:1], lists[1:]
        for begin, end in columns:
            self._lint_fields(begin, end, name, "column", COLUMN_TYPE)
        for begin, end in arguments:
            allowed = MACRO_TYPE if kind == "MACRO" else COLUMN_TYPE
            self._lint_fields(begin, end, name, "argument", allowed)

    def _lists(self, place: int, end: int) -> list[tuple[int, int]]:
        """The parenthesised lists between the name of an object and its AS."""
        lists = []
        while place < end:
            if re.compile(r"\s+AS\b", re.IGNORECASE).match(self.code, place):
                break
            if self.code[place] == "(":
                close = self._closing(place, end)
                lists.append((place + 1, close))
                place = close
            place += 1
        # `RETURNS ID(table.column)` is a type, not a list.
        return [(a, b) for a, b in lists if not re.search(r"\b(?:JOIN)?ID\s*$", self.code[: a - 1])]

    def _closing(self, place: int, end: int) -> int:
        depth = 0
        for offset in range(place, end):
            depth += {"(": 1, ")": -1}.get(self.code[offset], 0)
            if depth == 0:
                return offset
        return end

    def _lint_doc(self, start: int, name: str) -> None:
        lines = self.text[:start].split("\n")
        if lines.pop():
            self.fault(start, f"{name}: CREATE is not at column 0")
        if not lines or not lines[-1].startswith("--"):
            self.fault(start, f"{name}: no `--` comment at column 0 directly above CREATE")
        elif not lines[-1].endswith("."):
            self.fault(start, f"{name}: its comment does not end with a period")

    def _lint_fields(
        self, begin: int, end: int, owner: str, what: str, allowed: re.Pattern[str]
    ) -> None:
        for start, stop in self._split(begin, end):
            code = self.code[start:stop]
            words = code.split(maxsplit=1)
            if not words:
                if self.code[begin:end].strip():
                    self.fault(stop, f"{owner}: an empty {what}")
                continue
            offset = start + len(code) - len(code.lstrip())
            name, kind = words[0], "".join(words[1:]).strip()
            if not allowed.fullmatch(kind):
                self.fault(offset, f"{owner}.{name}: {kind or 'nothing'} is not a {what} type")
            comment = self.text[start:offset].strip()
            if not comment.startswith("--"):
                self.fault(offset, f"{owner}.{name}: no comment above this {what}")
            elif not comment.endswith("."):
                self.fault(offset, f"{owner}.{name}: its comment does not end with a period")

    def _split(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts between commas; commas inside parentheses do not count."""
        depth, start = 0, begin
        for offset in range(begin, end):
            depth += {"(": 1, ")": -1}.get(self.code[offset], 0)
            if self.code[offset] == "," and depth == 0:
                yield start, offset
                start = offset + 1
        yield start, end


def lint(root: Path) -> list[Fault]:
    """Every fault of the package and the ready queries below `root`."""
    faults: list[Fault] = []
    for path in sorted(root.rglob("*.sql")):
        linter = Linter(path, path.read_text())
        relative = path.relative_to(root)
        if relative.parts[0] == PACKAGE:
            linter.lint_module(may_read_events=relative.parts[1:] == (EVENTS,))
        elif len(relative.parts) == 1:
            linter.lint_query()
        faults += linter.faults
    return sorted(faults)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check the SQL package and the ready queries.")
    parser.add_argument("root", type=Path, nargs="?", default=ROOT, help="the sql folder")
    faults = lint(parser.parse_args(argv).root)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
