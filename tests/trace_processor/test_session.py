"""One Session, whichever Trace Processor is behind it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from profinfer.errors import QueryError, TraceProcessorError
from profinfer.trace_processor import Session, open_trace
from profinfer.trace_processor.find import ENVIRONMENT, find_shell
from tests.trace_processor.conftest import SLICES

FOREVER = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT MAX(x) FROM c"


@pytest.fixture(params=["wasm", "shell"])
def either(request: pytest.FixtureRequest, trace: Path) -> Iterator[Session]:
    """A session on the embedded Trace Processor, and one on a native one."""
    wanted = "wasm" if request.param == "wasm" else str(request.getfixturevalue("shell"))
    with open_trace(trace, trace_processor=wanted) as session:
        assert session.kind == wanted
        yield session


def test_rows_and_columns(either: Session) -> None:
    result = either.query("SELECT id, ts, dur, name FROM slice ORDER BY id")
    assert result.columns == ["id", "ts", "dur", "name"]
    assert len(result) == SLICES
    assert result.rows()[1] == (1, 1010, 5, "s1")
    assert result.column("dur").dtype == np.int64
    assert result.column(1).sum() == sum(1000 + 10 * i for i in range(SLICES))
    assert either.import_errors() == []
    assert "Perfetto" in either.version
    with pytest.raises(KeyError):
        result.column("bogus")


def test_every_kind_of_value(either: Session) -> None:
    result = either.query(
        "SELECT 1 AS a, -5 AS b, -9223372036854775808 AS c, 9e999 AS d, NULL AS e, "
        "X'00ff' AS f, 'é' AS g, '' AS h, 1.5 AS i "
        "UNION ALL SELECT 2.5, 0, 9223372036854775807, -0.5, 3, X'', 'x', NULL, NULL"
    )
    assert result.rows() == [
        (1, -5, -(2**63), math.inf, None, b"\x00\xff", "é", "", 1.5),
        (2.5, 0, 2**63 - 1, -0.5, 3, b"", "x", None, None),
    ]
    assert [type(value) for value in result.rows()[0][:4]] == [int, int, int, float]


def test_result_in_many_batches(either: Session) -> None:
    result = either.query(
        "WITH RECURSIVE c(x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM c LIMIT 100000) "
        "SELECT x, x * 0.5 AS half, IIF(x % 3 = 0, NULL, 'n' || x) AS n FROM c"
    )
    assert np.array_equal(result.column("x"), np.arange(100_000))
    assert np.array_equal(result.column("half"), np.arange(100_000) / 2)
    assert result.rows()[99_998] == (99_998, 49_999.0, "n99998")
    assert result.rows()[99_999][2] is None


def test_no_rows(either: Session) -> None:
    result = either.query("SELECT id, name FROM slice WHERE dur > 5")
    assert (result.columns, len(result), result.rows()) == (["id", "name"], 0, [])


def test_perfettos_own_api(either: Session) -> None:
    rows = list(either.tp.query("SELECT name, COUNT(*) AS n FROM slice GROUP BY 1"))
    assert [(row.name, row.n) for row in rows] == [("s0", 2), ("s1", 2), ("s2", 1)]
    summary = either.tp.trace_summary(['metric_spec { id: "m" value: "v" query { sql { '
        'sql: "SELECT 4.0 AS v" column_names: "v" } } }'])  # fmt: skip
    assert summary.metric_bundles[0].row[0].values[0].double_value == 4.0
    either.tp.enable_metatrace()
    assert either.tp.disable_and_read_metatrace()


def test_a_package_of_sql(trace: Path, tmp_path: Path, shell: Path) -> None:
    folder = tmp_path / "sql" / "profinfer" / "deep"
    folder.mkdir(parents=True)
    (folder / "names.sql").write_text("CREATE PERFETTO VIEW names AS\nSELECT name FROM slice;")
    (folder / "wrong.sql").write_text("CREATE PERFETTO TABLE w AS\nSELECT bogus FROM slice;")
    for wanted in ("wasm", str(shell)):
        with open_trace(trace, trace_processor=wanted, sql_dir=tmp_path / "sql") as session:
            session.query("INCLUDE PERFETTO MODULE profinfer.deep.names")
            assert len(session.query("SELECT * FROM names")) == SLICES
            with pytest.raises(QueryError) as error:
                session.query("\nINCLUDE PERFETTO MODULE profinfer.deep.wrong")
            assert error.value.message == (
                "no such column: bogus at line 2, column 1 "
                "(in module profinfer.deep.wrong, line 2, column 8)"
            )


@pytest.mark.parametrize(
    ("sql", "at", "message", "pointed"),
    [
        ("SELECT bogus", (1, 1), "no such column: bogus at line 1, column 8", "bogus"),
        ("SELECT 1,\n 'é', bogus", (1, 1), "no such column: bogus at line 2, column 7", "bogus"),
        ("SELECT 1,\n\tbogus", (5, 9), "no such column: bogus at line 6, column 2", "bogus"),
        ("SELECT bogus", (5, 9), "no such column: bogus at line 5, column 16", "bogus"),
        ("SELEC 1", (1, 1), "syntax error at line 1, column 1", "SELEC 1"),
        (f"SELECT '{'é' * 200}', bogus", (1, 1), "no such column: bogus at line 1", "bogus"),
    ],
)
def test_sql_errors(
    session: Session, sql: str, at: tuple[int, int], message: str, pointed: str
) -> None:
    with pytest.raises(QueryError) as error:
        session.query(sql, at=at)
    assert error.value.message.startswith(message)
    _, line, caret = error.value.hint.split("\n")
    assert line[caret.index("^") :].startswith(pointed)
    assert len(line) < 110


def test_sql_error_without_a_place(session: Session) -> None:
    with pytest.raises(QueryError, match=r"Package 'foo.bar' not found at line 3, column 1"):
        session.query("INCLUDE PERFETTO MODULE foo.bar", at=(3, 1))


def test_timeout_ends_one_session(either: Session, session: Session) -> None:
    with pytest.raises(TraceProcessorError, match=r"stopped after 0\.3 s"):
        either.query(FOREVER, timeout=0.3)
    with pytest.raises(TraceProcessorError, match="has ended: stopped after"):
        either.query("SELECT 1")
    assert session.query("SELECT 1").rows() == [(1,)]
    either.close()
    either.close()


def test_order_of_the_search(
    shell: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trace: Path
) -> None:
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    assert find_shell() == shell
    monkeypatch.setenv(ENVIRONMENT, str(other))
    assert find_shell() == other
    assert find_shell(str(shell)) == shell
    assert find_shell("wasm") is None
    monkeypatch.setenv(ENVIRONMENT, "wasm")
    assert find_shell() is None
    monkeypatch.delenv(ENVIRONMENT)
    with open_trace(trace) as session:
        assert session.kind == str(shell)


def test_perfettos_download_is_used_but_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_shell() is None
    assert list(tmp_path.iterdir()) == []
    manifest = "perfetto.prebuilts.manifests.trace_processor_shell"
    entries = __import__(manifest, fromlist=["x"]).TRACE_PROCESSOR_SHELL_MANIFEST
    folder = tmp_path / ".local/share/perfetto/prebuilts"
    folder.mkdir(parents=True)
    for entry in entries:
        path = folder / f"trace_processor_shell-{entry['sha256'][:16]}"
        path.touch(0o755)
    found = find_shell()
    assert found is not None
    assert found.parent == folder


@pytest.mark.parametrize("source", ["argument", "environment"])
def test_a_bad_path_is_an_error(
    source: str, tmp_path: Path, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    cases = {tmp_path / "absent": "does not exist", tmp_path: "is not a file",
             plain: "is not executable"}  # fmt: skip
    for path, reason in cases.items():
        argument = str(path) if source == "argument" else None
        if argument is None:
            monkeypatch.setenv(ENVIRONMENT, str(path))
        with pytest.raises(TraceProcessorError, match=f"{path} {reason}") as error:
            open_trace(trace, trace_processor=argument)
        assert "wasm" in error.value.hint


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "#!/bin/sh\necho hello\nwhile read x; do :; done",
            "does not speak",
            "trace_processor_shell",
        ),
        ("#!/bin/sh\necho cannot start >&2\nexit 3", "exit status 3", "it said: cannot start"),
        ("#!/nonexistent/interpreter\n", "cannot run", "wasm"),
        ("#!/bin/sh\nkill -9 $$", "signal 9", "trace_processor_shell"),
    ],
)
def test_a_program_that_is_no_trace_processor(
    program: Callable[[str], Path], trace: Path, text: str, message: str, hint: str
) -> None:
    path = program(text)
    with pytest.raises(TraceProcessorError, match=message) as error:
        open_trace(trace)
    assert str(path) in error.value.message
    assert hint in error.value.hint
