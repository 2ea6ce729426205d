"""One opened trace that answers SQL, whichever Trace Processor is behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from perfetto.common.exceptions import PerfettoException

from profinfer.errors import ProfinferError, TraceError, TraceProcessorError
from profinfer.trace_processor import find, result, sql_error, trace_file
from profinfer.trace_processor.backend import TransportTraceProcessor
from profinfer.trace_processor.result import Result
from profinfer.trace_processor.rpc import Transport

PACKAGE = "profinfer"
SQL_DIR = Path(__file__).resolve().parents[2] / "sql"
_STATUS_SECONDS = 20.0
_IMPORT_ERRORS = """
SELECT name || IFNULL('[' || idx || ']', ''), value FROM stats
WHERE severity IN ('error', 'data_loss') AND value > 0
ORDER BY name, idx
"""


class Session:
    """A trace opened by `open_trace`; a context manager that closes it.

    `tp` is perfetto's `TraceProcessor` object over the same Trace Processor, `kind` is `wasm`
    or the path of the native shell, `version` what it calls itself.
    """

    def __init__(self, tp: TransportTraceProcessor, kind: str, version: str) -> None:
        self.tp = tp
        self.kind = kind
        self.version = version

    def query(
        self, sql: str, *, at: tuple[int, int] = (1, 1), timeout: float | None = None
    ) -> Result:
        """Run PerfettoSQL and return the last statement's result.

        `at` is the line and column where `sql` begins in the user's file, for error messages.
        Raises `QueryError` when the SQL is wrong. `timeout` is in seconds: past it the Trace
        Processor is ended and `TraceProcessorError` raised, as when it dies by itself.
        """
        backend = self.tp.rpc
        backend.timeout = timeout
        try:
            messages = backend.query_messages(sql)
        finally:
            backend.timeout = None
        table, error = result.parse(messages)
        if error:
            raise sql_error.explain(error, sql, at)
        return table

    def import_errors(self) -> list[tuple[str, int]]:
        """Return what Trace Processor counted as an error or a loss while parsing.

        Pairs of a name of its `stats` table and a count above zero.
        """
        return [(str(name), int(value or 0)) for name, value in self.query(_IMPORT_ERRORS)]

    def close(self) -> None:
        """End the Trace Processor; a second call does nothing."""
        self.tp.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_trace(
    path: Path | None,
    *,
    trace_processor: str | None = None,
    sql_dir: Path | None = SQL_DIR,
    interruptible: bool = True,
) -> Session:
    """Parse the trace in `path` (None: no trace) and return it ready for queries.

    `trace_processor` is the path of a native shell, `wasm` for the embedded one, or None to
    choose as `find.find_shell` says. The modules below `sql_dir`/profinfer are registered as the
    PerfettoSQL package `profinfer` (None: not). `interruptible` False: the embedded one is faster,
    but only the end of the process ends a call.

    Raises `TraceError` when the file cannot be read or is no trace, and `TraceProcessorError`
    when there is no usable Trace Processor. A truncated trace opens: ask `is_cut`.
    """
    if path is not None:
        trace_file.check_readable(path)
        if find.find_shell(trace_processor) is None:
            trace_file.check_held(path)
    transport = find.start(trace_processor, interruptible=interruptible)
    try:
        return _open(path, transport, sql_dir)
    except BaseException:
        transport.close()
        raise


def _open(path: Path | None, transport: Transport, sql_dir: Path | None) -> Session:
    tp = TransportTraceProcessor(transport)
    # A program that is no Trace Processor may well wait for ever, so the first call may not.
    tp.rpc.timeout = _STATUS_SECONDS
    try:
        version = str(tp.rpc.status().human_readable_version)
    except TraceProcessorError as error:
        if transport.kind != find.EMBEDDED:
            error.hint = error.hint or find.EMBEDDED_HINT
        raise
    tp.rpc.timeout = None
    modules = sql_modules(sql_dir) if sql_dir is not None else {}
    try:
        if modules:
            tp.rpc.register_sql_package(PACKAGE, modules)
    except PerfettoException as error:
        raise TraceProcessorError(f"cannot register the SQL in {sql_dir}: {error}") from None
    _parse(path, tp)
    return Session(tp, transport.kind, version)


def sql_modules(sql_dir: Path) -> dict[str, str]:
    """Return the PerfettoSQL modules below `sql_dir`/profinfer: name to text."""
    root = sql_dir / PACKAGE
    modules = {}
    for file in sorted(root.rglob("*.sql")):
        parts = file.relative_to(sql_dir).with_suffix("").parts
        modules[".".join(parts)] = file.read_text(encoding="utf-8")
    return modules


def _parse(path: Path | None, tp: TransportTraceProcessor) -> None:
    try:
        if path is not None:
            buffer = bytearray(tp.rpc.transport.chunk_bytes)
            with path.open("rb", buffering=0) as file:
                while size := file.readinto(buffer):
                    outcome = tp.rpc.parse(memoryview(buffer)[:size])
                    if outcome.error:
                        raise PerfettoException(outcome.error)
        # Also without a trace: the standard tables come with this call.
        tp.rpc.notify_eof()
    except PerfettoException as error:
        raise _trace_error(path, str(error)) from None
    except OSError as error:
        raise TraceError(f"cannot read {path}: {error.strerror}") from None


def _trace_error(path: Path | None, reason: str) -> ProfinferError:
    if path is None:
        return TraceProcessorError(f"Trace Processor cannot start empty: {reason}")
    if "Unknown trace type" in reason:
        return trace_file.not_a_trace(path)
    hint = "copy the trace again from where it was recorded"
    if "GZIP" in reason:
        hint = f"the beginning can be saved with: gzip -dc {path} > beginning.pftrace"
    return TraceError(f"{path} is damaged: {reason}", hint)
