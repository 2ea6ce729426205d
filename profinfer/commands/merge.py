"""`profinfer merge`: join traces on one timeline."""

from __future__ import annotations

import argparse
import sys
from decimal import Decimal
from pathlib import Path

from profinfer.errors import UsageError
from profinfer.merging.merge import check_different, merge
from profinfer.output import Replacement, give_to_caller

_EPILOG = """\
examples:
  profinfer merge run.pftrace system.pftrace -o both.pftrace         one machine, one boot
  profinfer merge run.pftrace phone.perfetto-trace.gz -o both.pftrace
  profinfer merge client.pftrace server.pftrace -o rpc.pftrace       two machines
  profinfer merge run.pftrace other.pftrace --offset -12.5 -o both.pftrace

Inputs are traces in Perfetto's own format, of whichever recorder (profinfer, traced on Linux or
Android, Chrome), also compressed with gzip. Traces of one boot keep their times. Those of another
boot or machine are shifted to the first one's time: by REALTIME, as the clock snapshots of both
relate it to BOOTTIME, or by --offset; they show as a machine of their own. How far off that can
be is printed and stands in the trace (track "ProfInfer merge"). Ftrace events that two traces of
one boot both have are taken from the richer one.
"""


class MergeCommand:
    """Reads every input twice, and holds none of them in memory."""

    name = "merge"
    help = "join traces (ours, Perfetto's, Android's, Chrome's) on one timeline"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Inputs, the output, and what the inputs' clocks cannot tell."""
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.epilog = _EPILOG
        parser.add_argument("traces", type=Path, nargs="+", metavar="TRACE", help="two or more")
        parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
        parser.add_argument("--force", action="store_true", help="overwrite the output")
        parser.add_argument(
            "--offset",
            metavar="SECONDS",
            help="add this to the times of the traces that are not of the first one's boot",
        )
        parser.add_argument(
            "--same-boot",
            action="store_true",
            help="take all traces to be of one boot, whatever their clocks say",
        )

    def run(self, args: argparse.Namespace) -> int:
        """0 when everything was merged."""
        if len(args.traces) < 2:
            raise UsageError("name at least two traces")
        if args.same_boot and args.offset is not None:
            raise UsageError("traces of one boot have one clock: leave out --offset or --same-boot")
        offset = None if args.offset is None else _nanoseconds(args.offset)
        check_different(args.traces, args.output)
        output = Replacement(args.output, force=args.force)
        try:
            give_to_caller(output)
            report = merge(args.traces, output, offset, same_boot=args.same_boot)
            output.finish()
        finally:
            output.close()
        for line in report.lines:
            print(line)
        print(f"{args.output}: {output.size / 1e6:.1f} MB")
        for warning in report.warnings:
            print(f"profinfer: warning: {warning}", file=sys.stderr)
        return 0


def _nanoseconds(text: str) -> int:
    """Seconds as ns, exactly: a float has too few digits for a day."""
    try:
        value = Decimal(text) * 1_000_000_000
        if abs(value) >= 1 << 62:
            raise ValueError
        return int(value)
    except (ArithmeticError, ValueError):
        raise UsageError(f"--offset {text!r} is not a number of seconds") from None
