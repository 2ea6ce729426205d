"""`profinfer convert`: make the trace of a recording's captures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from profinfer.errors import OutputError
from profinfer.merging.captures import whole, write_trace
from profinfer.output import Output


class ConvertCommand:
    """Feeds captures to the code that makes the trace after recording."""

    name = "convert"
    help = "make the trace of a recording's captures (record --raw)"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Two files, or more where several processes were recorded."""
        parser.add_argument(
            "captures", type=Path, nargs="+", metavar="CAPTURE",
            help="what record --raw FILE has written: FILE, and FILE.2, ... of further processes",
        )  # fmt: skip
        parser.add_argument("trace", type=Path, metavar="TRACE", help="the .pftrace to make")
        parser.add_argument("--force", action="store_true", help="overwrite the trace")

    def run(self, args: argparse.Namespace) -> int:
        """0 when the captures were converted as far as they go."""
        captures = whole(args.captures)
        output = Output(args.trace, force=args.force)
        try:
            if any(map(output.is_same_file, args.captures)):
                raise OutputError("the capture and the trace are the same file")
            cut = write_trace(captures, output)
        finally:
            output.close()
        for capture in cut:
            print(
                f"profinfer: warning: {capture} is truncated: it has no end frame\n"
                "hint: the trace holds everything up to there",
                file=sys.stderr,
            )
        return 0
