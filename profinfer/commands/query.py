"""`profinfer query`: ask a trace in PerfettoSQL."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from profinfer.trace_processor import SQL_DIR, Session, is_cut, open_trace, query
from profinfer.trace_processor.expand import expand

_EXAMPLES = """\
examples:
  profinfer query --list                              the ready queries
  profinfer query stalls trace.pftrace                one of them, by name
  profinfer query mine.sql trace.pftrace --format csv > mine.csv
  profinfer query --expand stalls                     SQL to paste into ui.perfetto.dev
  profinfer query --sql "SELECT name, dur FROM slice LIMIT 5" trace.pftrace
"""
_SHOWN_ERRORS = 5


class _Show(argparse.Action):
    """Print what `const` makes of the value and end, as `--help` does: no trace is needed."""

    def __call__(self, parser: argparse.ArgumentParser, _: object, value: Any, *__: object) -> None:
        print(self.const(value))
        parser.exit()


def _list(_: object) -> str:
    files = query.ready_queries()
    width = max((len(file.stem) for file in files), default=0)
    return "\n".join(f"{file.stem:<{width}}  {query.describe(file)}".rstrip() for file in files)


def _expand(name: str) -> str:
    return expand(query.read(query.resolve(name)), SQL_DIR)


class QueryCommand:
    """Runs a query's statements on a trace and prints what they return."""

    name = "query"
    help = "ask a trace in PerfettoSQL: a ready query, a file, or SQL on the command line"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.epilog = _EXAMPLES
        parser.add_argument(
            "query", help="the name of a ready query, an .sql file or, with --sql, SQL itself"
        )
        parser.add_argument("trace", type=Path, help="the trace to ask")
        parser.add_argument(
            "--expand",
            action=_Show,
            const=_expand,
            metavar="QUERY",
            help="print a query with all it includes, to paste into ui.perfetto.dev, and exit",
        )
        parser.add_argument(
            "--all", action="store_true", help="leave nothing out, such as an engine's warm-up"
        )
        parser.add_argument("--sql", action="store_true", help="QUERY is SQL, not a name")
        parser.add_argument(
            "--format", choices=query.FORMATS, default="table", help="(default: %(default)s)"
        )
        parser.add_argument(
            "--trace-processor",
            metavar="PATH",
            help="a native trace_processor_shell, or 'wasm' for the embedded one "
            "(default: $PROFINFER_TRACE_PROCESSOR, a native one if there is one, else wasm)",
        )
        parser.add_argument(
            "--list", action=_Show, const=_list, nargs=0, help="list the ready queries and exit"
        )

    def run(self, args: argparse.Namespace) -> int:
        text, trace = args.query, args.trace
        if args.sql and not trace.exists() and Path(text).is_file():
            text, trace = str(trace), Path(text)  # as in: query trace.pftrace --sql "..."
        sql = text if args.sql else query.read(query.resolve(text))
        if args.all:
            sql = query.of_all(sql)
        with (
            _killed_by_ctrl_c(),
            open_trace(trace, trace_processor=args.trace_processor, interruptible=False) as session,
        ):
            for message, hint in trace_warnings(session, trace):
                print(f"profinfer: warning: {message}\nhint: {hint}", file=sys.stderr)
            tables = query.run(session, sql)
        query.write_tables(tables, args.format, sys.stdout)
        return 0


@contextmanager
def _killed_by_ctrl_c() -> Iterator[None]:
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
