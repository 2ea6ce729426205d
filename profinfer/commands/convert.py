"""`profinfer convert`: make the trace of a raw capture."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from profinfer.converting.converter import Converter
from profinfer.errors import OutputError, TraceError
from profinfer.output import Output
from profinfer.records.capture import FrameKind, read_capture
from profinfer.trace.writer import TraceWriter


class ConvertCommand:
    """Feeds a capture's frames to the code that made the trace while recording."""

    name = "convert"
    help = "make the trace of a raw capture (record --raw)"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Two files."""
        parser.add_argument("capture", type=Path, help="what record --raw has written")
        parser.add_argument("trace", type=Path, help="the .pftrace to make")
        parser.add_argument("--force", action="store_true", help="overwrite the trace")

    def run(self, args: argparse.Namespace) -> int:
        """0 when the whole capture was converted."""
        frames = read_capture(args.capture)
        first = next(frames, None)
        if first is None:
            raise TraceError(f"{args.capture} holds no whole frame")
        output = Output(args.trace, force=args.force)
        if output.is_same_file(args.capture):
            output.close()
            raise OutputError("the capture and the trace are the same file")
        last = first.kind
        try:
            converter = Converter(TraceWriter(output))
            converter.feed(first)
            for frame in frames:
                converter.feed(frame)
                last = frame.kind
        finally:
            output.close()
        if last != FrameKind.END:
            print(
                f"profinfer: warning: {args.capture} is truncated: it has no end frame\n"
                "hint: the trace holds everything up to there",
                file=sys.stderr,
            )
        return 0
