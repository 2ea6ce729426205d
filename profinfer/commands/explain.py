"""`profinfer explain`: the verdict on a trace, in words."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from profinfer.commands.asking import warn
from profinfer.trace_processor import Value, open_trace, query

_HEADS = {
    "speed": "speed",
    "bound": "bound by",
    "try": "try",
    "ruled_out": "ruled out",
    "unknown": "unknown",
}
_INDENT = max(map(len, _HEADS.values())) + 2
_MOST_COLUMNS = 110
"""Longer lines of prose are hard to read."""
_UNIT = re.compile(r"(?<=\d) (?=%|ms|t/s|MB|GB/s)")
"""Behind a number."""


class ExplainCommand:
    """Prints the ready query `explain` as text."""

    name = "explain"
    help = "say in words how fast it was, bound by what, and what to try first"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("trace", type=Path, help="the trace to explain")
        parser.add_argument(
            "--all", action="store_true", help="of several processes every line, not only the first"
        )
        parser.add_argument(
            "--trace-processor",
            metavar="PATH",
            help="a native trace_processor_shell, or 'wasm' for the embedded one",
        )

    def run(self, args: argparse.Namespace) -> int:
        sql = query.read(query.resolve("explain"))
        with open_trace(args.trace, trace_processor=args.trace_processor) as session:
            warn(session, args.trace)
            (table,) = query.run(session, query.of_all(sql) if args.all else sql)
        rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        columns = min(shutil.get_terminal_size().columns, _MOST_COLUMNS)
        for line in lines(rows, columns):
            print(line)
        return 0


def lines(rows: Sequence[dict[str, Value]], columns: int) -> Iterator[str]:
    """The rows of `explain` as text of so many columns; sentences name what was recorded, so they
    are escaped. After each the ready query that has its number, in brackets."""
    if not rows:
        yield "nothing to explain: no process computed anything in this trace"
    for process, its in groupby(rows, key=lambda row: row.get("process")):
        if process is not None:
            yield query.escape(str(process))
        before = None
        for row in its:
            kind = str(row["kind"])
            head = "" if kind == before else _HEADS.get(kind, kind)
            before = kind
            text = query.escape(f"{row['sentence']!s} [{row['query']!s}]")
            wrapped = textwrap.wrap(
                _UNIT.sub("\N{NO-BREAK SPACE}", text),
                width=max(columns, 2 * _INDENT),
                initial_indent=head.ljust(_INDENT),
                subsequent_indent=" " * _INDENT,
                break_on_hyphens=False,
            )
            yield from (line.replace("\N{NO-BREAK SPACE}", " ") for line in wrapped)
