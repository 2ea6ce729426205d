"""`profinfer query`: ask a trace in PerfettoSQL."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from profinfer.commands.asking import killed_by_ctrl_c, warn
from profinfer.drawing import exports, tables
from profinfer.errors import QueryError, UsageError
from profinfer.trace_processor import SQL_DIR, Session, open_trace, query
from profinfer.trace_processor.expand import expand
from profinfer.trace_processor.query import Answer
from profinfer.ui.links import with_links, without_slices

_EXAMPLES = """\
examples:
  profinfer query --list                              the ready queries
  profinfer query stalls trace.pftrace                one of them, by name
  profinfer query summary stalls trace.pftrace        several: the trace is loaded once
  profinfer query mine.sql trace.pftrace --format csv > mine.csv
  profinfer query --expand stalls                     SQL to paste into ui.perfetto.dev
  profinfer query --sql "SELECT name, dur FROM slice LIMIT 5" trace.pftrace
"""
_FORMATS = ("table", "csv", "json", "arrow")


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
        parser.usage = "%(prog)s [options] QUERY... TRACE"
        parser.epilog = _EXAMPLES
        _allow_options_between(parser)
        parser.add_argument(
            "words",
            nargs="+",
            metavar="QUERY... TRACE",
            help="ready queries, .sql files or, with --sql, SQL itself; and the trace to ask",
        )
        parser.add_argument(
            "--expand",
            action=_Show,
            const=_expand,
            metavar="QUERY",
            help="print a query with all it includes, to paste into ui.perfetto.dev, and exit",
        )
        parser.add_argument(
            "--all",
            action="store_true",
            help="also what the query leaves out, such as an engine's warm-up",
        )
        parser.add_argument(
            "--wide",
            action="store_true",
            help="all rows and columns, also those of nothing but 0 or NULL, on whatever terminal",
        )
        parser.add_argument("--sql", action="store_true", help="QUERY is SQL, not a name")
        parser.add_argument(
            "--format",
            choices=_FORMATS,
            default="table",
            help="table is for people; csv, json and arrow (IPC streams) always have all columns "
            "(default: %(default)s)",
        )
        parser.add_argument(
            "--trace-processor",
            metavar="PATH",
            help="a native trace_processor_shell, or 'wasm' for the embedded one "
            "(default: $PROFINFER_TRACE_PROCESSOR, a native one if there is one, else wasm)",
        )
        parser.add_argument(
            "--links",
            action="store_true",
            help="a link for each row that stands for a slice (has a slice_id): opens it in the UI"
            " that `profinfer ui` serves meanwhile",
        )
        parser.add_argument(
            "--list", action=_Show, const=_list, nargs=0, help="list the ready queries and exit"
        )

    def run(self, args: argparse.Namespace) -> int:
        names, trace = _told_apart(args.words, is_sql=args.sql)
        queries = {name: name if args.sql else query.read(query.resolve(name)) for name in names}
        for name, sql in queries.items():
            if not query.split_statements(sql):
                raise QueryError(f"there is no SQL statement in {name!r}")
        if args.format == "arrow":
            exports.check_arrow(sys.stdout)
        with (
            killed_by_ctrl_c(),
            open_trace(trace, trace_processor=args.trace_processor, interruptible=False) as session,
        ):
            warn(session, trace)
            answers = _answers(session, queries, args, trace)
            _write(answers, args.format, is_alone=len(queries) == 1, is_wide=args.wide)
        return 0


def _answers(
    session: Session, queries: dict[str, str], args: argparse.Namespace, trace: Path
) -> Iterator[Answer]:
    for name, sql in queries.items():
        found = query.run(session, query.of_all(sql) if args.all else sql)
        shown = with_links(session, found, trace) if args.links else without_slices(found)
        yield Answer(name, shown)


def _told_apart(words: Sequence[str], *, is_sql: bool) -> tuple[list[str], Path]:
    """The queries, each once, and the trace: the last word, or the first if only that is a file."""
    *names, trace = words
    if names and not os.path.exists(trace) and _may_be_trace(words[0]):
        trace, *names = words
    if not names and os.path.isfile(trace):
        hint = f"profinfer query summary {trace}; --list has more"
        raise UsageError(f"what is to be asked of {trace}?", hint)
    if not names or (not is_sql and not os.path.exists(trace) and query.is_ready(trace)):
        for name in () if is_sql else words:
            query.resolve(name)
        shown = "..." if is_sql else " ".join(words)
        raise UsageError("which trace?", f"it comes last: profinfer query {shown} TRACE")
    return list(dict.fromkeys(names)), Path(trace)


def _may_be_trace(word: str) -> bool:
    return os.path.isfile(word) and not word.endswith(".sql")


def _write(answers: Iterator[Answer], style: str, *, is_alone: bool, is_wide: bool) -> None:
    if style == "json":
        exports.write_json(list(answers), sys.stdout)
        return
    for index, answer in enumerate(answers):
        if style == "arrow":
            exports.write_arrow(answer, sys.stdout.buffer)
            continue
        sys.stdout.write("\n" if index else "")
        if not is_alone:
            sys.stdout.write(f"{'#' if style == 'csv' else '=='} {query.escape(answer.name)}\n")
        if style == "csv":
            exports.write_csv(answer.tables, sys.stdout)
        else:
            tables.write(answer.tables, sys.stdout, is_wide=is_wide)
        sys.stdout.flush()  # the next one may take its time


def _allow_options_between(parser: Any) -> None:
    """Let `A --format csv B TRACE` be words and options, as argparse by itself would not."""
    plain = parser.parse_known_args

    def intermixed(*args: Any) -> Any:
        parser.parse_known_args = plain  # which this one calls, twice
        try:
            return parser.parse_known_intermixed_args(*args)
        finally:
            parser.parse_known_args = intermixed

    parser.parse_known_args = intermixed
