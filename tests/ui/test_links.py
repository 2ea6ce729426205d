"""Rows that stand for a slice get a link, which opens the UI on it."""

from __future__ import annotations

import csv
import io
import os
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from profinfer.__main__ import main
from profinfer.trace_processor import open_trace
from profinfer.ui.start import PORT, start
from tests.captures import BASE, convert
from tests.conftest import require
from tests.sql.test_scheduling import UNIT, schedule
from tests.ui.test_start import WINDOW


@pytest.fixture(scope="module", name="trace")
def trace_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    name = "a 100% <'\">\n\N{RIGHT-TO-LEFT OVERRIDE}\udcff.pftrace"
    return convert(schedule().frames(), tmp_path_factory.mktemp("links") / name)


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, str]]:
    assert main(["query", *arguments, "--format", "csv"]) == 0
    first, _, _ = capsys.readouterr().out.partition("\n\n")
    return list(csv.DictReader(io.StringIO(first)))


def test_ready_query(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [token] = rows(capsys, "tokens", str(trace), "--links")
    link = urlsplit(token["link"])
    assert (link.netloc, link.path) == (
        f"127.0.0.1:{PORT}",
        f"/open/{quote(os.fsencode(trace.name))}",
    )
    assert token["link"].isascii()
    assert token["link"].isprintable()
    shown = {key: int(value) for key, [value] in parse_qs(link.query).items()}
    assert shown == {"ts": BASE + 40 * UNIT, "dur": 970 * UNIT}
    with open_trace(trace) as session:
        found = session.query(
            "SELECT ts, dur FROM slice WHERE name = 'decode' AND category = 'sequence'"
        )
        assert (shown["ts"], shown["dur"]) in found.rows()


def test_without_links_a_ready_query_shows_no_ids(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("tokens", "requests", "interference"):
        for row in rows(capsys, name, str(trace)):
            assert not {"slice_id", "link"} & set(row)


def test_any_sql(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sql = (
        "SELECT id AS slice_id, name FROM slice WHERE name = 'b' AND category = 'operator'"
        " UNION ALL SELECT NULL, 'none'"
    )
    found = rows(capsys, "--sql", sql, str(trace), "--links")
    assert [(row["name"], bool(row["link"])) for row in found] == [
        ("b", True), ("b", True), ("none", False),
    ]  # fmt: skip
    assert "slice_id" in rows(capsys, "--sql", sql, str(trace))[0]


def test_opens_on_the_slice(trace: Path) -> None:
    require("playwright", find_spec("playwright"))
    from screenshot import browser_path, open_in_ui

    require("Chromium", browser_path())
    with open_trace(trace) as session:
        how = start(session)
        asked = (
            "SELECT s.id, s.ts, s.dur FROM slice AS s JOIN thread_track AS t ON t.id = s.track_id"
            " JOIN thread USING (utid) WHERE s.name = 'b' ORDER BY tid"
        )
        identity, ts, dur = [int(value or 0) for value in session.query(asked).rows()[1]]
    with open_in_ui(trace, start=how, query=f"ts={ts}&dur={dur}") as page:
        assert page.evaluate("() => app.trace.selection.selection.eventId") == identity
        window: list[str] = page.evaluate(WINDOW)
        begin, end = map(int, window)
        assert begin <= ts < ts + dur <= end
        assert end - begin < 6 * dur  # the UI shows five times as much as is selected
