"""Ready queries and tables: finding SQL by name, running a file of it, writing what comes back."""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import re
import shutil
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from profinfer.errors import QueryError
from profinfer.trace_processor import SQL_DIR, Session, Value

FORMATS = ("table", "csv", "json")

_ROW_KEYWORDS = frozenset({"SELECT", "WITH", "VALUES", "EXPLAIN", "PRAGMA"})
# Whatever may hold a semicolon that ends no statement; an unclosed one goes on to the end.
_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))
      | (?P<quoted>'(?:[^']|'')*(?:'|\Z) | "(?:[^"]|"")*(?:"|\Z) | `[^`]*(?:`|\Z))
      | (?P<end>;)
      | (?P<space>\s+)
      | (?P<word>\w+|.)""",
    re.VERBOSE | re.DOTALL,
)
_UNLESS_ALL = re.compile(r"^.*-- unless --all[ \t]*$", re.MULTILINE)
_TITLE = re.compile(r"--\s*title:\s*(.*\S)", re.IGNORECASE)

_PROCESS = ("process", "taken_from")
"""The first column of a ready query's table: NULL where only one process was recorded."""
_MIN_TEXT_WIDTH = 12
_MAX_DECIMALS = 6


@dataclass(frozen=True)
class Statement:
    """One statement of a file: its text, and where in the file it begins (both from 1)."""

    text: str
    line: int
    column: int
    title: str
    returns_rows: bool


@dataclass(frozen=True)
class Table:
    """What one statement returned, under the title that the file gives it, or ''."""

    title: str
    columns: list[str]
    rows: list[tuple[Value, ...]]


def ready_queries(sql_dir: Path = SQL_DIR) -> list[Path]:
    """Return the files of the ready queries, sorted by name."""
    return sorted(sql_dir.glob("*.sql"))


def resolve(name_or_path: str, sql_dir: Path = SQL_DIR) -> Path:
    """Return the file of a query: an existing path, or the name of a ready query.

    The name may leave out `.sql`. Raises `QueryError`, with the nearest names and all that
    there are, when there is no such file.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    ready = {file.stem: file for file in ready_queries(sql_dir)}
    name = name_or_path.removesuffix(".sql")
    if name in ready:
        return ready[name]
    if path.is_dir():
        raise QueryError(f"{name_or_path} is a directory, not a query")
    near = difflib.get_close_matches(path.name.removesuffix(".sql"), ready, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    listing = ", ".join(ready) if ready else "none"
    raise QueryError(f"there is no query {name_or_path!r}", f"{hint}ready queries: {listing}")


def read(path: Path) -> str:
    """Return the SQL in `path`. Raises `QueryError` when it cannot be read as UTF-8 text."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise QueryError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise QueryError(f"{path} is not a text file", "name the query before the trace") from None


def of_all(sql: str) -> str:
    """The query without the lines by which it leaves something out."""
    return _UNLESS_ALL.sub("", sql)


def describe(path: Path) -> str:
    """Return the first line of comment in a query's file, or '' when it begins with none."""
    for line in read(path).splitlines():
        if line.startswith("--"):
            text = line.lstrip("-").strip()
            if text:
                return text
        elif line.strip():
            break
    return ""


def split_statements(sql: str) -> list[Statement]:
    """Split a file of PerfettoSQL into its statements, without those that are only comments."""
    statements: list[Statement] = []
    begin: int | None = None  # of the statement being read
    comments: list[re.Match[str]] = []  # that stand before it
    for token in _TOKEN.finditer(sql):
        if token.lastgroup == "end":
            if begin is not None:
                statements.append(_statement(sql, begin, token.start(), comments))
            begin, comments = None, []
        elif token.lastgroup == "comment":
            if begin is None:
                comments.append(token)
        elif token.lastgroup != "space" and begin is None:
            begin = token.start()
    if begin is not None:
        statements.append(_statement(sql, begin, len(sql), comments))
    return statements


def _statement(sql: str, begin: int, end: int, comments: list[re.Match[str]]) -> Statement:
    text = sql[begin:end].rstrip()
    line_start = sql.rfind("\n", 0, begin) + 1
    # Only comments without a blank line between them and the statement speak about it.
    title, below = "", line_start
    for comment in reversed(comments):
        if sql[comment.end() : below].strip(" \t\r") not in ("", "\n"):
            break
        match = _TITLE.match(comment[0])
        if match:
            title = match[1]
            break
        below = sql.rfind("\n", 0, comment.start()) + 1
    keyword = re.match(r"\w*", text)
    return Statement(
        text=text,
        line=sql.count("\n", 0, begin) + 1,
        column=begin - line_start + 1,
        title=title,
        returns_rows=keyword is not None and keyword[0].upper() in _ROW_KEYWORDS,
    )


def run(session: Session, sql: str) -> list[Table]:
    """Run every statement of `sql` in order and return a table for each that gives rows.

    Raises `QueryError`, with the line and column within `sql`, at the first that fails.
    """
    statements = split_statements(sql)
    if not statements:
        raise QueryError("there is no SQL statement in this query")
    tables = []
    for statement in statements:
        result = session.query(statement.text, at=(statement.line, statement.column))
        if statement.returns_rows:
            table = Table(statement.title, result.columns, result.rows())
            tables.append(_without_process(table) if statement.title else table)
    return tables


def _without_process(table: Table) -> Table:
    """The table without its first column where that tells processes apart and there is one only."""
    is_needed = table.columns[0] not in _PROCESS or any(row[0] is not None for row in table.rows)
    return (
        table
        if is_needed
        else Table(table.title, table.columns[1:], [row[1:] for row in table.rows])
    )


def recording_warnings(session: Session) -> list[tuple[str, str]]:
    """Return what ProfInfer's own records say against this trace: (message, hint) pairs."""
    if not (SQL_DIR / "profinfer" / "recording" / "warnings.sql").is_file():
        return []
    result = session.query(
        "INCLUDE PERFETTO MODULE profinfer.recording.warnings; "
        "SELECT message, hint FROM profinfer_recording_warning"
    )
    return [(str(message or ""), str(hint or "")) for message, hint in result]


def write_tables(tables: Sequence[Table], fmt: str, out: TextIO) -> None:
    """Write the results of one query as `table`, `csv` or `json`.

    `table`: aligned, each under its title, NULL as `-`, characters that do not print escaped; on a
    terminal, long text is cut to fit. `csv`: NULL is empty. Both put a blank line between results.
    `json` is the list of rows (objects, infinities as null) where there is one result, and else a
    list of {"title", "rows"}. Bytes are written in hexadecimal.
    """
    if fmt == "json":
        found = [
            {"title": escape(table.title), "rows": _objects(table.columns, table.rows)}
            for table in tables
        ]
        content = found[0]["rows"] if len(found) == 1 else found
        out.write(json.dumps(content, indent=2, allow_nan=False) + "\n")
        return
    for index, table in enumerate(tables):
        if index:
            out.write("\n")
        if fmt == "table" and table.title:
            out.write(f"{escape(table.title)}\n")
        write = _write_csv if fmt == "csv" else _write_table
        write(table.columns, table.rows, out)


def escape(text: str) -> str:
    """Return `text` with everything that does not print written as an escape sequence.

    Names in a trace come from the traced program: they must not steer a terminal.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def _objects(columns: Sequence[str], rows: Iterable[Sequence[Value]]) -> list[dict[str, object]]:
    names: list[str] = []
    for column in columns:
        # A second column of the same name would otherwise replace the first.
        twins = sum(name == column or name.startswith(f"{column}:") for name in names)
        names.append(f"{column}:{twins}" if twins else column)
    return [dict(zip(names, map(_json_value, row), strict=True)) for row in rows]


def _json_value(value: Value) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _write_csv(columns: Sequence[str], rows: Sequence[Sequence[Value]], out: TextIO) -> None:
    # A file gets the text as it is; a terminal would obey it.
    clean = escape if out.isatty() else str
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([clean(column) for column in columns])
    for row in rows:
        writer.writerow(
            [
                v.hex() if isinstance(v, bytes) else clean(v) if isinstance(v, str) else v
                for v in row
            ]
        )
    out.write(buffer.getvalue())


def _write_table(columns: Sequence[str], rows: Sequence[Sequence[Value]], out: TextIO) -> None:
    cells: list[list[str]] = []
    numeric: list[bool] = []
    for index, name in enumerate(columns):
        values = [row[index] for row in rows]
        is_number = all(v is None or isinstance(v, int | float) for v in values)
        numeric.append(is_number and any(v is not None for v in values))
        cells.append([escape(name), *_column_text(values)])
    widths = [max(map(_width, column)) for column in cells]
    if out.isatty():
        _fit(widths, numeric, shutil.get_terminal_size().columns)
    lines = []
    for row_number in range(len(rows) + 1):
        line = "  ".join(
            _pad(column[row_number], width, right)
            for column, width, right in zip(cells, widths, numeric, strict=True)
        )
        lines.append(line.rstrip())
        if row_number == 0:
            lines.append("  ".join("-" * width for width in widths))
    if not rows:
        lines.append("(no rows)")
    out.write("\n".join(lines) + "\n")


def _column_text(values: Sequence[Value]) -> list[str]:
    decimals = _decimals([v for v in values if isinstance(v, float)])
    return [_cell(value, decimals) for value in values]


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


def _fit(widths: list[int], numeric: Sequence[bool], room: int) -> None:
    """Narrow the widest columns of text until the table fits, as far as that goes."""
    room -= 2 * (len(widths) - 1)
    while sum(widths) > room:
        text = [i for i, number in enumerate(numeric) if not number and widths[i] > _MIN_TEXT_WIDTH]
        if not text:
            return
        widths[max(text, key=lambda i: widths[i])] -= 1


def _pad(text: str, width: int, right: bool) -> str:
    if _width(text) > width:
        while _width(text) > width - 1:
            text = text[:-1]
        text += "\u2026"
    spaces = " " * (width - _width(text))
    return spaces + text if right else text + spaces
