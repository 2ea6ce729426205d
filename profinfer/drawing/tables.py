"""Aligned tables for people: what says nothing is left out, and a terminal's width is kept to."""

from __future__ import annotations

import math
import re
import shutil
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TextIO

from profinfer.trace_processor import Value
from profinfer.trace_processor.query import Table, escape

_SAYS_NOTHING = {"certain": 1, "complete": 1, "kind": "request"}
"""The value that says nothing, where it is not 0."""
_WHOLE = ("link",)
"""Texts that are of no use if they are cut."""
_STAY = ("incomplete", "complete", "certain", "reason", *_WHOLE)
"""Columns that give way to no others."""
_INDENT = "  "
_MAX_TEXT_WIDTH = 400
_MAX_NAME_WIDTH = 100
_MIN_TEXT_WIDTH = 12
_MAX_LINES = 6
_MAX_DECIMALS = 6


class _Column:
    """A heading and cells, and the width that they are given."""

    def __init__(
        self, name: str, values: Sequence[Value], every: Sequence[Value], *, is_whole: bool
    ) -> None:
        """Of the values to show and every one of the column; `is_whole`: however long they are."""
        self.name = name
        known = [value for value in every if value not in (None, "")]
        self.is_empty = all(value == _SAYS_NOTHING.get(name, 0) for value in known)
        self.emptiness = "" if known and name in _SAYS_NOTHING else "all 0" if known else "all -"
        self.is_number = bool(known) and all(isinstance(value, int | float) for value in known)
        decimals = _decimals([value for value in values if isinstance(value, float)])
        self.cells = [_cell(value, decimals) for value in values]
        if not is_whole and name not in _WHOLE:
            self.cells = [
                _cut(cell, _MAX_TEXT_WIDTH if " " in cell else _MAX_NAME_WIDTH)
                for cell in self.cells
            ]
        self._body = max(map(_width, self.cells), default=0)
        words = _cut(escape(name), _MAX_NAME_WIDTH).split("_")
        self._pieces = [f"{word}_" for word in words[:-1]] + words[-1:]
        self.break_heading(1)

    def break_heading(self, most: int) -> None:
        """Take the least width at which the heading has no more lines than that."""
        self.width = max(self._body, *map(_width, self._pieces))
        while len(_filled(self._pieces, self.width)) > most:
            self.width += 1
        self.heading = _filled(self._pieces, self.width)

    def lines(self, row: int) -> list[str]:
        """A cell; where it is too long, sentences go on in the next line and names are cut."""
        text = self.cells[row]
        if _width(text) > self.width and " " in text:
            lines = textwrap.wrap(text, self.width, max_lines=_MAX_LINES, placeholder=" \u2026")
            return [_cut(line, self.width) for line in lines] or [""]
        return [_cut(text, self.width)]


def write(tables: Sequence[Table], out: TextIO, *, is_wide: bool = False) -> None:
    """Write the results of one query, each under its title.

    NULL is `-`; characters that do not print are escaped. Of a table with a title, the first rows
    are written, columns of nothing but 0 or NULL are not, and what is left out is named at the end;
    where there is a row at the most, it takes a line. On a terminal tables become as narrow as
    that: headings are broken, then texts, then columns left out. `is_wide`: nothing of all that.
    """
    room = shutil.get_terminal_size().columns if out.isatty() and not is_wide else None
    why: dict[str, str] = {}  # a column is left out
    shown: set[str] = set()
    told = []
    was_line: bool | None = None
    for table in tables:
        is_whole = is_wide or not table.title
        rows = table.rows if is_whole else table.first_rows()
        columns = kept = [
            _Column(
                name, [row[i] for row in rows], [row[i] for row in table.rows], is_whole=is_whole
            )
            for i, name in enumerate(table.columns)
        ]
        if rows and not is_whole:
            kept = [c for c in columns if not c.is_empty]
            if kept == columns[:1] and len(columns) > 2 and not columns[0].is_number:
                kept = []  # names of nothing
            if kept:
                why |= {c.name: c.emptiness for c in columns if c.is_empty and c.emptiness}
        lines = [] if is_whole else _line(table, columns, kept, room)
        is_line = bool(lines)
        if not is_line:
            if room is not None:
                fitting = _fitted(kept, room, may_leave_out=not is_whole)
                why |= {c.name: "no room" for c in kept if c not in fitting}
                kept = fitting
            lines = _lines(table, kept, len(rows))
        shown |= {c.name for c in kept if rows}
        if len(rows) < len(table.rows):
            told.append(f"{len(table.rows) - len(rows)} more of {_bare(table.title)}")
        # What takes one line stands together.
        out.write("" if was_line is None or (was_line and is_line) else "\n")
        out.write("\n".join(lines) + "\n")
        was_line = is_line
    crowded = [name for name, reason in why.items() if reason == "no room"]
    for reason in dict.fromkeys(why.values()):
        if names := [n for n in why if why[n] == reason and (n not in shown or n in crowded)]:
            told.append(f"{reason}: {', '.join(map(escape, names))}")
    if told:
        out.write("\n".join(_wrapped(f"(left out, see --wide: {'; '.join(told)})", room)) + "\n")


def _bare(title: str) -> str:
    """A title without what stands in brackets behind it."""
    return escape(re.sub(r" \(.*\)$", "", title))


def _wrapped(line: str, room: int | None) -> list[str]:
    if not room:
        return [line]
    return textwrap.wrap(  # links stay whole
        line, room, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False
    )


def _line(
    table: Table, every: Sequence[_Column], columns: Sequence[_Column], room: int | None
) -> list[str]:
    """A titled table that needs no heading: of nothing, or one row."""
    if not table.rows:
        return [f"{_bare(table.title)}: none"]
    if not columns:
        is_zero = any(c.is_number for c in every)
        return [f"{escape(table.title)}: {'all 0' if is_zero else 'not known'}"]
    if len(table.rows) > 1:
        return []
    words = [f"{escape(column.name)} {column.cells[0]}" for column in columns]
    if not columns[0].is_number:
        words[0] = columns[0].cells[0]  # its name
    return _wrapped(f"{_bare(table.title)}: {'; '.join(words)}", room)


def _lines(table: Table, columns: Sequence[_Column], rows: int) -> list[str]:
    title = table.title.removesuffix(" (none when empty)")
    if rows < len(table.rows):
        title = re.sub(r"\(the first \d+", f"(the first {table.most}", title)
    lines = [escape(title)] if title else []
    if lines and len(columns) == 1 and not columns[0].is_number:
        # The title is heading enough.
        return lines + [_INDENT + line for row in range(rows) for line in columns[0].lines(row)]
    lines += _row([c.heading for c in columns], columns, is_at_bottom=True)
    lines.append("  ".join("-" * c.width for c in columns))
    for row in range(rows):
        lines += _row([c.lines(row) for c in columns], columns)
    return lines if rows else [*lines, "(no rows)"]


def _row(
    cells: Sequence[list[str]], columns: Sequence[_Column], *, is_at_bottom: bool = False
) -> Iterator[str]:
    """The lines of a row whose cells have one or more each."""
    height = max(map(len, cells))
    for index in range(height):
        words = []
        for cell, column in zip(cells, columns, strict=True):
            at = index - (height - len(cell) if is_at_bottom else 0)
            text = cell[at] if 0 <= at < len(cell) else ""
            space = " " * (column.width - _width(text))
            words.append(space + text if column.is_number else text + space)
        yield "  ".join(words).rstrip()


def _fitted(columns: list[_Column], room: int, *, may_leave_out: bool) -> list[_Column]:
    """The columns that fit, as wide as they then are; the first stays in any case."""
    if len(columns) == 1:
        room -= len(_INDENT)
    for most in range(1, _MAX_LINES):
        for column in columns:
            column.break_heading(most)
        if _total(columns) <= room:
            return columns
    optional = [c for c in columns[1:] if may_leave_out and c.name not in _STAY]
    while _narrow(columns, room) > room and optional:
        last = optional.pop()
        columns = [c for c in columns if c is not last]
    return columns


def _narrow(columns: Sequence[_Column], room: int) -> int:
    """Take the widest texts' room until all fits, as far as that goes; the width in all."""
    for column in columns:
        column.break_heading(_MAX_LINES)
    while (total := _total(columns)) > room:
        texts = [
            c
            for c in columns
            if not c.is_number and c.width > _MIN_TEXT_WIDTH and c.name not in _WHOLE
        ]
        if not texts:
            break
        max(texts, key=lambda column: column.width).width -= 1
    return total


def _total(columns: Sequence[_Column]) -> int:
    return sum(column.width for column in columns) + 2 * (len(columns) - 1)


def _filled(pieces: Sequence[str], width: int) -> list[str]:
    lines = [""]
    for piece in pieces:
        if lines[-1] and _width(lines[-1] + piece) > width:
            lines.append("")
        lines[-1] += piece
    return lines


def _cell(value: Value, decimals: int) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.{decimals}f}" if _is_plain(value) else f"{value:.4g}"
    if isinstance(value, bytes):
        return value.hex()
    return escape(value) if isinstance(value, str) else str(value)


def _is_plain(value: float) -> bool:
    """Whether a number reads well without an exponent."""
    return value == 0 or 1e-4 <= abs(value) < 1e15


def _decimals(values: Sequence[float]) -> int:
    """Return how many decimals show three or more digits of every number in a column."""
    plain = [value for value in values if _is_plain(value)]
    wanted = 1
    for value in plain:
        digits = 3 - (math.floor(math.log10(abs(value))) + 1) if value else 0
        wanted = max(wanted, min(digits, _MAX_DECIMALS))
    while wanted > 1 and all(f"{value:.{wanted}f}".endswith("0") for value in plain):
        wanted -= 1
    return wanted


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    is_path = text.startswith("/")  # whose end says more
    kept = text[1 - width :] if is_path else text[: width - 1]
    while _width(kept) > width - 1:
        kept = kept[1:] if is_path else kept[:-1]
    return f"\u2026{kept}" if is_path else f"{kept}\u2026"
