"""Ready queries, statements, tables, and the command."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from profinfer.commands.query import QueryCommand
from profinfer.errors import QueryError, TraceError
from profinfer.trace_processor import Session, Value, query

FILE = """\
-- What a file looks like; its first line says so.
INCLUDE PERFETTO MODULE slices.with_context;

-- a remark; with a semicolon
-- title: By name
SELECT name, COUNT(*) AS n FROM slice
GROUP BY 1 ORDER BY 1; SELECT ';' AS "a;b", /* ; */ 'it''s; ' AS c -- ;
;
-- title: Not above the statement

CREATE PERFETTO FUNCTION plus_one(a LONG) RETURNS LONG AS
SELECT $a + 1;
  -- title: Function
  SELECT plus_one(2) AS three;
-- nothing; follows
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written(columns: list[str], rows: Sequence[Sequence[Value]], fmt: str = "table") -> str:
    out = io.StringIO()
    query.write_tables([query.Table("", [*columns], [*map(tuple, rows)])], fmt, out)
    return out.getvalue()


def test_statements() -> None:
    statements = query.split_statements(FILE)
    assert [(s.line, s.column, s.title, s.returns_rows) for s in statements] == [
        (2, 1, "", False),
        (6, 1, "By name", True),
        (7, 24, "", True),
        (11, 1, "", False),
        (14, 3, "Function", True),
    ]
    assert statements[1].text.endswith("GROUP BY 1 ORDER BY 1")
    assert statements[3].text.endswith("SELECT $a + 1")


@pytest.mark.parametrize(
    ("sql", "texts"),
    [
        ("", []),
        (" ;; -- only; a comment\n", []),
        ("/* SELECT 1; */ SELECT 2", ["SELECT 2"]),
        ("SELECT 'open; SELECT 2", ["SELECT 'open; SELECT 2"]),
        ("SELECT 1 /* open; SELECT 2", ["SELECT 1 /* open; SELECT 2"]),
        ("SELECT 1 - -2; SELECT 4 / 2", ["SELECT 1 - -2", "SELECT 4 / 2"]),
        ("SELECT `a;b`", ["SELECT `a;b`"]),
        ("SELECT 'a''; b'; SELECT \"c\"\"; d\"", ["SELECT 'a''; b'", 'SELECT "c""; d"']),
        ("SELECT 1\r\n;\r\nSELECT 2;", ["SELECT 1", "SELECT 2"]),
    ],
)
def test_where_statements_end(sql: str, texts: list[str]) -> None:
    assert [statement.text for statement in query.split_statements(sql)] == texts


def test_tables_of_a_file(session: Session) -> None:
    tables = query.run(session, FILE)
    assert [(table.title, table.columns, table.rows) for table in tables] == [
        ("By name", ["name", "n"], [("s0", 2), ("s1", 2), ("s2", 1)]),
        ("", ["a;b", "c"], [(";", "it's; ")]),
        ("Function", ["three"], [(3,)]),
    ]


def test_an_error_names_the_line_of_the_file(session: Session) -> None:
    with pytest.raises(QueryError, match="no such column: bogus at line 4, column 5"):
        query.run(session, "SELECT 1;\n\n  SELECT\n    bogus;")
    with pytest.raises(QueryError, match="not found at line 2, column 2"):
        query.run(session, "SELECT 1;\n INCLUDE PERFETTO MODULE no.such")
    with pytest.raises(QueryError, match="no SQL statement"):
        query.run(session, "-- nothing")


def test_resolve(tmp_path: Path) -> None:
    for name in ("stalls", "hotspots"):
        (tmp_path / f"{name}.sql").write_text(f"\n--\n-- About {name}.\n-- More.\nSELECT 1")
    assert query.resolve("stalls", tmp_path) == tmp_path / "stalls.sql"
    assert query.resolve("stalls.sql", tmp_path) == tmp_path / "stalls.sql"
    own = tmp_path / "own.txt"
    own.write_text("SELECT 1")
    assert query.resolve(str(own), tmp_path) == own
    with pytest.raises(QueryError, match="no query 'stals'") as error:
        query.resolve("stals", tmp_path)
    assert error.value.hint == "did you mean stalls? ready queries: hotspots, stalls"
    with pytest.raises(QueryError, match="directory"):
        query.resolve(str(tmp_path), tmp_path)
    assert query.describe(tmp_path / "stalls.sql") == "About stalls."
    assert query.describe(own) == ""
    own.write_bytes(b"\x0a\xff\xfe")
    with pytest.raises(QueryError, match="not a text file"):
        query.read(own)


def test_table() -> None:
    rows = [("ffn_gate-0", 12, 1.5, None), ("évil\x1b[31m\n", 3456, 1234.25, b"\x01\xff")]
    assert written(["name", "n", "ms", "b"], rows).splitlines() == [
        "name               n       ms  b",
        "--------------  ----  -------  ----",
        "ffn_gate-0        12     1.50  -",
        "évil\\x1b[31m\\n  3456  1234.25  01ff",
    ]


def test_empty_table() -> None:
    assert written(["a", "bc"], []) == "a  bc\n-  --\n(no rows)\n"


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([1.0, 2.0], ["1.0", "2.0"]),
        ([1.23456, 100.0], ["1.23", "100.00"]),
        ([0.012345, 0.5], ["0.0123", "0.5000"]),
        ([1e-9, 2.0], ["1e-09", "2.0"]),
        ([1e300, float("inf"), 0.0], ["1e+300", "inf", "0.0"]),
        ([123456.789], ["123456.8"]),
        ([-0.25, 0.0], ["-0.25", "0.00"]),
    ],
)
def test_precision(values: list[float], shown: list[str]) -> None:
    lines = written(["v"], [(value,) for value in values]).splitlines()[2:]
    assert [line.strip() for line in lines] == shown


def test_text_is_cut_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    rows: list[tuple[Value, ...]] = [("x" * 100, 1, "short"), ("層" * 40, 22, "y")]
    terminal = Terminal()
    query.write_tables([query.Table("", ["name", "n", "s"], rows)], "table", terminal)
    lines = terminal.getvalue().splitlines()
    assert max(map(query._width, lines)) == 40
    assert "x" * 20 in lines[2]
    assert "…" in lines[2]
    assert "x" * 100 in written(["name", "n", "s"], rows)


def test_csv() -> None:
    text = written(["a", "a"], [(1, None), ('x,"y"\n', b"\x00")], "csv")
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        ["a", "a"],
        ["1", ""],
        ['x,"y"\n', "00"],
    ]
    terminal = Terminal()
    query.write_tables([query.Table("", ["a"], [("\x1b]0;x\x07",)])], "csv", terminal)
    assert terminal.getvalue() == "a\n\\x1b]0;x\\x07\n"


def test_json() -> None:
    text = written(["a", "a", "f"], [(2**60, "é\x1b", float("inf")), (None, b"\xff", 0.5)], "json")
    assert json.loads(text) == [
        {"a": 2**60, "a:1": "é\x1b", "f": None},
        {"a": None, "a:1": "ff", "f": 0.5},
    ]
    assert "\x1b" not in text


def test_several_results() -> None:
    tables = [query.Table("First\x1b", ["a"], [(1,)]), query.Table("", ["b"], [])]
    out = io.StringIO()
    query.write_tables(tables, "table", out)
    assert out.getvalue() == "First\\x1b\na\n-\n1\n\nb\n-\n(no rows)\n"
    out = io.StringIO()
    query.write_tables(tables, "csv", out)
    assert out.getvalue() == "a\n1\n\nb\n"
    out = io.StringIO()
    query.write_tables(tables, "json", out)
    assert json.loads(out.getvalue()) == [
        {"title": "First\\x1b", "rows": [{"a": 1}]},
        {"title": "", "rows": []},
    ]


def run(*words: str) -> int:
    parser = argparse.ArgumentParser(prog="profinfer query")
    command = QueryCommand()
    command.add_arguments(parser)
    return command.run(parser.parse_args(words))


def test_command(trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.sql"
    file.write_text("SELECT COUNT(*) AS n FROM slice")
    assert run(str(file), "--format", "csv", str(trace)) == 0
    out, err = capsys.readouterr()
    assert out == "n\n5\n"
    assert "truncated" not in err
    for words in (("--sql", "SELECT 2 AS a", str(trace)), (str(trace), "--sql", "SELECT 2 AS a")):
        assert run("--format", "json", *words) == 0
        assert json.loads(capsys.readouterr().out) == [{"a": 2}]
    with pytest.raises(TraceError):
        run("--sql", "SELECT 1", str(tmp_path / "absent"))


def test_command_warns_of_a_truncated_trace(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace.write_bytes(trace.read_bytes()[:-1])
    assert run("--sql", "SELECT 1 AS a", str(trace)) == 0
    out, err = capsys.readouterr()
    assert out == "a\n-\n1\n"
    warning, hint = err.splitlines()[:2]
    assert warning.startswith("profinfer: warning: this trace is truncated: ")
    assert hint.startswith("hint: ")


def test_command_lists_ready_queries(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run("--list")
    assert end.value.code == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == [file.stem for file in query.ready_queries()]
