"""`profinfer ui`: look at a trace in the Perfetto UI, served from this machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from threading import Event

from profinfer.errors import ProfinferError, UsageError


class UiCommand:
    name = "ui"
    help = "serve the Perfetto UI and a trace on loopback, without the internet"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("trace", type=Path, help="the .pftrace to show")
        parser.add_argument(
            "--port",
            type=int,
            help="port on 127.0.0.1, 0 for any free one (default: 9010, where the links of"
            " `profinfer query --links` lead, or any if that is taken)",
        )
        parser.add_argument(
            "--online",
            action="store_true",
            help="show it in https://ui.perfetto.dev instead, which reads it from 127.0.0.1:9001 in"
            " your browser: nothing is uploaded",
        )
        parser.add_argument(
            "--open", action="store_true", help="start a browser, as the user that runs profinfer"
        )

    def run(self, args: argparse.Namespace) -> int:
        # A web server in every recorder would take 8 MB.
        from profinfer.trace_processor import open_trace
        from profinfer.trace_processor.trace_file import check_readable
        from profinfer.ui.server import serve
        from profinfer.ui.start import Start, start

        if args.online and args.port is not None:
            raise UsageError("--online needs port 9001", "leave out --port")
        check_readable(args.trace)
        try:
            with open_trace(args.trace) as session:
                how = start(session)
        except ProfinferError as error:
            print(f"profinfer: warning: opens as any trace does: {error.message}", file=sys.stderr)
            how = Start()
        server, url = serve(args.trace, args.port, start=how, online=args.online)
        print(url)
        if args.online:
            print("The browser may ask whether that page may reach this machine: allow it.")
        print("Open it in a browser on this machine; Ctrl-C ends.", flush=True)
        try:
            if args.open:
                import webbrowser

                webbrowser.open(url)
            Event().wait()
        except KeyboardInterrupt:
            print()
        finally:
            server.shutdown()
            server.server_close()
        return 0
