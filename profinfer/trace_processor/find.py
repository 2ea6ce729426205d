"""Which Trace Processor answers: the one asked for, a native one that is here, or our own."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

from perfetto.prebuilts.manifests.trace_processor_shell import TRACE_PROCESSOR_SHELL_MANIFEST

from profinfer.errors import TraceProcessorError
from profinfer.trace_processor.rpc import Transport
from profinfer.trace_processor.shell import ShellTransport
from profinfer.trace_processor.wasm import WasmTransport

ENVIRONMENT = "PROFINFER_TRACE_PROCESSOR"
EMBEDDED = "wasm"
_SHELL = "trace_processor_shell"
EMBEDDED_HINT = f"set {ENVIRONMENT}={EMBEDDED} to use the embedded Trace Processor"


def find_shell(wanted: str | None = None) -> Path | None:
    """Return the path of the native Trace Processor to use, or None for the embedded one.

    In this order: `wanted`, a path or `wasm`; the same from the environment variable
    `PROFINFER_TRACE_PROCESSOR`; `trace_processor_shell` on PATH; the one that the perfetto
    package downloaded earlier. Nothing is ever downloaded. Raises `TraceProcessorError` when
    the one asked for is missing or cannot be executed.
    """
    for source, value in (("", wanted), (f"{ENVIRONMENT}: ", os.environ.get(ENVIRONMENT))):
        if value == EMBEDDED:
            return None
        if value:
            return _executable(Path(value), source)
    on_path = shutil.which(_SHELL)
    if on_path:
        return Path(on_path)
    cached = _cached_by_perfetto()
    return cached if cached and os.access(cached, os.X_OK) else None


def start(wanted: str | None = None, *, interruptible: bool = True) -> Transport:
    """Start the Trace Processor that `find_shell` chooses; `interruptible` as in WasmTransport.

    Raises `TraceProcessorError` when it cannot be started.
    """
    path = find_shell(wanted)
    if path is None:
        return WasmTransport(interruptible=interruptible)
    try:
        return ShellTransport(path)
    except TraceProcessorError as error:
        error.hint = error.hint or EMBEDDED_HINT
        raise


def _executable(path: Path, source: str) -> Path:
    if not path.exists():
        reason = "does not exist"
    elif not path.is_file():
        reason = "is not a file"
    elif not os.access(path, os.X_OK):
        reason = "is not executable"
    else:
        return path
    raise TraceProcessorError(f"{source}Trace Processor {path} {reason}", EMBEDDED_HINT)


def _cached_by_perfetto() -> Path | None:
    """Return where the perfetto package keeps the shell of its own version."""
    machine = platform.machine().lower()
    for entry in TRACE_PROCESSOR_SHELL_MANIFEST:
        if entry.get("platform") == sys.platform and machine in entry.get("machine", ()):
            folder = Path(os.path.expanduser("~/.local/share/perfetto/prebuilts"))
            name = Path(str(entry["file_name"]))
            digest = str(entry["sha256"])[:16]
            return folder / f"{name.stem}-{digest}{name.suffix}"
    return None
