"""`profinfer ui-extension`: our tables and macros for everybody's ui.perfetto.dev."""

from __future__ import annotations

import argparse
from pathlib import Path


class UiExtensionCommand:
    name = "ui-extension"
    help = "write what an extension server of the Perfetto UI serves: our SQL modules and macros"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, metavar="DIR", help="where to write it")
        parser.add_argument("--force", action="store_true", help="overwrite what is there")

    def run(self, args: argparse.Namespace) -> int:
        from profinfer.ui import extension

        for path in extension.write(args.folder, force=args.force):
            print(path)
        print("Serve this folder by HTTPS with CORS for https://ui.perfetto.dev, or put it into a")
        print("repository on GitHub; then add it there: Settings, Extension Servers.")
        return 0
