"""`profinfer report`: what a recording shows, on one page."""

from __future__ import annotations

import argparse
from pathlib import Path

from profinfer.commands.asking import killed_by_ctrl_c, trace_warnings
from profinfer.errors import TraceError
from profinfer.merging.merge import check_different
from profinfer.output import Replacement, write_whole
from profinfer.trace_processor import Session, open_trace

_EPILOG = """\
The page is one file that asks nobody for anything: it opens from a disk, prints, and can be sent
to somebody. Of several traces it is about the first; charts that compare traces (stalls by number
of threads, placements) compare all.

examples:
  profinfer report trace.pftrace -o report.html
  profinfer report one.pftrace two.pftrace four.pftrace -o threads.html
"""
_COMPUTED = """
INCLUDE PERFETTO MODULE profinfer.graphs.runs;
SELECT 1 FROM profinfer_graph UNION ALL SELECT 1 FROM profinfer_ubatch LIMIT 1
"""


class ReportCommand:
    """Opens each trace once, one after another."""

    name = "report"
    help = "write a page that shows what a recording says: the verdict, tokens, graph, charts"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Traces and the page."""
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.epilog = _EPILOG
        parser.add_argument("traces", type=Path, nargs="+", metavar="TRACE")
        parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
        parser.add_argument("--force", action="store_true", help="overwrite the output")
        parser.add_argument("--trace-processor", metavar="PATH", help="as for `query`")

    def run(self, args: argparse.Namespace) -> int:
        """0 when the page was written."""
        check_different(args.traces, args.output)
        Replacement(args.output, force=args.force).close()  # what is in the way is said at once
        with killed_by_ctrl_c():
            page = _page(args.traces, args.trace_processor)
        data = page.encode("utf-8", "replace")
        write_whole(args.output, data, force=args.force)
        print(f"{args.output}: {len(data) / 1e6:.1f} MB")
        return 0


def _page(paths: list[Path], trace_processor: str | None) -> str:
    # Here: whoever only records does without what draws.
    from profinfer.drawing.dag import layer_svg
    from profinfer.drawing.figure import Traced
    from profinfer.drawing.report import figures, report

    def opened(path: Path) -> Session:
        session = open_trace(path, trace_processor=trace_processor, interruptible=False)
        if not session.query(_COMPUTED).rows():
            session.close()
            raise TraceError(
                f"{path} has no graphs in it", "profinfer record makes traces of what computes"
            )
        return session

    others = []
    for path in paths[1:]:
        with opened(path) as session:
            others.append(Traced(path.name, session))
            for figure in figures():
                figure.ask(others[-1])
    with opened(paths[0]) as session:
        first = Traced(paths[0].name, session)
        warnings = trace_warnings(session, paths[0])
        return report(
            [first, *others], lambda colour: layer_svg(session, layer=None, colour=colour), warnings
        )
