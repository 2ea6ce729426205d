"""`profinfer ui --online`: the page https://ui.perfetto.dev in a browser here reads the trace, and
nobody else does. The page is played by the embedded UI at that address, with its own policy."""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote, urlsplit

import pytest

from profinfer.errors import OutputError
from profinfer.trace_processor import open_trace
from profinfer.ui.backport import backport
from profinfer.ui.server import (
    CONTENT_TYPES,
    ONLINE,
    ONLINE_PORT,
    OnlineServer,
    TraceServer,
    serve,
    web_root,
)
from profinfer.ui.start import Start, start
from tests.captures import BASE, convert
from tests.conftest import require
from tests.sql.test_scheduling import UNIT, schedule
from tests.ui.test_server import get
from tests.ui.test_start import WINDOW, titles

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ELSEWHERE = "https://elsewhere.example"
MAY_READ = """url => fetch(url).then(answer => answer.status, error => error.name)"""


@pytest.fixture(autouse=True)
def only_ours() -> None:
    """PATH stays as it is: the browser is there."""


@pytest.fixture(scope="module", name="trace")
def trace_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(schedule().frames(), tmp_path_factory.mktemp("online") / "a 100% trace.pftrace")


@pytest.fixture(scope="module", name="server")
def server_fixture(trace: Path) -> Iterator[TraceServer]:
    with open_trace(trace) as session:
        how = start(session)
    server, _ = serve(trace, start=how, online=True)
    yield server
    server.shutdown()
    server.server_close()


class _Page(SimpleHTTPRequestHandler):
    """The embedded UI, as new as backport.py makes it, and no header of ours."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | CONTENT_TYPES

    def send_head(self) -> BytesIO | BinaryIO | None:
        if not self.path.endswith("/frontend_bundle.js"):
            return super().send_head()
        body = backport(Path(self.translate_path(self.path)).read_bytes())
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPES[".js"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return BytesIO(body)

    def log_message(self, *args: object) -> None:
        """Requests are nobody's business."""


@contextmanager
def https(folder: Path) -> Iterator[int]:
    """The port of a server that says it is the online page: nobody vouches for it."""
    files = [str(folder / name) for name in ("key.pem", "certificate.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", files[0], "-out", files[1], "-subj", "/CN=ui.perfetto.dev"],
        check=True, capture_output=True,
    )  # fmt: skip
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Page, directory=str(web_root())))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[1], files[0])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module", name="browser")
def browser_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """For which the page, and one elsewhere, are where they say, in the internet."""
    require("playwright", find_spec("playwright"))
    require("openssl", shutil.which("openssl"))
    from playwright.sync_api import sync_playwright
    from screenshot import FLAGS, browser_path

    require("Chromium", browser_path())
    with https(tmp_path_factory.mktemp("https")) as port, sync_playwright() as playwright:
        names = [urlsplit(each).hostname for each in (ONLINE, ELSEWHERE)]
        rules = [f"MAP {name}:443 127.0.0.1:{port}" for name in names]
        flags = [flag for flag in FLAGS if not flag.startswith("--host-resolver-rules=")]
        browser = playwright.chromium.launch(executable_path=browser_path(), args=[
            *flags, "--ignore-certificate-errors",
            f"--host-resolver-rules={', '.join(rules)}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--ip-address-space-overrides=127.0.0.1:{port}=public",
        ])  # fmt: skip
        yield browser
        browser.close()


@pytest.fixture(scope="module", name="page")
def page_fixture(browser: Browser, server: TraceServer) -> Iterator[Page]:
    """The page as one sees it who lets it read from this machine, when the browser asks."""
    from screenshot import load

    context = browser.new_context(viewport={"width": 1600, "height": 900})
    context.grant_permissions(["local-network-access"], origin=ONLINE)
    page = context.new_page()
    load(page, server.origin + quote(server.open_path), server.trace)
    yield page
    context.close()


def test_the_page_opens_the_trace_on_the_workspace(page: Page) -> None:
    assert page.url.startswith(f"{ONLINE}/#!/")
    assert page.evaluate("() => app.trace.loadingErrors") == []
    workspace = "() => app.trace.currentWorkspace?.title ?? app.trace.workspace.title"
    assert page.evaluate(workspace) == "Inference"
    assert "Requests" in titles(page)
    begin, end = map(int, page.evaluate(WINDOW))
    assert begin <= BASE + 20 * UNIT < BASE + 1030 * UNIT <= end < BASE + 1200 * UNIT


def test_nothing_is_uploaded(page: Page, server: TraceServer) -> None:
    asked = page.evaluate("() => performance.getEntriesByType('resource').map(r => r.name)")
    here = [url for url in asked if url.startswith("http://127.0.0.1")]
    assert {urlsplit(url).port for url in here} == {ONLINE_PORT}
    assert any("/traces/" in url for url in here)
    # What its makers ask of a page that is theirs; the rest of the internet is not reached.
    elsewhere = {urlsplit(url).hostname for url in asked} - {"127.0.0.1", "ui.perfetto.dev"}
    assert elsewhere <= {None, "storage.cloud.google.com", "www.googletagmanager.com"}
    assert get(server, "/", method="POST")[0] == 501


def test_no_other_page_may_read_it(browser: Browser, page: Page, server: TraceServer) -> None:
    url = f"{server.origin}/traces/a%20100%25%20trace.pftrace"
    assert page.evaluate(MAY_READ, url) == 200
    context = browser.new_context()
    context.grant_permissions(["local-network-access"], origin=ELSEWHERE)
    other = context.new_page()
    other.goto(f"{ELSEWHERE}/service_worker.js")
    assert other.evaluate(MAY_READ, url) == "TypeError"
    context.close()


def test_it_hands_over_the_trace_and_nothing_else(trace: Path) -> None:
    server = OnlineServer(trace, 0, Start())
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        status, body = get(server, "/traces/a%20100%25%20trace.pftrace")
        assert (status, body) == (200, trace.read_bytes())
        for path in ("/", "/index.html", "/traces/", "/v52.0-6b9586def/frontend_bundle.js"):
            assert get(server, path)[0] == 404
        assert get(server, "/traces/a%20100%25%20trace.pftrace", ONLINE)[0] == 403
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        connection.request("GET", "/open/a%20100%25%20trace.pftrace")
        response = connection.getresponse()
        assert response.status == 302
        assert response.headers["Access-Control-Allow-Origin"] == ONLINE
        where = f"{server.origin}/traces/a%2520100%2525%2520trace.pftrace"
        assert str(response.headers["Location"]).startswith(f"{ONLINE}/#!/?url={where}&")
        connection.close()
    finally:
        server.shutdown()
        server.server_close()


def test_port_is_taken(trace: Path) -> None:
    with closing(socket.socket()) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # somebody else may have taken it
            taken.bind(("127.0.0.1", ONLINE_PORT))
        taken.listen()
        with pytest.raises(OutputError, match=f"cannot listen on 127.0.0.1:{ONLINE_PORT}"):
            serve(trace, online=True)
