"""A trace opens in the Perfetto UI that profinfer serves, and nothing else is served."""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from profinfer.errors import OutputError, TraceError
from profinfer.ui.backport import NOTICE, backport
from profinfer.ui.server import TraceServer, serve, web_root
from tests.conftest import require
from tests.ui import small_trace


@pytest.fixture(autouse=True)
def only_ours() -> None:
    """PATH stays as it is: the browser is there."""


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_trace.write(tmp_path_factory.mktemp("ui") / "a 100% trace.pftrace")


@pytest.fixture
def server(trace: Path) -> Iterator[TraceServer]:
    server, _ = serve(trace, 0)
    yield server
    server.shutdown()
    server.server_close()


def get(server: TraceServer, path: str, host: str = "", method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
    connection.endheaders()
    response = connection.getresponse()
    try:
        return response.status, response.read()
    finally:
        connection.close()


def test_serves_ui_and_trace(server: TraceServer, trace: Path) -> None:
    status, body = get(server, "/")
    assert status == 200
    assert b"<html" in body
    assert get(server, "/traces/a%20100%25%20trace.pftrace") == (200, trace.read_bytes())
    assert get(server, "/traces/a%20100%25%20trace.pftrace", method="HEAD") == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/traces/",
        "/traces/other.pftrace",
        "/traces/../../etc/passwd",
        "/../viewer.py",
        "/%2e%2e/viewer.py",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/x%00",
        "/trace_processor/../../viewer.py",
        "/v52.0-6b9586def/",
    ],
)
def test_serves_nothing_else(server: TraceServer, path: str) -> None:
    assert get(server, path)[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1"])
def test_refuses_other_hosts(server: TraceServer, host: str) -> None:
    assert get(server, "/", host)[0] == 403


def test_serve_errors(server: TraceServer, trace: Path, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="No such file"):
        serve(tmp_path / "absent.pftrace")
    capture = tmp_path / "run.raw"
    capture.write_bytes(b"ProfInferRaw" + bytes(100))
    with pytest.raises(TraceError, match="but a raw capture"):
        serve(capture)
    with pytest.raises(OutputError, match="cannot listen"):
        serve(trace, server.server_port)
    with pytest.raises(OutputError, match="cannot listen"):
        serve(trace, 70_000)


def test_command(trace: Path) -> None:
    script = """if True:
        import argparse, sys
        from profinfer.commands.ui import UiCommand
        parser = argparse.ArgumentParser()
        UiCommand().add_arguments(parser)
        sys.exit(UiCommand().run(parser.parse_args()))"""
    command = [sys.executable, "-c", script, str(trace)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        process.stdout.readline()
        origin = f"http://{urlsplit(url).netloc}"
        assert url == f"{origin}/open/a%20100%25%20trace.pftrace"
        with urlopen(url) as response:  # noqa: S310
            assert response.status == 200
            opened = response.url
        assert opened.startswith(
            f"{origin}/#!/?url={origin}/traces/a%2520100%2525%2520trace.pftrace&"
        )
        process.send_signal(2)
        assert process.wait(10) == 0


@pytest.fixture(scope="module", name="browser")
def browser_fixture() -> None:
    require("playwright", find_spec("playwright"))
    from screenshot import browser_path

    require("Chromium", browser_path())


@pytest.mark.usefixtures("browser")
def test_trace_opens(trace: Path) -> None:
    from screenshot import open_in_ui, query

    with open_in_ui(trace) as page:
        assert page.query_selector(".pf-modal-dialog") is None
        assert page.evaluate("() => app.trace.loadingErrors") == []
        tracks = page.evaluate("() => app.trace.workspace.flatTracks.map(track => track.name)")
        assert {"llama-bench 1000", "worker-1 1001", "lost records", "sequence 0"} <= set(tracks)
        rows = query(page, "SELECT name, count(*) AS n FROM slice GROUP BY name ORDER BY name")
        expected = dict.fromkeys(small_trace.OPERATORS, 16) | {"graph": 16}
        assert {row["name"]: row["n"] for row in rows} == expected | {"prefill": 2, "decode": 6}
        asked = page.evaluate("() => performance.getEntriesByType('resource').map(r => r.name)")
        hosts = {urlsplit(url).hostname for url in asked}
        # The last one is the UI's own idea; the content security policy keeps it from asking.
        assert {"127.0.0.1"} <= hosts <= {"127.0.0.1", None, "storage.cloud.google.com"}


@pytest.mark.usefixtures("browser")
def test_error_is_raised(tmp_path: Path) -> None:
    from screenshot import open_in_ui

    path = tmp_path / "no.pftrace"
    path.write_bytes(b"this is no trace" * 50)
    with pytest.raises(TraceError, match="Cannot open this file"), open_in_ui(path):
        pass


@pytest.mark.usefixtures("browser")
def test_screenshot(trace: Path, tmp_path: Path) -> None:
    import screenshot

    out = tmp_path / "out.png"
    assert screenshot.main([str(trace), str(out), "--zoom-to-slice", "ffn_*"]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert screenshot.main([str(trace), str(out), "--zoom-to-slice", "x"]) == 9


def test_link_of_another_trace_is_refused(server: TraceServer) -> None:
    assert get(server, "/open/other.pftrace?ts=1&dur=2")[0] == 404


def test_backport_fits_the_embedded_ui() -> None:
    [bundle] = web_root().glob("v*/frontend_bundle.js")
    text = bundle.read_bytes()
    changed = backport(text)
    assert changed.startswith(NOTICE)
    assert changed.count(b"AddNoteAtTimestamp") == 2
    assert changed.count(b".headless&&") - text.count(b".headless&&") == 5
    assert changed.count(b".addChildLast(") - text.count(b".addChildLast(") == 2
    assert changed.count(b"`trackEvent-`+d") == 1
    assert backport(b"another version") == b"another version"
    assert backport(changed) == changed
