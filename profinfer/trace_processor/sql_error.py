"""Trace Processor's SQL errors, told in terms of the text that the user wrote.

Trace Processor reports an error as a trace of places, the user's SQL first and modules that it
includes after, and the reason on the last line.
"""

from __future__ import annotations

import re

from profinfer.errors import QueryError

_FRAME = re.compile(r'^\s*(?:File "(?P<file>[^"]*)"|(?P<other>\S.*?)) line (\d+) col (\d+)$')
_EXCERPT = 100  # characters of the line that are shown


def explain(text: str, sql: str, at: tuple[int, int] = (1, 1)) -> QueryError:
    """Return the error for Trace Processor's `text` about `sql`.

    `at` is the line and column (from 1) in the user's file at which `sql` begins. The message
    holds the reason and the user's line and column; the hint shows that line.
    """
    lines = text.strip("\n").splitlines()
    places: list[tuple[str, int, int]] = []
    last = -1
    for index, text_line in enumerate(lines):
        match = _FRAME.match(text_line)
        if match:
            name = match["file"] if match["file"] is not None else match["other"]
            places.append((name, int(match[3]), int(match[4])))
            last = index
    # A frame is followed by its source line and a caret; all that follows is the reason.
    reason = " ".join(map(str.strip, lines[last + 3 if places else 0 :])).strip()
    own = [place for place in places if place[0] == "stdin"]
    inner = [place for place in places if place[0] != "stdin" and "Internal" not in place[0]]
    line, column = _user_place(own[0][1:], sql, at) if own else at
    message = f"{reason or 'error'} at line {line}, column {column}"
    if inner:
        name, inner_line, inner_column = inner[-1]
        name = name.replace("Module include ", "module ").replace('"', "")
        message += f" (in {name}, line {inner_line}, column {inner_column})"
    return QueryError(message, _excerpt(sql, at, line, column))


def _user_place(place: tuple[int, int], sql: str, at: tuple[int, int]) -> tuple[int, int]:
    line, column = place
    source = sql.split("\n")
    if line <= len(source):
        # Trace Processor counts bytes, people count characters.
        before = source[line - 1].encode()[: max(column - 1, 0)]
        column = len(before.decode("utf-8", "ignore")) + 1
    return (at[0] + line - 1, column + (at[1] - 1 if line == 1 else 0))


def _excerpt(sql: str, at: tuple[int, int], line: int, column: int) -> str:
    source = sql.split("\n")
    index = line - at[0]
    if not 0 <= index < len(source) or not source[index].strip():
        return ""
    text = " " * (at[1] - 1 if index == 0 else 0) + source[index].replace("\t", " ")
    start = max(0, column - 1 - _EXCERPT // 2)
    shown = text[start : start + _EXCERPT].rstrip()
    return f"look at\n    {shown}\n    {' ' * (column - 1 - start)}^"
