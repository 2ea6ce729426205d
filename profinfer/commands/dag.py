"""`profinfer dag`: a layer's attention and FFN as a graph."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from profinfer.commands.asking import warn
from profinfer.drawing.dag import choose, layer_dot, layer_svg
from profinfer.drawing.graphviz import clean
from profinfer.drawing.shades import SCALES
from profinfer.output import Replacement, give_to_caller
from profinfer.trace_processor import open_trace

_EPILOG = """\
examples:
  profinfer dag trace.pftrace -o dag.svg              a typical layer, and what is outside layers
  profinfer dag trace.pftrace --layer 3 --colour stall -o layer3.svg
  profinfer dag trace.pftrace --dot | dot -Tpdf -o dag.pdf

Layers of equal structure are folded into one, with the median, the least and the most of their mean
times; which those are, and in what the others differ, stands above the picture. Views are grey, and
so is what was not recorded. The numbers are in `profinfer query layers`.
"""


class DagCommand:
    """Asks a trace, and draws."""

    name = "dag"
    help = "draw a layer's attention and FFN as a graph, coloured by time, bandwidth or stall"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """What of it, and in what form."""
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.epilog = _EPILOG
        parser.add_argument("trace", type=Path, help="the trace to ask")
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--svg", action="store_true", help="an SVG picture (default)")
        form.add_argument(
            "--dot", action="store_true", help="text for Graphviz; it is not needed then"
        )
        parser.add_argument(
            "--layer", type=int, metavar="N", help="this layer alone (default: folded)"
        )
        parser.add_argument(
            "--colour", choices=tuple(SCALES), default="time", help="(default: %(default)s)"
        )
        parser.add_argument(
            "--phase", choices=("decode", "prefill", "mixed", "encode", "draft", "outside"),
            help="graphs of which phase (default: decode, else what took longest; "
            "outside: of no micro-batch)",
        )  # fmt: skip
        parser.add_argument(
            "--process", metavar="NAME|PID",
            help="of which process, where several were recorded (default: what took longest)",
        )  # fmt: skip
        parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="(default: stdout)")
        parser.add_argument("--force", action="store_true", help="overwrite FILE")
        parser.add_argument("--trace-processor", metavar="PATH", help="as for `query`")

    def run(self, args: argparse.Namespace) -> int:
        draw = layer_dot if args.dot else layer_svg
        output = Replacement(args.output, force=args.force) if args.output else None
        try:
            with open_trace(args.trace, trace_processor=args.trace_processor) as session:
                warn(session, args.trace)
                dag, processes = choose(session, args.phase, args.process)
                if args.process is None and len(processes) > 1:
                    print(
                        f"profinfer: this is {clean(dag.label)}, one of {len(processes)} processes;"
                        " --process takes another one",
                        file=sys.stderr,
                    )
                text = draw(
                    session, layer=args.layer, colour=args.colour, phase=args.phase,
                    process=args.process,
                )  # fmt: skip
            if output is None:
                sys.stdout.buffer.write(text.encode())
            else:
                output.append(text.encode())
                give_to_caller(output)
                output.finish()
        finally:
            if output:
                output.close()
        return 0
