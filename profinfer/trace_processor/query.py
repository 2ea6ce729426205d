"""Ready queries: finding SQL by name, and running a file of it."""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from profinfer.errors import QueryError
from profinfer.trace_processor import SQL_DIR, Session, Value

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
_SAID = re.compile(r"--\s*(title|rows):\s*(.*\S)", re.IGNORECASE)

_SHOWN_SQL = 60
_PROCESS = ("process", "taken_from")
"""The first column of a ready query's table: NULL where only one process was recorded."""


@dataclass(frozen=True)
class Statement:
    """One statement of a file: its text, where in the file it begins (both from 1), and what
    comments above it say: `-- title: T`, `-- rows: N`."""

    text: str
    line: int
    column: int
    title: str
    most: int | None
    returns_rows: bool


@dataclass(frozen=True)
class Table:
    """What one statement returned, under the title that the file gives it, or ''.

    `most` is of how many rows, of each process, a reader need not be spared."""

    title: str
    columns: list[str]
    rows: list[tuple[Value, ...]]
    most: int | None = None

    def first_rows(self) -> list[tuple[Value, ...]]:
        """So many rows of each process."""
        if self.most is None:
            return self.rows
        seen: Counter[Value] = Counter()
        rows = []
        for row in self.rows:
            process = row[0] if self.columns[0] in _PROCESS else None
            seen[process] += 1
            if seen[process] <= self.most:
                rows.append(row)
        return rows


@dataclass(frozen=True)
class Answer:
    """What one query returned, under the name by which it was asked."""

    name: str
    tables: list[Table]


def ready_queries(sql_dir: Path = SQL_DIR) -> list[Path]:
    """Return the files of the ready queries, sorted by name."""
    return sorted(sql_dir.glob("*.sql"))


def is_ready(name: str, sql_dir: Path = SQL_DIR) -> bool:
    """Whether a ready query is called so; the name may leave out `.sql`."""
    return (sql_dir / f"{name.removesuffix('.sql')}.sql") in ready_queries(sql_dir)


def resolve(name_or_path: str, sql_dir: Path = SQL_DIR) -> Path:
    """Return the file of a query: an existing path, or the name of a ready query.

    The name may leave out `.sql`. Raises `QueryError`, with the nearest names and all that
    there are, when there is no such file.
    """
    path = Path(name_or_path)
    if os.path.isfile(path):  # which takes any text, however long
        return path
    ready = {file.stem: file for file in ready_queries(sql_dir)}
    name = name_or_path.removesuffix(".sql")
    if name in ready:
        return ready[name]
    if os.path.isdir(path):
        raise QueryError(f"{name_or_path} is a directory, not a query")
    if " " in name_or_path.strip():
        shown = f"{name_or_path[:_SHOWN_SQL]!r}"
        raise QueryError(f"there is no query {shown}", "is it SQL itself? then add --sql")
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
    said: dict[str, str] = {}
    below = line_start
    for comment in reversed(comments):
        if sql[comment.end() : below].strip(" \t\r") not in ("", "\n"):
            break
        if match := _SAID.match(comment[0]):
            said.setdefault(match[1].lower(), match[2])
        below = sql.rfind("\n", 0, comment.start()) + 1
    keyword = re.match(r"\w*", text)
    return Statement(
        text=text,
        line=sql.count("\n", 0, begin) + 1,
        column=begin - line_start + 1,
        title=said.get("title", ""),
        most=int(said["rows"]) if said.get("rows", "").isdecimal() else None,
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
            table = Table(statement.title, result.columns, result.rows(), statement.most)
            tables.append(_without_process(table) if statement.title else table)
    return tables


def _without_process(table: Table) -> Table:
    """The table without its first column where that tells processes apart and there is one only."""
    is_needed = table.columns[0] not in _PROCESS or any(row[0] is not None for row in table.rows)
    if is_needed:
        return table
    return replace(table, columns=table.columns[1:], rows=[row[1:] for row in table.rows])


def recording_warnings(session: Session) -> list[tuple[str, str]]:
    """Return what ProfInfer's own records say against this trace: (message, hint) pairs."""
    if not (SQL_DIR / "profinfer" / "recording" / "warnings.sql").is_file():
        return []
    result = session.query(
        "INCLUDE PERFETTO MODULE profinfer.recording.warnings; "
        "SELECT message, hint FROM profinfer_recording_warning"
    )
    return [(str(message or ""), str(hint or "")) for message, hint in result]


def escape(text: str) -> str:
    """Return `text` with everything that does not print written as an escape sequence.

    Names in a trace come from the traced program: they must not steer a terminal.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
