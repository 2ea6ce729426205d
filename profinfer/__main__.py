"""The command line: finds the command and turns expected failures into messages."""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import resource
import signal
import sys
from collections.abc import Iterator
from typing import Protocol

from profinfer import __version__
from profinfer.errors import KernelError, ProfinferError

_EXIT_CODES = """\
exit codes:
  2 usage or configuration   3 privileges        4 kernel, BPF or BCC
  5 the target               6 no probe point    7 output
  8 not a trace or capture   9 SQL              10 Trace Processor
"""


class Command(Protocol):
    """One command in its own module."""

    name: str
    help: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declares the command's flags."""

    def run(self, args: argparse.Namespace) -> int:
        """Carries it out; the exit code."""


_COMMANDS = (
    "record", "explain", "report", "query", "ui", "dag", "figures", "ui-extension", "doctor",
    "env", "plan", "convert", "merge",
)  # fmt: skip


def _commands(argv: list[str]) -> Iterator[Command]:
    """The command that is meant, or all: a recorder does without a query's modules (8 MB)."""
    for name in argv[:1] if argv and argv[0] in _COMMANDS else _COMMANDS:
        module = importlib.import_module(f"profinfer.commands.{name.replace('-', '_')}")
        yield getattr(module, f"{name.title().replace('-', '')}Command")()


def _parser(argv: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="profinfer",
        description="Record LLM inference on ggml engines with eBPF; answer from it in SQL.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"profinfer {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in _commands(argv):
        sub = commands.add_parser(command.name, help=command.help, description=command.help)
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs a command line; the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    # Who ignores it, as whoever has started us may, cannot wait for any child.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Names of files need not be text, and a terminal need not have all letters.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        args = _parser(argv).parse_args(argv)
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except ProfinferError as error:
        print(f"profinfer: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has gone (`| head`); Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except MemoryError:
        print(
            "profinfer: there is not enough memory\n"
            "hint: raise the limit (ulimit -v, the container's), or record less: --duration",
            file=sys.stderr,
        )
        return KernelError.exit_code
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        print(
            f"profinfer: {error.strerror}: this process may have {soft}\n"
            "hint: raise the limit (ulimit -n), best to 1024",
            file=sys.stderr,
        )
        return KernelError.exit_code


if __name__ == "__main__":
    sys.exit(main())
