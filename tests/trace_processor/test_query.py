"""Ready queries, statements, and the command."""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import nanoarrow
import pytest

from profinfer.commands import query as command
from profinfer.errors import ProfinferError, QueryError, TraceError, UsageError
from profinfer.trace_processor import Session, open_trace, query
from profinfer.trace_processor import session as sessions

FILE = """\
-- What a file looks like; its first line says so.
INCLUDE PERFETTO MODULE slices.with_context;

-- a remark; with a semicolon
-- rows: 2
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


def test_statements() -> None:
    statements = query.split_statements(FILE)
    assert [(s.line, s.column, s.title, s.returns_rows) for s in statements] == [
        (2, 1, "", False),
        (7, 1, "By name", True),
        (8, 24, "", True),
        (12, 1, "", False),
        (15, 3, "Function", True),
    ]
    assert [statement.most for statement in statements] == [None, 2, None, None, None]
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
    assert tables[0].first_rows() == [("s0", 2), ("s1", 2)]
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
    with pytest.raises(QueryError, match="no query 'SELECT 1 FROM") as error:
        query.resolve("SELECT 1 FROM slice WHERE " + "x" * 300, tmp_path)
    assert "--sql" in error.value.hint
    with pytest.raises(QueryError, match="directory"):
        query.resolve(str(tmp_path), tmp_path)
    assert query.describe(tmp_path / "stalls.sql") == "About stalls."
    assert query.describe(own) == ""
    own.write_bytes(b"\x0a\xff\xfe")
    with pytest.raises(QueryError, match="not a text file"):
        query.read(own)


def run(*words: str) -> int:
    parser = argparse.ArgumentParser(prog="profinfer query")
    it = command.QueryCommand()
    it.add_arguments(parser)
    return it.run(parser.parse_args(words))


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


def test_several_queries_of_one_trace(
    trace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[Path] = []
    plain = open_trace

    def counted(path: Path, **how: Any) -> Session:
        opened.append(path)
        return plain(path, **how)

    monkeypatch.setattr(command, "open_trace", counted)
    one, two = tmp_path / "one.sql", tmp_path / "two.sql"
    one.write_text("SELECT 1 AS a")
    two.write_text("-- title: Slices\nSELECT COUNT(*) AS n, 0 AS none FROM slice; SELECT 2 AS b")
    words = (str(one), "--all", str(two), str(one), str(trace))
    assert run(*words) == 0
    assert opened == [trace]
    expected = f"== {one}\na\n-\n1\n\n== {two}\nSlices: n 5\n\nb\n-\n2\n"
    assert capsys.readouterr().out == f"{expected}(left out, see --wide: all 0: none)\n"
    run(*words, "--format", "csv")
    assert capsys.readouterr().out == f"# {one}\na\n1\n\n# {two}\nn,none\n5,0\n\nb\n2\n"
    run("--format", "json", *words)
    assert json.loads(capsys.readouterr().out) == [
        {"query": str(one), "tables": [{"title": "", "rows": [{"a": 1}]}]},
        {"query": str(two), "tables": [
            {"title": "Slices", "rows": [{"n": 5, "none": 0}]}, {"title": "", "rows": [{"b": 2}]},
        ]},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (["stalls"], UsageError, "which trace.* profinfer query stalls TRACE"),
        (["stalls", "summary"], UsageError, "which trace.* query stalls summary TRACE"),
        (["stals"], QueryError, "no query 'stals'.* did you mean stalls"),
        (["stalls", "sumary", "TRACE"], QueryError, "no query 'sumary'.* did you mean summary"),
        (["TRACE"], UsageError, "asked of .*hint.* query summary TRACE"),
        (["--sql", "SELECT 1"], UsageError, "which trace"),
        (["stalls", "EMPTY", "TRACE"], QueryError, "no SQL statement in 'EMPTY'"),
        (["SELECT 1", "TRACE"], QueryError, "--sql"),
        (["stalls", "absent.pftrace"], TraceError, "absent.pftrace"),
        (["x" * 300, "TRACE"], QueryError, "no query"),
        (["stalls", "x" * 300], TraceError, ""),
    ],
)
def test_what_is_wrong_is_said_before_the_trace_is_loaded(
    words: list[str],
    error: type[ProfinferError],
    said: str,
    trace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "_parse", lambda *_: pytest.fail("loaded"))
    (tmp_path / "empty.sql").write_text("-- nothing")
    names = {"TRACE": str(trace), "EMPTY": str(tmp_path / "empty.sql")}
    with pytest.raises(error) as caught:
        run(*(names.get(word, word) for word in words))
    text = f"{caught.value.message} hint: {caught.value.hint}"
    for short, name in names.items():
        text = text.replace(name, short)
    assert re.search(said, text), text


def test_the_trace_may_come_first(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(trace), "summary", "stalls") == 0
    assert capsys.readouterr().out.count("== ") == 2


def test_columns_that_say_nothing_are_shown_when_asked_for(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.sql"
    file.write_text("-- title: Mine\nSELECT 1 AS a, 0 AS zero, NULL AS unknown")
    run(str(file), str(trace))
    assert capsys.readouterr().out.splitlines()[0] == "Mine: a 1"
    run("--wide", str(file), str(trace))
    assert capsys.readouterr().out.splitlines()[1:4] == [
        "a  zero  unknown", "-  ----  -------", "1     0  -",
    ]  # fmt: skip


def test_arrow_is_for_files_and_pipes(trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--sql", "SELECT 1 AS a, 0 AS zero", str(trace), "--format", "arrow")
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", out)
    assert run(*words) == 0
    out.seek(0)
    assert nanoarrow.ArrayStream.from_readable(out.buffer).read_all().to_pylist() == [
        {"a": 1, "zero": 0}
    ]
    monkeypatch.setattr(out, "isatty", lambda: True)
    with pytest.raises(UsageError, match="not for terminals"):
        run(*words)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="nanoarrow"):
        run(*words)
