"""The UI opens on a workspace with what one looks for first, whatever the names in the trace."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from profinfer.trace_processor import open_trace
from profinfer.ui.server import UiServer
from profinfer.ui.start import Start, start
from tests.captures import BASE, MAIN, PID, WORKER, convert
from tests.conftest import require
from tests.sql.test_scheduling import SPINNER, UNIT, schedule

if TYPE_CHECKING:
    from playwright.sync_api import Page

IDLE = 102
HOSTILE = """</script><img src=x onerror=document.title='pwned'>'"&#!/?url=http://evil %0d%0a"""
ALLOWED = {
    "CreateWorkspace", "SwitchWorkspace", "CopyTracksToWorkspaceByRegex",
    "CopyTracksToWorkspaceByRegexWithAncestors", "ExpandTracksByRegex", "AddNoteAtTimestamp",
    "RunQueryAndShowTab",
}  # fmt: skip
"""Of those that v54 allows at the start (v52: all but the note, which is put into it)."""

WINDOW = """() => {
    const window = app.trace.timeline.visibleWindow.toTimeSpan();
    return [String(window.start), String(window.end)];
}"""


@pytest.fixture(autouse=True)
def only_ours() -> None:
    """PATH stays as it is: the browser is there."""


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two threads that compute, one that is idle, a stranger; all with names of the worst kind."""
    capture = schedule()
    capture.threads = dict.fromkeys((MAIN, WORKER, IDLE), HOSTILE)
    capture.strangers = {SPINNER: HOSTILE}
    capture.at_start["target"] = {"pid": PID, "name": HOSTILE, "command": [HOSTILE]}
    capture.switch(200 * UNIT, 3, 0, IDLE)
    capture.switch(210 * UNIT, 3, IDLE, 0, 1)
    return convert(capture.frames(), tmp_path_factory.mktemp("start") / "'><b> 100%\n.pftrace")


@pytest.fixture(scope="module", name="how")
def how_fixture(trace: Path) -> Start:
    with open_trace(trace) as session:
        return start(session)


def test_asks_for_what_the_ui_allows(how: Start) -> None:
    names = {str(each["id"]).removeprefix("dev.perfetto.") for each in how.commands}
    assert names == ALLOWED
    assert (how.begin, how.end) == (BASE + 20 * UNIT, BASE + 1030 * UNIT)
    [note] = [each["args"] for each in how.commands if str(each["id"]).endswith("AtTimestamp")]
    assert note == [str(BASE + 40 * UNIT), "slowest 9.8 ms: the token of request 1, step 1"]


def test_no_name_is_in_the_address(how: Start, trace: Path) -> None:
    server = UiServer(trace, 0, how)
    server.server_close()
    address = server.address()
    assert re.fullmatch(r"[!-~]+", address)
    assert not set("\"'<>") & set(address)
    arguments = parse_qs(urlsplit(address).fragment.partition("?")[2])
    commands = json.loads(arguments["startupCommands"][0])
    sql = [each["args"][0] for each in commands if each["id"].endswith("RunQueryAndShowTab")]
    rest = [each for each in commands if not each["id"].endswith("RunQueryAndShowTab")]
    assert "evil" not in json.dumps(rest)
    assert "evil" not in sql[0]
    begin, end = int(arguments["visStart"][0]), int(arguments["visEnd"][0])
    assert how.first <= begin <= BASE + 20 * UNIT < BASE + 1030 * UNIT <= end <= how.last


def test_link_selects_and_zooms(how: Start, trace: Path) -> None:
    server = UiServer(trace, 0, how)
    server.server_close()
    ts, dur = BASE + 100 * UNIT, 50 * UNIT
    arguments = parse_qs(urlsplit(server.address(f"ts={ts}&dur={dur}")).fragment.partition("?")[2])
    assert (arguments["ts"], arguments["dur"]) == ([str(ts)], [str(dur)])
    assert int(arguments["visStart"][0]) < ts < ts + dur < int(arguments["visEnd"][0])
    for odd in ("ts=1;drop&dur=2", "ts=-1&dur=1", "ts=1", f"ts={'9' * 99}&dur=1"):
        assert "ts" not in parse_qs(urlsplit(server.address(odd)).fragment.partition("?")[2])


def test_other_traces_open_as_they_do(tmp_path: Path) -> None:
    from tests.ui.small_trace import write

    with open_trace(write(tmp_path / "t.pftrace")) as session:
        assert start(session) == Start()


# ---- In a browser


@pytest.fixture(scope="module", name="page")
def page_fixture(trace: Path, how: Start) -> Iterator[Page]:
    require("playwright", find_spec("playwright"))
    from screenshot import browser_path, open_in_ui

    require("Chromium", browser_path())
    with open_in_ui(trace, start=how) as page:
        yield page


def titles(page: Page) -> list[str]:
    """Of the tracks that one sees or could scroll to, from the top."""
    found: list[str] = page.evaluate(
        "() => [...document.querySelectorAll('.pf-track__title')].map(title =>"
        " [...title.querySelectorAll('.pf-middle-ellipsis-left, .pf-middle-ellipsis-right')]"
        " .slice(0, 2).map(part => part.textContent).join('').replaceAll('\\u00a0', ' '))"
    )
    return found


def test_workspace(page: Page) -> None:
    assert page.evaluate(
        "() => app.trace.currentWorkspace?.title ?? app.trace.workspace.title"
    ) == ("Inference")
    shown = titles(page)
    process = f"{HOSTILE} {PID}"
    of = [title.replace(f"({MAIN})", "").replace(f"({WORKER})", "").strip() for title in shown]
    assert of == [
        "Requests", "Requests of sequence 0", "Sequences", "Sequence 0", "Tokens per second",
        "Backends", "CPU", process, "Blocked in", f"compute 0 {MAIN}", f"compute 0 {MAIN}",
        "Blocked in", f"compute 1 {WORKER}", f"compute 1 {WORKER}", f"script><img {SPINNER}",
        process, "Inference", "ProfInfer recorder", "Lost records", process,
    ]  # fmt: skip
    # The idle thread is in the last one, which is closed.
    assert not any(str(IDLE) in title for title in shown)
    closed = page.evaluate(
        "() => app.trace.workspace.children.at(-1).children.map(t => t.children.map(c => c.name))"
    )
    assert closed == [[f"{HOSTILE} {IDLE}"]]


def test_default_workspace_has_everything(page: Page) -> None:
    names: list[str] = page.evaluate(
        "() => app.trace.workspaces.all[0].flatTracks.map(track => track.name)"
    )
    assert {"Graph structure", "Inference", f"compute 0 {MAIN}", f"{HOSTILE} {IDLE}"} <= set(names)


def test_zoom_and_note(page: Page) -> None:
    window: list[str] = page.evaluate(WINDOW)
    begin, end = map(int, window)
    assert begin <= BASE + 20 * UNIT < BASE + 1030 * UNIT <= end < BASE + 1200 * UNIT
    notes: list[dict[str, Any]] = page.evaluate(
        "() => [...app.trace.notes.notes.values()]"
        ".map(note => ({t: String(note.timestamp), text: note.text}))"
    )
    assert notes == [
        {"t": str(BASE + 40 * UNIT), "text": "slowest 9.8 ms: the token of request 1, step 1"}
    ]


def test_query_tab(page: Page) -> None:
    drawer = page.locator(".pf-split-panel__drawer").inner_text()
    assert "imbalance_ms" in drawer


def test_picture(page: Page, tmp_path: Path) -> None:
    """PROFINFER_PICTURES=DIR keeps it; tools/pictures.sh makes the README's of a real trace."""
    out = Path(os.environ.get("PROFINFER_PICTURES", tmp_path)) / "workspace.png"
    page.screenshot(path=out)
    assert out.read_bytes().startswith(b"\x89PNG")
    assert out.stat().st_size > 20_000


def test_names_are_inert_and_nothing_is_red(page: Page) -> None:
    from screenshot import query

    assert page.title() != "pwned"
    assert page.evaluate("() => document.querySelectorAll('img[src=x]').length") == 0
    assert page.evaluate("() => app.trace.loadingErrors") == []
    assert page.query_selector(".pf-modal-dialog") is None
    errors = "SELECT count() AS n FROM stats WHERE severity IN ('error', 'data_loss') AND value > 0"
    assert query(page, errors) == [{"n": 0}]
