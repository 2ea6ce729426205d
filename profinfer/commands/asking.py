"""What commands have in common that ask a trace."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from profinfer.trace_processor import Session, is_cut, query

_SHOWN_ERRORS = 5


@contextmanager
def killed_by_ctrl_c() -> Iterator[None]:
    """Nothing is lost with this process, and Trace Processor runs faster if it need not listen."""
    before = signal.getsignal(signal.SIGINT)
    if before != signal.default_int_handler:  # ignored, as in a shell's background
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def trace_warnings(session: Session, trace: Path) -> list[tuple[str, str]]:
    """Return why answers from this trace may be incomplete: (message, hint) pairs."""
    warnings = []
    if is_cut(trace):
        hint = (
            "answers cover what was written before; the recorder was killed, the disk was full, or"
            " a copy of the file was not finished"
        )
        warnings.append(("this trace is truncated: it ends in the middle of a packet", hint))
    errors = session.import_errors()
    if errors:
        shown = ", ".join(f"{query.escape(name)} ({n})" for name, n in errors[:_SHOWN_ERRORS])
        more = f" and {len(errors) - _SHOWN_ERRORS} more" if len(errors) > _SHOWN_ERRORS else ""
        hint = (
            "events may be missing: SELECT name, value, description FROM stats WHERE severity IN"
            " ('error', 'data_loss') AND value > 0"
        )
        message = f"Trace Processor met errors or losses in this trace: {shown}{more}"
        warnings.append((message, hint))
    return warnings + query.recording_warnings(session)


def warn(session: Session, trace: Path) -> None:
    """Says so on stderr."""
    for message, hint in trace_warnings(session, trace):
        print(f"profinfer: warning: {message}\nhint: {hint}", file=sys.stderr)
