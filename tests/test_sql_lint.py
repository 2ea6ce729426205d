"""The SQL lint accepts what the package's rules allow and names every breach with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
import sql_lint

GOOD = """\
INCLUDE PERFETTO MODULE profinfer.events;

-- Operators: one row each. It's a view; the text 'LIKE; this' is harmless.
CREATE PERFETTO VIEW profinfer_operator(
  -- Identifier; see `slice`.
  id ID(slice.id),
  -- Thread it ran on,
  -- first of several.
  utid JOINID(thread.id),
  -- Start.
  ts TIMESTAMP,
  -- Name.
  name STRING
)
AS
SELECT id, utid, ts, 'a;b LIKE c' AS name
FROM _profinfer_event AS e, thread JOIN process USING (upid);

CREATE PERFETTO TABLE _private AS SELECT 1 AS x;

-- How often something of this name ran.
CREATE PERFETTO FUNCTION profinfer_count(
  -- Its name.
  name STRING)
RETURNS ID(slice.id) AS
SELECT count(*) FROM profinfer_operator WHERE name GLOB $name;

-- The slowest.
CREATE PERFETTO FUNCTION profinfer_slowest()
RETURNS TABLE(
  -- Its duration.
  dur DURATION
) AS
SELECT max(dur) AS dur FROM profinfer_operator;

-- Any table, once more.
CREATE PERFETTO MACRO profinfer_again(
  -- The table.
  source TableOrSubquery
)
RETURNS TableOrSubquery AS
(SELECT * FROM $source);
"""

QUERY = """\
-- Which operators take longest?
-- By total time.
INCLUDE PERFETTO MODULE profinfer.operators.runs;

-- title: Hot spots
SELECT name FROM profinfer_operator;

CREATE PERFETTO TABLE _x AS SELECT 1 AS y;

-- title: The rest
WITH a AS (SELECT 1) SELECT * FROM a;
"""


FUNCTION = "-- F.\nCREATE PERFETTO FUNCTION profinfer_f(x LONG) RETURNS LONG AS SELECT $x;\n"


def table(columns: str = "-- A.\n  a LONG", head: str = "-- Doc.\nCREATE PERFETTO TABLE") -> str:
    return f"{head} profinfer_t({columns}) AS SELECT 1 AS a;\n"


def faults(root: Path, text: str, where: str = "profinfer/operators.sql") -> list[tuple[int, str]]:
    path = root / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return [(fault.line, fault.message) for fault in sql_lint.lint(root)]


def test_good_module(tmp_path: Path) -> None:
    assert faults(tmp_path, GOOD) == []


def test_good_query(tmp_path: Path) -> None:
    assert faults(tmp_path, QUERY, "hotspots.sql") == []


def test_events_reads_slices(tmp_path: Path) -> None:
    text = "CREATE PERFETTO VIEW _e AS SELECT id FROM slice JOIN args USING (arg_set_id);\n"
    assert faults(tmp_path, text, "profinfer/events.sql") == []
    assert len(faults(tmp_path, text, "profinfer/deep/events.sql")) == 2


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (table().replace("profinfer_t", "operators"), 2, "public names start with profinfer_"),
        (table(head="CREATE PERFETTO TABLE"), 1, "no `--` comment"),
        (table(head="-- Doc.\n\nCREATE PERFETTO TABLE"), 3, "no `--` comment"),
        (table(head=" -- Doc.\nCREATE PERFETTO TABLE"), 2, "no `--` comment"),
        (table(head="-- Doc.\n  CREATE PERFETTO TABLE"), 2, "column 0"),
        (table(head="-- Doc\nCREATE PERFETTO TABLE"), 2, "end with a period"),
        (table(head="-- Doc.\nCREATE OR REPLACE PERFETTO TABLE"), 2, "no OR REPLACE"),
        ("-- Doc.\nCREATE PERFETTO TABLE profinfer_t AS SELECT 1 AS a;", 2, "no column schema"),
        ("CREATE TABLE _t AS SELECT 1;", 1, "instead of the plain one"),
        ("CREATE TEMP VIEW _t AS SELECT 1;", 1, "instead of the plain one"),
        (table("a LONG"), 2, "profinfer_t.a: no comment"),
        (table("-- A.\n  a LONG,\n  b LONG"), 4, "profinfer_t.b: no comment"),
        (table("-- A\n  a LONG"), 3, "profinfer_t.a: its comment does not end"),
        (table("-- A.\n  a INT"), 3, "INT is not a column type"),
        (table("-- A.\n  a"), 3, "nothing is not a column type"),
        (table("-- A.\n  a JOINID(t2.id)"), 3, "JOINID(t2.id) is not a column type"),
        (table("-- A.\n  a JOINID"), 3, "JOINID is not a column type"),
        (FUNCTION, 2, "profinfer_f.x: no comment above this argument"),
        ("SELECT 1;", 1, "no SELECT of its own"),
        ("-- x\nWITH a AS (SELECT 1) SELECT * FROM a;", 2, "no SELECT of its own"),
        ("DROP TABLE a;", 1, "only creates and includes: DROP"),
        ("INCLUDE PERFETTO MODULE slices.*;", 1, "no wildcard includes"),
        ("CREATE PERFETTO VIEW _v AS\nSELECT 1 WHERE 'a' LIKE 'b';", 2, "GLOB instead of LIKE"),
        ("CREATE PERFETTO VIEW _v AS\nSELECT 1 FROM slice;", 2, "only events.sql reads slice"),
        ("CREATE PERFETTO VIEW _v AS\nSELECT 1 FROM a b, args;", 2, "only events.sql reads args"),
        ("CREATE PERFETTO VIEW _v AS\nSELECT 1 FROM a\nJOIN track t;", 3, "reads track"),
    ],
)  # fmt: skip
def test_bad_module(tmp_path: Path, text: str, line: int, message: str) -> None:
    found = faults(tmp_path, text)
    assert len(found) == 1, found
    assert found[0][0] == line
    assert message in found[0][1]


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("longest?", "longest", 1, "asks a question"),
        ("-- Which", "\n-- Which", 1, "asks a question"),
        ("-- title: Hot spots", "", 6, "no `-- title: ...`"),
        ("-- title: The rest", "-- title:", 11, "no `-- title: ...`"),
        ("FROM profinfer_operator", "FROM x WHERE y LIKE z", 6, "GLOB"),
    ],
)
def test_bad_query(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    found = faults(tmp_path, QUERY.replace(old, new), "hotspots.sql")
    assert len(found) == 1, found
    assert found[0][0] == line
    assert message in found[0][1]


def test_main(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sql_lint.main([str(tmp_path)]) == 0
    path = tmp_path / "a.sql"
    path.write_text("SELECT 1;\n")
    assert sql_lint.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines()[0].startswith(f"{path}:1: ")
