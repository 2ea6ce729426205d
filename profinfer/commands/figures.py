"""`profinfer figures`: the paper's figures, of these traces."""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

from profinfer.commands.asking import warn
from profinfer.drawing.charts import Chart, Picture
from profinfer.drawing.exports import write_csv
from profinfer.drawing.figure import UNKNOWN, Traced
from profinfer.drawing.figures import FIGURES
from profinfer.errors import OutputError, UsageError
from profinfer.output import make_folder, write_whole
from profinfer.trace_processor import open_trace
from profinfer.trace_processor.query import Table, escape

_EPILOG = """\
examples:
  profinfer figures trace.pftrace -o figures/
  profinfer figures one-thread.pftrace two-threads.pftrace -o figures/ --only 11

Each picture is written as SVG, as PNG, and with its data as CSV. Of a figure that the traces cannot
give it is said what it needs. docs/paper.md has what the paper's figures say.
"""


class FiguresCommand:
    """Opens one trace after the other, then draws."""

    name = "figures"
    help = "the figures of the ProfInfer paper that traces can give, as SVG, PNG and CSV"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Traces, and where to."""
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.epilog = _EPILOG
        parser.add_argument("traces", type=Path, nargs="+", metavar="TRACE")
        parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
        parser.add_argument("--only", metavar="N,N...", help="these figures (default: all)")
        parser.add_argument("--force", action="store_true", help="overwrite pictures in DIR")

    def run(self, args: argparse.Namespace) -> int:
        """0, also where a figure cannot be given."""
        numbers = _numbers(args.only)
        _check(args.output, numbers, force=args.force)
        traces = []
        for path in args.traces:
            with open_trace(path) as session:
                warn(session, path)
                traces.append(Traced(path.stem, session))
                for number in numbers:
                    FIGURES[number].ask(traces[-1])
        make_folder(args.output)
        for number in numbers:
            figure = FIGURES[number]
            charts = figure.draw(traces)
            if isinstance(charts, str):
                print(f"{number:>2}  {figure.title}: not in these traces, {charts}")
                continue
            for place, chart in enumerate(charts):
                if not chart.is_known:
                    print(f"{number:>2}  {escape(chart.title)}: left out, {UNKNOWN}")
                    continue
                more = f"-{place + 1}" if len(charts) > 1 else ""
                path = args.output / f"figure-{number:02}{more}"
                _write(chart, path, force=args.force)
                print(f"{number:>2}  {escape(chart.title)}: {path}.svg .png .csv")
        return 0


def _numbers(only: str | None) -> list[int]:
    if only is None:
        return list(FIGURES)
    wanted = only.split(",")
    numbers = [number for number in FIGURES if str(number) in wanted]
    if len(numbers) != len(set(wanted)):
        raise UsageError(f"--only {only}: there are {', '.join(map(str, FIGURES))}")
    return numbers


def _check(folder: Path, numbers: Sequence[int], *, force: bool) -> None:
    """What is in the way is said before traces are loaded."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"cannot make {folder}: it is a file")
    for number in () if force else numbers:
        for path in sorted(folder.glob(f"figure-{number:02}*")):
            raise OutputError(f"{path} exists", "--force overwrites it")


def _write(chart: Chart | Picture, path: Path, *, force: bool) -> None:
    columns = list(dict.fromkeys(column for row in chart.rows for column in row))
    text = io.StringIO(newline="")
    rows = [tuple(row.get(column) for column in columns) for row in chart.rows]
    write_csv([Table(chart.title, columns, rows)], text)
    parts: Sequence[tuple[str, bytes]] = (
        (".svg", chart.svg().encode()), (".png", chart.png()), (".csv", text.getvalue().encode()),
    )  # fmt: skip
    for suffix, data in parts:
        write_whole(path.with_name(path.name + suffix), data, force=force)
