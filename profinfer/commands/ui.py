"""`profinfer ui`: look at a trace in the Perfetto UI, served from this machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from threading import Event


class UiCommand:
    name = "ui"
    help = "serve the Perfetto UI and a trace on loopback, without the internet"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("trace", type=Path, help="the .pftrace to show")
        parser.add_argument(
            "--port", type=int, default=0, help="port on 127.0.0.1 (default: any free one)"
        )

    def run(self, args: argparse.Namespace) -> int:
        from profinfer.trace_processor.ui import (
            serve,  # a web server in every recorder would take 8 MB
        )

        server, url = serve(args.trace, args.port)
        print(url)
        print("Open it in a browser on this machine; Ctrl-C ends.", flush=True)
        try:
            Event().wait()
        except KeyboardInterrupt:
            print()
        finally:
            server.shutdown()
            server.server_close()
        return 0
